"""Makes what follows from the contract of publishers: JSON Schemas, the AsyncAPI document, publisher.py's methods.

docs/generate.py runs it; changes.py says which changes break somebody.
"""

import itertools
import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from marshmallow import Schema, fields, validate

from config.celery_settings import QUEUE
from tasks.action import Action, Field, checked
from tasks.arguments import COMMON, OF_THE_CALL, REQUIRED, SCHEMAS, TASK_ACTIONS, VERSION, segments_only
from tasks.contract import MOST_EVENTS
from tasks.errors import MappingFailed
from tasks.messages import MOST_BYTES
from tasks.queue import PUBLISH_TASK

ROOT = Path(__file__).resolve().parents[2]
DIALECT = "https://json-schema.org/draft/2020-12/schema"
PUBLISH_DOC = "Publish one event, which goes along the routes that match it."


def schemas() -> dict[str, dict[str, Any]]:
    """Task → JSON Schema (2020-12) of its arguments by name; of `events.publish`, of one event."""
    spec = APISpec("event router", str(VERSION), "3.1.0", plugins=[MarshmallowPlugin()])
    for task, schema in SCHEMAS.items():
        spec.components.schema(task, schema=schema)
    made = spec.to_dict()["components"]["schemas"]
    return {task: _with_head(task, made[task]) for task in SCHEMAS}


def _with_head(task: str, schema: dict[str, Any]) -> dict[str, Any]:
    action = TASK_ACTIONS.get(task)
    head = {"$schema": DIALECT, "title": task, "description": action.doc if action else PUBLISH_DOC}
    _say_what_apispec_does_not(schema, SCHEMAS[task])
    if action is None:
        return {**head, **schema}
    by_position = {"x-positions": list(action.fields)}
    return {**head, **by_position, **schema, **_refined(action, schema["properties"]), "additionalProperties": False}


def _say_what_apispec_does_not(schema: dict[str, Any], known: Schema) -> None:
    """How many keys an object has, and which."""
    for name, field in known.fields.items():
        own = schema["properties"][name]
        if isinstance(field, fields.Dict) and "minLength" in own:
            own["minProperties"] = own.pop("minLength")
        for check in getattr(getattr(field, "key_field", None), "validators", ()):
            own["propertyNames"] = {"enum": list(check.choices)}


#: What counts as given to an action.
GIVEN = {"not": {"enum": [None, ""]}}
NO_TEXT = {"maxLength": 0}
#: Keys by which an object may name a person.
KEYS = ("email", "userId", "segmentAnonymousId", "id")


def _refined(action: Action, properties: dict[str, Any]) -> dict[str, Any]:
    """What the fields of an action mean together, into its schema: found by trying what the action takes."""
    full = {name: sample(field) for name, field in action.fields.items()}
    for name, field in action.fields.items():
        if field.kind == "string" and not field.choices and not _makes_requests(action, full | {name: "text"}):
            properties[name]["anyOf"] = [NO_TEXT, {"format": "date-time"}]
        if field.keys:
            properties[name]["properties"] = {key: _as_segment_takes_it() for key in field.keys}
        if field.required and field.kind == "object":
            properties[name] |= _keys_needed(action, full, name)
    some = [_given(names, {name: _keys_needed(action, full, name) for name in names}) for names in needs_of(action)]
    rules = [{"if": when, "then": _given(names)} for when, names in _conditions(action, full) if names]
    return {**({"anyOf": some} if some else {}), **({"allOf": rules} if rules else {})}


def _as_segment_takes_it() -> dict[str, Any]:
    """A text, or what Segment makes one of: docs/moving-from-segment.md."""
    one = ["string", "number", "boolean"]
    return {"type": [*one, "null", "array"], "items": {"type": one}, "minItems": 1, "maxItems": 1}


