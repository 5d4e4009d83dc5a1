"""One shard, read by hand-made answers of a stream into a ledger in memory: whatever goes wrong, nothing is skipped."""

import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from builders import counts, envelope, fake_ledger

from app.intake import Intake
from app.kinesis.errors import IteratorExpired, PositionRefused, StreamFailed, StreamGone, Throttled
from app.kinesis.leases import Leases
from app.kinesis.reader import MOST_EVENTS, Doing, Reader
from app.kinesis.shards import Read, Record, Shard
from app.pressure import Pressure
from app.source import Source
from tasks.envelope import Envelope, Rejected
from tasks.errors import QueueFull, QueueUnavailable
from tasks.queue import RedisQueue

NOW = datetime(2026, 1, 2, tzinfo=UTC)
SHARD = "shard-1"
SOURCE = Source("encharge", None)


def records(first: int, count: int) -> list[Record]:
    return [Record(str(number), b"{}", NOW) for number in range(first, first + count)]


class Clock(threading.Event):
    """Told to stop when it has waited often enough; takes no time for it."""

    def __init__(self, most: int = 50) -> None:
        super().__init__()
        self.waits: list[float] = []
        self._most = most

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout or 0)
        if len(self.waits) >= self._most:
            self.set()
        return self.is_set()


class FakeStream:
    """Gives what lies behind a position, or fails as told; iterators are positions."""

    def __init__(self, *, total: int, closed: bool = True, at_once: int = 100) -> None:
        self.records = records(1, total)
        self.closed = closed
        self.at_once = at_once
        self.failures: list[Exception] = []
        self.asked: list[str] = []

    def _position(self, text: str, position: int) -> str:
        self.asked.append(text)
        self._fail(PositionRefused)
        return str(position)

    def _fail(self, *kinds: type[Exception]) -> None:
        if self.failures and isinstance(self.failures[0], kinds or Exception):
            raise self.failures.pop(0)

    def after(self, _: str, sequence: str) -> str:
        return self._position(f"after {sequence}", int(sequence))

    def since(self, _: str, moment: float) -> str:
        return self._position(f"since {moment:g}", 0)

    def oldest(self, _: str) -> str:
        return self._position("oldest", 0)

    def read(self, iterator: str) -> Read:
        if self.failures and not isinstance(self.failures[0], PositionRefused):
            self._fail()
        at = int(iterator)
        found = self.records[at : at + self.at_once]
        end = self.closed and at + len(found) == len(self.records)
        behind_ms = 1000 * (len(self.records) - at - len(found))
        return Read(found, None if end else str(at + len(found)), behind_ms, [Shard("child", (SHARD,))] if end else [])


class Bench:
    """A reader and all that it is given."""

    def __init__(self, stream: FakeStream, *, max_waiting: int = 100_000) -> None:
        self.stream = stream
        self.ledger = fake_ledger(max_waiting=max_waiting)
        self.leases = Leases(self.ledger.client, "encharge", "events@1", 10)
        self.intake = Intake(RedisQueue(self.ledger), self.ledger, None, Pressure())
        self.before_taking: Callable[[], None] = lambda: None
        self.after_taking: Callable[[], None] = lambda: None
        self.children: list[Shard] = []
        self.listed = True
        self.clock = Clock()
        self.number = 0

    def events(self, shard: str, record: Record) -> Sequence[Envelope | Rejected]:
        return [envelope(id=f"{shard}:{record.sequence}", subject="encharge:1")]

    def take(self, found: Sequence[Envelope | Rejected]) -> None:
        self.before_taking()
        self.intake.take(SOURCE, found)
        self.after_taking()

    def run(self, since: float | None = None, leased_ago_s: float = 0) -> Reader:
        """A new process takes the shard and reads as far as it comes."""
        self.number += 1
        owner = f"process/{self.number}"
        checkpoint = self.leases.take(SHARD, owner)
        assert checkpoint is not None
        doing = Doing(
            source="encharge",
            stream=self.stream,
            leases=self.leases,
            lease_s=10,
            poll_s=1,
            since=since,
            events=self.events,
            take=self.take,
            ended=self.children.extend,
            gone=lambda _: not self.listed,
        )
        reader = Reader(doing, SHARD, owner, checkpoint, time.monotonic() - leased_ago_s, self.clock)
        reader.run()
        return reader

    @property
    def finished(self) -> bool:
        return SHARD in self.leases.look().finished

    @property
    def checkpoint(self) -> str | None:
        (row,) = self.leases.look().shards
        return row.checkpoint

    @property
    def owned(self) -> bool:
        return bool(self.leases.look().owners())

    def accepted(self) -> int:
        found = counts(self.ledger)
        return found.get("accepted", 0) - found.get("duplicate", 0)

    def in_order(self) -> bool:
        ids = [id_.decode() for id_ in self.ledger.client.lrange(self._line(), 0, -1)]
        return ids == [f"{SHARD}:{number}" for number in range(1, len(ids) + 1)]

    def _line(self) -> Any:
        (line,) = self.ledger.client.keys("router:line:*")
        return line


