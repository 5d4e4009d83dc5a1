"""Texts for what JSON has no word for, however a publisher's Celery hands it over. Pure.

kombu writes a Decimal, a UUID or a time as an object that names its type
(https://docs.celeryq.dev/projects/kombu/en/stable/reference/kombu.utils.json.html), and makes a Python object of it
where it reads one. An event must be the same either way, and be something that a destination can be sent.
"""

import json
import uuid
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any, Final

_TYPED: Final = {"__type__", "__value__"}


def without_types(found: dict[str, Any]) -> Any:
    """An object of parsed JSON → the text that it stands for, or itself: what `json.loads` takes as `object_hook`."""
    if len(found) != len(_TYPED) or found.keys() != _TYPED or not isinstance(found["__type__"], str):
        return found
    read = _READ.get(found["__type__"])
    try:
        return found if read is None else read(found["__value__"])
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
        return found  # somebody's own, which only looks like it


def plain(value: Any) -> Any:
    """A value that may hold Python's own objects → the same with texts for them; itself when it holds none.

    What is no value at all, or nested too deeply, stays as it is: whoever keeps the event refuses it.
    """
    try:
        json.dumps(value)
    except TypeError:
        try:
            return json.loads(json.dumps(value, default=text_of))
        except (ValueError, TypeError, RecursionError, OverflowError):
            return value
    except (ValueError, RecursionError):
        return value
    return value


def _moment(text: str) -> str:
    """A time without a zone is UTC, as in Celery's own headers."""
    found = datetime.fromisoformat(text)
    found = (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    return found.isoformat().replace("+00:00", "Z")


def _uuid(value: Mapping[str, Any]) -> str:
    return str(uuid.UUID(hex=value["hex"]))


def _bytes(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return b64encode(value).decode()


def _same(value: str) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


#: kombu's name of a type → the text of a value that it wrote so.
_READ: Final[Mapping[str, Callable[[Any], str]]] = {
    "datetime": _moment,
    "date": lambda value: date.fromisoformat(value[:10]).isoformat(),
    "time": _same,
    "decimal": _same,
    "uuid": _uuid,
    "bytes": _same,
    "base64": lambda value: _bytes(b64decode(value)),
}


def text_of(value: Any) -> str:
    """The text for an object of Python's: what `json.dumps` takes as `default`. Raises TypeError for any other."""
    match value:
        case datetime():
            return _moment(value.isoformat())
        case date() | time():
            return value.isoformat()
        case Decimal() | uuid.UUID():
            return str(value)
        case bytes():
            return _bytes(value)
        case _:
            raise TypeError("no value that a message can hold")
