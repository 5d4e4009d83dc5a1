"""A stand-in for Firehose delivers records to a real router, 1 % of them broken, and counts what became of each.

    python benchmarks/firehose.py [--records 10000] [--size 500] [--skip-sizes]

Three parts, each with its own events: single large requests (time to answer, memory of the web process, what webhooks
feel of it meanwhile); then all records once; then again with every third request sent twice. Ends with status 1 when a
request was not taken as Firehose wants it, an event is lost or delivered twice, a broken record is no dead letter, or
the ledger's equation does not hold.
"""

import argparse
import dataclasses
import json
import os
import statistics
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "tests"), str(HERE.parent / "tests" / "system")]

from conftest import SECRET, Router, numbered, wait  # noqa: E402 - the system tests' harness
from firehose_standin import Standin  # noqa: E402

BROKEN = (b"hello", b'{"event": "newUser", "user"', b'{"event": NaN}', b"\xff\xfe")
BROKEN_EVERY = 100
TWICE_EVERY = 3
#: Time limit of Firehose for one request, which nothing here comes near.
MOST_S = 30.0
MIB = 1024 * 1024


@dataclasses.dataclass(frozen=True)
class Run:
    """What became of some records."""

    records: int
    broken: int
    requests: int
    sent_again: int
    delivered: int
    dead: int
    duplicates: int
    lost: int  #: good ones that the destination never saw
    doubled: int  #: good ones that it saw more than once
    objections: Sequence[str]  #: of the stand-in
    answer_s: float  #: the slowest answer
    seconds: float  #: until nothing waited any more

    def problems(self) -> list[str]:
        """What is not as it must be."""
        good = self.records - self.broken
        checks = {
            "answers that Firehose does not take": not self.objections,
            "delivered + dead is not all records": self.delivered + self.dead == self.records,
            "dead letters are not the broken records": self.dead == self.broken,
            "delivered are not the good records": self.delivered == good,
            # More are: what Redis took but did not say in time is spooled too, and known when it is drained.
            "what was sent again is no duplicate": self.duplicates >= self.sent_again,
            "lost": not self.lost,
            "delivered twice": not self.doubled,
            "an answer took too long": self.answer_s < MOST_S,
        }
        return [problem for problem, right in checks.items() if not right]


