"""What happens to events that Redis does not take: spooled, in order, counted, and brought back."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path

import pytest
import redis
from builders import REPOSITORY, counts, envelope, fake_ledger
from structlog.testing import capture_logs

from app import create_app
from app.drainer import Drainer
from app.intake import Intake
from app.pressure import Pressure, is_high
from app.source import Source
from app.sources import encharge
from app.spool import Spool, problem, spooled
from tasks.envelope import Envelope, Rejected
from tasks.errors import QueueFull, QueueUnavailable
from tasks.ledger import Ledger
from tasks.memory import share_used
from tasks.queue import RedisQueue

MIB = 1024 * 1024
AWAY = QueueUnavailable("ConnectionError")
FULL = QueueFull("10 events wait already")


class Waits:
    """A queue that takes everything, takes it without saying so, or raises what it is told to."""

    key = "events"

    def __init__(self) -> None:
        self.taken: list[Envelope] = []
        self.error: Exception | None = None
        self.room = 10**9

    def accept(self, envelopes: Sequence[Envelope]) -> list[bool]:
        if self.error is not None:
            raise self.error
        if len(envelopes) > self.room:
            raise FULL
        self.room -= len(envelopes)
        self.taken += envelopes
        return [True] * len(envelopes)

    def ticket(self, *_: str) -> bytes:
        return b""

    def publish(self, ids: Sequence[str]) -> None:
        pass


class Bench:
    """An endpoint's intake and drainer around a queue that fails on demand."""

    def __init__(self, folder: Path, max_bytes: int = MIB) -> None:
        self.folder = folder
        self.queue = Waits()
        self.ledger = fake_ledger()
        self.pressure = Pressure()
        self.spool = Spool(folder, max_bytes)
        self.intake = Intake(self.queue, self.ledger, self.spool, self.pressure, {"picky"})
        self.drainer = Drainer(self.spool, self.queue, self.ledger, self.pressure, quick_s=10)

    def accept(self, *ids: str, source: str = "encharge") -> list[bool]:
        return self.intake.accept([envelope(id=id_, source=source) for id_ in ids])

    @property
    def taken(self) -> list[str]:
        return [each.id for each in self.queue.taken]

    @property
    def waiting(self) -> list[str]:
        return [each.envelope.id for each in spooled(self.folder)]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path / "spool")
    yield made
    made.spool.close()


def test_nothing_is_spooled_while_redis_takes_it(bench: Bench) -> None:
    """The queue's own answer, and no row."""
    assert bench.accept("a", "b") == [True, True]
    assert (bench.taken, bench.waiting, bench.spool.holding()) == (["a", "b"], [], False)


@pytest.mark.parametrize("error", [AWAY, FULL])
def test_what_redis_does_not_take_is_spooled_and_drained_in_order(bench: Bench, error: Exception) -> None:
    """Away or full: taken all the same, whole, and brought in order when Redis is back."""
    odd = envelope(id="odd", subject=None, name="na\ud800me", raw=[{"x": 1.5}], event={"ü": "\ud83d"})
    bench.queue.error = error
    assert bench.accept("a") == [True]
    assert bench.intake.accept([odd, envelope(id="b")]) == [True, True]
    assert not bench.drainer.drain()
    assert bench.waiting == ["a", "odd", "b"]

    bench.queue.error = None
    assert bench.drainer.drain()

    assert bench.taken == ["a", "odd", "b"]
    assert bench.queue.taken[1] == odd
    assert (bench.waiting, bench.spool.holding()) == ([], False)


def test_nothing_overtakes_what_is_spooled(bench: Bench) -> None:
    """Redis is back, but not yet the spooled event: the next one queues behind it, of whichever process it is."""
    other = Spool(bench.folder, MIB)
    elsewhere = Intake(bench.queue, bench.ledger, other, Pressure())
    bench.queue.error = AWAY
    bench.accept("a")
    bench.queue.error = None

    elsewhere.accept([envelope(id="b")])
    bench.accept("c")
    assert bench.taken == []
    assert bench.drainer.drain()
    elsewhere.accept([envelope(id="d")])

    assert bench.taken == ["a", "b", "c", "d"]
    other.close()


