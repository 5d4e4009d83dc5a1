"""What each task takes, as marshmallow schemas: the contract of all who publish tasks.

Made out of the envelope's schema and the actions' tables of fields, so a new action has its task at once. The pages in
docs/contract are generated from them.
"""

import copy
import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from marshmallow import EXCLUDE, Schema, ValidationError, fields, validate, validates_schema

from tasks.action import Action, Field, checked
from tasks.actions import ACTIONS
from tasks.envelope import EnvelopeSchema
from tasks.errors import MappingFailed
from tasks.queue import PUBLISH_TASK

Arguments = dict[str, Any]
#: Name of an argument → what is wrong with it; "" = with all of them together.
Problems = dict[str, str]

#: Version of the contract; another one may ask for other arguments.
VERSION: Final = 1
#: What an event of another team's has to say itself.
REQUIRED: Final = ("type", "event")
#: What belongs to the call, and is no part of an event.
OF_THE_CALL: Final = ("publisher", "event_id", "reply")

_TWICE: Final = "Given twice."
#: What a name may be to stand in an error; others could be somebody's address.
_PLAIN_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


class Yes(fields.Boolean):
    """true or false, and no other spelling of it."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **more: Any) -> Any:
        if not isinstance(value, bool):
            raise self.make_error("invalid")
        return super()._deserialize(value, attr, data, **more)


def _like(field: fields.Field[Any], doc: str = "") -> fields.Field[Any]:
    """A field of the envelope that nobody has to give; with words of its own, it is no event's and may be null."""
    found = copy.copy(field)
    found.required = False
    if doc:
        found.metadata, found.allow_none = {"description": doc}, True
    return found


_ENVELOPE: Final = EnvelopeSchema().fields


def _of_the_call() -> dict[str, fields.Field[Any]]:
    return {
        "publisher": _like(_ENVELOPE["source"], "Who publishes: the source of the event in all that the router shows."),
        "event_id": _like(
            _ENVELOPE["id"],
            "Your id of the event, the task's id if not given; one seen within the dedupe window is a duplicate.",
        ),
        "reply": Yes(
            allow_none=True,
            metadata={"description": "true writes what became of the event as the task's Celery result."},
            error_messages={"invalid": "Must be true or false."},
        ),
    }


def _common() -> dict[str, fields.Field[Any]]:
    """What every task of an action takes beside the action's own fields."""
    return {
        "version": _like(_ENVELOPE["version"], "Version of these arguments; 1 if not given."),
        **_of_the_call(),
        "occurred_at": _like(_ENVELOPE["occurred_at"], "When it happened, RFC 3339 in UTC; now if not given."),
        "subject": _like(
            _ENVELOPE["subject"],
            "The person or object that it is about: what has the same subject stays in order. Made of what names the "
            "person if not given; null = no order.",
        ),
        "personal": _like(_ENVELOPE["personal"], "Keys whose values are about a person, beside those known anyway."),
    }


#: Names of the arguments that every task takes.
COMMON: Final = tuple(_common())


class _ActionSchema(Schema):
    """Arguments of an action's task. Names that we do not know are refused: a slip would do half of what was meant."""

    action: Action

    @validates_schema
    def _must_make_requests(self, data: Arguments, **_: Any) -> None:
        # What no single field can say, such as that one of several must name the person, the action itself knows.
        try:
            self.action.requests(checked(self.action, {name: data.get(name) for name in self.action.fields}))
        except MappingFailed as error:
            raise ValidationError(str(error)) from None


def _text(field: Field) -> fields.Field[Any]:
    checks: list[Any] = [validate.OneOf(field.choices)] if field.choices else []
    if field.required and not field.choices:
        checks.append(validate.Length(min=1))
    return fields.String(validate=checks, error_messages={"invalid": "Must be a text."}, **_of(field))


def _object(field: Field) -> fields.Field[Any]:
    return fields.Dict(keys=fields.String(), error_messages={"invalid": "Must be an object."}, **_of(field))


def _yes(field: Field) -> fields.Field[Any]:
    return Yes(error_messages={"invalid": "Must be true or false."}, **_of(field))


def _of(field: Field) -> dict[str, Any]:
    required = field.required
    return {"required": required, "allow_none": not required, "metadata": {"description": field.doc}}


_KINDS: Final = {"string": _text, "object": _object, "boolean": _yes}


def _action_schema(action: Action) -> Schema:
    own = {name: _KINDS[field.kind](field) for name, field in action.fields.items()}
    schema = cast("_ActionSchema", _ActionSchema.from_dict({**own, **_common()}, name=action.task)())
    schema.action = action
    return schema


