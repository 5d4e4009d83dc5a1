"""What a route can do: each action is a table of fields and a pure function from fields to requests."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Final

from tasks.errors import MappingFailed


@dataclasses.dataclass(frozen=True)
class Request:
    """One call to a destination, as data: nothing is sent yet."""

    destination: str  #: a key of the table in tasks/destinations/__init__.py
    method: str
    path: str  #: appended to the destination's address; "" for the address itself
    body: Any = None  #: JSON; None = no body
    query: tuple[tuple[str, str], ...] = ()


@dataclasses.dataclass(frozen=True)
class Field:
    """One input of an action. kind is "string", "object" or "boolean"."""

    doc: str
    kind: str = "string"
    required: bool = False


Fields = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Action:
    """What to do to a user or object."""

    name: str  #: as routes say it: "tag_user"
    task: str  #: as other teams' Celery tasks say it: "users.tag"
    doc: str
    fields: Mapping[str, Field]
    requests: Callable[[Fields], tuple[Request, ...]]


def _as_string(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


_KINDS: Final[dict[str, tuple[type, Callable[[Any], Any]]]] = {
    "string": (str, _as_string),
    "object": (dict, lambda value: value),
    "boolean": (bool, lambda value: value == "true" if value in ("true", "false") else value),
}


def checked(action: Action, fields: Any) -> dict[str, Any]:
    """Resolved mapping → the action's fields: nulls and empty strings dropped, numbers made strings.

    Raises MappingFailed, which names fields and never values.
    """
    if not isinstance(fields, dict):
        raise MappingFailed(f"the mapping must give an object of fields for {action.name}")
    clean: dict[str, Any] = {}
    problems = []
    for name, field in action.fields.items():
        wanted, coerce = _KINDS[field.kind]
        value = fields.get(name)
        if value is not None and value != "":
            value = coerce(value)
            if isinstance(value, wanted):
                clean[name] = value
            else:
                problems.append(f"{name} must be of kind {field.kind}")
        elif field.required:
            problems.append(f"{name} is missing")
    if problems:
        raise MappingFailed(f"{action.name}: {'; '.join(problems)}")
    return clean


def present(**values: Any) -> dict[str, Any]:
    """The keyword arguments that have a value, in their order."""
    return {key: value for key, value in values.items() if value is not None}


def person(fields: Fields, *names: str) -> dict[str, Any]:
    """Those of a person's identifiers that are there. Raises MappingFailed when none is."""
    found = {name: fields[name] for name in names if name in fields}
    if not found:
        raise MappingFailed(f"nothing identifies the person: none of {', '.join(names)} has a value")
    return found