def _given(names: Sequence[str], objects: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """All of these have values, and such as these."""
    return {"required": list(names), "properties": {name: (objects or {}).get(name) or GIVEN for name in names}}


def _keys_needed(action: Action, full: dict[str, Any], name: str) -> dict[str, Any]:
    """Which keys an object must have, where nothing else names the person."""
    needed = [names for names in needs_of(action) if name in names] or [()]
    base = {key: value for key, value in full.items() if action.fields[key].required or key in needed[0]}
    if action.fields[name].kind != "object" or _makes_requests(action, base | {name: {}}):
        return {}
    ways = []
    for key in KEYS:
        if _makes_requests(action, base | {name: {key: "text"}}):
            nothing = [empty for empty in (None, "") if not _makes_requests(action, base | {name: {key: empty}})]
            ways.append({"required": [key], **({"properties": {key: {"not": {"enum": nothing}}}} if nothing else {})})
    return {"type": "object", "anyOf": ways}


def _conditions(action: Action, full: dict[str, Any]) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """When an action needs more than its required fields, and which."""
    optional = [name for name, field in action.fields.items() if not field.required]

    def needed(given: dict[str, Any]) -> list[str]:
        return [
            name
            for name in optional
            if not _makes_requests(action, {key: value for key, value in given.items() if key != name})
        ]

    of_segment = segments_only(action)
    if of_segment:
        yield {"anyOf": [_given([name]) for name in of_segment]}, needed(full)
    for name, field in action.fields.items():
        for choice in () if name in of_segment else field.choices:
            when = {"required": [name], "properties": {name: {"const": choice}}}
            yield when, needed(full | {name: choice})


def needs_of(action: Action) -> list[tuple[str, ...]]:
    """The smallest sets of optional fields without one of which the action makes no request; [] = it needs none.

    Found by trying: only the action itself knows, for instance, what names a person there.
    """
    given = {name: sample(field) for name, field in action.fields.items()}
    required = {name: given[name] for name, field in action.fields.items() if field.required}
    optional = [name for name in given if name not in required]
    found: list[tuple[str, ...]] = []
    for size in range(3):
        for names in itertools.combinations(optional, size):
            smaller = any(set(each) <= set(names) for each in found)
            if not smaller and _makes_requests(action, required | {name: given[name] for name in names}):
                found.append(names)
    return [] if () in found else found


def sample(field: Field) -> Any:
    """A value that a field takes."""
    if field.kind == "object":
        return {"email": "someone@example.com"}
    if field.kind == "boolean":
        return True
    # What asks for the least: other calls of Segment's need more than a person.
    choice = "identify" if "identify" in field.choices else next(iter(field.choices), "")
    return choice or "2026-01-31T12:00:00Z"


def _makes_requests(action: Action, named: dict[str, Any]) -> bool:
    try:
        return bool(action.requests(checked(action, named)))
    except MappingFailed:
        return False


def schema_page(task: str) -> str:
    """One of the files in v1/."""
    return json.dumps(schemas()[task], indent=2) + "\n"


def tasks_table() -> str:
    """docs/publishing.md with its table of tasks."""
    page = (ROOT / "docs/publishing.md").read_text()
    head, mark, rest = page.partition("<!-- Generated by `make docs`. -->\n")
    _, end, tail = rest.partition("<!-- end -->\n")
    lines, schemas_ = ["| task | what it does | needs |", "| --- | --- | --- |"], schemas()
    for task in sorted(SCHEMAS):
        action = TASK_ACTIONS.get(task)
        required = REQUIRED if action is None else [name for name, field in action.fields.items() if field.required]
        needs = [", ".join(f"`{name}`" for name in required)]
        if action is not None and needs_of(action):
            needs.append("one of " + ", ".join(" with ".join(f"`{n}`" for n in names) for names in needs_of(action)))
        needs += map(_also, schemas_[task].get("allOf", ()))
        lines.append(f"| `{task}` | {_doc(task)} | {'; '.join(filter(None, needs))} |")
    return head + mark + "\n".join(["", *lines, "", ""]) + end + tail


def _also(rule: dict[str, Any]) -> str:
    """One of a schema's conditions, in words."""
    names = ", ".join(f"`{name}`" for name in rule["then"]["required"])
    if "anyOf" in rule["if"]:
        return f"in Segment's form also {names}"
    ((name, choice),) = rule["if"]["properties"].items()
    return f"`{name}` `{choice['const']}` also {names}"


# --- AsyncAPI ---------------------------------------------------------------------------------------------------------


def asyncapi() -> str:
    """All of it as an AsyncAPI 3.0 document: https://www.asyncapi.com/docs/reference/specification/v3.0.0."""
    document = {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Event router: tasks that other teams publish",
            "version": f"{VERSION}.0.0",
            "description": "Any Celery client, or anything that pushes the same bytes, may publish. What is promised, "
            "and examples: docs/publishing.md. Generated by `make docs`.",
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "redis": {
                "host": "localhost:6379",
                "protocol": "redis",
                "description": "The router's Redis; a publisher has a user of its own there.",
            }
        },
        "channels": {
            QUEUE: {
                "address": QUEUE,
                "description": "A Redis list. Each element is a Celery message in JSON (components/schemas/Message), "
                f"of at most {MOST_BYTES} bytes, put there with LPUSH.",
                "servers": [{"$ref": "#/servers/redis"}],
                "messages": {task: {"$ref": f"#/components/messages/{task}"} for task in SCHEMAS},
            }
        },
        "operations": {
            task: {
                "action": "receive",
                "summary": _doc(task),
                "channel": {"$ref": f"#/channels/{QUEUE}"},
                "messages": [{"$ref": f"#/channels/{QUEUE}/messages/{task}"}],
            }
            for task in SCHEMAS
        },
        "components": {
            "messages": {task: _message(task) for task in SCHEMAS},
            "schemas": {**{task: _plain(schema) for task, schema in schemas().items()}, **_celery_schemas()},
        },
    }
    return yaml.safe_dump(document, sort_keys=False, width=120, allow_unicode=True)


