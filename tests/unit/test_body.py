"""A request's body within its limits."""

import contextlib
import gzip
import json
import random
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.test import EnvironBuilder

from app import body
from app.body import parse, read
from app.incoming import Incoming
from app.source import Refusal
from tasks.json_depth import deeper_than

MOST = 1000


def request(data: bytes = b"{}", *, length: str | None = "its own", **headers: str) -> Incoming:
    named = {"Content-Type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
    environ = EnvironBuilder(method="POST", data=data, headers=named).get_environ()
    environ["CONTENT_LENGTH"] = str(len(data)) if length == "its own" else length or ""
    return Incoming(environ)


def refused(call: Any) -> tuple[int, str]:
    with pytest.raises(Refusal) as caught:
        call()
    return caught.value.status, caught.value.code


@pytest.mark.parametrize("size", [0, 1, MOST])
def test_a_body_within_the_limit(size: int) -> None:
    """Up to the limit, the limit included."""
    assert read(request(b"x" * size), MOST) == b"x" * size


def test_too_large() -> None:
    """One byte more is refused before it is read."""
    assert refused(lambda: read(request(b"x" * (MOST + 1)), MOST)) == (413, "too_large")
    assert refused(lambda: read(request(b"x", length="99999999999"), MOST)) == (413, "too_large")


def test_no_length() -> None:
    """Without a Content-Length nothing is read."""
    assert refused(lambda: read(request(length=None), MOST)) == (411, "length_required")


@pytest.mark.parametrize("length", ["x", "-1"])
def test_a_length_that_is_none(length: str) -> None:
    """Refused, and nothing is read."""
    assert refused(lambda: read(request(length=length), MOST)) == (400, "invalid_length")


@pytest.mark.parametrize(
    "media_type",
    [
        "application/json",
        "application/json; charset=utf-8",
        "Application/JSON",
        "text/json",
        "application/cloudevents+json",
    ],
)
def test_json_by_its_names(media_type: str) -> None:
    """Every name of JSON will do."""
    assert read(request(Content_Type=media_type), MOST) == b"{}"


@pytest.mark.parametrize("media_type", ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonp"])
def test_another_media_type(media_type: str) -> None:
    """What does not say that it is JSON is not read as JSON."""
    assert refused(lambda: read(request(Content_Type=media_type), MOST)) == (415, "unsupported_media_type")


@pytest.mark.parametrize("encoding", ["deflate", "br", "gzip, gzip"])
def test_another_encoding(encoding: str) -> None:
    """gzip, or nothing."""
    assert refused(lambda: read(request(Content_Encoding=encoding), MOST)) == (415, "unsupported_encoding")


@pytest.mark.parametrize("encoding", ["gzip", " GZIP "])
@pytest.mark.parametrize("size", [0, 1, MOST])
def test_gzip(encoding: str, size: int) -> None:
    """Unpacked, up to the same limit."""
    assert read(request(gzip.compress(b"x" * size, mtime=0), Content_Encoding=encoding), MOST) == b"x" * size


def test_a_zlib_stream_is_read_too() -> None:
    """Some senders say gzip and mean zlib."""
    assert read(request(zlib.compress(b"{}"), Content_Encoding="gzip"), MOST) == b"{}"


@pytest.mark.parametrize("data", [b"", b"{}", gzip.compress(b"{}", mtime=0)[:-1], gzip.compress(b"{}", mtime=0)[:12]])
def test_broken_gzip(data: bytes) -> None:
    """What does not unpack to its end is refused."""
    assert refused(lambda: read(request(data, Content_Encoding="gzip"), MOST)) == (400, "invalid_gzip")


def test_bug_gzip_of_several_members_was_refused() -> None:
    """RFC 1952: they are one text, whatever their sizes and even empty; the limit is that of all."""
    parts = [b"a" * 10, b"", b"b" * 500, b"c" * (MOST - 510)]
    data = b"".join(map(gzip.compress, parts))

    assert read(request(data, Content_Encoding="gzip"), MOST) == b"".join(parts)
    assert refused(lambda: read(request(data, Content_Encoding="gzip"), MOST - 1)) == (413, "too_large")
    assert refused(lambda: body.unpacked(data[:-1], MOST)) == (400, "invalid_gzip")
    assert refused(lambda: body.unpacked(data + b"\0", MOST)) == (400, "invalid_gzip")
    large = random.Random(1).randbytes(20_000)
    assert body.unpacked(gzip.compress(large, mtime=0) + gzip.compress(b"x", mtime=0), 20_001) == large + b"x"


def test_corrupt_gzip() -> None:
    """A wrong checksum counts."""
    data = bytearray(gzip.compress(b"{}", mtime=0))
    data[-5] ^= 1

    assert refused(lambda: read(request(bytes(data), Content_Encoding="gzip"), MOST)) == (400, "invalid_gzip")


@pytest.mark.parametrize("size", [MOST + 1, 500_000])
def test_a_gzip_bomb(size: int) -> None:
    """The limit holds after unpacking, and unpacking stops there."""
    data = gzip.compress(b"\0" * size, mtime=0)

    assert len(data) <= MOST
    assert refused(lambda: read(request(data, Content_Encoding="gzip"), MOST)) == (413, "too_large")


@pytest.mark.parametrize(
    ("text", "depth"),
    [
        ("5", 0),
        ("[]", 1),
        ('{"a": [1]}', 2),
        ('["[[[[[[", "{{{{"]', 1),
        (r'["\"[[[[[[", "\\", [1]]', 2),
        ('["\\\\\\"[[[["]', 1),
        ("[[],[],[],[]]", 2),
        ("[" * 64 + "]" * 64, 64),
    ],
)
def test_depth(text: str, depth: int) -> None:
    """Brackets count where they nest, not inside strings."""
    assert parse(text.encode(), depth) == json.loads(text)
    if depth:
        assert refused(lambda: parse(text.encode(), depth - 1)) == (400, "too_deep")


@pytest.mark.parametrize("text", ["[" * 200_000, '{"a":' * 200_000, "[" * 100_000 + "]" * 100_000])
def test_depth_costs_no_stack(text: str) -> None:
    """However deep: an answer, not a crash."""
    assert refused(lambda: parse(text.encode(), 64)) == (400, "too_deep")


def naive_depth(text: str) -> int:
    """Deepest nesting, character by character."""
    depth = deepest = 0
    inside = escaped = False
    for character in text:
        if inside:
            if escaped:
                escaped = False
            elif character == "\\":
                escaped = True
            elif character == '"':
                inside = False
        elif character == '"':
            inside = True
        elif character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth -= 1
    return deepest


@given(text=st.text(alphabet='[]{}"\\a\n', max_size=40), limit=st.integers(0, 4))
def test_depth_as_a_naive_count_has_it(text: str, limit: int) -> None:
    """The quick count agrees with the slow one, on anything."""
    assert deeper_than(text, limit) == (naive_depth(text) > limit)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"{}{}",
        b"{'a': 1}",
        b'{"a": 1,}',
        b"NaN",
        b"[Infinity]",
        b"[-Infinity]",
        b"\xff{}",
        b'["\xe9"]',
        b"\xef\xbb\xbf{}",
        "{}".encode("utf-16"),
        b'["\x00"]',
        b"1" * 5000,
    ],
)
def test_what_is_not_json(data: bytes) -> None:
    """JSON in UTF-8, by the letter; the message says where, and quotes nothing."""
    assert refused(lambda: parse(data, 64)) == (400, "invalid_json")


