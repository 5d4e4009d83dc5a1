"""Leases on shards: never two owners that can both write, and a checkpoint that is its owner's only."""

from typing import Any

import fakeredis
import pytest
import redis
from builders import Fake, fake_ledger
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from app import create_app
from app.kinesis.leases import Leases, _row, current
from app.kinesis.stream import Stream
from app.kinesis.watch import watch
from app.source import Source
from tasks.errors import QueueUnavailable
from tasks.queue import RedisQueue

SHARDS = ["shard-1", "shard-2"]
KEY = "router:kinesis:stream:events@1:"


def fake_leases(client: Any = None) -> tuple[Any, Leases]:
    client = client or Fake(server=fakeredis.FakeServer())
    return client, Leases(client, "stream", "events@1", 10)


def run_out(client: Any, shard: str) -> None:
    """Let a lease end, as if its time had gone by."""
    client.hset(f"{KEY}shard:{shard}", "until", 1)


class LeaseMachine(RuleBasedStateMachine):
    """Processes that take, renew, write, stall and end, in any order; each may believe in an old lease."""

    def __init__(self) -> None:
        super().__init__()
        self.client, self.leases = fake_leases()
        self.believed: list[tuple[str, str]] = []  #: shard and owner of every lease ever taken
        self.owner: dict[str, str] = {}  #: shard → who took it last, and neither gave it back nor ended it
        self.out: set[str] = set()  #: shards whose lease has run out
        self.checkpoints: dict[str, str] = {}
        self.finished: set[str] = set()
        self.number = 0
        self.records = 0

    @rule(shard=st.sampled_from(SHARDS))
    def take(self, shard: str) -> None:
        """Only what is free or has run out; with the last owner's checkpoint."""
        self.number += 1
        owner = f"process/{self.number}"
        checkpoint = self.leases.take(shard, owner)
        free = shard not in self.finished and (shard not in self.owner or shard in self.out)
        assert (checkpoint is not None) == free
        if checkpoint is not None:
            assert checkpoint == self.checkpoints.get(shard, "")
            self.believed.append((shard, owner))
            self.owner[shard] = owner
            self.out.discard(shard)

    @rule(shard=st.sampled_from(SHARDS))
    def stall(self, shard: str) -> None:
        """The owner is silent for longer than its lease."""
        if shard in self.owner:
            run_out(self.client, shard)
            self.out.add(shard)

    @precondition(lambda self: self.believed)
    @rule(data=st.data())
    def renew(self, data: Any) -> None:
        """Also when it has run out, as long as nobody else has taken it, and Redis knows how far it has come."""
        shard, owner = data.draw(st.sampled_from(self.believed))
        known = data.draw(self._known(shard))
        may = self.owner.get(shard) == owner and known == self.checkpoints.get(shard, "")
        assert self.leases.renew(shard, owner, known, 5) == may
        if may:
            self.out.discard(shard)

    def _known(self, shard: str) -> Any:
        return st.sampled_from([self.checkpoints.get(shard, ""), str(self.number + 1)])

    @precondition(lambda self: self.believed)
    @rule(data=st.data())
    def write(self, data: Any) -> None:
        """Whoever believes in an old lease writes nothing, nor does who follows another checkpoint; twice is once."""
        shard, owner = data.draw(st.sampled_from(self.believed))
        before = self.checkpoints.get(shard, "")
        said = data.draw(st.sampled_from([before, "another"]))
        self.number += 1
        written = [self.leases.checkpoint(shard, owner, said, str(self.number), 1, 0) for _ in range(2)]
        assert written == [self.owner.get(shard) == owner and said == before] * 2
        if written[0]:
            self.checkpoints[shard] = str(self.number)
            self.records += 1

    @precondition(lambda self: self.believed)
    @rule(data=st.data())
    def give_back(self, data: Any) -> None:
        """Free at once; an old owner gives nothing back."""
        shard, owner = data.draw(st.sampled_from(self.believed))
        self.leases.give_back(shard, owner)
        if self.owner.get(shard) == owner:
            del self.owner[shard]
            self.out.discard(shard)

    @precondition(lambda self: self.believed)
    @rule(data=st.data())
    def finish(self, data: Any) -> None:
        """Nobody takes it again."""
        shard, owner = data.draw(st.sampled_from(self.believed))
        known = data.draw(self._known(shard))
        may = self.owner.get(shard) == owner and known == self.checkpoints.get(shard, "")
        assert self.leases.finish(shard, owner, known) == may
        if may:
            del self.owner[shard]
            self.finished.add(shard)
            self.checkpoints.pop(shard, None)

    @invariant()
    def seen_from_outside(self) -> None:
        """What is shown is what holds."""
        rows = self.leases.look()
        assert rows.finished == self.finished
        assert current(self.client, "stream")[1] == self.records
        assert rows.owners() == {shard: owner for shard, owner in self.owner.items() if shard not in self.out}
        assert {row.shard: row.checkpoint for row in rows.shards if row.checkpoint} == self.checkpoints


TestLeases = LeaseMachine.TestCase


def test_consumers_are_forgotten() -> None:
    """One that was silent for a lease is not counted, and shares are made without it."""
    client, leases = fake_leases()
    leases.heard("one")
    assert leases.heard("two") == ["one", "two"]

    client.zincrby(f"{KEY}consumers", -11_000_000, "one")

    assert leases.heard("two") == ["two"]
    leases.leave("two")
    assert leases.heard("three") == ["three"]


def test_latest_is_from_the_first_start_on() -> None:
    """A second process, or a restart, does not begin later: what came in between would be lost."""
    _, leases = fake_leases()

    assert leases.begin(1000.5) == 1000.5
    assert leases.begin(2000.5) == 1000.5