def _doc(task: str) -> str:
    return TASK_ACTIONS[task].doc if task in TASK_ACTIONS else PUBLISH_DOC


def _plain(schema: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key != "$schema"}


def _message(task: str) -> dict[str, Any]:
    """A message by its parts: Celery's headers, and its body once it is decoded."""
    return {
        "name": task,
        "title": _doc(task),
        "contentType": "application/json",
        "headers": {
            "allOf": [{"$ref": "#/components/schemas/Headers"}, {"properties": {"task": {"const": task}}}],
            "type": "object",
        },
        "payload": {"type": "array", "minItems": 3, "maxItems": 3, "anyOf": list(_ways(task))},
    }


def _ways(task: str) -> Iterator[dict[str, Any]]:
    """How arguments may be given. Of those in several parts each part is described; the router sees to the whole."""
    arguments, nothing = {"$ref": f"#/components/schemas/{task}"}, {"type": "object", "maxProperties": 0}
    names = {"type": "object", "propertyNames": {"enum": list(SCHEMAS[task].fields)}}
    values: dict[str, Any] = {"type": "array", "minItems": 1}
    if task == PUBLISH_TASK:
        # An empty list, or null, beside an event that is given by name is no other event.
        known = {"enum": ["events", *SCHEMAS[task].fields]}
        none = {"properties": {"events": {"enum": [None, []]}}, "propertyNames": known}
        nobody = {"type": "array", "items": {"type": "array", "maxItems": 0}}
        yield _way("by name", nobody, {"allOf": [arguments, none]})
    else:
        yield _way("by name", {"type": "array", "maxItems": 0}, arguments)
    yield _way("in one object", {**values, "items": arguments, "maxItems": 1}, nothing)
    if task != PUBLISH_TASK:
        yield _way("by position, in the order of x-positions, or in one object; the rest by name", values, names)
        return
    event = {"type": "object"}
    some = {"anyOf": [event, {"type": "array", "items": event, "minItems": 1, "maxItems": MOST_EVENTS}]}
    yield _way("one event or several; what is given by name goes for each", {**values, "items": some}, names)
    with_events = {
        "type": "object",
        "required": ["events"],
        "properties": {"events": some},
        "propertyNames": {"enum": ["events", *SCHEMAS[task].fields]},
    }
    yield _way("the same as `events`", {"type": "array", "maxItems": 0}, with_events)
    yield _way("the same in one object", {**values, "items": with_events, "maxItems": 1}, names)


