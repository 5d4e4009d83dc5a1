"""What a route can do: each action is a table of fields and a pure function from fields to requests."""

import dataclasses
import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from tasks.envelope import rfc3339
from tasks.errors import MappingFailed
from tasks.mapping_directives import text_of


@dataclasses.dataclass(frozen=True)
class Request:
    """One call to a destination, as data: nothing is sent yet."""

    destination: str  #: a key of the table in tasks/destinations/__init__.py
    method: str
    path: str  #: appended to the destination's address; "" for the address itself
    body: Any = None  #: JSON; None = no body
    query: tuple[tuple[str, str], ...] = ()
    id: str = ""  #: by which the destination knows it when it comes again, where it is told one


@dataclasses.dataclass(frozen=True)
class Field:
    """One input of an action. kind is "string", "object" or "boolean"."""

    doc: str
    kind: str = "string"
    required: bool = False
    choices: tuple[str, ...] = ()  #: the only values there are; () = any
    #: What follows is how Segment's Encharge destination defines the field (tasks/actions/segment.py).
    default: Any = None  #: its mapping, where a route does not give one
    format: str = ""  #: a key of _FORMATS
    keys: tuple[
        str, ...
    ] = ()  #: the object's keys, all of them texts, any others are dropped; () = any keys and values
    required_in_segment: bool = False  #: required in Segment's form
    only_in_segment: bool = False  #: a request has a place for it in Segment's form only


Fields = Mapping[str, Any]

_IDS: Final = frozenset({"email", "userId", "id", "segmentAnonymousId"})


def written(request: Request) -> set[str]:
    """What a request sets at a person or object: "user.plan", "tag:vip", "company.size". Facts about events are none.

    Two requests that write the same must not change places; other systems' requests name their method and path.
    """
    body = request.body if isinstance(request.body, Mapping) else {}
    user = body.get("user")
    fields = {f"user.{key}" for key in user if key not in _IDS | {"tags"}} if isinstance(user, Mapping) else set()
    tags = [body.get("tag"), user.get("tags") if isinstance(user, Mapping) else None]
    fields |= {f"tag:{tag}" for tag in tags if isinstance(tag, str)}
    if "objectType" in body and isinstance(body.get("properties"), Mapping):
        fields |= {f"{body['objectType']}.{key}" for key in body["properties"] if key not in _IDS}
    return fields or ({f"{request.method} {request.path}"} if not body else set())


@dataclasses.dataclass(frozen=True)
class Action:
    """What to do to a user or object."""

    name: str  #: as routes say it: "tag_user"
    task: str  #: as other teams' Celery tasks say it: "users.tag"
    doc: str
    fields: Mapping[str, Field]
    requests: Callable[[Fields], tuple[Request, ...]]
    system: str = "encharge"  #: whom its requests are for: what senders that choose their receivers call it
    #: Field → the fact that it has where the mapping gives nothing: "occurred_at", or "delivery", the delivery's id.
    given: Mapping[str, str] = dataclasses.field(default_factory=dict)


def in_segments_form(fields: Fields, known: Mapping[str, Field]) -> bool:
    """Whether fields ask for what Segment's Encharge destination does: they say so, or give what only it has."""
    if fields.get("form") == "segment" or fields.get("via") == "api":
        return True
    return any(field.only_in_segment and fields.get(name) not in (None, "") for name, field in known.items())


def _as_string(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


def _as_boolean(value: Any) -> Any:
    return value == "true" if value in ("true", "false") else value


_KINDS: Final[dict[str, tuple[type, Callable[[Any], Any]]]] = {
    "string": (str, _as_string),
    "object": (dict, lambda value: value),
    "boolean": (bool, _as_boolean),
}

_DATE_TIME: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)[tT\s](\d\d:\d\d):([0-5]\d|60)(?:\.\d+)?([zZ]|[+-]\d\d(?::?\d\d)?)", re.ASCII
)
_BEFORE_LEAP_SECOND: Final = (23, 59)