def test_invalid_events_become_dead_letters_when_redis_is_back(bench: Bench) -> None:
    """A rejected event keeps its place and its error; the equation has it as dead."""
    bench.queue.error = AWAY
    bench.accept("good")
    bench.intake.reject([Rejected(envelope(id="bad"), "no user", reason="undecodable")])
    assert counts(bench.ledger) == {}

    bench.queue.error = None
    assert bench.drainer.drain()

    assert bench.taken == ["good"]
    assert counts(bench.ledger) == {"accepted": 1, "dead": 1}
    dead = bench.ledger.event("bad")
    assert dead is not None
    assert dead.deliveries["-"].record == {"attempts": [], "reason": "undecodable", "error": "no user"}


def test_a_queue_with_little_room_takes_what_fits(bench: Bench) -> None:
    """The drainer goes by halves down to one event, keeps the order, and goes on where it stopped."""
    bench.queue.error = AWAY
    ids = [str(number) for number in range(40)]
    bench.accept(*ids)
    bench.queue.error = None
    for room in (0, 7, 1):
        bench.queue.room = room
        assert not bench.drainer.drain()
        assert bench.spool.full()
    assert bench.taken == ids[:8]

    bench.queue.room = 1000
    assert bench.drainer.drain()
    assert bench.taken == ids
    assert not bench.spool.full()


def test_a_crash_between_feeding_and_forgetting_loses_nothing(bench: Bench) -> None:
    """The next drainer feeds the same events again; the ledger knows them by their ids."""
    bench.queue.error = AWAY
    bench.accept("a", "b")
    queue = RedisQueue(bench.ledger)
    queue.accept([row.envelope for row in bench.spool.head(10, MIB)])  # and here the process died

    Drainer(Spool(bench.folder, MIB), queue, bench.ledger, Pressure(), quick_s=10).drain()

    assert counts(bench.ledger) == {"accepted": 4, "duplicate": 2, "waiting": 2}
    assert bench.waiting == []


def test_one_drains_at_a_time(bench: Bench) -> None:
    """While another process has the right, nothing is fed twice."""
    bench.queue.error = AWAY
    bench.accept("a")
    bench.queue.error = None
    other = Spool(bench.folder, MIB)
    with other.only_drainer() as mine:
        assert mine
        assert not bench.drainer.drain()
    other.close()
    assert bench.taken == []
    assert bench.drainer.drain()


def test_an_event_that_comes_as_the_last_one_goes(bench: Bench) -> None:
    """The look whether all is drained and the opening of the way are one step: it is not overtaken."""
    bench.queue.error = AWAY
    bench.accept("a")
    bench.spool.forget(1)
    bench.accept("b")
    assert bench.spool.release() is None
    assert bench.spool.holding()
    bench.spool.forget(2)
    drained = bench.spool.release()
    assert drained is not None
    assert drained.events == 2
    assert not bench.spool.holding()


def test_left_over_events_are_found_at_start(bench: Bench) -> None:
    """Also when the machine kept the rows and lost the file that says so."""
    bench.queue.error = AWAY
    bench.accept("a")
    (bench.folder / "holding").unlink()

    again = Spool(bench.folder, MIB)

    assert again.holding()
    assert again.size().events == 1
    again.close()


def accepted(intake: Intake, event: Envelope) -> bool:
    try:
        return all(intake.accept([event]))
    except QueueFull:
        return False


def test_a_spool_that_is_full(tmp_path: Path) -> None:
    """QueueFull, nothing half-written; what was taken stays, and room comes back when it is drained."""
    bench = Bench(tmp_path, max_bytes=MIB)
    bench.queue.error = AWAY
    big = [envelope(id=str(number), event={"x": "y" * 100_000}) for number in range(20)]
    took = len(list(takewhile(lambda each: accepted(bench.intake, each), big)))
    with pytest.raises(QueueFull, match="the spool is full"):
        bench.intake.accept([big[took]])
    assert 8 <= took <= 10
    assert bench.spool.size().bytes <= MIB
    assert len(bench.waiting) == bench.spool.size().events == took
    assert not bench.spool.takes()

    bench.queue.error = None
    bench.drainer.drain()
    assert len(bench.taken) == took
    bench.queue.error = AWAY
    bench.intake.accept(big[took : took + 5])
    assert bench.spool.size().events == 5