def test_to_the_end_of_a_closed_shard() -> None:
    """All of it, in order; then it is finished, and its children are told of."""
    bench = Bench(FakeStream(total=1000, at_once=400))

    bench.run()

    assert (bench.accepted(), bench.in_order()) == (1000, True)
    assert bench.finished
    assert bench.children == [Shard("child", (SHARD,))]
    assert bench.stream.asked == ["oldest"]


def test_an_open_shard_goes_on() -> None:
    """Asked once a second when there is nothing new, five times when there is; the lag is known."""
    bench = Bench(FakeStream(total=1000, closed=False, at_once=600))
    bench.clock = Clock(most=4)

    reader = bench.run()

    assert [wait <= 0.25 for wait in bench.clock.waits] == [True, True, False, False]
    assert max(bench.clock.waits) <= 1
    assert (bench.accepted(), bench.checkpoint, bench.owned, bench.finished) == (1000, "1000", False, False)
    assert reader.lag_ms == 0


def test_a_process_that_died_between_piece_and_checkpoint() -> None:
    """The next one reads that piece again; the ledger knows its events."""
    bench = Bench(FakeStream(total=1000))
    pieces = iter(range(100))

    def die() -> None:
        if next(pieces) == 3:
            raise SystemExit

    bench.after_taking = die
    with pytest.raises(SystemExit):
        bench.run()
    assert bench.checkpoint == "300"
    bench.ledger.client.hset(f"router:kinesis:encharge:events@1:shard:{SHARD}", "until", 1)

    bench.run()

    assert (bench.accepted(), bench.in_order(), bench.finished) == (1000, True, True)
    assert counts(bench.ledger)["duplicate"] == 100
    assert bench.stream.asked == ["oldest", "after 300"]


@pytest.mark.parametrize("error", [QueueFull("full"), QueueUnavailable("away")])
def test_redis_takes_nothing_for_a_while(error: Exception) -> None:
    """The same piece again and again; nothing is skipped, nothing read meanwhile."""
    bench = Bench(FakeStream(total=300))
    failures = [error] * 4

    def fail() -> None:
        if failures:
            raise failures.pop()

    bench.before_taking = fail
    bench.run()

    assert (bench.accepted(), bench.in_order(), bench.finished) == (300, True, True)
    assert bench.clock.waits[:4] == sorted(bench.clock.waits[:4])
    assert bench.stream.asked == ["oldest"]


def test_a_full_queue() -> None:
    """MAX_WAITING holds for streams too; told to stop while it waits, the reader leaves what it has not put in."""
    bench = Bench(FakeStream(total=1000), max_waiting=250)
    bench.clock = Clock(most=10)

    bench.run()

    assert (bench.accepted(), bench.checkpoint, bench.owned) == (200, "200", False)


