"""A message of the queue, read: what a publisher's Celery (or anything that speaks like it) put there.

Checked is all that kombu and Celery take for granted of a message of protocol 2 or 1
(https://docs.celeryq.dev/en/stable/internals/protocol.html): stock workers end where it is missing.
"""

import dataclasses
import json
import re
from base64 import b64decode
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from tasks.envelope import utc, without_addresses
from tasks.json_depth import deeper_than
from tasks.queue import ROUTE_TASK

_JSON: Final = "application/json"
#: Of a whole message. Parsed, small values take fifty times as much memory, and each thread may hold one.
MOST_BYTES: Final = 1024 * 1024
#: Of a message and of its body. What the parser still takes at its limit, a writer further down the stack does not.
MOST_DEPTH: Final = 256
#: Of events in a ticket; ours carry fewer.
_MOST_IDS: Final = 1000
#: Half of a character, as JSON can write it: Redis and logs are UTF-8, which has no place for it.
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")
#: A task's name that is longer is no name.
_MOST_OF_A_NAME: Final = 100
#: What Celery would run after a task; in the body of protocol 1, in the options of protocol 2.
_FOLLOWING: Final = ("callbacks", "errbacks", "chain", "chord")


class Unusable(Exception):
    """Not a message that a worker can take; carries the reason of the dead letter."""

    def __init__(self, reason: str, text: str) -> None:
        self.reason = reason
        super().__init__(text)


def checked(raw: bytes) -> dict[str, Any]:
    """The bytes in the queue's list → the message as kombu keeps it. Raises Unusable."""
    if len(raw) > MOST_BYTES:
        raise Unusable("invalid", f"the message is larger than {MOST_BYTES} bytes")
    try:
        message = _parsed(raw)
    except ValueError:
        raise Unusable("undecodable", "not JSON in UTF-8") from None
    if not isinstance(message, dict):
        raise Unusable("undecodable", "not a JSON object")
    properties = _object(message, "properties")
    info = _object(properties, "delivery_info")
    for place, holder, key in (
        ("properties", properties, "delivery_tag"),
        ("delivery_info", info, "exchange"),
    ):
        if not isinstance(holder.get(key), str):
            raise Unusable("undecodable", f"{place} without a text {key}")
    if not isinstance(info.get("routing_key"), str):
        raise Unusable("undecodable", "delivery_info without a text routing_key")
    if message.get("content-type") != _JSON:
        raise Unusable("invalid", "content-type must be application/json; nothing else is read")
    if not isinstance(message.get("content-encoding"), str | None):
        raise Unusable("invalid", "content-encoding must be a text")
    if _SURROGATE.search(raw):
        # The body may hold some: it is somebody's event, and is written down as it is.
        _check_text({**message, "body": None})
    _check_call(message.get("headers") or {}, _body(message, properties.get("body_encoding")))
    return message


@dataclasses.dataclass(frozen=True)
class Call:
    """A task that somebody asked for."""

    task: str
    id: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    headers: Mapping[str, Any] = dataclasses.field(default_factory=dict)  #: all of protocol 2; none of protocol 1
    due_at: datetime | None = None  #: not to be worked on before: its eta or countdown
    expires_at: datetime | None = None  #: not to be begun after
    wrong: str = ""  #: what is wrong with it, whatever its arguments say; "" = nothing


def call_of(message: Mapping[str, Any]) -> Call:
    """A checked message → what it asks for."""
    headers = message.get("headers") or {}
    body = body_of(message)
    if "task" in headers:
        args, named, options = body
        held, call = headers, {"args": args, "kwargs": named}
    else:
        held, call, options = body, body, body
    times, wrong = {}, ""
    for name in ("eta", "expires"):
        times[name] = moment(held.get(name))
        if held.get(name) is not None and times[name] is None:
            wrong = f"{name} must be a time in ISO 8601"
    if any((options or {}).get(name) for name in _FOLLOWING):
        wrong = f"{', '.join(_FOLLOWING)}: nothing is run after a published task"
    return Call(
        task=held["task"],
        id=held["id"],
        args=call.get("args", []),
        kwargs=call.get("kwargs", {}),
        headers=headers,
        due_at=times["eta"],
        expires_at=times["expires"],
        wrong=wrong,
    )


