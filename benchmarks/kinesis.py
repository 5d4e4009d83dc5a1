"""A Kinesis stream under trouble: processes killed, shards split and merged while writing goes on.

    python benchmarks/kinesis.py [--records 20000] [--shards 4] [--people 500] [--lease 5]

Two processes read; when a third of the records is in the ledger one is killed with -9, and started again later; at a
half one shard is split, at two thirds two others are merged. Iterators of the stand-in expire after 4 s, and it throttles
as the service does. Ends with status 1 unless no event is lost, each partition key's events were accepted in order,
duplicates are as many as the killed process can have had in hand, and the lag comes back to 0.
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
            wrong = run(parts, Path(folder), given)
        finally:
            parts.close()
    print("\n".join(wrong) if wrong else "all of it holds")
    sys.exit(bool(wrong))


def run(parts: Parts, folder: Path, given: argparse.Namespace) -> list[str]:
    stream = Stream(parts, given.shards, iterator_seconds="4")
    stream.declare(folder)
    parts.environ |= {"KINESIS_LEASE_S": str(given.lease), "ENCHARGE_WEBHOOK_SECRET": "x", "SPOOL_MAX_BYTES": "0"}
    port = redis_server.free_port()
    url = f"http://127.0.0.1:{port}"
    parts.start_web_at("web", port)
    for name in ("one", "two"):
        stream.start_consumer(name)
    begun = time.monotonic()
    wait(lambda: len(set(owners(stream.watched()))) == 2, 30, "both processes hold shards")
    print(f"{time.monotonic() - begun:5.1f} s  two processes share the shards: {Counter(owners(stream.watched()))}")

    writer = threading.Thread(target=write, args=(stream, given), daemon=True)
    writer.start()
    stream.read(given.records // 3, 120)
    before = stream.counts().get("duplicate", 0)
    killed_at = time.monotonic()
    held = sum(f":{parts.processes['one'].pid}:" in owner for owner in owners(stream.watched()))
    parts.kill("one")
    print(f"{killed_at - begun:5.1f} s  one killed, which held {held} shards; {stream.counts()}")
    stream.read(given.records // 2, 120)
    stream.split(0)
    print(f"{time.monotonic() - begun:5.1f} s  one shard split; {stream.counts()}")
    wait(lambda: len(set(owners(stream.watched()))) == 1, 60, "the other has all shards")
    taken_s = time.monotonic() - killed_at
    stream.read(given.records * 2 // 3, 120)
    highest = lag_s(url)
    stream.merge(given.shards - 2, given.shards - 1)
    stream.start_consumer("one")
    print(f"{time.monotonic() - begun:5.1f} s  two shards merged, the killed process started again; lag {highest} s")
    writer.join()
    stream.read(given.records, 120)
    done_at = time.monotonic()
    wait(lambda: lag_s(url) == 0, 30, "the lag is 0")
    wait(lambda: len(set(owners(stream.watched()))) == 2, 30, "both processes hold shards again")
    counts, watched = stream.counts(), stream.watched()
    print(f"{done_at - begun:5.1f} s  all read; lag 0 after {time.monotonic() - done_at:.1f} s more")
    print(f"         takeover of the killed process's shards within {taken_s:.1f} s (lease {given.lease:g} s)")
    print(f"         {counts}, {watched.records} records checkpointed, {Counter(owners(watched))}")

    missing, mixed = stream.missing(), stream.out_of_order()
    duplicates = counts.get("duplicate", 0)
    print(f"         {missing} lost, {len(mixed)} of {len(stream.ids)} keys out of order, {duplicates} duplicates")
    for name in ("one", "two"):
        parts.terminate(name, 20)
    left = owners(stream.watched())
    checks = {
        f"{missing} events are lost": missing == 0,
        f"the events of {len(mixed)} keys are out of order": not mixed,
        f"{before} duplicates before the kill": before == 0,
        f"{duplicates} duplicates are more than the killed process had in hand": duplicates <= held * MOST_EVENTS,
        "the ledger's accepted is not records + duplicates": counts["accepted"] == given.records + duplicates,
        f"{watched.records} records were checkpointed": watched.records == given.records,
        f"the takeover took {taken_s:.1f} s": taken_s < given.lease * 2 + 5,
        f"{len(left)} leases were not given back": not left,
    }
    return [text for text, holds in checks.items() if not holds]


def write(stream: Stream, given: argparse.Namespace) -> None:
    """All records, at a pace that readers can keep up with."""
    while stream.written < given.records:
        stream.put(min(500, given.records - stream.written), given.people)
        time.sleep(0.1)


if __name__ == "__main__":
    main()
