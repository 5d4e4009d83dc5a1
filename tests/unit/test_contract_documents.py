"""What the contract's documents say is what the router does; and a change that breaks publishers is told."""

import copy
import json
import runpy
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from builders import EMAIL
from hypothesis import event, given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator, Draft202012Validator, FormatChecker
from marshmallow import fields
from test_contract import GOOD

from tasks.arguments import SCHEMAS, TASK_ACTIONS, Whole, Yes, read
from tasks.contract import TASKS, published
from tasks.envelope import Envelope
from tasks.messages import Call, Unusable

CONTRACT = Path(__file__).parents[2] / "docs/contract"
CHANGES = runpy.run_path(str(CONTRACT / "changes.py"))
CONTRACT_NOW = runpy.run_path(str(CONTRACT / "generate.py"))
CALLS: list[dict[str, Any]] = json.loads((CONTRACT / "v1/calls.json").read_text())
NOW = datetime(2026, 1, 2, tzinfo=UTC)


def schema(task: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((CONTRACT / f"v1/{task}.schema.json").read_text())
    return found


FORMATS = FormatChecker(())


@FORMATS.checks("date-time", ValueError)
def _is_time(text: object) -> bool:
    """Without another package jsonschema does not look at this format."""
    return not isinstance(text, str) or datetime.fromisoformat(text).tzinfo is not None


VALIDATORS = {task: Draft202012Validator(schema(task), format_checker=FORMATS) for task in TASKS}


@pytest.mark.parametrize("task", sorted(TASKS))
def test_a_schema_is_one(task: str) -> None:
    """And it takes what the router takes."""
    Draft202012Validator.check_schema(schema(task))
    VALIDATORS[task].validate(GOOD[task])


TIMES = ["2026-01-31T12:00:00Z", "2026-02-30T12:00:00Z", "2026-01-31"]
TEXTS = ["", "text", EMAIL, "track", "group", "alias", "segment", "api", "a\nb", "quarantine:1", "x" * 501, *TIMES]
VALUES = st.sampled_from([None, True, False, 0, 1, 2, 1.0, 1.5, [], ["text"], *TEXTS])
KEYS = ["email", "userId", "id", "segmentAnonymousId", "name", "url", "city", "mail"]
OBJECTS = st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=2)
LISTS = st.lists(VALUES, max_size=2)


FITTING: dict[type, st.SearchStrategy[Any]] = {
    fields.String: st.sampled_from([None, "text", "17", EMAIL, "track", "identify", "segment", "api", TIMES[0]]),
    fields.Dict: st.none() | st.dictionaries(st.sampled_from(KEYS[:3]), st.sampled_from(["text", "17"]), max_size=3),
    fields.List: st.none() | st.lists(st.just("text"), max_size=3),
    fields.Raw: VALUES,
    Yes: st.none() | st.booleans(),
    Whole: st.sampled_from([None, 1, 1.0]),
}


