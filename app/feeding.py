"""The import of a feed: its rows into the ledger, in pieces, each once, beside what senders post meanwhile."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final, TypeVar

from app.feed import Feed
from app.feed_rows import Row, rows
from app.pressure import is_high
from app.source import Refusal, Source
from app.sources import activatepro
from tasks.envelope import Envelope, Rejected
from tasks.errors import QueueFull, QueueUnavailable
from tasks.import_progress import ImportProgress, Progress
from tasks.memory import share_used
from tasks.queue import Queue

#: Rows taken in one call, which nobody else of Redis' clients may be kept waiting by.
MOST_AT_ONCE: Final = 250
_PIECE_SIZE: Final = 512 * 1024
_AGAIN_S: Final = 0.5

_T = TypeVar("_T")


@dataclasses.dataclass(frozen=True)
class Bad:
    """A row, or one of the events in it, that cannot be taken."""

    row: int
    line: int
    until: int  #: the last line that belongs to it, as far as that can be seen
    reason: str  #: names fields, never values


@dataclasses.dataclass
class Counts:
    """What became of a feed's rows in this run."""

    rows: int = 0
    taken: int = 0
    duplicates: int = 0  #: known already, by their ids
    bad: int = 0


@dataclasses.dataclass(frozen=True)
class Piece:
    """Rows that go to Redis together, or are reported together."""

    last: int  #: number of its last row
    events: Sequence[Envelope]
    bad: Sequence[Bad]


@dataclasses.dataclass(frozen=True)
class Importer:
    """Where rows go. `waits` is told why nothing goes on, and gives control back after so many seconds."""

    source: Source
    queue: Queue
    progress: ImportProgress
    client: Any  #: the ledger's Redis, asked how full it is
    memory_mark: float  #: share of Redis' memory from which the import waits
    waits: Callable[[str, float], None]
    most: int = MOST_AT_ONCE  #: events taken in one call

    def before(self, feed: Feed) -> Progress:
        """How far earlier runs went."""
        return self._patiently(lambda: self.progress.read(feed.sha256, self.source.name))

    def run(self, feed: Feed, chunks: Iterator[bytes], behind: int, report: Callable[[Sequence[Bad]], None]) -> Counts:
        """Take the rows behind that one; `chunks` are the feed's. Raises NoFeed."""
        counts, last = Counts(), behind
        self._note(feed, last, done=False)
        for piece in pieces(self.source, feed.sha256, chunks, behind, self.most):
            self._wait_for_memory()
            counts.bad += len(piece.bad)
            report(piece.bad)
            for events in _slices(piece.events, self.most):
                fresh = self._patiently(lambda events=events: self.queue.accept(events))  # type: ignore[misc]
                counts.taken += sum(fresh)
                counts.duplicates += len(fresh) - sum(fresh)
            counts.rows += piece.last - last
            last = piece.last
            self._note(feed, last, done=False)
        self._note(feed, last, done=True)
        return counts

    def _note(self, feed: Feed, last: int, *, done: bool) -> None:
        now = datetime.now(UTC)
        self._patiently(lambda: self.progress.write(feed.sha256, self.source.name, last, now, done=done))

    def _wait_for_memory(self) -> None:
        high = False
        while high := is_high(share_used(self.client), self.memory_mark, was=high):
            self.waits("Redis' memory is nearly full", _AGAIN_S)

    def _patiently(self, do: Callable[[], _T]) -> _T:
        while True:
            try:
                return do()
            except QueueFull:
                self.waits("as many events wait for the workers as an import may add to", _AGAIN_S)
            except QueueUnavailable:
                self.waits("Redis does not answer", _AGAIN_S)


def pieces(source: Source, sha256: str, chunks: Iterator[bytes], behind: int, most: int) -> Iterator[Piece]:
    """A feed's rows behind that one as events, so many rows at a time at most."""
    waiting: list[Row] = []
    size = 0
    for row in islice(rows(chunks, source.max_depth), behind, None):
        waiting.append(row)
        size += row.size
        if len(waiting) == most or size >= _PIECE_SIZE:
            yield _piece(source, sha256, waiting)
            waiting, size = [], 0
    if waiting:
        yield _piece(source, sha256, waiting)


def _piece(source: Source, sha256: str, taken: Sequence[Row]) -> Piece:
    now = datetime.now(UTC)
    events: list[Envelope] = []
    bad: list[Bad] = []
    for row in taken:
        for each in _events(source, row, f"feed:{sha256}:{row.number}", now):
            if isinstance(each, Envelope):
                events.append(each)
            else:
                bad.append(Bad(row.number, row.line, row.until, each.error))
    return Piece(taken[-1].number, source.wanted(events), bad)


def _events(source: Source, row: Row, delivery: str, now: datetime) -> Sequence[Envelope | Rejected | Row]:
    """The events of a row, and the row itself where it has none; what is wrong is its `error`."""
    if row.value is None:
        return [row]
    try:
        return [
            activatepro.unwrap_row(source.name, each, now, f"{delivery}:{number}")
            for number, each in enumerate(activatepro.rows_of(row.value))
        ]
    except Refusal as refusal:
        return [dataclasses.replace(row, error=refusal.message)]


def _slices(events: Sequence[Envelope], most: int) -> Iterator[Sequence[Envelope]]:
    for first in range(0, len(events), most):
        yield events[first : first + most]
