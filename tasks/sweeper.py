"""Puts back what fell out of somebody's hands: dead workers' events, due retries, events whose ticket was lost.

Runs in every worker; there is no leader, because each step is atomic in the ledger.
"""

import dataclasses
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

import redis
import structlog

from tasks.dead_letter import bury
from tasks.ledger import Ledger, StoredEvent
from tasks.queue import Queue

log: Final = structlog.get_logger("tasks.sweeper")

_MOST_A_ROUND: Final = 200
_MOST_ROUNDS: Final = 50


@dataclasses.dataclass(frozen=True)
class Sweeper:
    """One sweep; `owner` names this worker to the ledger."""

    ledger: Ledger
    queue: Queue
    owner: str
    grace_s: float
    crash_limit: int

    def sweep(self) -> None:
        """Put back what is overdue: all of it, or as much as fits into a sweep of bounded length."""
        for _ in range(_MOST_ROUNDS):
            if self._round() < _MOST_A_ROUND:
                return

    def _round(self) -> int:
        """Put back some of each kind. Gives the number of the most frequent kind."""
        overdue = self.ledger.overdue(self.queue.key, self.grace_s, _MOST_A_ROUND)
        if overdue.expired:
            back, mine = self.ledger.expire(
                overdue.expired, self.queue.key, self.queue.ticket, self.crash_limit, self.owner
            )
            self._woken("lease.expired", back)
            for event in self.ledger.events(mine):
                if event is not None:
                    self._bury(event)
        if overdue.due:
            self.queue.publish(self.ledger.wake_due(overdue.due, self.queue.key, self.queue.ticket))
        if overdue.lost:
            self._woken("ticket.lost", self.ledger.wake_lost(overdue.lost, self.queue.key, self.queue.ticket))
        return max(len(overdue.expired), len(overdue.due), len(overdue.lost))

    def _woken(self, what: str, ids: Sequence[str]) -> None:
        self.queue.publish(ids)
        for id_ in ids:
            log.warning(what, event_id=id_)

    def _bury(self, event: StoredEvent) -> None:
        # A delivery that was not due yet was not running when the worker died.
        now = time.time() * 1_000_000
        waiting = {name: each for name, each in event.waiting().items() if (each.due_at or 0) <= now}
        waiting = waiting or event.waiting()
        error = f"{event.crashes} workers died while they worked on it"
        poison = {"reason": "poison", "error": error, "crashes": event.crashes}
        bury(self.ledger, event, waiting, poison)


class RenewedLeases:
    """The leases that this process holds, renewed by one thread of its own.

    After `most_s` a lease is renewed no more: what hangs for ever must not look alive for ever.
    """

    def __init__(self, ledger: Ledger, lease_s: float, most_s: float) -> None:
        self._ledger = ledger
        self._most_s = most_s
        self._held: dict[tuple[str, str], float] = {}
        self._lock = threading.Lock()
        self._loop = Loop("leases", lease_s / 3, self._renew)

    def hold(self, ids: Sequence[str], owner: str) -> None:
        with self._lock:
            self._held.update(dict.fromkeys(((id_, owner) for id_ in ids), time.monotonic()))
        # Started by the first claim: with a pool of processes that is in the child, where the work is.
        self._loop.start()

    def release(self, ids: Sequence[str], owner: str) -> None:
        with self._lock:
            for id_ in ids:
                self._held.pop((id_, owner), None)

    def hand_back(self) -> None:
        """Let go of all of them: this process is about to end, and others may take over at once."""
        with self._lock:
            held = list(self._held)
            self._held.clear()
        self._ledger.hand_back(held)

    def _renew(self) -> None:
        youngest = time.monotonic() - self._most_s
        with self._lock:
            held = [lease for lease, since in self._held.items() if since >= youngest]
        self._ledger.renew(held)


class Loop:
    """Calls a function again and again in a thread of its own, whatever Redis does in between."""

    def __init__(self, name: str, interval_s: float, call: Callable[[], None]) -> None:
        self._name = name
        self._interval_s = interval_s
        self._call = call
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def start(self) -> None:
        """Begin, unless begun."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """End after the call that is under way."""
        self._stop.set()

    def _run(self) -> None:
        failing = False
        while not self._stop.wait(self._interval_s):
            try:
                self._call()
                failing = False
            except redis.RedisError as error:
                if not failing:
                    log.warning("ledger.unreachable", loop=self._name, error=type(error).__name__)
                failing = True
            except Exception:
                log.exception("loop.failed", loop=self._name)
