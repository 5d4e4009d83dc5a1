"""Bytes that may hold several events, or broken ones: a record of a stream, a body of JSON lines.

Producers differ in what they put into a record: one JSON object, with or without a newline behind it; several, each on
a line of its own or one directly behind the other; a list of them; any of it as gzip; nothing at all; no JSON. What
cannot be read, or is no event of its source, becomes a dead letter of its own and the rest goes on: a stream sends
whatever is refused again and again, and nothing behind it.
"""

import base64
import dataclasses
import json
import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any, Final

import structlog

from app.body import DECODER, unpacked
from app.source import Refusal, Source
from config.personal import NO_FORMAT
from tasks.envelope import Envelope, Rejected, rfc3339
from tasks.json_depth import deeper_than

log: Final = structlog.get_logger("app.records")

FORMAT: Final = NO_FORMAT
UNDECODABLE: Final = "undecodable"
#: Values of one record. 1 MiB could be half a million times {}, and each would become a dead letter of a kilobyte.
MOST_VALUES: Final = 10_000
#: What a record of gzip may become: four times the largest record of a Firehose.
MOST_UNPACKED: Final = 4 * 1024 * 1024

_BLANK: Final = re.compile(r"[ \t\r\n]*")
_GZIP_MAGIC: Final = b"\x1f\x8b"


@dataclasses.dataclass(frozen=True)
class Broken:
    """A part of a record that cannot be read."""

    raw: bytes
    error: str  #: what is wrong with it, for people; quotes nothing of it


class _TooManyValues(Exception):
    """The record holds more values than we look at."""


def events(
    record: bytes, source: Source, received_at: datetime, delivery: str | None = None
) -> list[Envelope | Rejected]:
    """One record of a source → its events, and a `Rejected` for all in it that is none; raises nothing.

    `delivery` names the record where the same one comes again under the same name, such as "firehose:<request
    id>:<index>". With the number of the value in the record behind it, it stands in for an id that the event has not.
    """
    return events_of(values(record, source.max_depth), source, received_at, delivery)


def events_of_parts(
    record: bytes, parts: Sequence[bytes], source: Source, received_at: datetime, delivery: str
) -> list[Envelope | Rejected]:
    """The same for a record that holds others. All of them together may hold as many values as one record may."""
    found: list[Sequence[Any]] = []
    left = MOST_VALUES
    for part in parts:
        try:
            found.append(_values(part, source.max_depth, left))
        except _TooManyValues:
            broken = Broken(record, f"more than {MOST_VALUES} values in one record")
            return [undecodable(source, broken, received_at, f"{delivery}:0")]
        left -= len(found[-1])
    numbered = enumerate(found)
    return [event for n, each in numbered for event in events_of(each, source, received_at, f"{delivery}:{n}")]


def events_of(
    found_values: Iterable[Any], source: Source, received_at: datetime, delivery: str | None = None
) -> list[Envelope | Rejected]:
    """The same for values that were read already."""
    found: list[Envelope | Rejected] = []
    for number, value in enumerate(found_values):
        own = f"{delivery}:{number}" if delivery else None
        if isinstance(value, Broken):
            found.append(undecodable(source, value, received_at, own))
        else:
            found += _unwrapped(value, source, received_at, own)
    return found


def values(record: bytes, most_depth: int, most: int = MOST_VALUES) -> list[Any]:
    """The JSON objects of a record, the items of its lists, and a Broken for each part that is neither; in order.

    While a record can be read, a value may stretch over lines, and values need nothing between them. From the first
    broken place on a value ends with its line: so a good line among broken ones is always found, and each character is
    looked at twice at most.
    """
    try:
        return _values(record, most_depth, most)
    except _TooManyValues:
        return [Broken(record, f"more than {most} values in one record")]


def _values(record: bytes, most_depth: int, most: int) -> list[Any]:
    """The same. Raises _TooManyValues."""
    try:
        content = unpacked(record, MOST_UNPACKED) if record.startswith(_GZIP_MAGIC) else record
        # What is not UTF-8 spoils its own value alone: each such byte becomes a surrogate, which UTF-8 has not.
        text = content.decode("utf-8", "surrogateescape")
        found, broken_at, _ = _read(text, most_depth, most)
        for line in text[broken_at:].split("\n") if broken_at < len(text) else ():
            good, end, error = _read(line, most_depth, most)
            found += good
            if end < len(line):
                found.append(Broken(_bytes(line[end:]), error))
            _check(found, most)
    except Refusal as refusal:
        return [Broken(record, refusal.message)]
    return found