def test_a_disk_that_does_not_take_it(bench: Bench) -> None:
    """QueueUnavailable, without the disk's own words."""
    bench.queue.error = AWAY
    bench.spool.close()
    with pytest.raises(QueueUnavailable, match=r"cannot be written \(ProgrammingError\)"):
        bench.accept("a")
    assert not bench.spool.takes()


def test_sources_that_would_rather_be_refused(bench: Bench) -> None:
    """`when_full: refuse`: refused while Redis is full, also behind spooled events of others; not when it is away."""
    bench.queue.error = FULL
    with pytest.raises(QueueFull):
        bench.accept("a", source="picky")
    bench.accept("b")
    bench.drainer.drain()
    with pytest.raises(QueueFull):
        bench.accept("c", source="picky")
    bench.queue.error = AWAY
    bench.drainer.drain()
    bench.accept("d", source="picky")
    assert bench.waiting == ["b", "d"]


def test_memory_beyond_the_mark(bench: Bench) -> None:
    """Events are spooled or refused without asking Redis, and drained only when memory is well below the mark."""
    bench.pressure.see(0.81, 0.8)
    bench.accept("a")
    with pytest.raises(QueueFull):
        bench.accept("b", source="picky")
    bench.pressure.see(0.75, 0.8)
    assert not bench.drainer.drain()
    assert (bench.taken, bench.waiting) == ([], ["a"])

    bench.pressure.see(0.69, 0.8)
    assert bench.drainer.drain()
    bench.accept("c", source="picky")
    assert bench.taken == ["a", "c"]


@pytest.mark.parametrize(
    ("share", "was", "high"),
    [(0.79, False, False), (0.8, False, True), (0.71, True, True), (0.69, True, False), (None, True, True)],
)
def test_the_mark_has_slack(*, share: float | None, was: bool, high: bool) -> None:
    """Up at the mark, down a tenth below it; without an answer as before."""
    assert is_high(share, 0.8, was=was) is high


def test_without_a_spool_things_are_as_they_were() -> None:
    """Whatever Redis does not take is refused."""
    queue, pressure = Waits(), Pressure()
    intake = Intake(queue, fake_ledger(), None, pressure)
    queue.error = AWAY
    with pytest.raises(QueueUnavailable):
        intake.accept([envelope()])
    pressure.see(0.9, 0.8)
    with pytest.raises(QueueFull):
        intake.accept([envelope()])


def test_many_at_a_time_share_few_transactions(bench: Bench) -> None:
    """Threads of several processes at once: each event is there once, each sender's in its order."""
    spools = [bench.spool, Spool(bench.folder, MIB)]

    def send(sender: int) -> None:
        for number in range(25):
            spools[sender % 2].append([envelope(id=f"{sender}-{number:02}")], "test")

    threads = [threading.Thread(target=send, args=(sender,)) for sender in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    assert len(set(bench.waiting)) == len(bench.waiting) == 200
    for sender in range(8):
        mine = [id_ for id_ in bench.waiting if id_.startswith(f"{sender}-")]
        assert mine == sorted(mine)
    spools[1].close()


def test_one_line_when_it_begins_and_one_when_it_ends(bench: Bench) -> None:
    """Not one for each event; the end says how many and how long."""
    with capture_logs() as lines:
        bench.queue.error = AWAY
        for number in range(5):
            bench.accept(str(number))
            bench.drainer.drain()
        bench.queue.error = None
        bench.drainer.drain()
    said = [line for line in lines if line["log_level"] != "debug"]
    assert [line["event"] for line in said] == ["spool.begun", "spool.drained"]
    assert (said[0]["why"], said[1]["events"]) == ("ConnectionError", 5)
    assert said[1]["seconds"] >= 0


def test_rows_of_another_version_do_not_hold_up_the_rest(bench: Bench) -> None:
    """They go into quarantine, byte for byte."""
    bench.queue.error = AWAY
    bench.accept("a", "b")
    with sqlite3.connect(bench.folder / "spool.db") as database:
        database.execute("UPDATE spooled SET envelope = ? WHERE n = 1", (b'{"id": "a", "colour": 1}',))
    database.close()
    bench.queue.error = None

    assert bench.drainer.drain()

    assert bench.taken == ["b"]
    assert bench.ledger.client.zcard("router:quarantine") == 1


@pytest.mark.parametrize("kind", ["file", "below a file", "good", "new"])
def test_folders(tmp_path: Path, kind: str) -> None:
    """What cannot be a spool's folder is told before anything starts; asking changes nothing."""
    file = tmp_path / "file"
    file.touch()
    folder = {"file": file, "below a file": file / "spool", "good": tmp_path, "new": tmp_path / "new/spool"}[kind]
    assert (problem(folder) is None) == (kind in {"good", "new"})
    assert not (tmp_path / "new").exists()


def test_killed_in_the_middle_of_writing(tmp_path: Path) -> None:
    """Kill -9 of a process that appends: all it was told is on the disk is there, in order, without gaps."""
    program = (
        "import sys; from pathlib import Path; from builders import envelope; from app.spool import Spool\n"
        "spool = Spool(Path(sys.argv[1]), 10**8)\n"
        "for number in range(10**6):\n"
        "    spool.append([envelope(id=str(number))], 'test'); print(number, flush=True)\n"
    )
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join((str(REPOSITORY), str(REPOSITORY / "tests")))}
    with subprocess.Popen([sys.executable, "-c", program, tmp_path], stdout=subprocess.PIPE, env=environ) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(50)]
        os.kill(process.pid, signal.SIGKILL)
        lines += process.stdout.read().splitlines(keepends=True)
    told = [int(line) for line in lines if line.endswith(b"\n") and line.strip().isdigit()]
    spool = Spool(tmp_path, 10**8)
    ids = [int(row.envelope.id) for row in spooled(tmp_path)]
    assert ids == list(range(len(ids)))
    assert told[-1] < len(ids) == spool.size().events
    assert spool.holding()
    spool.close()