@pytest.mark.parametrize(
    ("failures", "asked"),
    [
        ([Throttled("slow")] * 3, ["oldest"] * 4),
        ([IteratorExpired("old")], ["oldest", "oldest"]),
        ([StreamFailed("EndpointConnectionError")] * 2, ["oldest"] * 3),
        ([RuntimeError("a bug")], ["oldest"] * 2),
    ],
)
def test_the_stream_fails_for_a_while(failures: list[Exception], asked: list[str]) -> None:
    """A new iterator, from the checkpoint on."""
    bench = Bench(FakeStream(total=300))
    bench.stream.failures = failures

    bench.run()

    assert (bench.accepted(), bench.finished) == (300, True)
    assert bench.stream.asked == asked


def test_an_expired_iterator_in_the_middle() -> None:
    """It goes on behind the last record that is in the ledger."""
    bench = Bench(FakeStream(total=300))

    def once() -> None:
        bench.before_taking = lambda: None
        bench.stream.failures = [IteratorExpired("old")]

    bench.before_taking = once
    bench.run()

    assert bench.stream.asked == ["oldest", "after 100"]
    assert (bench.accepted(), counts(bench.ledger).get("duplicate"), bench.finished) == (300, None, True)


def test_a_checkpoint_that_has_left_the_stream() -> None:
    """What is left is read from its oldest record on."""
    bench = Bench(FakeStream(total=300))
    bench.leases.take(SHARD, "before/1")
    bench.leases.checkpoint(SHARD, "before/1", "", "7", 1, 0)
    bench.leases.give_back(SHARD, "before/1")
    bench.stream.failures = [PositionRefused("InvalidArgumentException")]

    bench.run()

    assert bench.stream.asked == ["after 7", "oldest"]
    assert bench.finished


def test_a_shard_without_a_checkpoint_from_a_time_on() -> None:
    """`start: latest` is the time of the first start, so that a restart loses nothing."""
    bench = Bench(FakeStream(total=10))

    bench.run(since=1234)

    assert bench.stream.asked == ["since 1234"]


def test_a_shard_that_is_gone() -> None:
    """Its records have left the stream: it is over, and does not hold up its children for ever."""
    bench = Bench(FakeStream(total=10))
    bench.stream.failures = [StreamGone("ResourceNotFoundException")] * 2
    bench.listed = False

    bench.run()

    assert (bench.accepted(), bench.finished) == (0, True)


def test_a_stream_that_is_gone_for_a_while() -> None:
    """While the shard is listed it is only tried again."""
    bench = Bench(FakeStream(total=10))
    bench.stream.failures = [StreamGone("ResourceNotFoundException")] * 2

    bench.run()

    assert (bench.accepted(), bench.finished) == (10, True)


def test_a_lease_that_another_has() -> None:
    """Nothing more is written: no checkpoint, no further piece."""
    bench = Bench(FakeStream(total=1000))

    def stolen() -> None:
        bench.after_taking = lambda: None
        bench.ledger.client.hset(f"router:kinesis:encharge:events@1:shard:{SHARD}", "owner", "another/1")

    bench.after_taking = stolen
    bench.run()

    assert (bench.accepted(), bench.checkpoint, bench.owned) == (100, None, True)


def test_redis_came_back_without_its_last_second() -> None:
    """The checkpoint that it has is older than the reader's: what it lost with it is read again."""
    bench = Bench(FakeStream(total=1000))
    pieces = iter(range(100))
    key = f"router:kinesis:encharge:events@1:shard:{SHARD}"

    def forgets() -> None:
        if next(pieces) == 5:
            bench.ledger.client.hset(key, "checkpoint", "200")
            for number in range(201, 501):
                bench.ledger.client.delete(f"router:event:{SHARD}:{number}")

    bench.after_taking = forgets
    bench.run()
    assert (bench.checkpoint, bench.owned, bench.finished) == ("200", False, False)

    bench.run()

    assert bench.finished
    assert all(bench.ledger.event(f"{SHARD}:{number}") for number in range(1, 1001))


