"""Records of the Kinesis Producer Library."""

import hashlib
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.kinesis.aggregated import parts

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


def test_a_damaged_record() -> None:
    """The digest tells."""
    good = packed(b'{"a":1}')
    bad = good.replace(b'"a"', b'"b"')

    assert parts(bad) == [bad]
