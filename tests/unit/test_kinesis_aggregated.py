"""Records of the Kinesis Producer Library."""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.kinesis import process
from app.kinesis.aggregated import parts
from app.kinesis.shards import Record
from app.kinesis.stream import Stream
from app.source import Source
from app.sources import encharge
from tasks.envelope import Envelope, Rejected

NOW = datetime(2026, 1, 2, tzinfo=UTC)
MAGIC = b"\xf3\x89\x9a\xc2"


def varint(number: int) -> bytes:
    more, low = divmod(number, 128)
    return bytes([low | 128]) + varint(more) if more else bytes([low])


def field(number: int, value: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(value)) + value


def packed(*data: bytes, keys: Sequence[str] = ("person",)) -> bytes:
    """As the library packs: a table of partition keys, then records that point into it."""
    table = b"".join(field(1, key.encode()) for key in keys)
    records = b"".join(field(3, b"\x08\x00" + field(3, each) + field(4, field(1, b"tag"))) for each in data)
    return sealed(table + field(2, b"340282366920938463463374607431768211455") + records)


def sealed(message: bytes) -> bytes:
    return MAGIC + message + hashlib.md5(message).digest()


@given(st.lists(st.binary(max_size=300), max_size=10))
def test_all_records_in_order(data: list[bytes]) -> None:
    """Whatever they hold, also nothing."""
    assert list(parts(packed(*data))) == data


@given(st.binary(max_size=100))
def test_any_other_record_is_itself(record: bytes) -> None:
    """So is one that begins like a packed one."""
    assert parts(record) == [record]
    assert parts(MAGIC + record) == [MAGIC + record]


def test_bug_a_packed_record_of_many_values_was_many_dead_letters() -> None:
    """What one record may hold, all its parts may together: else it is one dead letter."""
    source = Source("crm", encharge.unwrap, kinesis=Stream("events", "x"))
    few, many = (Record("17", packed(*([b"[5,6]"] * count)), NOW) for count in (5_000, 5_001))

    (found,) = process.events_of(source, "shard-1", many)
    assert isinstance(found, Rejected)
    assert found.error == "more than 10000 values in one record"
    assert len({event.envelope.id for event in process.events_of(source, "s", few)}) == 10_000  # type: ignore[union-attr]


@given(st.binary(max_size=60))
def test_whatever_is_sealed_raises_nothing(message: bytes) -> None:
    """A right digest over something else is no packed record either; or it is one, by chance, of some records."""
    found = parts(sealed(message))

    assert found == [sealed(message)] or all(each in message for each in found)


@pytest.mark.parametrize(
    "message",
    [
        b"\x1a\xff",
        b"\x1a\x05abc",
        b"\x1d\x00\x00\x00\x00",
        b"\xff" * 12,
        field(3, b"\x08\x00"),
    ],
)
def test_a_broken_message(message: bytes) -> None:
    """The record as it is becomes a dead letter then; nothing of it gets lost."""
    assert parts(sealed(message)) == [sealed(message)]


def test_events_are_named_by_their_place() -> None:
    """Those without an id of their own: the same record again is the same events, each other record is others."""
    source = Source("stream", encharge.unwrap, kinesis=Stream("events", "eu-west-1"))
    event = b'{"event":"newUser","user":{"email":"someone@example.com"}}'
    moment = datetime(2026, 1, 2, tzinfo=UTC)

    def ids(data: bytes, sequence: str = "17", shard: str = "shard-1") -> list[str]:
        found = process.events_of(source, shard, Record(sequence, data, moment))
        assert all(isinstance(each, Envelope) and each.received_at.startswith("2026-01-02") for each in found)
        return [each.id for each in found if isinstance(each, Envelope)]

    lines = event + b"\n" + event
    both = packed(lines, event)

    assert ids(both) == ids(both)
    assert (
        len({*ids(both), *ids(both, "18"), *ids(both, shard="shard-2"), *ids(lines), *ids(event, "19")})
        == 3 * 3 + 2 + 1
    )
    assert ids(packed()) == ids(b"") == []


def test_a_damaged_record() -> None:
    """The digest tells."""
    good = packed(b'{"a":1}')
    bad = good.replace(b'"a"', b'"b"')

    assert parts(bad) == [bad]
