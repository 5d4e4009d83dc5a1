"""What we ask Kinesis and how we read its answers, against botocore's own description of the API."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.stub import Stubber

from app.kinesis.errors import IteratorExpired, PositionRefused, StreamFailed, StreamGone, Throttled
from app.kinesis.service import MOST_RECORDS, Service
from app.kinesis.shards import Read, Record, Shard
from app.kinesis.stream import Stream

ARN = "arn:aws:kinesis:eu-west-1:123456789012:stream/events"
NAMED = {"StreamName": "events"}
BOTH = {"StreamName": "events", "StreamARN": ARN}
RANGES: dict[str, Any] = {
    "HashKeyRange": {"StartingHashKey": "0", "EndingHashKey": "9"},
    "SequenceNumberRange": {"StartingSequenceNumber": "1"},
}


@pytest.fixture(scope="module")
def services() -> dict[str, Service]:
    """Of a stream by name and of one by ARN; a client takes its time to make."""
    return {"name": Service(Stream("events", "eu-west-1"), 1), "arn": Service(Stream("events", "eu-west-1", ARN), 1)}


@pytest.fixture
def by_name(services: dict[str, Service]) -> Iterator[tuple[Service, Stubber]]:
    with Stubber(services["name"]._client) as stub:
        yield services["name"], stub
        stub.assert_no_pending_responses()


@pytest.fixture
def by_arn(services: dict[str, Service]) -> Iterator[tuple[Service, Stubber]]:
    with Stubber(services["arn"]._client) as stub:
        yield services["arn"], stub
        stub.assert_no_pending_responses()


def test_all_pages_of_shards(by_name: tuple[Service, Stubber]) -> None:
    """With a token the stream is not named again: the service refuses both at once."""
    service, stub = by_name
    first = [{"ShardId": "a", **RANGES}, {"ShardId": "b", "ParentShardId": "a", **RANGES}]
    second = [{"ShardId": "c", "ParentShardId": "a", "AdjacentParentShardId": "b", **RANGES}]
    stub.add_response("list_shards", {"Shards": first, "NextToken": "more"}, NAMED)
    stub.add_response("list_shards", {"Shards": second}, {"NextToken": "more"})

    assert service.shards() == [Shard("a"), Shard("b", ("a",)), Shard("c", ("a", "b"))]


def test_positions(by_name: tuple[Service, Stubber]) -> None:
    """Behind a record, from a time on, at the oldest."""
    service, stub = by_name
    asked: list[dict[str, Any]] = [
        {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": "17"},
        {"ShardIteratorType": "AT_TIMESTAMP", "Timestamp": datetime(2026, 1, 2, tzinfo=UTC)},
        {"ShardIteratorType": "TRIM_HORIZON"},
    ]
    for number, each in enumerate(asked):
        stub.add_response("get_shard_iterator", {"ShardIterator": str(number)}, {**NAMED, "ShardId": "shard-1", **each})

    moment = datetime(2026, 1, 2, tzinfo=UTC).timestamp()
    assert [service.after("shard-1", "17"), service.since("shard-1", moment), service.oldest("shard-1")] == list("012")


def test_records(by_arn: tuple[Service, Stubber]) -> None:
    """With the iterator for the next ones; another account's stream by its ARN."""
    service, stub = by_arn
    arrived_at = datetime(2026, 1, 2, tzinfo=UTC)
    record = {"SequenceNumber": "7", "Data": b"{}", "PartitionKey": "p", "ApproximateArrivalTimestamp": arrived_at}
    stub.add_response(
        "get_records",
        {"Records": [record], "NextShardIterator": "next", "MillisBehindLatest": 1500},
        {"ShardIterator": "here", "Limit": MOST_RECORDS, "StreamARN": ARN},
    )

    assert service.read("here") == Read([Record("7", b"{}", arrived_at)], "next", 1500, [])


def test_the_end_of_a_closed_shard(by_name: tuple[Service, Stubber]) -> None:
    """No next iterator, and its children."""
    service, stub = by_name
    child = {"ShardId": "c", "ParentShards": ["a", "b"], "HashKeyRange": RANGES["HashKeyRange"]}
    stub.add_response("get_records", {"Records": [], "MillisBehindLatest": 0, "ChildShards": [child]})

    assert service.read("here") == Read([], None, 0, [Shard("c", ("a", "b"))])


def test_when_the_stream_was_made(by_arn: tuple[Service, Stubber]) -> None:
    """In whole seconds: it stands in keys."""
    service, stub = by_arn
    summary: dict[str, Any] = {
        "StreamName": "events",
        "StreamARN": ARN,
        "StreamStatus": "ACTIVE",
        "RetentionPeriodHours": 24,
        "StreamCreationTimestamp": datetime(2026, 1, 2, 3, 4, 5, 600_000, tzinfo=UTC),
        "EnhancedMonitoring": [],
        "OpenShardCount": 1,
    }
    stub.add_response("describe_stream_summary", {"StreamDescriptionSummary": summary}, BOTH)

    assert service.made_at() == int(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC).timestamp())


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("ExpiredIteratorException", IteratorExpired),
        ("ProvisionedThroughputExceededException", Throttled),
        ("LimitExceededException", Throttled),
        ("KMSThrottlingException", Throttled),
        ("ResourceNotFoundException", StreamGone),
        ("InvalidArgumentException", PositionRefused),
        ("AccessDeniedException", StreamFailed),
        ("ExpiredTokenException", StreamFailed),
        ("InternalFailure", StreamFailed),
    ],
)
def test_errors(by_name: tuple[Service, Stubber], code: str, kind: type[StreamFailed]) -> None:
    """Told by their code alone: the message names accounts, keys and streams."""
    service, stub = by_name
    stub.add_client_error("get_records", code, "User: arn:aws:iam::123456789012:user/someone is not authorized")

    with pytest.raises(StreamFailed) as caught:
        service.read("here")
    assert (type(caught.value), str(caught.value)) == (kind, code)
    assert caught.value.__suppress_context__


def test_a_client_that_cannot_be_made() -> None:
    """A wrong address in sources.yaml is told at the start."""
    with pytest.raises(StreamFailed):
        Service(Stream("events", "eu west"), 1)
    with pytest.raises(StreamFailed):
        Service(Stream("events", "eu-west-1", endpoint_url="http://under_score:70000"), 1)