def _way(title: str, args: dict[str, Any], named: dict[str, Any]) -> dict[str, Any]:
    return {"title": title, "items": [args, named, {"$ref": "#/components/schemas/Options"}]}


def contract() -> dict[str, dict[str, Any]]:
    """All that changes.py compares: the schemas, and what is asked of a whole call."""
    return {**schemas(), "a call": _frame()}


def _frame() -> dict[str, Any]:
    """A call's headers, and how much there may be of it."""
    return {
        "type": "object",
        "properties": {
            "headers": {"type": "object", "properties": _our_headers()},
            "events": {"type": ["array", "object"], "maxItems": MOST_EVENTS},
            "message": {"type": "string", "maxLength": MOST_BYTES},
        },
    }


def _our_headers() -> dict[str, Any]:
    return {name: schemas()[PUBLISH_TASK]["properties"][name] for name in OF_THE_CALL}


def _celery_schemas() -> dict[str, Any]:
    """Celery's message protocol 2: https://docs.celeryq.dev/en/stable/internals/protocol.html."""
    text, time = {"type": "string"}, {"type": ["string", "null"], "description": "ISO 8601; without a zone, UTC."}
    return {
        "Headers": {
            "type": "object",
            "description": "Others of Celery's may stand beside them.",
            "required": ["task", "id"],
            "properties": {
                "task": {**text, "minLength": 1},
                "id": {**text, "minLength": 1, "description": "Id of the task, any text."},
                "eta": {**time, "description": "Not to be worked on before; ISO 8601, without a zone UTC."},
                "expires": {**time, "description": "Not to be begun after; ISO 8601, without a zone UTC."},
                **_our_headers(),
            },
        },
        "Options": {
            "type": ["object", "null"],
            "description": "Celery's callbacks, errbacks, chain and chord: nothing is run after a published task.",
            "properties": {key: {"type": "null"} for key in ("callbacks", "errbacks", "chain", "chord")},
        },
        "Message": {
            "type": "object",
            "description": "An element of the list.",
            "required": ["body", "content-type", "headers", "properties"],
            "properties": {
                "body": {**text, "description": "JSON of [args, kwargs, options]."},
                "content-encoding": {"const": "utf-8"},
                "content-type": {"const": "application/json"},
                "headers": {"$ref": "#/components/schemas/Headers"},
                "properties": {
                    "type": "object",
                    "required": ["delivery_tag", "delivery_info"],
                    "properties": {
                        "body_encoding": {
                            "enum": ["base64", "utf-8"],
                            "description": "How the body is written; utf-8 = as it is.",
                        },
                        "delivery_tag": {**text, "description": "Any text, new for each message."},
                        "delivery_info": {
                            "type": "object",
                            "required": ["exchange", "routing_key"],
                            "properties": {"exchange": text, "routing_key": text},
                        },
                    },
                },
            },
        },
    }


# --- publisher.py -----------------------------------------------------------------------------------------------------

BEGIN = "    # --- what follows is generated by `make docs` ---\n"
#: Kind of a field → as an annotation.
TYPES = {"string": "str", "object": "Mapping[str, Any]", "boolean": "bool"}
#: What an event may hold that the class or Celery says.
NOT_ASKED = {"id", "source", "received_at", "expires_at", *COMMON}
#: What is for people, or for those that read a schema without us.
NOT_CHECKED = ("$schema", "title", "description", "x-positions", "additionalProperties")


