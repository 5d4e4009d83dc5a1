"""The four calls of Kinesis that a reader needs; the only file that knows boto3.

API: https://docs.aws.amazon.com/kinesis/latest/APIReference/Welcome.html. A shard gives 5 GetRecords calls and 2 MB a
second to all its readers together, and 10,000 records or 10 MB a call; an iterator lives for 5 minutes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from app.kinesis.errors import IteratorExpired, PositionRefused, StreamFailed, StreamGone, Throttled
from app.kinesis.shards import Read, Record, Shard
from app.kinesis.stream import Stream

#: Records of one call: few enough that the process holds little of a stream that is far behind.
MOST_RECORDS: Final = 2000
_CONNECT_S: Final = 3.05
_READ_S: Final = 15.0
_ERRORS: Final[dict[str, type[StreamFailed]]] = {
    "ExpiredIteratorException": IteratorExpired,
    "ResourceNotFoundException": StreamGone,
    "InvalidArgumentException": PositionRefused,
    "ProvisionedThroughputExceededException": Throttled,
    "LimitExceededException": Throttled,
    "KMSThrottlingException": Throttled,
    "ThrottlingException": Throttled,
}


class Service:
    """One stream. Safe to share between threads. Every method raises StreamFailed."""

    def __init__(self, stream: Stream, most_threads: int) -> None:
        # Whoever calls tries again by itself, and must know of each throttling; so boto3 does neither.
        config = Config(
            connect_timeout=_CONNECT_S,
            read_timeout=_READ_S,
            retries={"total_max_attempts": 1},
            max_pool_connections=most_threads,
        )
        with _plain():
            self._client: Any = boto3.session.Session().client(
                "kinesis", region_name=stream.region, endpoint_url=stream.endpoint_url, config=config
            )
        self._arn = {"StreamARN": stream.arn} if stream.arn else {}
        self._stream = {"StreamName": stream.name, **self._arn}

    def made_at(self) -> int:
        """When the stream was made, Unix seconds: another stream of the same name has other shards."""
        with _plain():
            answer = self._client.describe_stream_summary(**self._stream)
        made_at: datetime = answer["StreamDescriptionSummary"]["StreamCreationTimestamp"]
        return int(made_at.timestamp())

    def shards(self) -> list[Shard]:
        """All shards, those included that are closed and still hold records."""
        found: list[Shard] = []
        asked: dict[str, str] = self._stream
        with _plain():
            while asked:
                answer = self._client.list_shards(**asked)
                found += [_shard(each) for each in answer["Shards"]]
                # With a token the stream must not be named again, as boto3's paginator would.
                asked = {"NextToken": answer["NextToken"]} if answer.get("NextToken") else {}
        return found

    def after(self, shard: str, sequence: str) -> str:
        """An iterator behind a record."""
        return self._iterator(shard, "AFTER_SEQUENCE_NUMBER", StartingSequenceNumber=sequence)

    def since(self, shard: str, moment: float) -> str:
        """An iterator at what arrived from a Unix time on."""
        return self._iterator(shard, "AT_TIMESTAMP", Timestamp=datetime.fromtimestamp(moment, UTC))

    def oldest(self, shard: str) -> str:
        """An iterator at the oldest record that is kept."""
        return self._iterator(shard, "TRIM_HORIZON")

    def read(self, iterator: str) -> Read:
        """What comes next; often nothing, also in the middle of a shard."""
        with _plain():
            answer = self._client.get_records(ShardIterator=iterator, Limit=MOST_RECORDS, **self._arn)
        return Read(
            [_record(each) for each in answer["Records"]],
            answer.get("NextShardIterator"),
            answer.get("MillisBehindLatest") or 0,
            [Shard(each["ShardId"], tuple(each["ParentShards"])) for each in answer.get("ChildShards") or ()],
        )

    def _iterator(self, shard: str, kind: str, **position: Any) -> str:
        with _plain():
            answer = self._client.get_shard_iterator(ShardId=shard, ShardIteratorType=kind, **self._stream, **position)
        iterator: str = answer["ShardIterator"]
        return iterator


def _shard(said: dict[str, Any]) -> Shard:
    parents = (said.get("ParentShardId"), said.get("AdjacentParentShardId"))
    return Shard(said["ShardId"], tuple(filter(None, parents)))


def _record(said: dict[str, Any]) -> Record:
    arrived_at = said.get("ApproximateArrivalTimestamp") or datetime.now(UTC)
    return Record(said["SequenceNumber"], said["Data"], arrived_at.astimezone(UTC))


@contextmanager
def _plain() -> Iterator[None]:
    """What goes wrong, without the library's words: they name accounts and keys."""
    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        raise _ERRORS.get(code, StreamFailed)(code or type(error).__name__) from None
    except (BotoCoreError, ValueError) as error:  # ValueError: an address that is none
        raise StreamFailed(type(error).__name__) from None
