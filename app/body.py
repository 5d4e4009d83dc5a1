"""A request's body: read within its limits, unpacked within its limits, parsed within its limits."""

import json
import math
import zlib
from typing import Any, Final, NoReturn

from app.incoming import Incoming, too_large
from app.source import Refusal
from tasks.json_depth import deeper_than

_JSON_TYPES: Final = frozenset({"application/json", "text/json"})
#: JSON lines has no registered type; these are in use (https://github.com/ndjson/ndjson-spec, https://jsonlines.org).
_LINES_TYPES: Final = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl"})
_GZIP_OR_ZLIB: Final = zlib.MAX_WBITS | 32
_PART: Final = 4096


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError("a number too large")
    return number


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


#: JSON as RFC 8259 has it: no NaN, no number that becomes infinite. Raises ValueError, or RecursionError.
DECODER: Final = json.JSONDecoder(parse_constant=_no_constant, parse_float=_finite)


def read(incoming: Incoming, max_bytes: int, *, lines: bool = False) -> bytes:
    """The JSON body, or JSON `lines`, unpacked when it is gzip. Raises Refusal: 411, 413, 415 or 400."""
    media_type = incoming.header("CONTENT_TYPE").partition(";")[0].strip().lower()
    known = media_type in _JSON_TYPES or media_type.endswith("+json") or (lines and media_type in _LINES_TYPES)
    if not known:
        raise Refusal(415, "unsupported_media_type", "Content-Type must be application/json")
    return read_any(incoming, max_bytes)


def read_any(incoming: Incoming, max_bytes: int) -> bytes:
    """The body whatever it is, unpacked when it is gzip. Raises Refusal: 411, 413, 415 or 400."""
    encoding = incoming.header("CONTENT_ENCODING").strip().lower()
    if encoding not in {"", "identity", "gzip"}:
        raise Refusal(415, "unsupported_encoding", "Content-Encoding must be gzip, or absent")
    body = incoming.read(max_bytes)
    return unpacked(body, max_bytes) if encoding == "gzip" else body


def parse(body: bytes, max_depth: int) -> Any:
    """JSON → value. Raises Refusal(400) for what is not JSON in UTF-8, or nested deeper than `max_depth`."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise Refusal(400, "invalid_json", "the body is not UTF-8") from None
    if deeper_than(text, max_depth):
        raise Refusal(400, "too_deep", f"the body is nested deeper than {max_depth}")
    try:
        return DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        place = f" (line {error.lineno}, column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
        raise Refusal(400, "invalid_json", f"the body is not JSON{place}") from None


def unpacked(body: bytes, max_bytes: int) -> bytes:
    """Gzip, of one member or several (RFC 1952) → what is in it. Raises Refusal: 413 or 400."""
    content = bytearray()
    unpacker = zlib.decompressobj(_GZIP_OR_ZLIB)
    at = 0
    while at < len(body):
        if unpacker.eof:
            unpacker = zlib.decompressobj(_GZIP_OR_ZLIB)
        # In small parts: what follows a member in its part is copied, and there may be many members.
        part = body[at : at + _PART]
        try:
            content += unpacker.decompress(part, max_bytes + 1 - len(content))
        except zlib.error:
            raise Refusal(400, "invalid_gzip", "the body is not gzip") from None
        if len(content) > max_bytes:
            raise too_large(max_bytes)
        at += len(part) - len(unpacker.unused_data)
    if not unpacker.eof:
        raise Refusal(400, "invalid_gzip", "the gzip body is cut off")
    return bytes(content)