def test_the_message_says_where() -> None:
    """Line and column help; the content stays out."""
    with pytest.raises(Refusal) as caught:
        parse(b'{\n"email": someone@example.com}', 64)

    assert caught.value.message == "the body is not JSON (line 2, column 10)"


@pytest.mark.parametrize("data", [b"1e999", b'{"a": [-1e999]}'])
def test_a_number_beyond_all_bounds(data: bytes) -> None:
    """A number that only fits as infinity is refused as NaN is."""
    assert refused(lambda: parse(data, 64)) == (400, "invalid_json")


def test_a_lone_surrogate_is_text() -> None:
    r"""JSON allows "\ud800"; it is kept."""
    assert parse(b'["\\ud800"]', 64) == ["\ud800"]


@given(st.binary(max_size=40))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    """Parsed or refused."""
    with contextlib.suppress(Refusal):
        parse(data, 5)


def test_the_encodings_window_is_that_of_gzip_and_zlib() -> None:
    """Raw deflate is neither."""
    raw = zlib.compressobj(wbits=-15)
    data = raw.compress(b"{}") + raw.flush()

    assert body._GZIP_OR_ZLIB == 47
    assert refused(lambda: read(request(data, Content_Encoding="gzip"), MOST)) == (400, "invalid_gzip")