def written(number: int, event: dict[str, object]) -> bytes:
    """A record as one of several producers would write it; every hundredth is broken."""
    if number % BROKEN_EVERY == 0:
        return BROKEN[number // BROKEN_EVERY % len(BROKEN)]
    text = json.dumps(event, indent=1 if number % 7 == 0 else None)
    return (text + "\n" if number % 2 else text).encode()


def run(router: Router, count: int, size: int, *, first: int = 0, twice_every: int = 0) -> Run:
    """Deliver `count` records in requests of `size`, every `twice_every`-th request twice; wait until all ended."""
    before = router.counts("source", "encharge")
    events = numbered(first + count)[first:]
    records = [written(number, event) for number, event in enumerate(events, first)]
    standin = Standin(router.web_port, "/firehose/encharge", SECRET)
    sent_again = 0
    begun = time.monotonic()
    for index in range(0, count, size):
        part, number = records[index : index + size], index // size
        twice = bool(twice_every) and number % twice_every == 0
        sent_again += len(part) if twice else 0
        standin.deliver(str(uuid.uuid4()), part, packed=number % 2 == 1, times=2 if twice else 1)
    standin.close()

    def counted() -> dict[str, int]:
        after = router.counts("source", "encharge")
        return {state: after[state] - before.get(state, 0) for state in after}

    def all_ended() -> bool:
        # What is spooled is in no count yet.
        now = counted()
        return now.get("waiting", 0) == 0 and now.get("delivered", 0) + now.get("dead", 0) >= count

    wait(all_ended, 30 + count / 50, "all have ended")
    seconds = time.monotonic() - begun
    ended, arrivals = counted(), router.arrivals()
    good = [str(number) for number in range(first, first + count) if number % BROKEN_EVERY]
    return Run(
        records=count,
        broken=count - len(good),
        requests=len(standin.seconds),
        sent_again=sent_again,
        delivered=ended.get("delivered", 0),
        dead=ended.get("dead", 0),
        duplicates=ended.get("duplicate", 0),
        lost=sum(number not in arrivals for number in good),
        doubled=sum(len(arrivals.get(number, ())) > 1 for number in good),
        objections=standin.objections,
        answer_s=max(standin.seconds),
        seconds=seconds,
    )


def memory(group: int, field: str) -> int:
    """MiB of the largest process of a group: VmRSS is what it has, VmHWM the most that it had."""
    largest = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.getpgid(int(process.name)) == group:
                lines = (process / "status").read_text().splitlines()
                largest = max(largest, *(int(line.split()[1]) for line in lines if line.startswith(field)), 0)
        except (OSError, ValueError):
            continue
    return largest // 1024


def webhooks_meanwhile(router: Router, done: threading.Event, seconds: list[float]) -> None:
    """One event after the other at /webhooks/, as Encharge would; how long each took."""
    while not done.is_set():
        (event,) = numbered(1, "updatedUser")
        begun = time.monotonic()
        answer = router.post({**event, "properties": {}})
        assert answer.ok, answer.text
        seconds.append(time.monotonic() - begun)
        done.wait(0.02)


def large(router: Router, what: str, records: Sequence[bytes], *, packed: bool) -> bool:
    """One large request; whether it was taken at the first try, in time."""
    standin = Standin(router.web_port, "/firehose/encharge", SECRET)
    done, seconds = threading.Event(), list[float]()
    other = threading.Thread(target=webhooks_meanwhile, args=(router, done, seconds))
    other.start()
    time.sleep(0.3)
    before = memory(router.processes["web"].pid, "VmRSS")
    standin.deliver(str(uuid.uuid4()), records, packed=packed)
    done.set()
    other.join()
    standin.close()
    web = router.processes["web"].pid
    print(
        f"{what:38} {sum(map(len, records)) / MIB:5.1f} MiB {standin.seconds[0]:6.2f} s"
        f"   web {before} MiB, after {memory(web, 'VmRSS')}, most {memory(web, 'VmHWM')}"
        f"   webhooks meanwhile: median {statistics.median(seconds) * 1000:.0f} ms, most {max(seconds) * 1000:.0f} ms",
        flush=True,
    )
    return not standin.objections and standin.seconds[0] < MOST_S


def sizes(folder: Path) -> bool:
    """Single requests: many records, much data, both. No worker, so that the time is the endpoint's alone."""
    router = Router(folder, {"ACCEPT_TIMEOUT_S": "0.05", "SPOOL_MAX_BYTES": "0"})
    try:
        router.start_web()
        text = "x" * 4096
        many = [json.dumps(event).encode() for event in numbered(30_000)]
        heavy = [json.dumps({**event, "properties": {"text": text}}).encode() for event in numbered(4000)]
        lines = [b"\n".join(many[at : at + 450]) for at in range(20_500, 29_500, 450)]
        shapes = [
            ("500 records", many[:500], False),
            ("10,000 records", many[500:10_500], False),
            ("10,000 records, gzip", many[10_500:20_500], True),
            ("1,000 records of 4 KiB", heavy[:1000], False),
            ("2,500 records of 4 KiB, gzip", heavy[1000:3500], True),
            ("20 records of 450 lines each", lines, False),
        ]
        taken = [large(router, what, records, packed=packed) for what, records, packed in shapes]
        return all(taken)
    finally:
        router.close()


def main() -> None:
    """All parts."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--size", type=int, default=500, help="records of a request")
    parser.add_argument("--skip-sizes", action="store_true", help="without the large requests")
    given = parser.parse_args()
    bad = False
    with tempfile.TemporaryDirectory() as folder:
        (place := Path(folder) / "sizes").mkdir()
        bad = not given.skip_sizes and not sizes(place)
        (place := Path(folder) / "runs").mkdir()
        router = Router(place, {"ACCEPT_TIMEOUT_S": "0.05", "WORKER_CONCURRENCY": "32"})
        try:
            router.start_all()
            for first, twice_every in ((0, 0), (given.records, TWICE_EVERY)):
                found = run(router, given.records, given.size, first=first, twice_every=twice_every)
                print(
                    f"{found.records} records in {found.requests} requests, {found.broken} broken, "
                    f"{found.sent_again} sent twice: {found.delivered} delivered, {found.dead} dead, "
                    f"{found.duplicates} duplicates; {found.lost} lost, {found.doubled} delivered twice; "
                    f"slowest answer {found.answer_s * 1000:.0f} ms, all ended after {found.seconds:.1f} s",
                    flush=True,
                )
                for problem in found.problems():
                    bad = True
                    print(f"  WRONG: {problem}")
            router.assert_equation()
        finally:
            router.close()
    sys.exit(bad)


if __name__ == "__main__":
    main()