def test_bug_nobody_knew_of_the_stream_when_redis_had_lost_all() -> None:
    """Whoever reads says again what it reads, and since when."""
    client, leases = fake_leases()
    leases.begin(1000.5)
    client.flushall()

    leases.heard("one")

    assert current(client, "stream")[0] == "events@1"
    assert leases.begin(2000.5) == 1000.5


def test_another_stream_begins_anew() -> None:
    """The same name made again, or another stream for the source: what is known of the shards is not of it."""
    client, leases = fake_leases()
    leases.begin(1)
    leases.take("shard-1", "one")
    leases.checkpoint("shard-1", "one", "", "17", 1, 0)

    assert Leases(client, "stream", "events@2", 10).take("shard-1", "two") == ""


def test_bug_a_shard_was_finished_over_what_redis_had_lost() -> None:
    """Records 6 to 99 went with Redis' last second: the shard must be read again from behind the fifth."""
    _, leases = fake_leases()
    leases.take("shard-1", "one/1")
    leases.checkpoint("shard-1", "one/1", "", "5", 1, 0)

    assert not leases.renew("shard-1", "one/1", "99", 0)
    assert not leases.finish("shard-1", "one/1", "10")
    assert leases.renew("shard-1", "one/1", "", 0), "its reader has not heard yet of what it has said"
    leases.give_back("shard-1", "one/1")
    assert leases.take("shard-1", "two/1") == "5"


def test_bug_a_lag_told_in_the_same_microsecond_was_none() -> None:
    """0 s ago is not never."""
    assert _row("shard-1", {b"lag_ms": b"5000", b"lag_at": b"100"}, 100).lag_s == 5


def lag(client: Any) -> float | None:
    (found,) = watch(client, ["stream"])
    return found.lag_s


def test_lag() -> None:
    """That of the worst shard; 0 when all are caught up; it grows when nobody tells of a shard any more."""
    client, leases = fake_leases()
    assert lag(client) is None
    leases.begin(1)
    for shard in SHARDS:
        leases.take(shard, f"{shard}/1")
    assert lag(client) is None
    leases.renew("shard-1", "shard-1/1", "", 0)
    leases.renew("shard-2", "shard-2/1", "", 4500)
    assert lag(client) == 4.5
    leases.renew("shard-2", "shard-2/1", "", 0)
    assert lag(client) == 0

    client.hincrby(f"{KEY}shard:shard-2", "lag_at", -60_000_000)
    assert lag(client) == pytest.approx(60, abs=5)
    leases.finish("shard-2", "shard-2/1", "")
    assert lag(client) == 0


def test_a_shard_that_nobody_takes() -> None:
    """Its lag counts from when it was seen; what has a row, or has ended, is noted no more."""
    client, leases = fake_leases()
    leases.begin(1)
    leases.note("shard-1")
    assert lag(client) == 0
    client.hincrby(f"{KEY}shard:shard-1", "lag_at", -60_000_000)
    leases.note("shard-1")

    assert lag(client) == pytest.approx(60, abs=5)
    leases.take("shard-1", "one/1")
    leases.finish("shard-1", "one/1", "")
    leases.note("shard-1")
    assert leases.look().shards == []


def test_metrics() -> None:
    """The web tells of each source that has a stream: also when nobody has ever read it."""
    ledger = fake_ledger()
    _, leases = fake_leases(ledger.client)
    leases.begin(1)
    leases.heard("one")
    leases.take("shard-1", "one/1")
    leases.renew("shard-1", "one/1", "", 2500)
    leases.checkpoint("shard-1", "one/1", "", "17", 20, 3)
    sources = {
        name: Source(name, None, kinesis=stream)
        for name, stream in (("stream", Stream("events", "x")), ("unread", Stream("others", "x")), ("web", None))
    }

    text = create_app(sources, RedisQueue(ledger), ledger).test_client().get("/metrics").text

    told = dict(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("event_router_kinesis_"))
    age_s = told.pop('event_router_kinesis_checkpoint_age_seconds{source="stream"}')
    assert 0 <= float(age_s) < 60
    assert told == {
        'event_router_kinesis_lag_seconds{source="stream"}': "2.5",
        'event_router_kinesis_consumers{source="stream"}': "1.0",
        'event_router_kinesis_consumers{source="unread"}': "0.0",
        'event_router_kinesis_records_total{source="stream"}': "20.0",
        'event_router_kinesis_records_total{source="unread"}': "0.0",
        'event_router_kinesis_rejected_total{source="stream"}': "3.0",
        'event_router_kinesis_rejected_total{source="unread"}': "0.0",
    }


def test_without_redis() -> None:
    """Every call says so in one way."""

    class Away(Fake):
        def execute_command(self, *_: Any, **__: Any) -> Any:
            raise redis.ConnectionError("away")

    leases = Leases(Away(server=fakeredis.FakeServer()), "stream", "events@1", 10)
    calls = [
        lambda: leases.begin(1),
        lambda: leases.heard("one"),
        lambda: leases.leave("one"),
        lambda: leases.note("shard-1"),
        lambda: leases.take("shard-1", "one/1"),
        lambda: leases.renew("shard-1", "one/1", "", None),
        lambda: leases.checkpoint("shard-1", "one/1", "", "1", 1, 0),
        lambda: leases.finish("shard-1", "one/1", ""),
        lambda: leases.give_back("shard-1", "one/1"),
        leases.look,
    ]
    for call in calls:
        with pytest.raises(QueueUnavailable, match="ConnectionError"):
            call()