@st.composite
def calls(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """Good arguments with something changed, or almost none, under names that the task has."""
    task = draw(st.sampled_from(sorted(TASKS)))
    arguments = dict(GOOD[task])
    for name in draw(st.lists(st.sampled_from(sorted(SCHEMAS[task].fields)), max_size=4)):
        anything = draw(st.integers(0, 9)) == 0
        arguments[name] = draw(VALUES | OBJECTS | LISTS if anything else FITTING[type(SCHEMAS[task].fields[name])])
    for name in draw(st.lists(st.sampled_from(sorted(arguments)), max_size=2)):
        arguments.pop(name, None)
    for name, other in (("source", "publisher"), ("id", "event_id")):
        # That two fields must say the same, no schema can tell.
        if task == "events.publish" and None not in (arguments.get(name), arguments.get(other)):
            del arguments[other]
    return task, arguments


def is_taken(task: str, arguments: dict[str, Any]) -> bool:
    try:
        return isinstance(published(Call(task, "t", [], arguments), None, NOW).events[0], Envelope)
    except Unusable:
        return False


@settings(max_examples=600)
@given(calls())
def test_the_schema_takes_what_the_router_takes_and_nothing_else(call: tuple[str, dict[str, Any]]) -> None:
    """A publisher that validates with it refuses nothing that would be taken, and sends nothing that would not be."""
    task, arguments = call
    errors = [error.message for error in VALIDATORS[task].iter_errors(arguments)]
    event(f"{task} {'taken' if not errors else 'refused'}")
    assert is_taken(task, arguments) is not bool(errors), errors


@pytest.mark.parametrize(
    ("task", "wrong"),
    [
        ("users.tag", {"tag": "vip"}),
        ("users.tag", {"email": EMAIL}),
        ("users.tag", {"tag": 5, "email": EMAIL}),
        ("users.tag", {"tag": "vip", "email": EMAIL, "tga": "x"}),
        ("users.alias", {"userId": "17"}),
        ("events.track", {"event": "Paid", "type": "track"}),
        ("events.segment", {"type": "order", "userId": "17"}),
        ("events.publish", {"type": "a"}),
        ("events.publish", {"type": "a", "event": []}),
    ],
)
def test_what_the_schema_refuses_the_router_refuses(task: str, wrong: dict[str, Any]) -> None:
    assert not VALIDATORS[task].is_valid(wrong)
    assert not isinstance(published(Call(task, "t", [], wrong), None, NOW).events[0], Envelope)


DOCUMENT = yaml.load((CONTRACT / "asyncapi.yaml").read_text(), yaml.CSafeLoader)
#: Task → AsyncAPI's schema of its body; schemas in such a document are of JSON Schema's draft 7.
ASYNC = {
    task: Draft7Validator({"components": DOCUMENT["components"], "$ref": f"#/components/messages/{task}/payload"})
    for task in TASKS
}


def test_the_asyncapi_document_hangs_together() -> None:
    """Every reference leads somewhere; each task has a message and an operation; headers and body are Celery's."""
    document = DOCUMENT

    assert document["asyncapi"] == "3.0.0"
    assert set(document["operations"]) == set(document["channels"]["events"]["messages"]) == TASKS
    references = list(found(document, "$ref"))
    assert len(references) > 5 * len(TASKS)
    for reference in references:
        place = document
        for key in reference.removeprefix("#/").split("/"):
            place = place[key]
    message = document["components"]["messages"]["users.tag"]
    assert message["headers"]["allOf"][1]["properties"]["task"] == {"const": "users.tag"}
    assert message["payload"]["minItems"] == 3


def found(value: Any, key: str) -> Any:
    if isinstance(value, dict):
        yield from ([value[key]] if isinstance(value.get(key), str) else [])
        value = list(value.values())
    for item in value if isinstance(value, list) else ():
        yield from found(item, key)


# --- changes ----------------------------------------------------------------------------------------------------------


def test_nothing_that_was_released_is_broken() -> None:
    """What the released contract takes is taken still."""
    now = CONTRACT_NOW["contract"]()

    problems = CHANGES["breaking"](CHANGES["released"](), now)

    assert not problems, "\n".join([*problems, CHANGES["ADVICE"]])


#: Property → something else in its place, or None = gone.
BASE: dict[str, Any] = {
    "type": "object",
    "x-positions": ["tag", "via"],
    "properties": {
        "tag": {"type": "string", "minLength": 1, "maxLength": 10, "pattern": "^a"},
        "via": {"type": ["string", "null"], "enum": ["api", "ingest", None]},
        "personal": {"type": "array", "maxItems": 3, "items": {"type": "string", "maxLength": 5}},
        "user": {"type": "object", "additionalProperties": {"type": "string"}},
        "count": {"type": "integer"},
        "who": {"type": "object", "propertyNames": {"enum": ["email", "phone"]}},
    },
    "required": ["tag"],
    "anyOf": [{"required": ["tag"]}, {"required": ["via"]}],
    "additionalProperties": False,
}
GONE = object()


def changed(path: str, value: Any) -> dict[str, Any]:
    made = copy.deepcopy(BASE)
    *keys, last = path.split("/")
    place = made
    for key in keys:
        place = place[key]
    if value is GONE:
        del place[last]
    else:
        place[last] = value
    return made


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("properties/tag", GONE, "t.tag: the argument is gone"),
        ("required", ["tag", "via"], "t.via: is required now"),
        ("properties/via/type", "string", "t.via: type is narrower"),
        ("properties/count/type", "string", "t.count: type is narrower"),
        ("properties/via/enum", ["api", None], "t.via: enum: values are gone"),
        ("properties/tag/enum", ["a"], "t.tag: enum: values are gone"),
        ("properties/tag/minLength", 2, "t.tag: minLength is narrower"),
        ("properties/tag/maxLength", 9, "t.tag: maxLength is narrower"),
        ("properties/personal/minItems", 1, "t.personal: minItems is narrower"),
        ("properties/personal/items/maxLength", 4, "t.personal: items: maxLength is narrower"),
        ("properties/tag/pattern", "^b", "t.tag: pattern has changed"),
        ("properties/via/pattern", "^b", "t.via: pattern has changed"),
        ("properties/tag/format", "email", "t.tag: format has changed"),
        ("properties/user/additionalProperties", False, "t.user: other arguments are refused now"),
        ("properties/user/additionalProperties/type", "null", "t.user.*: type is narrower"),
        ("anyOf", [{"required": ["tag"]}], "t: anyOf: alternatives are gone"),
        (
            "x-positions",
            ["via", "tag"],
            "t: x-positions: arguments by position have moved; new ones go behind the others",
        ),
        ("not", {"required": ["via"]}, "t: not has changed"),
        ("properties/user/propertyNames", {"enum": ["email"]}, "t.user: propertyNames: enum: values are gone"),
        ("properties/who/propertyNames/enum", ["email"], "t.who: propertyNames: enum: values are gone"),
        ("properties/user/properties", {"email": {"type": "integer"}}, "t.user.email: could hold anything until now"),
        ("properties/who/properties", {"email": {"type": "string"}}, "t.who.email: could hold anything until now"),
    ],
)
def test_what_breaks(path: str, value: Any, told: str) -> None:
    """Anything by which a message that was taken is not taken any more, or means something else."""
    assert CHANGES["breaking"]({"t": BASE}, {"t": changed(path, value)}) == [told]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("properties/more", {"type": "string"}),
        ("required", []),
        ("properties/tag/type", ["string", "null"]),
        ("properties/count/type", "number"),
        ("properties/count/type", GONE),
        ("properties/via/enum", ["api", "ingest", "other", None]),
        ("properties/via/enum", GONE),
        ("properties/tag/minLength", GONE),
        ("properties/tag/maxLength", 11),
        ("properties/tag/pattern", GONE),
        ("properties/tag/description", "Says more."),
        ("properties/personal/items", {}),
        ("additionalProperties", True),
        ("properties/user/additionalProperties", {}),
        ("anyOf", GONE),
        ("anyOf", [*BASE["anyOf"], {"required": ["user"]}]),
        ("x-positions", ["tag", "via", "more"]),
        ("properties/who/propertyNames/enum", ["email", "phone", "userId"]),
        ("properties/user/properties", {"email": {"type": "string", "description": "As all are."}}),
        ("properties/who/properties", {"email": {"description": "Anything."}}),
    ],
)
def test_what_breaks_nobody(path: str, value: Any) -> None:
    """More is taken than before."""
    assert CHANGES["breaking"]({"t": BASE}, {"t": changed(path, value)}) == []


