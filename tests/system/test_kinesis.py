"""Real processes read a stream of a stand-in; one is killed, a shard is split. The long run: benchmarks/kinesis.py."""

import json
import time
from collections.abc import Callable
from pathlib import Path

from click.testing import CliRunner
from conftest import Router, wait
from kinesis_stream import SOURCE, Stream, owners

from app.kinesis.reader import MOST_EVENTS
from cli.kinesis import kinesis
from cli.stack import KINESIS


def shared_by(stream: Stream, count: int) -> bool:
    """Whether so many processes hold all shards."""
    rows = stream.watched().shards
    return bool(rows) and all(row.owner for row in rows) and len(set(owners(stream.watched()))) == count


def show(router: Router, *options: str) -> tuple[int, str]:
    """What `event-router kinesis --show` prints, and its status; without the time that a process takes to start."""
    done = CliRunner().invoke(kinesis, ["--show", *options], obj=router.environ)
    return done.exit_code, done.stdout


def test_killed_split_and_stopped(make_router: Callable[..., Router], tmp_path: Path) -> None:
    """Nothing is lost, each key's events keep their order, the lag is 0 in the end, leases are given back."""
    router = make_router(KINESIS_LEASE_S="1.5", KINESIS_POLL_S="0.3", LOG_LEVEL="DEBUG")
    stream = Stream(router, 3, iterator_seconds="1")
    stream.declare(tmp_path)
    for name in ("one", "two"):
        stream.start_consumer(name)
    stream.put(1000, 100)
    stream.put_raw(b"no JSON", b"", b'{"neither": 1}')
    wait(lambda: shared_by(stream, 2), 15, "both processes hold shards")
    stream.read(500, 15)
    router.kill("one")
    stream.split(0)
    stream.put(1000, 100)
    wait(lambda: shared_by(stream, 1), 15, "the other took over")
    stream.read(2002, 15)
    wait(lambda: stream.watched().records == 2003, 10, "all have a checkpoint")
    wait(lambda: stream.watched().lag_s == 0, 10, "the lag is 0")

    counts, watched = stream.counts(), stream.watched()
    assert (stream.missing(), stream.out_of_order()) == (0, [])
    assert counts.get("duplicate", 0) <= 3 * MOST_EVENTS
    assert counts["dead"] == watched.rejected == 2
    assert len(watched.shards) == 4
    status, text = show(router, "--json")
    (shown,) = json.loads(text)
    assert (status, shown["source"], shown["consumers"], shown["lag_s"]) == (0, SOURCE, 1, 0)

    ended = router.processes["two"]
    assert router.terminate("two", 10)
    assert ended.returncode == 0
    assert owners(stream.watched()) == []
    status, text = show(router)
    assert (status, text.count("NOBODY")) == (1, 4)
    log = router.log("two").read_text() + router.log("one").read_text()
    assert "ExpiredIterator" not in log
    assert "Traceback" not in log
    assert "person-" not in log
    assert "Credential=" not in log


def test_redis_and_the_stream_are_away_at_first(make_router: Callable[..., Router], tmp_path: Path) -> None:
    """The process waits for both, and reads `latest` from its start on; where no source has a stream it just waits."""
    router = make_router(KINESIS_LEASE_S="1.5", KINESIS_POLL_S="0.3")
    router.start("idle", KINESIS)
    stream = Stream(router, 1)
    stream.put(100, 10)
    stream.declare(tmp_path, start="latest")
    router.kill_redis()
    time.sleep(0.1)
    stream.start_consumer("one")
    log = router.log("one")
    wait(lambda: b"redis_unreachable" in log.read_bytes(), 15, "it says what it waits for")
    router.restart_redis()
    wait(lambda: shared_by(stream, 1), 15, "it reads")
    stream.put(100, 10)
    stream.read(100, 15)

    assert stream.counts()["accepted"] == 100
    assert b"nothing_to_read" in router.log("idle").read_bytes()
    idle = router.processes["idle"]
    assert router.terminate("idle", 5)
    assert idle.returncode == 0
