"""Tells Flower what becomes of each event, in place of Celery's own events of tickets (tasks/rows.py says what).

What is told goes through Celery's event dispatcher, but one of its own: the consumer's writes to its broker in the
thread that sends, or in the one that takes tickets, and neither is to wait for a Redis that hangs.
"""

import collections
import itertools
import json
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final

import structlog

from tasks import rows
from tasks.ledger import DEAD, HELD, RECENT, RETRYING, Ledger, Result, StoredEvent
from tasks.rows import Told

log: Final = structlog.get_logger("tasks.telling")

#: What waits to be told while the broker takes nothing; then the oldest is forgotten: it is for people to look at.
_MOST_KEPT: Final = 10_000
#: How long it waits for more, to go out as one message.
_PAUSE_S: Final = 0.1
#: Between two tries to reach the broker.
_AGAIN_S: Final = 1.0
_MOST_AT_ONCE: Final = 500
#: Of those that wait, died, or ended: as many are told to a Flower that has just been started.
_MOST_RECALLED: Final = 500
_RECALLED_AT_ONCE: Final = 100
#: All workers hear of a new Flower, at the same time; the one that takes this key answers.
_RECALL_KEY: Final = "router:recall"
_RECALL_MS: Final = 500
#: It says that it listens a moment before it does.
_RECALL_AFTER_S: Final = 1.0
_MICROS: Final = 1_000_000

#: Opens a way to the broker: Celery's event dispatcher, which keeps what it is sent until it is flushed.
Dispatcher = Callable[[], AbstractContextManager[Any]]
#: Whether anybody wants to hear; None while that cannot be known.
Listened = Callable[[], bool | None]


class Telling:
    """Tells what this worker does, in a thread of its own: work neither waits for it nor fails with it.

    While nobody listens, nothing is kept.
    """

    def __init__(self, ledger: Ledger, *, again_s: float = _AGAIN_S, recall_after_s: float = _RECALL_AFTER_S) -> None:
        self._ledger = ledger
        self._again_s = again_s
        self._recall_after_s = recall_after_s
        self._told: collections.deque[Told] = collections.deque(maxlen=_MOST_KEPT)
        self._on = False  # until it is started; in a child of a pool of processes, for ever
        self._hurry = threading.Event()
        self._recall_at = math.inf
        self._stop = False
        self._thread: threading.Thread | None = None

    # --- called by those who work

    def begun(self, event: StoredEvent) -> None:
        """Work on a claimed event begins."""
        if self._on:
            self._told.extend(rows.begun(event, time.time()))

    def ended(self, event: StoredEvent, state: str, results: Sequence[Result], lasted_s: float) -> None:
        """It is settled with these results, and in that state now."""
        if not self._on:
            return
        now = time.time()
        told = rows.ended(rows.with_results(event, results, now), state, now)
        if told is None:
            return
        told[1]["runtime"] = lasted_s
        self._told.append(told)
        if told[0] == "task-retried":
            # The next attempt may be another worker's, whose word must come after this one.
            self._hurry.set()

    def died(self, event: StoredEvent, reason: str) -> None:
        """An event became a dead letter outside an attempt."""
        if self._on:
            self._told.append(rows.died(event, reason))

    def failed(self, id_: str, name: str, reason: str) -> None:
        """Something that a publisher sent became a dead letter at once."""
        if self._on:
            self._told.append(rows.failed(id_, name, reason, time.time()))

    def recall(self) -> None:
        """Somebody new listens: tell what is known of older events too."""
        self._recall_at = time.monotonic() + self._recall_after_s

    # --- the thread

    def start(self, listened: Listened, dispatcher: Dispatcher) -> None:
        """Begin; both are called in the thread only."""
        self._on = bool(listened())
        self._thread = threading.Thread(target=self._run, args=(listened, dispatcher), name="telling", daemon=True)
        self._thread.start()

    def stop(self, within_s: float = 1.0) -> None:
        """Tell what is left, and end; what takes longer than this is not told."""
        self._stop = True
        self._hurry.set()
        if self._thread is not None:
            self._thread.join(within_s)

    def silence(self) -> None:
        """Keep nothing: this process is a fork, in which the thread does not run."""
        self._on = False
        self._told.clear()

    def _run(self, listened: Listened, dispatcher: Dispatcher) -> None:
        failing = False
        while self._goes_on(listened):
            if not self._told and time.monotonic() < self._recall_at:
                continue
            try:
                with dispatcher() as way:
                    self._send(way)
                    failing = False
                    while self._goes_on(listened):
                        self._send(way)
            except Exception as error:  # noqa: BLE001 - whatever the broker's client raises: nobody is to suffer for it
                if not failing:
                    log.warning("flower.not_told", error=type(error).__name__)
                failing = True
                if self._stop:
                    return
                time.sleep(self._again_s)

    def _goes_on(self, listened: Listened) -> bool:
        """Wait for something to tell; False at the end."""
        self._hurry.wait(_PAUSE_S)
        self._hurry.clear()
        wanted = listened()
        self._on = self._on if wanted is None else wanted
        return bool(self._told) or not self._stop

    def _send(self, way: Any) -> None:
        if time.monotonic() >= self._recall_at:
            self._recall_at = math.inf
            if self._on and self._ledger.client.set(_RECALL_KEY, "1", nx=True, px=_RECALL_MS):
                for told in recalled(self._ledger, time.time()):
                    _tell(way, told)
        while self._told:
            some = [self._told.popleft() for _ in range(min(len(self._told), _MOST_AT_ONCE))]
            try:
                _tell(way, some)
            except Exception:
                room = _MOST_KEPT - len(self._told)
                self._told.extendleft(itertools.islice(reversed(some), room))
                raise


def _tell(way: Any, told: Sequence[Told]) -> None:
    """Send all as one message."""
    for kind, fields in told:
        way.send(kind, **fields)
    way.flush()


def recalled(ledger: Ledger, now: float) -> Iterator[list[Told]]:
    """The newest of the events that wait for another attempt, died, or ended, some at a time."""
    client = ledger.client
    waiting = [id_ for key in (RETRYING, HELD) for id_ in client.zrevrange(key, 0, _MOST_RECALLED - 1)]
    dead = [member.rpartition(b":")[0] for member in client.zrevrange(DEAD, 0, _MOST_RECALLED - 1)]
    recent = [json.loads(each)["id"].encode() for each in client.lrange(RECENT, 0, _MOST_RECALLED - 1)]
    ids = [id_.decode() for id_ in dict.fromkeys((*waiting, *dead, *recent))]
    for first in range(0, len(ids), _RECALLED_AT_ONCE):
        # Read only now, and told at once: what becomes of it meanwhile is to be the last word.
        found = ledger.events(ids[first : first + _RECALLED_AT_ONCE])
        yield [told for event in found if event is not None for told in _recalled(event, now)]


def _recalled(event: StoredEvent, now: float) -> Iterator[Told]:
    told = None if event.state == "accepted" else rows.ended(event, event.state, now)
    if told is not None:
        kind, fields = told
        at = {kind.removeprefix("task-"): event.ended_at / _MICROS} if event.ended_at else {}
        yield kind, {**fields, **at}
