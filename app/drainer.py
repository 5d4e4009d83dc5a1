"""Brings what is spooled into Redis, in order, when Redis takes events again; one process of a machine at a time."""

import itertools
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import structlog

from app.pressure import Pressure
from app.spool import Spool, Spooled
from tasks.dead_letter import DeadLetters
from tasks.errors import InvalidEnvelope, QueueFull, QueueUnavailable
from tasks.ledger import Ledger
from tasks.queue import Queue

log: Final = structlog.get_logger("app.drainer")

_EVERY_S: Final = 0.1
#: Rows read, and then forgotten, at a time: what a crash in between makes duplicates of.
_MOST: Final = 50
_MOST_BYTES: Final = 1024 * 1024
_MOST_REST_S: Final = 0.05


class Drainer:
    """Feeds the spool to the queue. Whoever dies in the middle leaves duplicates, which are known by their ids."""

    def __init__(self, spool: Spool, queue: Queue, ledger: Ledger, pressure: Pressure, *, quick_s: float) -> None:
        """Queue and ledger may be more patient than the endpoint's; `quick_s` is what the endpoint grants Redis."""
        self._spool = spool
        self._queue = queue
        self._ledger = ledger
        self._pressure = pressure
        self._quick_s = quick_s
        self._failing = ""

    def start(self) -> None:
        """Look ten times a second whether there is something to do, in a thread that ends with the process."""
        threading.Thread(target=self._run, name="spool-drainer", daemon=True).start()

    def _run(self) -> None:
        pause = threading.Event()
        while not pause.wait(_EVERY_S):
            try:
                self.drain()
            except Exception as error:
                # Disk and Redis come back; a drainer that ended would not. Told once, not ten times a second.
                if self._failing != (name := type(error).__name__):
                    self._failing = name
                    log.exception("spool.drainer_failed")

    def drain(self) -> bool:
        """Feed what is spooled, as far as Redis takes it. Gives whether events may go to Redis directly now."""
        if not self._spool.holding():
            return True
        with self._spool.only_drainer() as mine:
            if not mine:
                return False
            if self._pressure.high:
                self._spool.note_full(full=True)
                return False
            begun = time.monotonic()
            while rows := self._spool.head(_MOST, _MOST_BYTES):
                if not self._fed(rows):
                    return False
                # Half of the time at most is the drainer's: requests of this process are waited for, it is not.
                time.sleep(min(time.monotonic() - begun, _MOST_REST_S))
                begun = time.monotonic()
            return self._released()

    def _fed(self, rows: Sequence[Spooled]) -> bool:
        """Whether Redis took them all; what it took is forgotten either way."""
        fed, full = 0, False
        try:
            for fed in self._feed(rows):  # noqa: B007 - the last one counts
                pass
        except QueueFull:
            full = True
        except QueueUnavailable as error:
            log.debug("spool.waits", error=str(error))
        if fed:
            self._spool.forget(fed)
        self._spool.note_full(full=full)
        return fed == rows[-1].n

    def _feed(self, rows: Iterable[Spooled]) -> Iterator[int]:
        """Put events into the ledger, those of one source and fate together; gives how far it has come."""
        for (_, unreadable, invalid), group in itertools.groupby(rows, _kind):
            some = list(group)
            if unreadable:
                for row in some:
                    self._quarantine(row)
                    yield row.n
            elif invalid:
                self._ledger.reject([row.rejected for row in some])
                yield some[-1].n
            else:
                yield from self._accept(some)

    def _accept(self, rows: Sequence[Spooled]) -> Iterator[int]:
        try:
            self._queue.accept([row.envelope for row in rows])
        except QueueFull:
            if len(rows) == 1:
                raise
            # Not room for all of them; perhaps for some.
            half = len(rows) // 2
            yield from self._accept(rows[:half])
            yield from self._accept(rows[half:])
        else:
            yield rows[-1].n

    def _quarantine(self, row: Spooled) -> None:
        """Keep what we cannot read where people look for such, so that it does not hold up the rest for ever."""
        DeadLetters(self._ledger).quarantine(row.text, "undecodable", "a spooled event of another version")

    def _released(self) -> bool:
        """Whether the endpoint may use Redis again: not while it would only run into its time-out once more."""
        begun = time.monotonic()
        if not self._ledger.ping() or time.monotonic() - begun > self._quick_s / 2:
            return False
        drained = self._spool.release()
        if drained is not None and drained.events:
            log.warning("spool.drained", events=drained.events, seconds=round(drained.seconds, 3))
        self._failing = ""
        return drained is not None


def _kind(row: Spooled) -> tuple[str, bool, bool]:
    try:
        return row.envelope.source, False, row.wrong is not None
    except InvalidEnvelope:
        return "", True, False
