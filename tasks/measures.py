"""What processes measure themselves: gathered in memory, added to Redis each second, where it outlives them.

A process that is killed takes what it gathered since along, a second's worth. Kept in the hash `router:metrics`, see
ledger/include/0_measures.lua.
"""

import collections
import contextlib
import os
import threading
import uuid
from bisect import bisect_left
from typing import Final

import structlog

from config.metrics import METRICS
from tasks.ledger import Ledger

log: Final = structlog.get_logger("tasks.measures")

_EVERY_S: Final = 1.0
#: Samples that may wait for the thread that adds them up; far more than a process can make in a second.
_MOST: Final = 200_000

_BOUNDS: Final = {
    name: ([bound * 1e6 for bound in metric.bounds], [*(f"{bound:g}" for bound in metric.bounds), "inf"])
    for name, metric in METRICS.items()
    if metric.bounds
}


class Measures:
    """One process' numbers on their way. To measure costs a sender nothing but an append; safe for all threads.

    The ledger may be a patient one: nobody waits for it here.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._name = uuid.uuid4().hex
        self._samples: collections.deque[tuple[str, tuple[str, ...], float | None]] = collections.deque(maxlen=_MOST)
        self._sums: collections.Counter[str] = collections.Counter()
        self._batch: dict[str, int] = {}
        self._batches = 0
        self._lock = threading.Lock()
        self._process = 0
        self._failing = False

    def took(self, name: str, seconds: float, *labels: str) -> None:
        """One value of a histogram."""
        self._samples.append((name, labels, seconds))

    def happened(self, name: str, *labels: str) -> None:
        """One more of a counter."""
        self._samples.append((name, labels, None))

    def start(self) -> None:
        """Add to Redis from now on, in a thread that ends with the process; unless this process does already."""
        if self._process != os.getpid():
            self._process = os.getpid()
            threading.Thread(target=self._run, name="measures", daemon=True).start()

    def flush(self) -> None:
        """Add all that was gathered. Raises redis.RedisError; then it is sent again, and counts once."""
        with self._lock:
            self._gather()
            if not self._batch and self._sums:
                self._batch, self._sums = dict(self._sums), collections.Counter()
                self._batches += 1
            if self._batch:
                pairs = [part for pair in self._batch.items() for part in pair]
                self._ledger.run("measured", f"{self._name}:{os.getpid()}", self._batches, *pairs)
                self._batch = {}

    def _gather(self) -> None:
        """Add the samples up. Raises KeyError for a metric, ValueError for labels that are not declared."""
        with contextlib.suppress(IndexError):
            while True:
                name, labels, seconds = self._samples.popleft()
                row = "/".join((name, *labels))
                if len(labels) != len(METRICS[name].labels):
                    raise ValueError(f"{name} has the labels {METRICS[name].labels}, not {labels}")
                if seconds is None:
                    self._sums[row] += 1
                else:
                    bounds, names = _BOUNDS[name]
                    micros = int(seconds * 1e6)
                    self._sums[f"{row}/{names[bisect_left(bounds, micros)]}"] += 1
                    self._sums[f"{row}/sum"] += micros

    def _run(self) -> None:
        pause = threading.Event()
        while not pause.wait(_EVERY_S):
            try:
                self.flush()
                self._failing = False
            except Exception as error:  # noqa: BLE001 - Redis comes back; a thread that ended would not
                if not self._failing:  # told once, not each second
                    log.warning("measures.wait", error=type(error).__name__)
                self._failing = True
