"""What a record may hold, and that what is broken in it takes nothing else along."""

import gzip
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from builders import SAMPLES
from hypothesis import given
from hypothesis import strategies as st

from app.records import Broken, events, values
from app.source import Refusal, Source
from app.sources import encharge
from tasks.envelope import Envelope, Rejected

NOW = datetime(2026, 1, 2, tzinfo=UTC)
SOURCE = Source("stream", encharge.unwrap, ("secret",))
GOOD = json.dumps(SAMPLES[0]).encode()
A, B = {"a": 1}, {"a": 2}


def shapes(record: bytes, **limits: int) -> list[Any]:
    """Its values, and of what is broken the bytes."""
    return [each.raw if isinstance(each, Broken) else each for each in values(record, **{"most_depth": 64, **limits})]


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (b'{"a": 1}', [A]),
        (b'{"a": 1}\n', [A]),
        (b'{\r\n  "a":\r\n  1\r\n}\r\n', [A]),
        (b'{"a": 1}\n{"a": 2}\n', [A, B]),
        (b'{"a":1}{"a":2}', [A, B]),
        (b'[{"a": 1}, {"a": 2}]', [A, B]),
        (b'[{"a": 1}]\n{"a": 2}', [A, B]),
        (b"[]", []),
        (b'[[{"a": 1}], 7]', [[A], 7]),
        (b"", []),
        (b" \r\n\t\n", []),
        (gzip.compress(b'{"a": 1}\n{"a": 2}', mtime=0), [A, B]),
        (gzip.compress(b'{"a": 1}', mtime=0)[:-4], [gzip.compress(b'{"a": 1}', mtime=0)[:-4]]),
        (b"hello", [b"hello"]),
        (b"12 13 14 15", [b"12 13 14 15"]),
        (b'{"a": 1} tail {"a": 2}\n{"a": 2}', [A, b'tail {"a": 2}', B]),
        (b'{"a": \n{"a": 1}\n\n{"a": 2}', [b'{"a": ', A, B]),
        (b'{"a": 1}\n{"a": NaN}\n{"a": 2}', [A, b'{"a": NaN}', B]),
        (b'{"a": 1e999}', [b'{"a": 1e999}']),
        (b'{"a": "\xff"}{"a": 1}\n\xfe\n{"a": 2}', [b'{"a": "\xff"}', A, b"\xfe", B]),
        (b'{"a": "\\udcff"}', [{"a": "\udcff"}]),
        (b'{"b": ' * 64 + b"1" + b"}" * 64 + b'{"a": 1}', [json.loads(b'{"b": ' * 64 + b"1" + b"}" * 64), A]),
        (b"[" * 65 + b"]" * 65 + b'{"a": 1}', [b"[" * 65 + b"]" * 65, A]),
        (b'{"b":' * 100_000 + b'\n{"a": 1}', [b'{"b":' * 100_000, A]),
    ],
)
def test_what_a_record_holds(record: bytes, expected: list[Any]) -> None:
    """One event, several, lists of them, none; and what is broken, as it came."""
    assert shapes(record) == expected


def test_more_values_than_are_looked_at() -> None:
    """The record is kept whole, as one broken thing."""
    assert shapes(b"{}" * 10, most=10) == [{}] * 10
    assert shapes(b"{}" * 11, most=10) == [b"{}" * 11]
    assert shapes(b"[\n" * 10, most=10) == [b"["] * 10
    assert shapes(b"[\n" * 11, most=10) == [b"[\n" * 11]
    packed = gzip.compress(b"{}" * 11, mtime=0)
    assert shapes(packed, most=10) == [packed]
    assert shapes(b"[0,1,2]x\n" + b"{}\n" * 8, most=10) == [b"[0,1,2]x\n" + b"{}\n" * 8]


def test_a_bomb_of_gzip() -> None:
    """Not unpacked beyond its limit."""
    (broken,) = values(gzip.compress(b" " * 4_194_305, mtime=0), 64)
    assert broken.error == "the body is larger than 4194304 bytes"


FRAGMENTS = [b'{"a": ', b"[", b"]", b"}", b"{}", b'"', b'{"a": "\\', b'{"a": 1,', b"[1,", b"\xff", b"NaN", b" "]
BROKEN_LINE = st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.binary(max_size=3)), max_size=4).map(
    lambda parts: b"".join(parts).replace(b"\n", b"")
)


@given(st.lists(st.one_of(BROKEN_LINE, st.integers(0, 9)), max_size=8))
def test_good_lines_among_broken_ones_survive(lines: list[bytes | int]) -> None:
    """Whatever stands around them; and every byte of what is broken is kept."""
    written = [line if isinstance(line, bytes) else b'{"good": %d, "\xc3\xa4": []}' % line for line in lines]
    found = values(b"\n".join([b"!", *written]), 64)

    good = [each["good"] for each in found if isinstance(each, dict) and "good" in each]
    assert good == [line for line in lines if isinstance(line, int)]


@given(st.binary(max_size=200))
def test_no_record_makes_us_raise(record: bytes) -> None:
    """Any bytes become events or dead letters that can be written down."""
    for each in events(record, SOURCE, NOW, "firehose:r:0"):
        assert isinstance(each, Envelope | Rejected)


def test_events_and_dead_letters() -> None:
    """Good events as their source unwraps them; an event that it refuses is invalid, what is no JSON undecodable."""
    good, invalid, text, other = events(GOOD + b'{"no": "event"}\nhello\n\xff', SOURCE, NOW, "firehose:r:7")

    assert isinstance(good, Envelope)
    assert good == encharge.unwrap("stream", SAMPLES[0], None, NOW)[0]
    assert isinstance(invalid, Rejected)
    assert (invalid.reason, invalid.code, invalid.envelope.event) == ("invalid", "invalid_event", {"no": "event"})
    assert isinstance(text, Rejected)
    assert (text.reason, text.envelope.type) == ("undecodable", "undecodable")
    assert text.envelope.event == {"record": "hello", "encoding": "utf-8"}
    assert text.envelope.raw == {"delivery": "firehose:r:7:2"}
    assert isinstance(other, Rejected)
    assert other.envelope.event == {"record": "/w==", "encoding": "base64"}


def test_the_same_record_again_is_the_same_events() -> None:
    """By the name of the record where it has one, and then only under the same; else by the content."""

    def ids(delivery: str | None) -> list[str]:
        found = events(b'{"no": "event"}\n{"no": "event"}\nhello\nhello', SOURCE, NOW, delivery)
        return [each.envelope.id for each in found if isinstance(each, Rejected)]

    assert ids("firehose:r:0") == ids("firehose:r:0")
    assert len({*ids("firehose:r:0"), *ids("firehose:r:1")}) == 8
    assert ids(None) == ids(None)
    assert len(set(ids(None))) == 2


def test_a_mistake_of_ours_is_a_dead_letter_too() -> None:
    """Else the stream would bring it again until its time is over, and nothing behind it."""

    def fails(_: str, body: Any, *__: Any) -> list[Envelope]:
        if body == A:
            raise KeyError("someone@example.com")
        raise Refusal(400, "invalid_event", "no event")

    bug, refused = events(b'{"a": 1}{"a": 2}', Source("stream", fails, ("secret",)), NOW)

    assert isinstance(bug, Rejected)
    assert (bug.reason, bug.error, bug.envelope.event) == ("bug", "the router failed: KeyError", A)
    assert isinstance(refused, Rejected)
    assert (refused.reason, refused.code) == ("invalid", "invalid_event")
