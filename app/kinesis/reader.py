"""One shard, read from its checkpoint on: into the ledger in pieces, a checkpoint behind each.

The stream is the buffer: while Redis takes nothing, or the stream does not answer, the reader waits and tries again,
and never goes on without what it has read. A reader that dies between piece and checkpoint leaves one piece that is
read again; its events are known by their ids.
"""

import dataclasses
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, Protocol

import structlog

from app.kinesis.errors import IteratorExpired, PositionRefused, StreamFailed, StreamGone, Throttled
from app.kinesis.leases import Leases
from app.kinesis.shards import Read, Record, Shard
from tasks.envelope import Envelope, Rejected
from tasks.errors import QueueFull, QueueUnavailable

log: Final = structlog.get_logger("app.kinesis")

#: What goes to Redis at a time: other calls wait meanwhile.
MOST_EVENTS: Final = 100
MOST_BYTES: Final = 512 * 1024
#: A shard takes 5 reads a second, of all its readers together.
BETWEEN_READS_S: Final = 0.25
_FIRST_WAIT_S: Final = 0.25
_MOST_WAIT_S: Final = 10.0
#: Without a read for so long, the lag grows with the time.
_SILENT_S: Final = 5.0


class Readable(Protocol):
    """What a reader needs of a stream; each call raises StreamFailed."""

    def after(self, shard: str, sequence: str) -> str: ...
    def since(self, shard: str, moment: float) -> str: ...
    def oldest(self, shard: str) -> str: ...
    def read(self, iterator: str) -> Read: ...


@dataclasses.dataclass(frozen=True)
class Doing:
    """What all readers of a stream share."""

    source: str
    stream: Readable
    leases: Leases
    lease_s: float
    poll_s: float  #: between two reads of a shard that has nothing new
    since: float | None  #: Unix time at which a shard without a checkpoint is begun; None = at its oldest record
    events: Callable[[str, Record], Sequence[Envelope | Rejected]]  #: of one record of a shard
    take: Callable[[Sequence[Envelope | Rejected]], Any]  #: keeps them, or raises QueueFull or QueueUnavailable
    ended: Callable[[Sequence[Shard]], None]  #: hears of the children of a shard that was read to its end
    gone: Callable[[str], bool]  #: whether the stream does not list the shard any more


