"""A Kinesis to read from: moto's server, mended where it falls short of the service.

    python tests/kinesis_standin.py PORT [--iterator-seconds 300]

What moto (5.2.5) does, and the service does not (https://docs.aws.amazon.com/kinesis/latest/APIReference/, and
https://docs.aws.amazon.com/streams/latest/dev/kinesis-using-sdk-java-resharding.html): the iterator of a closed shard
never ends, GetRecords names no child shards, a split or merge moves the parents' records to the children, what belongs
to a split shard's range goes on into the closed parent, each shard counts its sequence numbers from 1, concurrent
writes may get the same one, nothing is throttled, no iterator expires.
"""

import argparse
import itertools
import threading
import time
from collections import OrderedDict, defaultdict, deque
from typing import Any

from moto.core.exceptions import JsonRESTError
from moto.core.responses import ActionResult
from moto.kinesis import models, responses
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, run_simple

READS_PER_S = 5
#: About where the service's own numbers are; the stream's first is one above.
FIRST = 49_600_000_000_000_000_000_000_000_000_000_000_000_000_000_000_000_000_000

_numbers = itertools.count(FIRST + 1)
_writing = threading.RLock()
_reads: defaultdict[str, deque[float]] = defaultdict(deque)
_put, _split, _merge = models.Stream.put_record, models.Stream.split_shard, models.Stream.merge_shards


def _put_record(stream: Any, partition_key: str, explicit_hash_key: str, data: str) -> tuple[str, str]:
    with _writing:  # from the choice of a shard on, none may be closed
        return _put(stream, partition_key, explicit_hash_key, data)


def _add_record(shard: Any, partition_key: str, data: str, explicit_hash_key: str) -> str:
    number = next(_numbers)
    shard.records[number] = models.Record(partition_key, data, number, explicit_hash_key)
    return str(number)


def _shard_for_key(stream: Any, partition_key: str, explicit_hash_key: str | None) -> Any:
    key = int(explicit_hash_key or models.md5_hash(partition_key.encode()).hexdigest(), 10 if explicit_hash_key else 16)
    return next(s for s in stream.shards.values() if s.is_open and s.starting_hash <= key <= s.ending_hash)


def _reshard(stream: Any, parents: list[str], do: Any) -> None:
    """Reshard while the parents look empty, so that nothing is moved."""
    with _writing:
        kept = {parent: stream.shards[parent].records for parent in parents}
        for parent in parents:
            stream.shards[parent].records = OrderedDict()
        do()
        for parent, records in kept.items():
            stream.shards[parent].records = records


def _split_shard(stream: Any, shard: str, new_hash: str) -> None:
    _reshard(stream, [shard], lambda: _split(stream, shard, new_hash))


def _merge_shards(stream: Any, shard: str, adjacent: str) -> None:
    _reshard(stream, [shard, adjacent], lambda: _merge(stream, shard, adjacent))


class Response(responses.KinesisResponse):
    """Iterators that end, expire and are throttled."""

    iterator_s = 300.0

    def get_shard_iterator(self) -> ActionResult:
        answer: Any = super().get_shard_iterator().result
        return ActionResult({"ShardIterator": _stamped(answer["ShardIterator"])})

    def get_records(self) -> ActionResult:
        inner, _, made_at = str(self._get_param("ShardIterator")).rpartition("@")
        if time.time() - float(made_at) > self.iterator_s:
            raise JsonRESTError("ExpiredIteratorException", "Iterator expired.")
        stream_name, shard_id, _ = models.decompose_shard_iterator(inner)
        _throttle(f"{stream_name}:{shard_id}")
        backend = self.kinesis_backend
        stream = backend.describe_stream(self._get_param("StreamARN"), stream_name)
        shard = stream.shards[shard_id]
        with _writing:
            following, records, behind_ms = backend.get_records(None, inner, self._get_param("Limit"))
        answer = {"Records": [each.to_json() for each in records], "MillisBehindLatest": behind_ms}
        at = int(models.decompose_shard_iterator(following)[2])
        if shard.is_open or at < shard.get_max_sequence_number():
            answer["NextShardIterator"] = _stamped(following)
        else:
            answer["ChildShards"] = [
                {"ShardId": each.shard_id, "ParentShards": parents, "HashKeyRange": each.to_json()["HashKeyRange"]}
                for each in stream.shards.values()
                if shard_id in (parents := [name for name in (each.parent, each.adjacent_parent) if name])
            ]
        return ActionResult(answer)


def _stamped(iterator: str) -> str:
    return f"{iterator.strip()}@{time.time()}"


def _throttle(shard: str) -> None:
    now, lately = time.monotonic(), _reads[shard]
    while lately and lately[0] < now - 1:
        lately.popleft()
    if len(lately) >= READS_PER_S:
        raise JsonRESTError("ProvisionedThroughputExceededException", "Rate exceeded for shard.")
    lately.append(now)


class Quiet(WSGIRequestHandler):
    """Keeps connections, and says nothing."""

    protocol_version = "HTTP/1.1"

    def log(self, *_: Any) -> None:
        """Not a word."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("port", type=int)
    parser.add_argument("--iterator-seconds", type=float, default=300.0)
    given = parser.parse_args()
    Response.iterator_s = given.iterator_seconds
    for kind, name, ours in (
        (models.Shard, "put_record", _add_record),
        (models.Stream, "put_record", _put_record),
        (models.Stream, "get_shard_for_key", _shard_for_key),
        (models.Stream, "split_shard", _split_shard),
        (models.Stream, "merge_shards", _merge_shards),
        (responses, "KinesisResponse", Response),
    ):
        setattr(kind, name, ours)
    app = DomainDispatcherApplication(create_backend_app)
    run_simple("127.0.0.1", given.port, app, threaded=True, request_handler=Quiet)


if __name__ == "__main__":
    main()