def undecodable(source: Source, broken: Broken, received_at: datetime, delivery: str | None) -> Rejected:
    """What cannot be read → a dead letter that has it as it came: as text where it is text, else as base64."""
    try:
        event = {"record": broken.raw.decode(), "encoding": "utf-8"}
    except UnicodeDecodeError:
        event = {"record": base64.b64encode(broken.raw).decode(), "encoding": "base64"}
    envelope = _envelope(source, UNDECODABLE, event, received_at, delivery)
    return Rejected(envelope, broken.error, reason=UNDECODABLE)


def _read(text: str, most_depth: int, most: int) -> tuple[list[Any], int, str]:
    """The values a text begins with, where what cannot be read begins (its length: nowhere), and what is wrong there.

    Raises _TooManyValues.
    """
    found: list[Any] = []
    at = _end_of_blank(text, 0)
    while at < len(text):
        if text[at] not in "{[":
            return found, at, "neither a JSON object nor a list"
        try:
            value, end = DECODER.raw_decode(text, at)
        except json.JSONDecodeError as error:
            return found, at, f"not JSON from character {error.pos - at + 1} on"
        except ValueError:
            return found, at, "not JSON: NaN, Infinity or a number too large"
        except RecursionError:
            return found, at, f"nested deeper than {most_depth}"
        found += _items(value, text[at:end], most_depth)
        _check(found, most)
        at = _end_of_blank(text, end)
    return found, at, ""


def _check(found: Sequence[Any], most: int) -> None:
    if len(found) > most:
        raise _TooManyValues


def _items(value: Any, text: str, most_depth: int) -> Sequence[Any]:
    """What is read from a text: one object, or the items of a list; unless there is something wrong with the text."""
    if deeper_than(text, most_depth):
        return [Broken(_bytes(text), f"nested deeper than {most_depth}")]
    if not text.isascii() and not _is_utf8(text):
        return [Broken(_bytes(text), "not UTF-8")]
    return value if isinstance(value, list) else [value]


def _end_of_blank(text: str, at: int) -> int:
    blank = _BLANK.match(text, at)
    assert blank is not None  # noqa: S101 - it matches nothing, too
    return blank.end()


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _unwrapped(
    value: Any, source: Source, received_at: datetime, delivery: str | None
) -> Sequence[Envelope | Rejected]:
    try:
        return unwrapped(value, source, received_at, delivery)
    except Refusal as refusal:
        envelope = _envelope(source, "invalid", _as_event(value), received_at, delivery)
        return [Rejected(envelope, refusal.message, code=refusal.code)]


def unwrapped(value: Any, source: Source, received_at: datetime, delivery: str | None) -> Sequence[Envelope | Rejected]:
    """One value → its events, or a dead letter where our own code fails over it. Raises Refusal as the source does."""
    assert source.unwrap is not None  # noqa: S101 - what comes in records comes to sources that unwrap
    try:
        return source.unwrap(source.name, value, None, received_at, delivery)
    except Refusal:
        raise
    except Exception as error:
        # A mistake of ours; the record would meet it again each time that it came.
        log.exception("record.failed", source=source.name, delivery=delivery)
        envelope = _envelope(source, "invalid", _as_event(value), received_at, delivery)
        return [Rejected(envelope, f"the router failed: {type(error).__name__}", reason="bug")]


def _as_event(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {"value": value}


def _envelope(
    source: Source, type_: str, event: dict[str, Any], received_at: datetime, delivery: str | None
) -> Envelope:
    # The same record again is the same event; where it has no name, the same content is.
    named = [source.name, delivery] if delivery else [source.name, event]
    digest = sha256(json.dumps([FORMAT, *named], sort_keys=True).encode()).hexdigest()
    return Envelope(
        id=f"rec-{digest[:40]}",
        source=source.name,
        format=FORMAT,
        type=type_,
        name=type_,
        subject=None,
        received_at=rfc3339(received_at),
        occurred_at=rfc3339(received_at),
        event=event,
        raw={"delivery": delivery} if delivery else None,
    )
