"""A Kinesis stream beside a router under test: the stand-in, a writer, processes that read it, and what they took."""

import itertools
import json
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
from builders import REPOSITORY

from app.kinesis.watch import Watched, watch
from app.sources.encharge import unwrap
from cli import redis_server, stack
from torture.parts import Parts, wait

SOURCE = "stream"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "stand-in",
    "AWS_SECRET_ACCESS_KEY": "stand-in",
    "AWS_EC2_METADATA_DISABLED": "true",
}
REGION = "eu-west-1"
#: Of a shard's hash keys; anywhere within them.
_FIRST_KEY = 1 << 60


class Stream:
    """One stream of a stand-in that belongs to these parts."""

    def __init__(self, parts: Parts, shards: int, **standin: str) -> None:
        """`standin` = options of the stand-in, such as iterator_seconds."""
        self.parts = parts
        port = redis_server.free_port()
        self.url = f"http://127.0.0.1:{port}"
        options = [part for name, value in standin.items() for part in (f"--{name.replace('_', '-')}", value)]
        program = str(REPOSITORY / "tests" / "kinesis_standin.py")
        process = parts.start("kinesis", [sys.executable, program, str(port), *options])
        wait(lambda: stack.answers(f"{self.url}/moto-api/"), 15, "the stand-in answers", process)
        self.client: Any = boto3.session.Session(
            CREDENTIALS["AWS_ACCESS_KEY_ID"], CREDENTIALS["AWS_SECRET_ACCESS_KEY"], region_name=REGION
        ).client("kinesis", endpoint_url=self.url)
        self.client.create_stream(StreamName="events", ShardCount=shards)
        self.ids: dict[str, list[str]] = defaultdict(list)  #: partition key → ids of its events, as they were written
        self.written = 0
        self._numbers = itertools.count()

    def declare(self, folder: Path, *, start: str = "trim_horizon") -> None:
        """Let the parts' environment name the stream as a source's."""
        file = folder / "sources.yaml"
        block = f"{{stream: events, region: {REGION}, endpoint_url: '{self.url}', start: {start}}}"
        file.write_text(f"version: 1\nsources:\n  {SOURCE}:\n    kind: encharge\n    kinesis: {block}\n")
        self.parts.environ |= {"SOURCES_FILE": str(file), **CREDENTIALS}

    def put(self, count: int, people: int) -> None:
        """Write that many events of people in turn; each person's have numbers that go up."""
        for first in range(0, count, 500):
            events = [self._event(people) for _ in range(min(500, count - first))]
            records = [{"Data": json.dumps(event).encode(), "PartitionKey": event["user"]["id"]} for event in events]
            answer = self.client.put_records(StreamName="events", Records=records)
            assert answer["FailedRecordCount"] == 0
            for event in events:
                (envelope,) = unwrap(SOURCE, event, None, datetime.now(UTC))
                self.ids[event["user"]["id"]].append(envelope.id)
            self.written += len(events)

    def put_raw(self, *records: bytes) -> None:
        """Write records as they are."""
        for record in records:
            self.client.put_record(StreamName="events", Data=record, PartitionKey="raw")

    def split(self, number: int) -> None:
        """Split a shard in the middle."""
        shard = self.client.list_shards(StreamName="events")["Shards"][number]
        keys = shard["HashKeyRange"]
        middle = (int(keys["StartingHashKey"]) + int(keys["EndingHashKey"])) // 2
        self.client.split_shard(StreamName="events", ShardToSplit=shard["ShardId"], NewStartingHashKey=str(middle))

    def merge(self, number: int, adjacent: int) -> None:
        """Merge two open shards that lie side by side."""
        shards = self.client.list_shards(StreamName="events")["Shards"]
        one, other = shards[number]["ShardId"], shards[adjacent]["ShardId"]
        self.client.merge_shards(StreamName="events", ShardToMerge=one, AdjacentShardToMerge=other)

    def start_consumer(self, name: str) -> None:
        """A process that reads the stream."""
        self.parts.start(name, stack.KINESIS)

    # --- what became of it

    def watched(self) -> Watched:
        """How far it has been read."""
        (found,) = watch(self.parts.connection.ledger.client, [SOURCE])
        return found

    def counts(self) -> dict[str, int]:
        """The ledger's row of the source."""
        return self.parts.connection.ledger.counts().get(("source", SOURCE), {})

    def read(self, count: int, within_s: float) -> None:
        """Wait until that many different events are in the ledger."""

        def there() -> bool:
            counts = self.counts()
            return counts.get("accepted", 0) - counts.get("duplicate", 0) >= count

        wait(there, within_s, f"{count} events are in the ledger: {self.counts()}")

    def missing(self) -> int:
        """How many of the written events are not in the ledger."""
        return sum(at is None for times in self._accepted().values() for at in times)

    def out_of_order(self) -> list[str]:
        """Partition keys whose events were not accepted as they were written."""
        return [key for key, times in self._accepted().items() if times != sorted(times, key=lambda at: at or 0)]

    def _accepted(self) -> dict[str, list[int | None]]:
        """Partition key → when each of its events was accepted (no two at the same time)."""
        ledger = self.parts.connection.ledger
        return {
            key: [event.accepted_at if event else None for event in ledger.events(ids)] for key, ids in self.ids.items()
        }

    def _event(self, people: int) -> dict[str, Any]:
        number = next(self._numbers)
        person = number % people
        return {
            "event": "updatedUser",
            "type": "user",
            "properties": {"number": number},
            "user": {"id": f"person-{person}", "email": f"person-{person}@example.com"},
            "timestamp": int(time.time() * 1000),
        }


def owners(watched: Watched) -> Sequence[str]:
    """Which processes hold leases, one for each lease."""
    return [row.owner.partition("/")[0] for row in watched.shards if row.owner]