class Reader:
    """Reads one shard until it ends, the lease is lost, or it is told to stop; then gives the lease back."""

    def __init__(
        self,
        doing: Doing,
        shard: str,
        owner: str,
        checkpoint: str,
        leased_at: float,
        told: threading.Event | None = None,
    ) -> None:
        """`leased_at` = on the monotonic clock, before the lease was asked for; `checkpoint` "" = none."""
        self.shard = shard
        self.owner = owner
        self.leased_at = leased_at  #: set anew by whoever renews
        self.told = told or threading.Event()  #: to stop
        self._log = log.bind(source=doing.source, shard=shard)
        self._doing = doing
        self.checkpoint = checkpoint  #: never ahead of what Redis was told
        self._iterator: str | None = None
        self._rejected = 0  #: of a record that is not complete yet
        self._behind_ms: int | None = None
        self._read_at = time.monotonic()
        self._thread = threading.Thread(target=self.run, name=f"kinesis-{shard}", daemon=True)

    def start(self) -> None:
        """Begin, in a thread of its own."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether it still reads."""
        return self._thread.is_alive()

    def join(self, timeout_s: float) -> None:
        """Wait for its end."""
        self._thread.join(timeout_s)

    @property
    def lag_ms(self) -> int | None:
        """How far behind the end of the shard it is, at least; None = it has read nothing yet."""
        if self._behind_ms is None:
            return None
        silent_s = time.monotonic() - self._read_at
        return self._behind_ms + (int(silent_s * 1000) if silent_s > _SILENT_S + self._doing.poll_s else 0)

    def run(self) -> None:
        """Read until it is over."""
        self._log.info("kinesis.shard_taken")
        try:
            self._read_on()
        except _Ended as ended:
            self._log.info("kinesis.shard_ended", reason=str(ended))
        except _Left as left:
            self._log.info("kinesis.shard_left", reason=str(left))
            self._give_back()

    def _read_on(self) -> None:
        failures = 0
        while True:
            try:
                self._step()
                failures = 0
            except (_Ended, _Left):
                raise
            except StreamFailed as error:
                failures += 1
                if not isinstance(error, IteratorExpired) or failures > 1:
                    self._failed(error)
                    self.told.wait(backoff_s(failures))
            except Exception:  # noqa: BLE001 - a reader that ended would leave its shard to nobody
                failures += 1
                self._log.exception("kinesis.reader_failed")
                self.told.wait(backoff_s(failures))

    def _step(self) -> None:
        """One read, and all that follows from it. Raises _Ended or _Left when it was the last."""
        self._go_on()
        begun = time.monotonic()
        doing = self._doing
        iterator = self._iterator or self._position()
        # Should anything go wrong from here on, the checkpoint says where to go on.
        self._iterator = None
        read = doing.stream.read(iterator)
        for piece in pieces((record, doing.events(self.shard, record)) for record in read.records):
            self._keep(piece)
            self._go_on()
        self._behind_ms, self._read_at = read.behind_ms, time.monotonic()
        if read.next is None:
            self._finish()
            doing.ended(read.children)
            raise _Ended("closed")
        self._iterator = read.next
        pause_s = BETWEEN_READS_S if read.records or read.behind_ms else max(BETWEEN_READS_S, doing.poll_s)
        self.told.wait(max(0.0, begun + pause_s - time.monotonic()))

    def _position(self) -> str:
        stream = self._doing.stream
        if not self.checkpoint:
            return (
                stream.oldest(self.shard) if self._doing.since is None else stream.since(self.shard, self._doing.since)
            )
        try:
            return stream.after(self.shard, self.checkpoint)
        except PositionRefused:
            # It has left the stream: nobody has read for longer than records are kept.
            self._log.error("kinesis.checkpoint_too_old", meaning="records are lost; read from the oldest")
            return stream.oldest(self.shard)

    def _keep(self, piece: "Piece") -> None:
        """Into the ledger, then the checkpoint; again and again until it is done.

        Both again: when Redis was away between them, it may have come back without the events.
        """
        doing, last = self._doing, piece.last
        rejected = self._rejected + sum(isinstance(event, Rejected) for event in piece.events)

        def keep() -> None:
            # Asked before: what Redis may have lost comes first, or a key's later events would be before it.
            self._own(doing.leases.renew(self.shard, self.owner, self.checkpoint, None))
            if piece.events:
                doing.take(piece.events)
            if last is not None:
                said = (self.shard, self.owner, self.checkpoint, last, piece.records, rejected)
                self._own(doing.leases.checkpoint(*said))

        self._until_done(keep)
        # Of a record in several pieces, told with the last of them.
        self._rejected = 0 if last is not None else rejected
        self.checkpoint = last or self.checkpoint

    def _until_done(self, do: Callable[[], Any]) -> None:
        failures = 0
        while True:
            # By now another may have it: nothing may be written that was read under the old lease.
            self._own(time.monotonic() - self.leased_at < self._doing.lease_s)
            try:
                do()
            except (QueueFull, QueueUnavailable) as error:
                failures += 1
                if failures == 1:
                    self._log.warning("kinesis.waits_for_redis", reason=type(error).__name__)
                self.told.wait(backoff_s(failures))
                self._go_on()
            else:
                return

    def _own(self, sure: object) -> None:
        if not sure:
            raise _Left("lease lost")

    def _go_on(self) -> None:
        if self.told.is_set():
            raise _Left("told to stop")

    def _failed(self, error: StreamFailed) -> None:
        if isinstance(error, Throttled):
            self._log.info("kinesis.throttled", code=str(error))
        else:
            self._log.warning("kinesis.read_failed", code=str(error))
        if isinstance(error, StreamGone) and self._doing.gone(self.shard):
            self._finish()
            raise _Ended("gone")

    def _finish(self) -> None:
        leases = self._doing.leases
        self._until_done(lambda: self._own(leases.finish(self.shard, self.owner, self.checkpoint)))

    def _give_back(self) -> None:
        """Let another have the shard at once; nothing changes where another has it."""
        try:
            self._doing.leases.give_back(self.shard, self.owner)
        except QueueUnavailable as error:
            self._log.warning("kinesis.lease_not_given_back", reason=str(error))


class _Ended(Exception):
    """The shard has no more records, ever."""


class _Left(Exception):
    """Another is to read the shard, or does so already: nothing more may be written for it."""


@dataclasses.dataclass(frozen=True)
class Piece:
    """Events that go to Redis together."""

    events: Sequence[Envelope | Rejected]
    last: str | None  #: sequence number of the last record that is complete with them; None = none is
    records: int  #: how many are


def pieces(records: Iterable[tuple[Record, Sequence[Envelope | Rejected]]]) -> Iterator[Piece]:
    """Records and their events, cut into pieces: bounded in events, and in bytes but for a single record's."""
    events: list[Envelope | Rejected] = []
    size, whole, last = 0, 0, None
    for record, found in records:
        if events and (len(events) + len(found) > MOST_EVENTS or size + len(record.data) > MOST_BYTES):
            yield Piece(events, last, whole)
            events, size, whole, last = [], 0, 0, None
        events.extend(found)
        while len(events) > MOST_EVENTS:
            yield Piece(events[:MOST_EVENTS], None, 0)
            events = events[MOST_EVENTS:]
        size, whole, last = size + len(record.data), whole + 1, record.sequence
    if whole:
        yield Piece(events, last, whole)


def backoff_s(failures: int) -> float:
    """Seconds to wait after so many failures in a row; some chance in it, as readers fail together."""
    longest_s: float = min(_MOST_WAIT_S, _FIRST_WAIT_S * 2 ** min(failures - 1, 10))
    return longest_s * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