def _is_date_time(text: str) -> bool:
    found = _DATE_TIME.fullmatch(text)
    if found is None:
        return False
    day, minute, second, zone = found.groups()
    try:
        moment = datetime.fromisoformat(f"{day}T{minute}{zone.upper()}").astimezone(UTC)
    except (ValueError, OverflowError):
        return False
    return second != "60" or (moment.hour, moment.minute) == _BEFORE_LEAP_SECOND


#: Format → whether a text has it, and what a message calls it.
_FORMATS: Final[dict[str, tuple[Callable[[str], bool], str]]] = {
    "date-time": (_is_date_time, "a date and time with a zone, as in RFC 3339"),
}


def _as_segments_string(value: Any) -> Any:
    """Segment's coercion to text: a list of one is what is in it, and numbers are written as JavaScript does."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return text_of(value) if isinstance(value, bool | int | float) else value


def _as_given(name: str, field: Field, value: Any) -> tuple[Any, list[str]]:
    """A value as the action takes it, or what is wrong with it."""
    wanted, coerce = _KINDS[field.kind]
    value = coerce(value)
    if not isinstance(value, wanted):
        return None, [f"{name} must be of kind {field.kind}"]
    if field.choices and value not in field.choices:
        return None, [f"{name} must be {' or '.join(field.choices)}"]
    return value, []


def _as_in_segment(name: str, field: Field, value: Any) -> tuple[Any, list[str]]:
    """The same by the rules of Segment's destinations."""
    if field.kind == "string":
        value = _as_segments_string(value)
    value, problems = _as_given(name, field, value)
    if value is not None and field.format:
        fits, what = _FORMATS[field.format]
        problems += [] if fits(value) else [f"{name} must be {what}"]
    if value is not None and field.keys:
        parts = {key: _as_segments_string(value[key]) for key in field.keys if value.get(key) is not None}
        problems += [f"{name}.{key} must be of kind string" for key, part in parts.items() if not isinstance(part, str)]
        value = parts
    return value, problems


def checked(action: Action, fields: Any) -> dict[str, Any]:
    """Resolved mapping → the action's fields: nulls and empty strings dropped, numbers made strings.

    In Segment's form by the rules of Segment's destinations, which also know what a list of one is, which keys an
    object has, and the format of texts. Raises MappingFailed, which names fields and never values.
    """
    if not isinstance(fields, dict):
        raise MappingFailed(f"the mapping must give an object of fields for {action.name}")
    segments = in_segments_form(fields, action.fields)
    read = _as_in_segment if segments else _as_given
    clean: dict[str, Any] = {}
    problems: list[str] = []
    for name, field in action.fields.items():
        value = fields.get(name)
        wrong: list[str] = []
        if value is not None and value != "":
            value, wrong = read(name, field, value)
        problems += wrong
        if value is not None and value != "":
            clean[name] = value
        elif not wrong and (field.required or (segments and field.required_in_segment)):
            problems.append(f"{name} is missing")
    if problems:
        raise MappingFailed(f"{action.name}: {'; '.join(problems)}")
    return clean


def in_utc(name: str, text: str) -> str:
    """A date and time with a zone → the same in UTC, RFC 3339 with Z. Raises MappingFailed, without the value."""
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise ValueError("no zone")  # noqa: TRY301 - one refusal for all that it can be
        return rfc3339(moment.astimezone(UTC))
    except (ValueError, OverflowError):
        raise MappingFailed(f"{name} must be a date and time with a zone, as in RFC 3339") from None


def in_utf8(body: Any) -> bytes:
    """A body as JSON, its letters as they are, where bytes are counted; half a surrogate pair stays escaped."""
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")


def present(**values: Any) -> dict[str, Any]:
    """The keyword arguments that have a value, in their order."""
    return {key: value for key, value in values.items() if value is not None}


def person(fields: Fields, *names: str, otherwise: str = "") -> dict[str, Any]:
    """Those of a person's identifiers that are there. Raises MappingFailed when none is."""
    found = {name: fields[name] for name in names if name in fields}
    if not found:
        text = f"nothing identifies the person: none of {', '.join(names)} has a value"
        raise MappingFailed(f"{otherwise} ({text})" if otherwise else text)
    return found