def _event_schema() -> Schema:
    """One event for `events.publish`. Keys that we do not know are dropped, as those of an envelope are."""
    own = {name: copy.copy(field) if name in REQUIRED else _like(field) for name, field in _ENVELOPE.items()}
    return EnvelopeSchema.from_dict({**own, **_of_the_call()}, name=PUBLISH_TASK)()


_HEADERS: Final = Schema.from_dict(_of_the_call(), name="headers")(unknown=EXCLUDE)
#: Task → its action.
TASK_ACTIONS: Final[Mapping[str, Action]] = {action.task: action for action in ACTIONS.values()}
#: Task → the schema of its arguments; of `events.publish`, of one event.
SCHEMAS: Final[Mapping[str, Schema]] = {
    PUBLISH_TASK: _event_schema(),
    **{action.task: _action_schema(action) for action in ACTIONS.values()},
}


def nearest(name: str) -> str | None:
    """The task that somebody may have meant by a name that is none's; actions' names count too."""
    known = {**{task: task for task in SCHEMAS}, **{action.name: action.task for action in ACTIONS.values()}}
    found = difflib.get_close_matches(name[:100].lower(), known, 1, cutoff=0)
    return known[found[0]] if found else None


def by_name(task: str, args: Sequence[Any], named: Mapping[str, Any]) -> tuple[Arguments, Problems]:
    """The arguments of an action's task under their names, and which were given in a way that cannot be read.

    One object holds all of them; other values stand for the action's fields in their order. null = not given, but for
    `subject`, where it means no order.
    """
    names = tuple(TASK_ACTIONS[task].fields)
    problems: Problems = {}
    placed: Mapping[str, Any] = dict(zip(names, args, strict=False))
    if len(args) == 1 and isinstance(args[0], dict):
        placed = args[0]
    elif len(args) > len(names):
        problems[""] = f"At most {len(names)} arguments have a place without a name: {', '.join(names)}."
    placed, named = _given(placed), _given(named)
    problems |= dict.fromkeys(placed.keys() & named.keys(), _TWICE)
    return {**placed, **named}, problems


def joined(event: Mapping[str, Any], for_all: Mapping[str, Any]) -> tuple[Arguments, Problems]:
    """An event with what is given for all events of its call."""
    return {**for_all, **event}, dict.fromkeys(event.keys() & for_all.keys(), _TWICE)


def _given(values: Mapping[str, Any]) -> Arguments:
    return {name: value for name, value in values.items() if value is not None or name == "subject"}


def read(task: str, given: Mapping[str, Any]) -> tuple[Arguments, Problems]:
    """Arguments by name → those that are valid, and what is wrong with the others."""
    return _read(SCHEMAS[task], given)


def of_headers(headers: Mapping[str, Any]) -> tuple[Arguments, Problems]:
    """What a message's headers say of the call, in the same way; null = nothing."""
    valid, problems = _read(_HEADERS, _given({name: headers.get(name) for name in OF_THE_CALL}))
    return valid, {f"header {name}": text for name, text in problems.items()}


def id_of_all(event_id: Any) -> tuple[str | None, Problems]:
    """An `event_id` that is given for several events at once."""
    valid, problems = _read(_HEADERS, _given({"event_id": event_id}))
    return valid.get("event_id"), problems


def _read(schema: Schema, given: Mapping[str, Any]) -> tuple[Arguments, Problems]:
    try:
        return schema.load(given), {}
    except ValidationError as error:
        messages = error.normalized_messages()
        valid = error.valid_data if isinstance(error.valid_data, dict) else {}
        return valid, dict(_problem(schema, str(name), found) for name, found in messages.items())


def _problem(schema: Schema, name: str, found: Any) -> tuple[str, str]:
    if name == "_schema":
        return "", _first(found)
    if name in schema.fields:
        return name, _first(found)
    close = difflib.get_close_matches(name[:100], schema.fields, 1)
    there_are = f"the nearest is {close[0]}" if close else f"there are: {', '.join(schema.fields)}"
    return name if _PLAIN_NAME.fullmatch(name) else "(no name)", f"No such argument; {there_are}."


def _first(found: Any) -> str:
    while isinstance(found, dict | list) and found:
        found = next(iter(found.values())) if isinstance(found, dict) else found[0]
    return str(found)


def listed(problems: Problems) -> str:
    """All problems in one line for people: each names its field and what was expected, none a value."""
    return "; ".join(f"{name}: {text}" if name else text for name, text in sorted(problems.items()))
