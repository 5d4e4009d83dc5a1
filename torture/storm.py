"""Carries the plan out: faults begin and end at their times, and each is recorded with what was in flight."""

import contextlib
import dataclasses
import threading
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

import redis

from tasks.ledger import RUNNING
from torture.faults import Known
from torture.plan import Kind, Planned
from torture.router import WEBS, WORKERS, Router

_MOST_IN_FLIGHT: Final = 200
_PATIENCE_S: Final = 60.0
_CATCH_S: Final = 1.5


@dataclasses.dataclass(frozen=True)
class Record:
    """A fault that was. Times are Unix times."""

    kind: str
    target: str
    begun_at: float
    ended_at: float
    doubles: bool  #: whether it explains that an event arrived twice
    lingers_s: float
    remark: str = ""
    error: str = ""  #: what of the router did not come back after it
    in_flight: tuple[str, ...] | None = None  #: events that a worker held at its begin; None = Redis did not say


class Storm:
    """All faults of one run, and the supervisor that any router has: what ends by itself is started again."""

    def __init__(self, router: Router, planned: Sequence[Planned], known: Mapping[str, Known]) -> None:
        self._router = router
        self._planned = planned
        self._known = known
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._threads: list[threading.Thread] = []
        self._active: dict[Planned, float] = {}
        self.records: list[Record] = []
        self._begun = 0.0
        self._scheduler = threading.Thread(target=self._schedule, name="storm", daemon=True)

    def start(self) -> None:
        """Let it begin."""
        self._begun = time.monotonic()
        self._scheduler.start()

    def running(self) -> bool:
        """Whether there is a fault on or to come."""
        return self._scheduler.is_alive() or any(thread.is_alive() for thread in self._threads)

    def join(self) -> None:
        """Wait for the end of the last fault."""
        self._scheduler.join()
        for thread in self._threads:
            thread.join()

    def active(self) -> list[str]:
        """What is on now."""
        return [f"{fault.kind}({fault.target})" for fault in list(self._active)]

    def supervise(self) -> None:
        """Start again what ended without being told to."""
        for name in (*WEBS, *WORKERS):
            if not self._locks[name].acquire(blocking=False):
                continue
            try:
                if self._router.ended(name):
                    self._router.start_part(name, ready=False)
            finally:
                self._locks[name].release()

    def _schedule(self) -> None:
        for fault in self._planned:
            time.sleep(max(0.0, self._begun + fault.at_s - time.monotonic()))
            thread = threading.Thread(target=self._carry_out, args=(fault,), name=fault.kind, daemon=True)
            thread.start()
            self._threads.append(thread)

    def _carry_out(self, fault: Planned) -> None:
        known = self._known[fault.kind]
        if not self._locks[fault.target].acquire(timeout=_PATIENCE_S):
            return
        try:
            in_flight = self._caught(known.kind)
            begun_at = time.time()
            self._active[fault] = begun_at
            remark, error = self._held(fault, known)
            self.records.append(_record(known.kind, fault, begun_at, remark, error, in_flight))
        finally:
            self._active.pop(fault, None)
            self._locks[fault.target].release()

    def _held(self, fault: Planned, known: Known) -> tuple[str, str]:
        remark = ""
        try:
            with known.run(self._router, fault) as remark:
                time.sleep(fault.hold_s)
        except Exception as error:  # noqa: BLE001 - whatever it is, the report must name it, and the others go on
            return remark, f"{type(error).__name__}: {error}"
        return remark, ""

    def _caught(self, kind: Kind) -> tuple[str, ...] | None:
        """What is in flight; a fault that can make doubles waits a little for something, or it would test nothing."""
        deadline = time.monotonic() + (_CATCH_S if kind.doubles else 0)
        while not (found := self._in_flight()) and time.monotonic() < deadline:
            time.sleep(0.01)
        return found

    def _in_flight(self) -> tuple[str, ...] | None:
        with contextlib.suppress(redis.RedisError):
            return tuple(id_.decode() for id_ in self._router.control.zrange(RUNNING, 0, _MOST_IN_FLIGHT - 1))
        return None


def _record(
    kind: Kind, fault: Planned, begun_at: float, remark: str, error: str, in_flight: tuple[str, ...] | None
) -> Record:
    # A worker that had to be killed after all has left what it held, as any that is killed.
    doubles = kind.doubles or (kind.name == "worker.term" and bool(remark))
    return Record(kind.name, fault.target, begun_at, time.time(), doubles, kind.lingers_s, remark, error, in_flight)