def shown_task(name: str) -> str:
    """A task's name that we do not know, for logs and Flower: no addresses, no more than a name can be."""
    return without_addresses(name[:_MOST_OF_A_NAME]).encode("utf-8", "replace").decode()


def body_of(message: Mapping[str, Any]) -> Any:
    """What a checked message carries, parsed."""
    return _body(message, message["properties"].get("body_encoding"))


def moment(value: Any) -> datetime | None:
    """Celery writes ISO 8601; a time without a zone is UTC."""
    return utc(value) or _since_1970(value)


def _since_1970(value: Any) -> datetime | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _check_text(value: Any) -> None:
    """Names and ids that Redis can keep; what is not text at all is judged elsewhere."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise Unusable("undecodable", "a name or id is no text that UTF-8 can carry") from None


def _check_headers(headers: dict[str, Any]) -> None:
    """What Celery's strategy takes apart without looking; it would raise in the consumer, not in the task."""
    limits, stamps = headers.get("timelimit"), headers.get("stamped_headers")
    if limits and not (isinstance(limits, list) and len(limits) == 2):  # noqa: PLR2004 - hard and soft
        raise Unusable("invalid", "timelimit must be a list of two")
    if stamps is not None and not (isinstance(stamps, list) and all(isinstance(stamp, str) for stamp in stamps)):
        raise Unusable("invalid", "stamped_headers must be a list of texts")
    for name, kinds in (("eta", str), ("expires", str | int | float)):
        value = headers.get(name)
        # Celery takes every empty value for none, but not everywhere.
        if value is not None and (not isinstance(value, kinds) or not value or value is True):
            raise Unusable("invalid", f"{name} must be a time")


def _object(holder: dict[str, Any], key: str) -> dict[str, Any]:
    value = holder.get(key)
    if not isinstance(value, dict):
        raise Unusable("undecodable", f"no {key}")
    return value


def _body(message: Mapping[str, Any], encoding: Any) -> Any:
    body = message.get("body")
    if not isinstance(body, str) or encoding not in ("base64", "utf-8", None):
        raise Unusable("undecodable", "the body is no text, or of an unknown body_encoding")
    try:
        return _parsed(b64decode(body, validate=True) if encoding == "base64" else body.encode())
    except ValueError:
        raise Unusable("undecodable", "the body does not decode to JSON") from None


def _parsed(data: bytes) -> Any:
    """JSON → value. Raises ValueError; Unusable for what is nested without end."""
    text = data.decode()
    if deeper_than(text, MOST_DEPTH):
        raise Unusable("undecodable", f"nested deeper than {MOST_DEPTH}")
    return json.loads(text)


def _check_call(headers: Any, body: Any) -> None:
    """Protocol 2: headers name task and id, body is [args, kwargs, embed]. Protocol 1: all of it in the body."""
    if not isinstance(headers, dict):
        raise Unusable("undecodable", "headers is no object")
    call = headers if "task" in headers else body
    if not isinstance(call, dict) or not all(isinstance(call.get(key), str) and call[key] for key in ("task", "id")):
        raise Unusable("undecodable", "no task name or no id")
    if call is body:
        _check_text([call["task"], call["id"]])
    _check_headers(call)
    if call is headers:
        shape = [list, dict, dict | None]
        if not isinstance(body, list) or not (len(body) == len(shape) and all(map(isinstance, body, shape))):
            raise Unusable("undecodable", "the body is not [args, kwargs, options]")
        if call["task"] == ROUTE_TASK and not _is_ticket(body[0], body[1]):
            raise Unusable("invalid", "a ticket is one list of event ids")
    elif call["task"] == ROUTE_TASK:
        raise Unusable("invalid", "a ticket is of protocol 2")
    elif not isinstance(body.get("args", []), list) or not isinstance(body.get("kwargs", {}), dict):
        raise Unusable("invalid", "args must be a list and kwargs an object")


def _is_ticket(args: list[Any], named: dict[str, Any]) -> bool:
    """Whether the task of our tickets can be called with these: others may push onto the list too."""
    if named or len(args) != 1 or not isinstance(args[0], list) or len(args[0]) > _MOST_IDS:
        return False
    try:
        "".join(args[0]).encode()
    except (TypeError, UnicodeEncodeError):
        return False
    return True