def publisher() -> str:
    """publisher.py with a method for each task, and what arguments are checked by."""
    head, _, _ = (ROOT / "publisher.py").read_text().partition(BEGIN)
    actions = sorted(TASK_ACTIONS.values(), key=lambda action: action.task)
    lines = [line for action in actions for line in ("", *_method(action))]
    made = {task: _checks(schema) for task, schema in schemas().items()}
    common = {name: made["users.tag"]["properties"][name] for name in COMMON}
    asked = set(COMMON) | NOT_ASKED
    for task, schema in made.items():
        hidden = asked if task == PUBLISH_TASK else set(COMMON)
        schema["properties"] = {name: each for name, each in schema["properties"].items() if name not in hidden}
    lines += ["", "", "#: What every task takes, what each takes beside it, and what a pattern asks for."]
    lines += [_as_text("_COMMON", common), _as_text("_TASKS", made), _as_text("_PATTERNS", _patterns())]
    return head + BEGIN + "\n".join(lines) + "\n"


def _as_text(name: str, value: dict[str, Any]) -> str:
    """JSON in Python, its lines broken where it has blanks of its own."""
    rows = [
        f"{json.dumps(key)}:\n  {json.dumps(each)}"
        if isinstance(each, str)
        else textwrap.fill(
            f"{json.dumps(key)}: {json.dumps(each)}",
            118,
            subsequent_indent="  ",
            break_long_words=False,
            break_on_hyphens=False,
        )
        for key, each in value.items()
    ]
    text = "{\n" + ",\n".join(rows) + "\n}"
    if json.loads(text) != value:
        raise ValueError(f"{name}: a line was broken within a text")
    return f'{name}: Final[dict[str, Any]] = json.loads(r"""{text}""")'


def _checks(schema: Any) -> Any:
    """A schema as publisher.py needs it, which has left out by then what counts as not given."""
    if isinstance(schema, list):
        return [_checks(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("anyOf", [None])[0] == NO_TEXT:
        schema = {**schema, **schema["anyOf"][1], "anyOf": None}
    found = {key: _checks(value) for key, value in schema.items() if value not in (None, GIVEN, {})}
    if isinstance(schema.get("type"), str | list):
        found = {key: value for key, value in found.items() if key not in NOT_CHECKED[:-1]}
        found = {key: value for key, value in found.items() if key != "additionalProperties" or value}
    return {key: value for key, value in found.items() if value != {} or key == "items"}


def _patterns() -> dict[str, str]:
    checks = [check for schema in SCHEMAS.values() for field in schema.fields.values() for check in field.validators]
    return {check.regex.pattern: str(check.error) for check in checks if isinstance(check, validate.Regexp)}


def _method(action: Action) -> Iterator[str]:
    fields = sorted(action.fields.items(), key=lambda item: not item[1].required)
    yield f"    def {action.task.rpartition('.')[2]}("
    yield "        self,"
    yield "        *,"
    for name, field in fields:
        choices = ", ".join(f'"{choice}"' for choice in field.choices)
        kind = f"Literal[{choices}]" if choices else TYPES[field.kind]
        yield f"        {name}: {kind}," if field.required else f"        {name}: {kind} | None = None,"
    yield "        **options: Unpack[Options],"
    yield "    ) -> AsyncResult:"
    yield from _indented(f'"""{action.doc}')
    yield ""
    for name, field in fields:
        yield from _indented(f"{name}: {field.doc}")
    yield '        """'
    yield "        fields = {"
    yield from (f'            "{name}": {name},' for name, _ in fields)
    yield "        }"
    yield f'        return self._send("{action.task}", fields, options)'


def _indented(text: str) -> list[str]:
    return textwrap.wrap(text, 120, initial_indent=" " * 8, subsequent_indent=" " * 8)


PAGES = {
    **{f"contract/v1/{task}.schema.json": (lambda task=task: schema_page(task)) for task in SCHEMAS},
    "contract/asyncapi.yaml": asyncapi,
    "publishing.md": tasks_table,
    "../publisher.py": publisher,
}