def test_bug_what_redis_had_lost_came_behind_what_followed_it() -> None:
    """Between two reads Redis came back without the last piece: that is read again before anything else is put in."""
    bench = Bench(FakeStream(total=400, at_once=100))
    read, reads = bench.stream.read, iter(range(100))
    key = f"router:kinesis:encharge:events@1:shard:{SHARD}"

    def loses(iterator: str) -> Read:
        if next(reads) == 2:
            bench.ledger.client.hset(key, "checkpoint", "100")
            for number in range(101, 201):
                bench.ledger.client.delete(f"router:event:{SHARD}:{number}")
            bench.ledger.client.ltrim(bench._line(), 0, 99)
        return read(iterator)

    bench.stream.read = loses  # type: ignore[method-assign]
    bench.run()
    bench.run()

    assert bench.finished
    assert bench.in_order()


def test_bug_rejected_events_of_a_large_record_were_not_counted() -> None:
    """A record in several pieces has its checkpoint with the last; the count is that of all."""
    bench = Bench(FakeStream(total=1))
    bench.events = lambda *_: [  # type: ignore[method-assign]
        Rejected(envelope(id=f"r{number}"), "not JSON", "undecodable") for number in range(250)
    ]
    bench.run()

    assert bench.ledger.client.hget("router:kinesis:encharge", "rejected") == b"250"


def test_bug_events_lost_before_their_checkpoint_was_written() -> None:
    """Redis was away between the two, and came back without the events: they are put in again."""
    bench = Bench(FakeStream(total=10))
    said = bench.leases.checkpoint

    def away(*_: Any) -> bool:
        bench.leases.checkpoint = said  # type: ignore[method-assign]
        bench.ledger.client.delete(*(f"router:event:{SHARD}:{number}" for number in range(1, 11)))
        raise QueueUnavailable("ConnectionError")

    bench.leases.checkpoint = away  # type: ignore[method-assign]
    bench.run()

    assert bench.finished
    assert all(bench.ledger.event(f"{SHARD}:{number}") for number in range(1, 11))


def test_a_process_that_stood_still_for_a_lease() -> None:
    """It cannot know whether another reads the shard by now: it puts nothing in."""
    bench = Bench(FakeStream(total=1000))

    bench.run(leased_ago_s=10)

    assert bench.ledger.counts() == {}


def test_told_to_stop() -> None:
    """The piece is finished, with its checkpoint, and the lease given back."""
    bench = Bench(FakeStream(total=MOST_EVENTS * 4, at_once=MOST_EVENTS * 4))
    bench.before_taking = bench.clock.set

    bench.run()

    assert (bench.accepted(), bench.checkpoint, bench.owned) == (MOST_EVENTS, str(MOST_EVENTS), False)


def test_broken_records() -> None:
    """They become dead letters, are counted, and hold up nothing."""
    bench = Bench(FakeStream(total=100))
    good = bench.events

    def some_broken(shard: str, record: Record) -> Sequence[Envelope | Rejected]:
        (event,) = good(shard, record)
        assert isinstance(event, Envelope)
        return [Rejected(event, "not JSON", "undecodable")] if int(record.sequence) % 10 == 0 else [event]

    bench.events = some_broken  # type: ignore[method-assign]
    bench.run()

    assert counts(bench.ledger) == {"accepted": 100, "waiting": 90, "dead": 10}
    assert bench.ledger.client.hget("router:kinesis:encharge", "rejected") == b"10"


def test_records_without_events() -> None:
    """Empty ones are passed, and the checkpoint with them."""
    bench = Bench(FakeStream(total=100, closed=False))
    bench.events = lambda *_: []  # type: ignore[method-assign]
    bench.clock = Clock(most=2)

    bench.run()

    assert (bench.ledger.counts(), bench.checkpoint) == ({}, "100")


def test_silence_is_lag() -> None:
    """A reader that cannot read does not tell an old lag for ever."""
    bench = Bench(FakeStream(total=100, closed=False))
    bench.clock = Clock(most=2)
    reader = bench.run()
    assert reader.lag_ms == 0

    reader._read_at -= 60

    assert reader.lag_ms is not None
    assert reader.lag_ms >= 60_000
