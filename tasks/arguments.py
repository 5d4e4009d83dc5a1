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

from tasks.action import Action, Field, checked, in_segments_form
from tasks.actions import ACTIONS
from tasks.envelope import RESERVED, EnvelopeSchema
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

#: As a value of an action's field, not given.
_NOTHING: Final = (None, "")
_TWICE: Final = "Given twice."
#: What a name may be to stand in an error; others could be somebody's address.
_PLAIN_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


#: They would end a line in a log, or turn the rest of a page around.
_NO_CONTROL: Final = r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]*$(?!\n)"
_ID: Final = validate.Regexp(
    f"^(?!{RESERVED}){_NO_CONTROL}", error=f"Must not begin with {RESERVED} nor hold control characters."
)
_SHOWN: Final = validate.Regexp(f"^{_NO_CONTROL}", error="Must not hold control characters.")
#: Field of an envelope → what a publisher must heed beside what the envelope's schema asks.
_HEED: Final = {"id": _ID, "type": _SHOWN, "name": _SHOWN}


class Whole(fields.Integer):
    """A whole number, also written as 1.0: JSON does not tell them apart."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **more: Any) -> Any:
        whole = int(value) if isinstance(value, float) and value.is_integer() else value
        return super()._deserialize(whole, attr, data, **more)


class Yes(fields.Boolean):
    """true or false, and no other spelling of it."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **more: Any) -> Any:
        if not isinstance(value, bool):
            raise self.make_error("invalid")
        return super()._deserialize(value, attr, data, **more)


_ENVELOPE: Final = EnvelopeSchema().fields


def _like(name: str, doc: str = "", *, required: bool = False) -> fields.Field[Any]:
    """A field of the envelope; one that nobody has to give may be null."""
    found = copy.copy(_ENVELOPE[name])
    if name == "version":
        found = Whole(strict=True, validate=found.validators, metadata=found.metadata)
    found.required, found.allow_none = required, not required
    if name in _HEED:
        found.validators = [*found.validators, _HEED[name]]
    form = {"format": "date-time"} if name.endswith("_at") else {}
    found.metadata = {**found.metadata, **form, **({"description": doc} if doc else {})}
    return found


def _of_the_call() -> dict[str, fields.Field[Any]]:
    return {
        "publisher": _like("source", "Who publishes: the source of the event in all that the router shows."),
        "event_id": _like(
            "id",
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
        "version": _like("version", "Version of these arguments; 1 if not given."),
        **_of_the_call(),
        "occurred_at": _like("occurred_at", "When it happened, RFC 3339 in UTC; now if not given."),
        "subject": _like(
            "subject",
            "The person or object that it is about: what has the same subject stays in order. Made of what names the "
            "person if not given; null = no order.",
        ),
        "personal": _like("personal", "Keys whose values are about a person, beside those known anyway."),
    }


#: Names of the arguments that every task takes.
COMMON: Final = tuple(_common())


class _ActionSchema(Schema):
    """Arguments of an action's task. Names that we do not know are refused: a slip would do half of what was meant."""

    action: Action

    @validates_schema
    def _must_make_requests(self, data: Arguments, **_: Any) -> None:
        # What no single field can say, such as that one of several must name the person, the action itself knows.
        action, fields_ = self.action, {name: data.get(name) for name in self.action.fields}
        missing = [
            name for name, field in action.fields.items() if field.required_in_segment and fields_[name] in _NOTHING
        ]
        if missing and in_segments_form(fields_, action.fields):
            of_segment = [name for name in segments_only(action) if fields_[name] not in _NOTHING]
            raise ValidationError(
                f"{action.task}: {', '.join(of_segment)}: sent in Segment's form only, which needs "
                f"{', '.join(missing)} too."
            )
        try:
            action.requests(checked(action, fields_))
        except MappingFailed as error:
            text = str(error)
            raise ValidationError(text.replace(f"{action.name}: ", f"{action.task}: ", 1)) from None


def segments_only(action: Action) -> list[str]:
    """The fields that make a task's request one in Segment's form."""
    return [name for name, field in action.fields.items() if field.only_in_segment or name == "form"]


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
    own = {name: _like(name, required=name in REQUIRED) for name in _ENVELOPE}
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
    placed, named = given(placed), given(named)
    problems |= dict.fromkeys(placed.keys() & named.keys(), _TWICE)
    return {**placed, **named}, problems


def in_one_object(args: Sequence[Any], named: Mapping[str, Any]) -> tuple[Sequence[Any], Arguments, Problems]:
    """Positional arguments and names of `events.publish`, where one object may hold `events` and all names."""
    named = given(named)
    holder = args[0] if len(args) == 1 and isinstance(args[0], dict) else {}
    if not isinstance(holder.get("events"), list | dict):
        return args, named, {}
    placed = given(holder)
    return [], {**placed, **named}, dict.fromkeys(placed.keys() & named.keys(), _TWICE)


def unknown(named: Mapping[str, Any]) -> Problems:
    """What a call of `events.publish` is given by names that it does not have."""
    schema = SCHEMAS[PUBLISH_TASK]
    return dict(_problem(schema, name, "") for name in named if name not in schema.fields)


def joined(event: Mapping[str, Any], for_all: Mapping[str, Any]) -> tuple[Arguments, Problems]:
    """An event with what is given for all events of its call."""
    return {**for_all, **event}, dict.fromkeys(event.keys() & for_all.keys(), _TWICE)


def given(values: Mapping[str, Any]) -> Arguments:
    """Arguments without those that are null, which are not given; but for `subject`, where it means no order."""
    return {name: value for name, value in values.items() if value is not None or name == "subject"}


def read(task: str, named: Mapping[str, Any]) -> tuple[Arguments, Problems]:
    """Arguments by name → those that are valid, and what is wrong with the others."""
    return _read(SCHEMAS[task], named)


def of_headers(headers: Mapping[str, Any]) -> tuple[Arguments, Problems]:
    """What a message's headers say of the call, in the same way; null = nothing."""
    valid, problems = _read(_HEADERS, given({name: headers.get(name) for name in OF_THE_CALL}))
    return valid, {f"header {name}": text for name, text in problems.items()}


def id_of_all(event_id: Any) -> tuple[str | None, Problems]:
    """An `event_id` that is given for several events at once."""
    valid, problems = _read(_HEADERS, given({"event_id": event_id}))
    return valid.get("event_id"), problems


def _read(schema: Schema, named: Mapping[str, Any]) -> tuple[Arguments, Problems]:
    try:
        return schema.load(named), {}
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
