"""Records into which the Kinesis Producer Library has packed several: taken apart, as Firehose would.

Format: https://github.com/awslabs/amazon-kinesis-producer/blob/master/aggregation-format.md, a protobuf message
(https://protobuf.dev/programming-guides/encoding/) between a magic number and its MD5. The one library for it on PyPI
had its last release in 2022 and does not import with what it declares; of the message only field 3 is wanted here, and
of that field 3.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Final

_MAGIC: Final = b"\xf3\x89\x9a\xc2"
_DIGEST: Final = 16
_RECORDS: Final = 3  #: in AggregatedRecord
_DATA: Final = 3  #: in Record
_VARINT, _LENGTH = 0, 2
_MOST_OF_A_VARINT: Final = 10


class _NoMessage(ValueError):
    """Not what the format says."""


def parts(record: bytes) -> Sequence[bytes]:
    """The data of the records in a record: of a packed one all, of any other itself.

    What only looks like a packed record is one like any other, too.
    """
    message = record[len(_MAGIC) : -_DIGEST]
    if not record.startswith(_MAGIC) or hashlib.md5(message, usedforsecurity=False).digest() != record[-_DIGEST:]:
        return [record]
    try:
        packed = [value for number, value in _fields(message) if number == _RECORDS]
        return [next(value for number, value in _fields(each) if number == _DATA) for each in packed]
    except (_NoMessage, StopIteration):
        return [record]


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and value of each field that has a length; the others are passed over. Raises _NoMessage."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, kind = key >> 3, key & 7
        if kind not in {_VARINT, _LENGTH}:
            raise _NoMessage
        length, at = _varint(message, at)
        if kind == _LENGTH:
            if at + length > len(message):
                raise _NoMessage
            yield number, message[at : at + length]
            at += length


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, the lowest first, and where it ends."""
    value = 0
    for place, byte in enumerate(message[at : at + _MOST_OF_A_VARINT]):
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:  # noqa: PLR2004 - the eighth bit says that more follow
            return value, at + place + 1
    raise _NoMessage