def ready(ledger: Ledger, spool: Spool | None, pressure: Pressure | None = None) -> tuple[int, dict[str, object]]:
    source = Source(name="encharge", unwrap=encharge.unwrap, secrets=("s3cret",))
    client = create_app({"encharge": source}, RedisQueue(ledger), ledger, spool, pressure).test_client()
    assert client.get("/metrics").status_code == 200
    answer = client.get("/readyz")
    return answer.status_code, json.loads(answer.text)


def test_readiness_says_where_events_go(bench: Bench) -> None:
    """Ready; spooling, and how many; spool full."""
    assert ready(bench.ledger, bench.spool) == (200, {"code": "ready"})
    high = Pressure()
    high.see(0.9, 0.8)
    assert ready(bench.ledger, bench.spool, high) == (200, {"code": "spooling", "spooled": 0})
    bench.queue.error = AWAY
    bench.accept("a", "b")
    assert ready(bench.ledger, bench.spool) == (200, {"code": "spooling", "spooled": 2})
    with pytest.raises(QueueFull):
        bench.intake.accept([envelope(event={"x": "y" * 2 * MIB})])
    assert ready(bench.ledger, bench.spool) == (503, {"code": "spool_full"})


def test_metrics_of_the_spool(bench: Bench) -> None:
    """How many, how large, how old."""
    bench.queue.error = AWAY
    bench.accept("a", "b")
    client = create_app({}, bench.queue, bench.ledger, bench.spool).test_client()
    text = client.get("/metrics").text
    assert "event_router_spooled 2.0" in text
    assert "event_router_spooled_bytes " in text
    assert "event_router_spooled_oldest_seconds " in text
    assert "event_router_redis_up 1.0" in text


class Info:
    """A Redis that says how full it is, or nothing."""

    def __init__(self, found: dict[str, int] | None) -> None:
        self.found = found

    def info(self, _: str) -> dict[str, int]:
        if self.found is None:
            raise redis.TimeoutError
        return self.found


@pytest.mark.parametrize(
    ("found", "share"),
    [
        (None, None),
        ({"used_memory": 90, "maxmemory": 0}, 0.0),
        ({"used_memory": 90, "maxmemory": 100}, 0.9),
        ({"used_memory": 90, "maxmemory": 100, "mem_not_counted_for_evict": 50}, 0.4),
    ],
)
def test_how_full_redis_is(found: dict[str, int] | None, share: float | None) -> None:
    """What counts against maxmemory; 0 without a limit, None without an answer."""
    assert share_used(Info(found)) == share
