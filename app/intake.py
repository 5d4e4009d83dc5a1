"""Where the doors put events: into Redis, or onto the disk while Redis is away, too slow or full."""

from collections.abc import Collection, Sequence
from typing import Final

from app.pressure import Pressure
from app.spool import Spool
from tasks.envelope import Envelope
from tasks.errors import QueueFull, QueueUnavailable
from tasks.ledger import Ledger
from tasks.queue import Queue

_BEHIND: Final = "events before it are spooled"


class Intake:
    """Takes events for good, or raises. Safe to share between threads."""

    def __init__(
        self, queue: Queue, ledger: Ledger, spool: Spool | None, pressure: Pressure, refusing: Collection[str] = ()
    ) -> None:
        """`refusing` = names of the sources that are refused, not spooled, while Redis is full."""
        self._queue = queue
        self._ledger = ledger
        self._spool = spool
        self._pressure = pressure
        self._refusing = frozenset(refusing)

    def accept(self, envelopes: Sequence[Envelope]) -> list[bool]:
        """Keep events of one source. Gives for each: new (or duplicate; whether a spooled one is, shows later).

        Raises QueueFull or QueueUnavailable: they were not taken.
        """
        if (why := self._held_up(envelopes)) is None:
            try:
                return self._queue.accept(envelopes)
            except (QueueFull, QueueUnavailable) as error:
                why = self._reason(envelopes, error)
        return self._put_aside(envelopes, [None] * len(envelopes), why)

    def reject(self, envelopes: Sequence[Envelope], errors: Sequence[str]) -> list[bool]:
        """Keep events of one source as dead letters, each with what is wrong; else as `accept`."""
        if (why := self._held_up(envelopes)) is None:
            try:
                return self._ledger.reject(envelopes, errors)
            except QueueUnavailable as error:
                why = self._reason(envelopes, error)
        return self._put_aside(envelopes, errors, why)

    def _held_up(self, envelopes: Sequence[Envelope]) -> str | None:
        """Why events may not go to Redis at all; None = they may. Each request asks."""
        if self._pressure.high:
            return self._reason(envelopes, QueueFull("Redis' memory is beyond REDIS_HIGH_WATER"))
        if self._spool is not None and self._spool.holding():
            if envelopes[0].source in self._refusing and self._spool.full():
                raise QueueFull(_BEHIND)
            return _BEHIND
        return None

    def _reason(self, envelopes: Sequence[Envelope], error: QueueFull | QueueUnavailable) -> str:
        """Why they are spooled; raises the error where they must not be."""
        if self._spool is None or (isinstance(error, QueueFull) and envelopes[0].source in self._refusing):
            raise error
        return str(error)

    def _put_aside(self, envelopes: Sequence[Envelope], errors: Sequence[str | None], why: str) -> list[bool]:
        assert self._spool is not None  # noqa: S101 - without one, _reason has raised
        self._spool.append(envelopes, errors, why)
        return [True] * len(envelopes)
