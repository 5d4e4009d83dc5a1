"""A Kinesis stream under trouble: processes killed, shards split and merged while writing goes on.

    python benchmarks/kinesis.py [--records 20000] [--shards 4] [--people 500] [--lease 5]

Two processes read what lies there already, a third, when one is killed with -9. While writing goes on, a shard is split
(at a half), two others are merged and the killed process is started again (at two thirds), and then the other is
stopped (SIGSTOP) for one and a half leases. The stand-in throttles as the service does, and its iterators expire after
4 s. Ends with status 1 unless no event is lost, each partition key's events were accepted in order, there are no more
duplicates than those two processes can have had in hand, the ledger knew all of them, and the lag comes back to 0.
"""

import argparse
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import requests

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "tests"), str(HERE.parent / "tests" / "system")]

from kinesis_stream import SOURCE, Stream, owners  # noqa: E402 - the system tests' harness

from app.kinesis.reader import MOST_EVENTS  # noqa: E402
from cli import redis_server  # noqa: E402
from torture.parts import Parts, wait  # noqa: E402

METRIC = f'event_router_kinesis_lag_seconds{{source="{SOURCE}"}}'


def lag_s(url: str) -> float | None:
    """The metric, as a web process tells it."""
    lines = requests.get(f"{url}/metrics", timeout=10).text.splitlines()
    return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(METRIC)), None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--people", type=int, default=500)
    parser.add_argument("--lease", type=float, default=5.0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        parts = Parts(Path(folder), os.environ, "benchmark-key")
        try:
            wrong = Trial(parts, Path(folder), given).run()
        finally:
            parts.close()
    print("\n".join(wrong) if wrong else "all of it holds")
    sys.exit(bool(wrong))


class Trial:
    """One run: a stream, two processes that read it, and what is seen of them."""

    def __init__(self, parts: Parts, folder: Path, given: argparse.Namespace) -> None:
        self.parts = parts
        self.given = given
        self.stream = Stream(parts, given.shards, iterator_seconds="4")
        self.stream.declare(folder)
        parts.environ |= {"KINESIS_LEASE_S": str(given.lease), "ENCHARGE_WEBHOOK_SECRET": "x", "SPOOL_MAX_BYTES": "0"}
        port = redis_server.free_port()
        self.url = f"http://127.0.0.1:{port}"
        parts.start_web_at("web", port)
        self.begun = time.monotonic()
        self.in_hand = 0  #: leases of processes that were killed or stood still
        self.early = 0  #: duplicates before anything happened

    def tell(self, what: str) -> None:
        """One line, with the time."""
        print(f"{time.monotonic() - self.begun:5.1f} s  {what}; {self.stream.counts()}", flush=True)

    def wait_for_owners(self, count: int) -> None:
        """Until so many processes hold all the shards together."""

        def shared() -> bool:
            rows = self.stream.watched().shards
            return len(set(owners(self.stream.watched()))) == count and all(row.owner for row in rows)

        wait(shared, 60, f"{count} processes hold the shards")

    def held(self, name: str) -> int:
        """How many leases a process has."""
        return sum(f":{self.parts.processes[name].pid}:" in owner for owner in owners(self.stream.watched()))

    def trouble(self) -> float:
        """All that happens while writing goes on. Gives the seconds that the takeover took."""
        stream, given = self.stream, self.given
        stream.read(given.records // 6, 120)
        self.early = stream.counts().get("duplicate", 0)
        self.in_hand += self.held("one")
        self.parts.kill("one")
        killed_at = time.monotonic()
        self.tell(f"one process killed, which held {self.in_hand} shards")
        stream.read(given.records // 2, 120)
        stream.split(0)
        self.tell("a shard split")
        self.wait_for_owners(1)
        taken_s = time.monotonic() - killed_at
        self.tell(f"the other process has all shards, {taken_s:.1f} s after the kill")
        stream.read(given.records * 2 // 3, 120)
        stream.merge(given.shards - 2, given.shards - 1)
        stream.start_consumer("one")
        self.tell(f"two shards merged, the killed process started again; lag {lag_s(self.url):.1f} s")
        self.wait_for_owners(2)
        self.in_hand += self.held("two")
        self.parts.freeze("two")
        time.sleep(given.lease * 1.5)
        self.tell(f"the other process stood still for {given.lease * 1.5:g} s; lag {lag_s(self.url):.1f} s")
        self.parts.thaw("two")
        return taken_s

    def run(self) -> list[str]:
        """What does not hold."""
        stream, given = self.stream, self.given
        for name in ("one", "two"):
            stream.start_consumer(name)
        self.wait_for_owners(2)
        self.tell(f"two processes share the shards, {sorted(Counter(owners(stream.watched())).values())}")
        stream.put(given.records // 3, given.people)
        writer = threading.Thread(target=write, args=(stream, given), daemon=True)
        writer.start()
        taken_s = self.trouble()
        writer.join()
        stream.read(given.records, 120)
        self.tell("all read")
        wait(lambda: lag_s(self.url) == 0, 30, "the lag is 0")
        self.wait_for_owners(2)
        self.tell("lag 0, both processes hold shards")
        for name in ("one", "two"):
            self.parts.terminate(name, 20)
        return self.judged(taken_s)

    def judged(self, taken_s: float) -> list[str]:
        """Prints the figures; gives what does not hold."""
        stream, given = self.stream, self.given
        counts, watched = stream.counts(), stream.watched()
        missing, mixed, left = stream.missing(), stream.out_of_order(), owners(watched)
        duplicates, most = counts.get("duplicate", 0), self.in_hand * MOST_EVENTS
        print(f"{given.records} records written, {watched.records} checkpointed, {missing} lost")
        print(f"{len(mixed)} of {len(stream.ids)} keys out of order")
        print(f"{duplicates} duplicates; the killed and the stopped process can have had up to {most} in hand")
        checks = {
            f"{missing} events are lost": missing == 0,
            f"the events of {len(mixed)} keys are out of order": not mixed,
            f"{self.early} duplicates before the kill": self.early == 0,
            f"{duplicates} duplicates": duplicates <= most,
            "accepted is not records + duplicates": counts["accepted"] == given.records + duplicates,
            f"{watched.records} records were checkpointed": watched.records == given.records,
            f"the takeover took {taken_s:.1f} s": taken_s < given.lease + 5,
            f"{len(left)} leases were not given back": not left,
        }
        return [text for text, holds in checks.items() if not holds]


def write(stream: Stream, given: argparse.Namespace) -> None:
    """All records, in about thrice the time of a lease and what else happens."""
    pause_s = (given.lease * 3 + 10) / (given.records / 500)
    while stream.written < given.records:
        stream.put(min(500, given.records - stream.written), given.people)
        time.sleep(pause_s)


if __name__ == "__main__":
    main()
