"""One process's part in a stream: which shards it reads, and what it does when the stream is not what it was."""

import threading
import time
from collections.abc import Callable
from typing import Any

import fakeredis
import pytest
from builders import Fake

from app.kinesis.consumer import Consumer, StreamReplaced
from app.kinesis.errors import StreamFailed
from app.kinesis.leases import Leases
from app.kinesis.shards import Read, Shard
from app.kinesis.stream import Stream
from app.source import Source

SOURCE = Source("stream", None, kinesis=Stream("events", "eu-west-1"))


class Idle:
    """A stream in which nothing ever comes."""

    def __init__(self, *shards: Shard) -> None:
        self.listed = list(shards)
        self.made = [1]
        self.failures: list[Exception] = []

    def made_at(self) -> int:
        if self.failures:
            raise self.failures.pop()
        return self.made[0] if len(self.made) == 1 else self.made.pop(0)

    def shards(self) -> list[Shard]:
        return self.listed

    def oldest(self, shard: str) -> str:
        return shard

    after = since = lambda *_: ""

    def read(self, iterator: str) -> Read:
        return Read([], iterator, 0)


class Bench:
    """Consumers of one stream, each in a thread; they tick thirty times a second."""

    def __init__(self, stream: Idle, most_shards: int = 64) -> None:
        self.stream = stream
        self.most_shards = most_shards
        self.client = Fake(server=fakeredis.FakeServer())
        self.leases = Leases(self.client, "stream", "events@1", 0.5)
        self.running: list[tuple[threading.Event, threading.Thread]] = []

    def consumer(self, name: str) -> Consumer:
        return Consumer(
            SOURCE,
            self.stream,
            lambda key: Leases(self.client, "stream", key, 0.5),
            name,
            lease_s=0.5,
            poll_s=0.2,
            events=lambda *_: [],
            take=lambda _: None,
            most_shards=self.most_shards,
        )

    def start(self, name: str) -> Callable[[], None]:
        """Gives what stops it."""
        stop = threading.Event()
        thread = threading.Thread(target=self.consumer(name).run, args=(stop,), daemon=True)
        thread.start()

        def end() -> None:
            stop.set()
            thread.join(10)
            assert not thread.is_alive()

        return end

    def shares(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for owner in self.leases.look().owners().values():
            name = owner.partition("/")[0]
            found[name] = found.get(name, 0) + 1
        return found


def wait(true: Callable[[], Any]) -> None:
    until = time.monotonic() + 10
    while not true():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_shares_follow_the_processes() -> None:
    """One has all; two have half each; when one leaves, the other has all again, without a lease's wait."""
    bench = Bench(Idle(*(Shard(f"shard-{number}") for number in range(4))))
    end_one = bench.start("one")
    wait(lambda: bench.shares() == {"one": 4})
    end_two = bench.start("two")
    wait(lambda: bench.shares() == {"one": 2, "two": 2})
    end_one()
    wait(lambda: bench.shares() == {"two": 4})
    end_two()

    assert bench.shares() == {}
    assert bench.leases.look().consumers == {}


def test_bug_a_reader_with_nothing_to_write_did_not_see_what_redis_had_lost() -> None:
    """Its checkpoint is ahead of Redis': it leaves, and whoever takes the shard next begins at Redis' own."""
    stream = Idle(Shard("shard-1"))
    stream.after = lambda _, sequence: begun.append(sequence) or "shard-1"  # type: ignore[method-assign, func-returns-value]
    begun: list[str] = []
    bench = Bench(stream)
    bench.leases.take("shard-1", "zero/1")
    bench.leases.checkpoint("shard-1", "zero/1", "", "9", 1, 0)
    bench.leases.give_back("shard-1", "zero/1")
    end = bench.start("one")
    wait(lambda: begun == ["9"])
    bench.client.hset("router:kinesis:stream:events@1:shard:shard-1", "checkpoint", "5")
    wait(lambda: begun == ["9", "5"])
    end()


def test_at_most_so_many_threads() -> None:
    """What is beyond waits for more processes."""
    bench = Bench(Idle(*(Shard(f"shard-{number}") for number in range(5))), most_shards=3)
    end = bench.start("one")
    wait(lambda: bench.shares() == {"one": 3})
    end()


def test_a_stream_that_cannot_be_reached_at_first() -> None:
    """It is tried again, until it answers."""
    bench = Bench(Idle(Shard("shard-1")))
    bench.stream.failures = [StreamFailed("EndpointConnectionError")]
    end = bench.start("one")
    wait(lambda: bench.shares() == {"one": 1})
    end()


def test_another_stream_of_the_same_name() -> None:
    """Its shards are others: the process is to begin anew."""
    bench = Bench(Idle(Shard("shard-1")))
    bench.stream.made = [1, 2, 2]

    with pytest.raises(StreamReplaced):
        bench.consumer("one").run(threading.Event())
    assert bench.shares() == {}