def test_bug_the_calls_own_frame_was_not_compared() -> None:
    """Fewer events in one call, or another header, break as much as a field."""
    old = {"a call": CHANGES["released"]()["a call"]}
    new = copy.deepcopy(old)
    new["a call"]["properties"]["events"]["maxItems"] -= 1
    del new["a call"]["properties"]["headers"]["properties"]["reply"]

    assert CHANGES["breaking"](old, new) == [
        "a call.headers.reply: the argument is gone",
        "a call.events: maxItems is narrower",
    ]


def test_bug_a_property_given_a_type_broke_unseen() -> None:
    """An event of another team's may hold it already: unknown keys were ignored."""
    new = {"events.publish": copy.deepcopy(CHANGES["released"]()["events.publish"])}
    new["events.publish"]["properties"]["campaign"] = {"type": "string"}

    assert CHANGES["breaking"]({"events.publish": CHANGES["released"]()["events.publish"]}, new) == [
        "events.publish.campaign: could hold anything until now"
    ]


@pytest.mark.parametrize("call", CALLS, ids=lambda call: str(call["task"]))
def test_what_was_released_is_taken_for_ever(call: dict[str, Any]) -> None:
    """Whole calls, in each form that there is; and AsyncAPI's description of the message takes them too."""
    made = Call(call["task"], "t", call["args"], call["kwargs"], call["headers"])
    events = published(made, None, NOW).events

    assert [type(each) for each in events] == [Envelope] * call["events"], events
    errors = ASYNC[call["task"]].iter_errors([call["args"], call["kwargs"], {}])
    assert [error.message for error in errors] == []


def test_what_was_released_is_all_of_it() -> None:
    """Every argument of every task stands in one of the calls."""
    for task in TASKS:
        named = {name for call in CALLS if call["task"] == task for name in [*call["kwargs"], *_names(call["args"])]}
        assert set(SCHEMAS[task].fields) - named == set()


def _names(args: list[Any]) -> Iterator[str]:
    for arg in args:
        if isinstance(arg, dict | list):
            yield from arg if isinstance(arg, dict) else _names(arg)


@pytest.mark.parametrize(
    ("task", "body"),
    [
        ("users.tag", [[], {"tag": "vip"}, {}]),
        ("users.tag", [[], {"tag": "vip", "email": EMAIL, "tga": 1}, {}]),
        ("users.tag", [["vip"], {"tga": 1}, {}]),
        ("users.tag", [[], {"tag": "vip", "email": EMAIL}]),
        ("events.publish", [[], {"type": "a"}, {}]),
        ("events.publish", [[], {"events": []}, {}]),
        ("events.publish", [[5], {}, {}]),
        ("events.publish", [[{"type": "a", "event": {}}], {"publihser": "x"}, {}]),
    ],
)
def test_what_asyncapi_refuses(task: str, body: list[Any]) -> None:
    assert not ASYNC[task].is_valid(body)


def test_tasks_come_and_do_not_go() -> None:
    assert CHANGES["breaking"]({"t": BASE}, {"t": BASE, "u": BASE}) == []
    assert CHANGES["breaking"]({"t": BASE}, {}) == ["t: the task is gone"]


def test_every_known_argument_is_read() -> None:
    """The schema of the documents has the names that the router reads, in the order that positions have."""
    for task in TASKS:
        assert set(schema(task)["properties"]) == set(SCHEMAS[task].fields)
        assert read(task, GOOD[task])[1] == {}
    assert {task: schema(task)["x-positions"] for task in TASK_ACTIONS} == {
        task: list(action.fields) for task, action in TASK_ACTIONS.items()
    }
