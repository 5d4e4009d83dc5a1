"""Where the doors put events: into Redis, or onto the disk while Redis is away, too slow or full."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

import structlog

from app.pressure import Pressure
from app.source import Source
from app.spool import Spool
from tasks.envelope import Envelope, Rejected, encode
from tasks.errors import QueueFull, QueueUnavailable
from tasks.ledger import Ledger
from tasks.queue import Queue

log: Final = structlog.get_logger("app.intake")

_BEHIND: Final = "events before it are spooled"
#: Events, and bytes of them, in one call to Redis: it serves nobody else meanwhile, and must answer within
#: ACCEPT_TIMEOUT_S. One event may be larger.
_MOST_EVENTS: Final = 100
_MOST_BYTES: Final = 512 * 1024


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

    def take(self, source: Source, events: Iterable[Envelope | Rejected], *, whole: bool = False) -> list[bool]:
        """Keep what a request of that source carried: the good ones in its order, the others as dead letters.

        Gives for each: new (or duplicate). Raises QueueFull or QueueUnavailable: then the sender is to send them all
        again, and those that were taken are known by their ids. `whole`, for few events: of the good ones all are taken
        or none.
        """
        if whole or (isinstance(events, list) and len(events) == 1):
            return self._take(source, list(events))
        return [fresh for piece in _pieces(events) for fresh in self._take(source, piece)]

    def _take(self, source: Source, events: Sequence[Envelope | Rejected]) -> list[bool]:
        good = source.wanted([event for event in events if isinstance(event, Envelope)])
        bad = source.refused([event for event in events if isinstance(event, Rejected)])
        # First the bad ones, which are known by what they are: what fails in between leaves no good one behind.
        buried = iter(self.reject(bad) if bad else ())
        taken = iter(self.accept(good) if good else ())
        for each in bad:
            log.warning(
                "event.rejected",
                event_id=each.envelope.id,
                source=source.name,
                reason=each.reason,
                code=each.code,
                error=each.error,
            )
        return [next(taken if isinstance(event, Envelope) else buried) for event in events]

    def accept(self, envelopes: Sequence[Envelope]) -> list[bool]:
        """Keep events of one source. Gives for each: new (or duplicate; whether a spooled one is, shows later).

        Raises QueueFull or QueueUnavailable: they were not taken.
        """
        if (why := self._held_up(source := envelopes[0].source)) is None:
            try:
                return self._queue.accept(envelopes)
            except (QueueFull, QueueUnavailable) as error:
                why = self._reason(source, error)
        return self._put_aside(envelopes, why)

    def reject(self, rejected: Sequence[Rejected]) -> list[bool]:
        """Keep events of one source as dead letters, each with what is wrong; else as `accept`."""
        if (why := self._held_up(source := rejected[0].envelope.source)) is None:
            try:
                return self._ledger.reject(rejected)
            except QueueUnavailable as error:
                why = self._reason(source, error)
        return self._put_aside(rejected, why)

    def _held_up(self, source: str) -> str | None:
        """Why events may not go to Redis at all; None = they may. Each request asks."""
        if self._pressure.high:
            return self._reason(source, QueueFull("Redis' memory is beyond REDIS_HIGH_WATER"))
        if self._spool is not None and self._spool.holding():
            if source in self._refusing and self._spool.full():
                raise QueueFull(_BEHIND)
            return _BEHIND
        return None

    def _reason(self, source: str, error: QueueFull | QueueUnavailable) -> str:
        """Why they are spooled; raises the error where they must not be."""
        if self._spool is None or (isinstance(error, QueueFull) and source in self._refusing):
            raise error
        return str(error)

    def _put_aside(self, events: Sequence[Envelope | Rejected], why: str) -> list[bool]:
        assert self._spool is not None  # noqa: S101 - without one, _reason has raised
        self._spool.append(events, why)
        return [True] * len(events)


def in_one_piece(events: Sequence[Envelope | Rejected]) -> bool:
    """Whether one call to Redis may carry them: then the good ones among them are taken together or not at all."""
    return sum(1 for _ in islice(_pieces(events), 2)) < 2  # noqa: PLR2004 - one piece is what is asked for


def _pieces(events: Iterable[Envelope | Rejected]) -> Iterator[list[Envelope | Rejected]]:
    """The events in pieces that one call to Redis may carry."""
    piece: list[Envelope | Rejected] = []
    size = 0
    for event in events:
        more = len(encode(event if isinstance(event, Envelope) else event.envelope))
        if piece and (len(piece) == _MOST_EVENTS or size + more > _MOST_BYTES):
            yield piece
            piece, size = [], 0
        piece.append(event)
        size += more
    if piece:
        yield piece
