"""Reading what a caller sent (JSON, identifiers, tags), or refusing it with a reason."""

import json
import zlib
from collections.abc import Mapping
from typing import Any, NoReturn

from flask import Request

from sandbox.records import Json

#: A limit of the sandbox: deeper values could be read, but the page's state could not be written any more.
_MAX_DEPTH = 100
#: Another: bytes of a body when it is unpacked.
_MOST_UNPACKED = 16 * 1024 * 1024


class Refused(Exception):
    """The request is not what the API documents."""

    def __init__(self, status: int, message: str, error_code: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.error_code = error_code


def json_object(request: Request) -> Json:
    """The body, one JSON object.

    Raises Refused.
    """
    value = json_value(request)
    if not isinstance(value, dict):
        raise Refused(400, f"The body must be one JSON object, not {_kind(value)}.")
    return value


def json_value(request: Request, *, any_content_type: bool = False) -> Any:
    """The body, any JSON value.

    Raises Refused. The status of a wrong content type is nowhere documented; 400 as for a wrong body.
    """
    if request.mimetype != "application/json" and not any_content_type:
        raise Refused(400, "Content-Type must be application/json.")
    body = request.get_data()
    try:
        value = json.loads(body, parse_constant=_no_constant, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"The body is not JSON: {error}") from None
    if body.count(b"[") + body.count(b"{") > _MAX_DEPTH and _depth(value) > _MAX_DEPTH:
        raise Refused(400, f"The body is nested more than {_MAX_DEPTH} levels deep.")
    return value


def unpacked(body: bytes, coding: str) -> bytes:
    """A body without its Content-Encoding, if that is gzip. Raises Refused."""
    if coding.strip().lower() != "gzip":
        return body
    reader = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        whole = reader.decompress(body, _MOST_UNPACKED)
    except zlib.error:
        raise Refused(400, "The body is not gzip.") from None
    if not reader.eof:
        raise Refused(400, "The body is cut off, or too large when unpacked.")
    return whole


def identifiers(source: Mapping[str, Any], where: str = "user") -> dict[str, str]:
    """{"userId", "email"}, as far as they are given; a userId may be a number, null and "" are as if absent.

    https://docs.encharge.io/getting-started/connecting-your-app-to-encharge/ingest-api

    Raises Refused.
    """
    user_id, email = source.get("userId"), source.get("email")
    if not _absent(user_id) and (isinstance(user_id, bool) or not isinstance(user_id, str | int | float)):
        raise Refused(400, f"{where}.userId must be a string or a number.")
    if not _absent(email) and not isinstance(email, str):
        raise Refused(400, f"{where}.email must be a string.")
    found = {"userId": user_id_text(user_id), "email": email}
    return {kind: value for kind, value in found.items() if value}


def user_id_text(user_id: str | float | None) -> str:
    """A number and its text are the same userId: 123, 123.0 and "123"."""
    if isinstance(user_id, float) and user_id.is_integer():
        return str(int(user_id))
    return "" if user_id is None else str(user_id)


def tag_list(value: object, where: str) -> list[str]:
    """'a, b' → ["a", "b"]; blanks around a tag do not count.

    Raises Refused.
    """
    if value is None:
        return []
    if not isinstance(value, str):
        raise Refused(400, f"{where} must be a string, a comma separated list of tags.")
    return [tag.strip() for tag in value.split(",") if tag.strip()]


def _absent(value: object) -> bool:
    return value is None or value == ""


def _kind(value: object) -> str:
    return {list: "an array (there is no batch form)", str: "a string", type(None): "null"}.get(
        type(value), "a number or a boolean"
    )


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"{text} is too large a number")
    return number


def _depth(value: object) -> int:
    depth, level = 0, [value]
    while level:
        depth += 1
        level = [child for parent in level for child in _children(parent)]
    return depth


def _children(value: object) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []
