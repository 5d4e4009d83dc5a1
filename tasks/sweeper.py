"""Puts back what fell out of somebody's hands: dead workers' events, due retries, events whose ticket was lost.

Runs in every worker; there is no leader, because each step is atomic in the ledger.
"""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

import redis
import structlog

from tasks.dead_letter import bury
from tasks.ledger import Ledger, StoredEvent

log: Final = structlog.get_logger("tasks.sweeper")

_MOST_A_ROUND: Final = 200
_MOST_ROUNDS: Final = 50
#: A look that took longer was broken off by a lost connection, or Redis stood still.
_SLOW_S: Final = 1.0


class Sweeper:
    """Sweeps; `owner` names this worker to the ledger.

    Leases are taken from others only after `patience_s` of unbroken contact with Redis: while it was away, nobody could
    renew, and those who live do it first. `told` hears of each event that dies here, and why.
    """

    def __init__(
        self,
        ledger: Ledger,
        owner: str,
        *,
        grace_s: float,
        crash_limit: int,
        patience_s: float = 0,
        told: Callable[[StoredEvent, str], None] = lambda *_: None,
    ) -> None:
        self._ledger = ledger
        self._owner = owner
        self._grace_s = grace_s
        self._crash_limit = crash_limit
        self._patience_s = patience_s
        self._told = told
        self._in_touch_since: float | None = None

    def sweep(self) -> None:
        """Put back what is overdue: all of it, or as much as fits into a sweep of bounded length."""
        try:
            for _ in range(_MOST_ROUNDS):
                if self._round() < _MOST_A_ROUND:
                    return
        except redis.RedisError:
            self._in_touch_since = None
            raise

    def _round(self) -> int:
        """Put back some of each kind. Gives the number of the most frequent kind."""
        asked = time.monotonic()
        overdue = self._ledger.overdue(self._grace_s, _MOST_A_ROUND)
        if self._in_touch_since is None or time.monotonic() - asked > _SLOW_S:
            self._in_touch_since = time.monotonic()
        patient = time.monotonic() - self._in_touch_since < self._patience_s
        expired = [*overdue.given_back, *(() if patient else overdue.expired)]
        if expired:
            back, mine = self._ledger.expire(expired, self._crash_limit, self._owner)
            _woken("lease.expired", back)
            for event in self._ledger.events(mine):
                if event is not None:
                    self._bury(event)
        if overdue.due:
            self._ledger.wake_due(overdue.due)
        if overdue.lost:
            _woken("ticket.lost", self._ledger.wake_lost(overdue.lost))
        if overdue.early:
            self._ledger.wake_early(overdue.early)
        if overdue.scheduled:
            self._ledger.wake_scheduled(_MOST_A_ROUND)
        return max(map(len, (expired, overdue.due, overdue.lost, overdue.early, overdue.scheduled)))

    def _bury(self, event: StoredEvent) -> None:
        # A delivery that was not due yet was not running when the worker died.
        now = time.time() * 1_000_000
        waiting = {name: each for name, each in event.ready().items() if (each.due_at or 0) <= now}
        waiting = waiting or event.waiting()
        error = f"{event.crashes} workers died while they worked on it"
        poison = {"reason": "poison", "error": error, "crashes": event.crashes}
        bury(self._ledger, event, waiting, poison)
        self._told(event, "poison")


def _woken(what: str, ids: Sequence[str]) -> None:
    for id_ in ids:
        log.warning(what, event_id=id_)


class RenewedLeases:
    """The leases that this process holds, renewed by one thread of its own.

    After `most_s` a lease is renewed no more: what hangs for ever must not look alive for ever.
    """

    def __init__(self, ledger: Ledger, lease_s: float, most_s: float) -> None:
        self._ledger = ledger
        self._lease_s = lease_s
        self._most_s = most_s
        #: (id, owner) → when it was taken, until when it is surely ours
        self._held: dict[tuple[str, str], tuple[float, float]] = {}
        self._lock = threading.Lock()
        self._loop = Loop("leases", lease_s / 3, self._renew)

    def hold(self, ids: Sequence[str], owner: str, asked_at: float) -> None:
        with self._lock:
            self._held.update(dict.fromkeys(((id_, owner) for id_ in ids), (asked_at, asked_at + self._lease_s)))
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

    def sure(self, id_: str, owner: str) -> bool:
        with self._lock:
            _, until = self._held.get((id_, owner), (0.0, 0.0))
        if time.monotonic() >= until:
            self._renew_these([(id_, owner)])
        with self._lock:
            return (id_, owner) in self._held

    def _renew(self) -> None:
        now = time.monotonic()
        with self._lock:
            held = [lease for lease, (since, _) in self._held.items() if since >= now - self._most_s]
        self._renew_these(held)

    def _renew_these(self, leases: Sequence[tuple[str, str]]) -> None:
        asked_at = time.monotonic()
        kept = self._ledger.renew(leases)
        with self._lock:
            for lease, own in zip(leases, kept, strict=True):
                if not own:
                    self._held.pop(lease, None)
                elif lease in self._held:
                    self._held[lease] = (self._held[lease][0], asked_at + self._lease_s)


class Loop:
    """Calls a function again and again in a thread of its own, whatever Redis does in between."""

    def __init__(self, name: str, interval_s: float, call: Callable[[], None], *, at_once: bool = False) -> None:
        self._name = name
        self._first_s = 0.0 if at_once else interval_s
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
        wait_s = self._first_s
        while not self._stop.wait(wait_s):
            wait_s = self._interval_s
            try:
                self._call()
                failing = False
            except redis.RedisError as error:
                if not failing:
                    log.warning("ledger.unreachable", loop=self._name, error=type(error).__name__)
                failing = True
            except Exception:
                log.exception("loop.failed", loop=self._name)
