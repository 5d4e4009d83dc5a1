"""What other teams may publish, and what becomes of it."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from builders import EMAIL, envelope_data
from hypothesis import given
from hypothesis import strategies as st
from kombu.utils import json as kombu_json

from tasks.actions import ACTIONS
from tasks.arguments import COMMON, SCHEMAS, TASK_ACTIONS
from tasks.contract import MOST_EVENTS, TASKS, Published, nearest, published
from tasks.envelope import Envelope, Rejected, decode, encode, load
from tasks.messages import Call, Unusable, _body, checked
from tasks.publishers import NAMELESS
from tasks.queue import redis_message

NOW = datetime(2026, 1, 2, 3, 4, 5, 678000, UTC)
TAG = {"tag": "vip", "email": EMAIL}
EVENT = {"type": "invoice-paid", "event": {"total": 12.5}}
#: Arguments that each task takes, without those that all take.
GOOD: dict[str, dict[str, Any]] = {
    "events.forward": {"name": "Paid", "user": {"email": EMAIL}},
    "events.page": {"name": "Prices", "userId": "17", "properties": {"url": "https://example.com/"}},
    "events.publish": EVENT,
    "events.segment": {"type": "track", "userId": "17", "event": "Paid"},
    "events.track": {"event": "Paid", "email": EMAIL, "properties": {"total": 12.5}},
    "events.upload": {"event": "paid", "email": EMAIL},
    "events.webhook": {"to": "crm", "type": "invoice.paid", "data": {"total": 12.5}},
    "objects.upsert": {"objectType": "company", "externalId": "c-1", "objectData": {"size": 5}},
    "users.alias": {"userId": "17", "previousEmail": EMAIL},
    "users.archive": {"email": EMAIL, "erase": True},
    "users.identify": {"userId": "17", "user": {"plan": "pro"}},
    "users.tag": TAG,
    "users.unsubscribe": {"email": EMAIL},
    "users.untag": TAG,
}


def called(
    task: str,
    *args: Any,
    owner: str | None = None,
    headers: Mapping[str, Any] | None = None,
    task_id: str = "task-1",
    expires_at: datetime | None = None,
    **named: Any,
) -> Published:
    return published(Call(task, task_id, args, named, headers or {}, expires_at=expires_at), owner, NOW)


def only(found: Published) -> Envelope:
    (event,) = found.events
    assert isinstance(event, Envelope), event
    assert load(json.loads(encode(event))) == event, "the event is what the envelope's own schema takes"
    return event


def wrong(found: Published) -> Rejected:
    (event,) = found.events
    assert isinstance(event, Rejected), event
    assert event.reason == "invalid"
    assert EMAIL not in event.error
    assert decode(encode(event.envelope)).id == event.envelope.id
    return event


# --- tasks of actions -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", sorted(TASKS))
def test_every_task_is_taken(task: str) -> None:
    """By name, and in one object; an action's event holds its fields and nothing else."""
    by_name, in_one = called(task, **GOOD[task]), called(task, GOOD[task])

    assert only(by_name) == only(in_one)
    event = only(by_name)
    assert (event.id, event.source, event.received_at) == ("task-1", NAMELESS, "2026-01-02T03:04:05.678Z")
    if task in TASK_ACTIONS:
        assert (event.format, event.type, event.name, event.event) == ("task", task, task, GOOD[task])


@pytest.mark.parametrize("task", sorted(TASK_ACTIONS))
def test_values_by_position(task: str) -> None:
    """In the order of the action's fields; a null is a place left out; names may follow."""
    names = list(TASK_ACTIONS[task].fields)
    args = [GOOD[task].get(name) for name in names]

    assert only(called(task, *args)).event == GOOD[task]
    first, *rest = args
    assert only(called(task, first, **dict(zip(names[1:], rest, strict=True)))).event == GOOD[task]
    assert only(called(task, *[None for _ in names], **GOOD[task])).event == GOOD[task]


def test_no_name_means_two_things() -> None:
    """No action's field is called like what all tasks take, and none takes an object first, which stands for all."""
    for action in ACTIONS.values():
        assert action.fields.keys().isdisjoint(COMMON)
        assert next(iter(action.fields.values())).kind != "object"
    assert len(TASK_ACTIONS) == len(ACTIONS)


def test_what_all_tasks_take() -> None:
    """Beside the fields, and no part of the event."""
    found = called(
        "users.tag", **TAG, version=1, publisher="billing", event_id="invoice-1", occurred_at="2026-01-01T00:00:00Z",
        subject="customer-17", personal=["shoeSize"], reply=True,
    )  # fmt: skip
    event = only(found)

    assert (found.source, found.reply) == ("billing", True)
    assert (event.id, event.source, event.subject) == ("invoice-1", "billing", "customer-17")
    assert (event.occurred_at, event.personal, event.event) == ("2026-01-01T00:00:00Z", ["shoeSize"], TAG)
    assert event.shown == "billing · users.tag"


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"email": EMAIL}, "tag: Missing data for required field."),
        ({"tag": 5, "email": EMAIL}, "tag: Must be a text."),
        ({"tag": "", "email": EMAIL}, "tag: Shorter than minimum length 1."),
        ({**TAG, "via": "post"}, "via: Must be one of: ingest, api."),
        ({**TAG, "tga": 1}, "tga: No such argument; the nearest is tag."),
        ({**TAG, EMAIL: 1}, "(no name): No such argument; there are: "),
        ({**TAG, "version": 2}, "version: Version 2 is not read here; send version 1."),
        ({**TAG, "event_id": ""}, "event_id: Length must be between 1 and 200."),
        ({**TAG, "event_id": "quarantine:1"}, "event_id: Must not begin with quarantine:."),
        ({**TAG, "occurred_at": EMAIL}, "occurred_at: Not a RFC 3339 time in UTC."),
        ({**TAG, "subject": 5}, "subject: Not a valid string."),
        ({**TAG, "personal": "shoeSize"}, "personal: Not a valid list."),
        ({**TAG, "reply": "yes"}, "reply: Must be true or false."),
        ({**TAG, "publisher": "Big Corp"}, "publisher: Only a-z, 0-9, _ and -, at most 64."),
        ({"tag": "vip"}, "none of email, userId, segmentAnonymousId has a value"),
    ],
)
def test_each_wrong_argument_is_named(given: dict[str, Any], error: str) -> None:
    """With what was expected, and without its value; all that came is kept."""
    found = wrong(called("users.tag", **given))

    assert error in found.error
    assert found.envelope.event == given
    assert (found.envelope.source, found.envelope.type) == (NAMELESS, "users.tag")


def test_all_wrong_arguments_at_once() -> None:
    """One dead letter tells them all."""
    found = wrong(called("events.track", event=5, properties="x", reply=1))

    assert found.error == "event: Must be a text.; properties: Must be an object.; reply: Must be true or false."


@pytest.mark.parametrize(
    ("args", "named", "error"),
    [
        (["vip"], {"tag": "vip", "email": EMAIL}, "tag: Given twice."),
        ([TAG], {"tag": "vip"}, "tag: Given twice."),
        (["vip", EMAIL, None, None, None, None], {}, "At most 5 arguments have a place without a name: tag, email, "),
        ([TAG, TAG], {}, "email: Must be a text.; tag: Must be a text."),
    ],
)
def test_given_in_a_way_that_cannot_be_read(args: list[Any], named: dict[str, Any], error: str) -> None:
    assert wrong(called("users.tag", *args, **named)).error.startswith(error)


def test_what_was_sent_wrongly_can_be_sent_again() -> None:
    """The dead letter does not take the event's own id, or the mended one would count as a duplicate."""
    bad = wrong(called("users.tag", tag="vip", event_id="invoice-1"))
    worse = wrong(called("users.tag", tag=5, event_id="invoice-1"))
    good = only(called("users.tag", **TAG, event_id="invoice-1"))

    assert good.id == "invoice-1"
    assert len({bad.envelope.id, worse.envelope.id, good.id}) == 3
    assert bad.envelope.id.startswith("invoice-1:invalid-")
    assert wrong(called("users.tag", tag="vip", event_id="x" * 200)).envelope.id.startswith("id-")


# --- subjects ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "given", "subject"),
    [
        ("users.tag", {"tag": "a", "userId": "17", "email": EMAIL}, "person:17"),
        ("users.tag", {"tag": "a", "email": EMAIL.upper()}, f"person:{EMAIL}"),
        ("users.tag", {"tag": "a", "segmentAnonymousId": "anon"}, "person:anon"),
        ("events.forward", {"name": "n", "user": {"userId": "17"}}, "person:17"),
        ("events.publish", {"type": "a", "event": {"user": {"email": EMAIL}}}, f"person:{EMAIL}"),
        ("events.publish", {"type": "a", "event": {}, "person": {"phone": "1234567"}}, "person:1234567"),
        ("events.publish", {"type": "a", "event": {}, "subject": "order-1", "person": {"userId": "1"}}, "order-1"),
        ("events.publish", {"type": "a", "event": {"userId": "1"}, "subject": None}, None),
        ("events.publish", {"type": "a", "event": {"userId": True}}, None),
        ("users.untag", {"tag": "a", "id": "e-1"}, "encharge:e-1"),
        ("events.upload", {"event": "a", "id": "u-1"}, "activatepro:u-1"),
        ("objects.upsert", {"objectType": "company", "externalId": "c", "email": EMAIL}, "object:company:c"),
        ("objects.upsert", {"objectType": "company", "email": EMAIL}, f"person:{EMAIL}"),
        ("events.webhook", {"to": "crm", "type": "a", "data": {}, "id": "m-1"}, None),
    ],
)
def test_the_subject(task: str, given: dict[str, Any], subject: str | None) -> None:
    """Who names a person in the same way shares one line, whichever task or publisher it is."""
    assert only(called(task, **given)).subject == subject


def test_the_person() -> None:
    """What names it in the event, unless the publisher says so itself."""
    user = {"email": EMAIL, "userId": "17", "phone": "1234567"}

    assert only(called("events.publish", type="a", event={"user": user})).person == user
    assert only(called("events.publish", type="a", event={"user": user}, person={"userId": "1"})).person == {
        "userId": "1"
    }
    assert only(called("events.publish", type="a", event={"user": user}, person=None)).person == user
    assert only(called("users.tag", **TAG)).person == {"email": EMAIL}


# --- events.publish ---------------------------------------------------------------------------------------------------


def test_what_an_event_need_not_say() -> None:
    """Everything but type and event."""
    event = only(called("events.publish", EVENT))

    assert (event.id, event.source, event.format, event.name) == ("task-1", NAMELESS, "published", "invoice-paid")
    assert event.received_at == event.occurred_at == "2026-01-02T03:04:05.678Z"
    assert (event.subject, event.person, event.expires_at, event.version) == (None, None, None, 1)


def test_a_whole_envelope_is_taken_as_it_is() -> None:
    """As before there were defaults; also with what was ignored then."""
    data = envelope_data()
    found = called("events.publish", {**data, "publisher": "Big Corp", "reply": "no", "surprise": 1})

    assert only(found) == load(data)
    assert (found.source, found.reply) == ("encharge", False)


@pytest.mark.parametrize("name", ["events", "event", "envelope", "anything"])
def test_whole_envelopes_under_any_name(name: str) -> None:
    """So they could be given before names meant something."""
    data = envelope_data()

    assert only(called("events.publish", **{name: data})) == load(data)
    assert only(called("events.publish", **{name: [data]})) == load(data)


def test_a_whole_envelope_may_be_what_happened() -> None:
    """An event that says its type has its event in `event`, whatever that looks like."""
    assert only(called("events.publish", type="kept", event=envelope_data())).event == envelope_data()


def test_what_cannot_be_kept_names_nobody() -> None:
    """Without its event nobody knows what in its name is about a person; all of it is in what came."""
    given = {"type": "tag-jane-roe", "event": {"user": {"firstName": "jane", "lastName": "roe"}, "n": float("inf")}}
    found = wrong(called("events.publish", given)).envelope

    assert (found.type, found.name, found.event) == ("events.publish", "events.publish", {})
    assert found.raw == {**given, "event": {**given["event"], "n": "Infinity"}}


@pytest.mark.parametrize("name", ["events", None])
def test_several_events(name: str | None) -> None:
    """In their order, by position or as `events`; what goes for all is said once."""
    events: list[Any] = [{"type": "a", "event": {"n": 1}}, {"type": "b", "event": {"n": 2}, "id": "own"}]
    args, named = ([], {name: events}) if name else (events, {})
    found = called("events.publish", *args, **named, publisher="shop", personal=["shoeSize"]).events

    assert [(each.id, each.type, each.source) for each in found] == [("task-1:0", "a", "shop"), ("own", "b", "shop")]
    assert [each.personal for each in found] == [["shoeSize"], ["shoeSize"]]


def test_an_id_for_several_events() -> None:
    """It is the beginning of theirs."""
    found = called("events.publish", [EVENT, EVENT], event_id="batch-7")
    by_header = called("events.publish", [EVENT, EVENT], headers={"event_id": "batch-7"})

    assert [each.id for each in found.events] == [each.id for each in by_header.events] == ["batch-7:0", "batch-7:1"]


def test_a_bad_event_does_not_keep_the_good_ones() -> None:
    """Each bad one is rejected on its own, with its place among them."""
    found = called("events.publish", [EVENT, 7, {"type": "a"}, {**EVENT, "event": {"n": float("nan")}}, EVENT])
    errors = {index: each.error for index, each in enumerate(found.events) if isinstance(each, Rejected)}

    assert errors == {
        1: "An event is an object.",
        2: "event: Missing data for required field.",
        3: "Holds a number or value that JSON has not, or is nested too deeply.",
    }
    assert [each.envelope.id if isinstance(each, Rejected) else each.id for each in found.events] == [
        f"task-1:{index}" for index in range(5)
    ]
    assert [each.envelope.raw for each in found.events if isinstance(each, Rejected)] == [
        {"raw": 7}, {"type": "a"}, {**EVENT, "event": {"n": "NaN"}},
    ]  # fmt: skip


def test_a_name_given_twice() -> None:
    """What goes for all events and what one of them says."""
    assert wrong(called("events.publish", EVENT, type="other")).error == "type: Given twice."


@pytest.mark.parametrize("named", [{}, {"publisher": "billing"}, {"reply": True}])
def test_no_event_at_all(named: dict[str, Any]) -> None:
    with pytest.raises(Unusable, match="no event") as caught:
        called("events.publish", **named)
    assert caught.value.reason == "invalid"


def test_too_many_events() -> None:
    with pytest.raises(Unusable, match="at most 1000"):
        called("events.publish", [{}] * (MOST_EVENTS + 1))


@pytest.mark.parametrize(
    ("args", "named"),
    [
        ([[]], {}),
        ([[]], {"publisher": "billing"}),
        ([[]], {"type": "paid"}),
        ([], {"events": []}),
        ([[], []], {"events": []}),
        ([{"events": []}], {}),
    ],
)
def test_bug_an_empty_list_was_accepted_as_nothing(args: list[Any], named: dict[str, Any]) -> None:
    """No event and no dead letter came of it: whoever wrote it meant to send something."""
    with pytest.raises(Unusable, match="events: the list is empty") as caught:
        called("events.publish", *args, **named)
    assert caught.value.reason == "invalid"


@pytest.mark.parametrize(
    ("args", "named"),
    [([], {"events": []}), ([[]], {}), ([], {"events": None}), ([{"events": [], **EVENT}], {})],
)
def test_bug_an_empty_list_lost_the_event_beside_it(args: list[Any], named: dict[str, Any]) -> None:
    """The names are an event then, as they are without the list."""
    beside = {} if args and isinstance(args[0], dict) else EVENT

    assert only(called("events.publish", *args, **named, **beside)).event == EVENT["event"]


PARTS = st.sampled_from([None, [], {}, EVENT, [EVENT], {"events": []}, {"events": [EVENT]}, [[]], 5, envelope_data()])


@given(st.lists(PARTS, max_size=3), st.dictionaries(st.sampled_from(["events", "event", "type", "x"]), PARTS))
def test_bug_no_call_ends_as_nothing(args: list[Any], named: dict[str, Any]) -> None:
    """Events, dead letters, or unusable as a whole; and as many as there are things in the call."""
    try:
        found = called("events.publish", *args, **named).events
    except Unusable:
        return
    assert found
    if not isinstance(args[0] if len(args) == 1 else None, dict):
        assert len(found) >= sum(len(arg) if isinstance(arg, list) else 1 for arg in args)


@pytest.mark.parametrize("beside", [{}, {"publisher": "billing"}])
def test_bug_all_names_in_one_object(beside: dict[str, str]) -> None:
    """As clients without keyword arguments send them."""
    given = {"events": [EVENT, EVENT], "event_id": "batch-7", **({} if beside else {"publisher": "billing"})}
    found = called("events.publish", given, **beside)

    assert [(each.id, each.source) for each in found.events if isinstance(each, Envelope)] == [
        ("batch-7:0", "billing"), ("batch-7:1", "billing"),
    ]  # fmt: skip
    assert wrong(called("events.publish", {"events": EVENT, "publisher": "a"}, publisher="a")).error == (
        "publisher: Given twice."
    )


@pytest.mark.parametrize(
    ("args", "named"),
    [([EVENT], {}), ([], {"events": [EVENT]}), ([], EVENT), ([{"events": [EVENT]}], {})],
)
@pytest.mark.parametrize(("slip", "meant"), [("event_di", "event_id"), ("publihser", "publisher")])
def test_bug_a_slip_in_a_name_of_the_call_was_ignored(
    args: list[Any], named: dict[str, Any], slip: str, meant: str
) -> None:
    """An event without its id would be done twice; what else stands in an event of the sender's is its own."""
    found = called("events.publish", *args, **named, **{slip: "x"})

    assert wrong(found).error == f"{slip}: No such argument; the nearest is {meant}."
    assert only(called("events.publish", {**EVENT, slip: "x"})).event == EVENT["event"]


def test_bug_null_was_not_as_if_not_given() -> None:
    """For an event of any form; but no subject is no order."""
    nulls = dict.fromkeys(set(SCHEMAS["events.publish"].fields) - {"type", "event"})
    plain = only(called("events.publish", EVENT))

    for found in (called("events.publish", {**nulls, **EVENT}), called("events.publish", **{**nulls, **EVENT})):
        assert only(found) == plain
    several = called("events.publish", [EVENT, {**nulls, **EVENT}], publisher="shop", personal=None).events
    assert [each.source for each in several if isinstance(each, Envelope)] == ["shop", "shop"]
    about = {"type": "a", "event": {"userId": "17"}}
    assert only(called("events.publish", about, subject=None)).subject is None


@pytest.mark.parametrize("event", [{"userId": 17}, {"user": {"userId": 17}}])
def test_bug_a_number_named_nobody(event: dict[str, Any]) -> None:
    """The order of a person's events was lost without a word."""
    found = only(called("events.publish", type="a", event=event))

    assert (found.subject, found.person, found.event) == ("person:17", {"userId": "17"}, event)
    assert only(called("events.publish", type="a", event={"userId": 10**400})).person is None
    assert wrong(called("users.tag", tag="vip", userId=17)).error == "userId: Must be a text."


@pytest.mark.parametrize("text", ["two\nlines", "bell\x07", "turned \u202e round", "\x85"])
def test_bug_control_characters_stood_in_ids_and_names(text: str) -> None:
    """They break the lines that people read; a task's id, which Celery's clients choose, is hashed."""
    for name in ("event_id", "id", "type", "name"):
        found = wrong(called("events.publish", **{**EVENT, name: text}))
        assert found.error.startswith(f"{name}: Must not ")
        assert found.error.endswith("hold control characters.")
    assert wrong(called("users.tag", **TAG, event_id=text)).error.startswith("event_id: ")
    assert wrong(called("users.tag", **TAG, headers={"event_id": text})).error.startswith("header event_id: ")
    assert wrong(called("events.publish", [EVENT][0], publisher=text)).error.startswith("publisher: ")
    assert only(called("users.tag", **TAG, task_id=text)).id.startswith("id-")


class Odd:
    """What no message can hold."""


def test_bug_pythons_objects_were_refused() -> None:
    """Celery makes them of kombu's JSON; the event is as if the door had read it."""
    event = {
        "total": Decimal("12.50"), "at": datetime(2026, 1, 2, 4, tzinfo=timezone(timedelta(hours=1))),
        "naive": datetime(2026, 1, 2, 3), "day": date(2026, 1, 2), "time": time(3, 4), "key": UUID(int=17),  # noqa: DTZ001
        "text": "ü".encode(), "bytes": b"\xff", "number": 1.5,
    }  # fmt: skip
    texts = {
        "total": "12.50", "at": "2026-01-02T03:00:00Z", "naive": "2026-01-02T03:00:00Z", "day": "2026-01-02",
        "time": "03:04:00", "key": "00000000-0000-0000-0000-000000000011", "text": "ü", "bytes": "/w==", "number": 1.5,
    }  # fmt: skip
    assert only(called("events.publish", type="a", event=event)).event == texts
    assert only(called("events.publish", {"type": "a", "event": event, "event_id": UUID(int=17)})).id == texts["key"]
    assert only(called("users.identify", userId="1", user=event)).event["user"] == texts
    assert _body({"body": kombu_json.dumps([event])}, "utf-8") == [texts]
    assert wrong(called("events.publish", type="a", event={"x": Odd()})).envelope.type == "events.publish"


def test_bug_a_compressed_message_was_called_broken() -> None:
    """Its publisher learns what to change."""
    message = json.loads(redis_message("users.tag", [], TAG, shadow=None, argsrepr=""))
    message["headers"]["compression"] = "application/x-gzip"

    with pytest.raises(Unusable, match="compression: messages are not compressed here; publish without") as caught:
        checked(json.dumps(message).encode())
    assert caught.value.reason == "invalid"


@pytest.mark.parametrize("value", [{"__type__": "uuid", "__value__": 5}, {"__type__": "money", "__value__": "5"}])
def test_what_only_looks_typed_stays(value: Any) -> None:
    assert _body({"body": json.dumps([value])}, None) == [value]


@pytest.mark.parametrize(
    ("task", "given", "error"),
    [
        ("events.track", {"event": "Paid", "userId": "1", "timestamp": "2026-01-01T00:00:00Z", "page": {}},
         "events.track: timestamp, page: sent in Segment's form only, which needs type too."),
        ("events.page", {"userId": "1", "form": "segment"},
         "events.page: form: sent in Segment's form only, which needs type too."),
        ("users.identify", {"segmentAnonymousId": "1"},
         "users.identify: segmentAnonymousId: sent in Segment's form only, which needs type too."),
        ("users.alias", {"userId": "1", "previousEmail": EMAIL, "messageId": "m"},
         "users.alias: messageId: sent in Segment's form only, which needs previousUserId too."),
        ("events.track", {"event": "Paid", "userId": "1", "type": "track", "timestamp": "soon"},
         "events.track: timestamp must be a date and time with a zone, as in RFC 3339"),
    ],
)  # fmt: skip
def test_bug_fields_that_only_segment_has_named_our_action(task: str, given: dict[str, Any], error: str) -> None:
    """And a field that nobody had given; now what was given, and what it needs."""
    assert wrong(called(task, **given)).error == error


def test_a_version_may_be_written_as_1_0() -> None:
    """JSON does not tell whole numbers apart by how they are written."""
    assert only(called("users.tag", **TAG, version=1.0)).version == 1
    assert wrong(called("users.tag", **TAG, version=True)).error.startswith("version: ")


# --- names, ids, times ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("owner", "argument", "header", "source", "name"),
    [
        ("list", None, None, None, "list"),
        (None, "argument", None, None, "argument"),
        (None, None, "header", None, "header"),
        (None, None, None, "envelope", "envelope"),
        (None, None, None, None, NAMELESS),
        ("same", "same", "same", "same", "same"),
    ],
)
def test_the_publishers_name(
    owner: str | None, argument: str | None, header: str | None, source: str | None, name: str
) -> None:
    """From wherever it is said."""
    given = {key: value for key, value in (("publisher", argument), ("source", source)) if value}
    found = called("events.publish", **EVENT, **given, owner=owner, headers={"publisher": header})

    assert (found.source, only(found).source) == (name, name)


@pytest.mark.parametrize(
    ("owner", "argument", "header", "source", "error"),
    [
        ("a", "b", None, None, "publisher: the list that it came by and the argument publisher differ."),
        ("a", None, "b", None, "publisher: the list that it came by and the header publisher differ."),
        (None, "a", "b", None, "publisher: the argument publisher and the header publisher differ."),
        (None, "a", None, "b", "publisher: the argument publisher and source differ."),
        (None, None, "Big Corp", None, "header publisher: Only a-z, 0-9, _ and -, at most 64."),
    ],
)
def test_two_names_for_a_publisher(
    owner: str | None, argument: str | None, header: str | None, source: str | None, error: str
) -> None:
    """Nobody speaks in somebody else's name."""
    given = {key: value for key, value in (("publisher", argument), ("source", source)) if value}
    found = wrong(called("events.publish", **EVENT, **given, owner=owner, headers={"publisher": header}))

    assert found.error == error
    assert found.envelope.source == (owner or argument or NAMELESS)


def test_headers_beside_arguments() -> None:
    """For clients that cannot add arguments: publisher, event_id and reply."""
    found = called("users.tag", **TAG, headers={"publisher": "shop", "event_id": "e-1", "reply": True, "lang": "js"})

    assert (found.source, found.reply, only(found).id) == ("shop", True, "e-1")
    assert wrong(called("users.tag", **TAG, event_id="a", headers={"event_id": "b"})).error == (
        "event_id: the argument event_id and the header event_id differ."
    )


def test_an_actions_id_is_not_the_events() -> None:
    """It is a person's: two tasks about one person would be one event."""
    assert only(called("users.untag", tag="a", id="e-1")).id == "task-1"
    assert only(called("events.webhook", **GOOD["events.webhook"], id="m-1", event_id="e-1")).id == "e-1"


@pytest.mark.parametrize(
    ("id_", "begin"),
    [
        ("any text, \u00fc", "any text, \u00fc"),
        ("x" * 201, "id-"),
        ("quarantine:1", "task-quarantine:1"),
        (f"for-{EMAIL}", "id-"),
        ("half \ud800", "half \\ud800"),
    ],
)
def test_any_tasks_id_makes_an_events_id(id_: str, begin: str) -> None:
    """Always the same for the same task; none with an address in it."""
    first = only(called("users.tag", **TAG, task_id=id_)).id

    assert first == only(called("users.tag", **TAG, task_id=id_)).id
    assert first.startswith(begin)
    assert EMAIL not in first
    several = called("events.publish", [EVENT, EVENT], task_id=id_).events
    assert [each.id for each in several if isinstance(each, Envelope)] == [f"{first}:0", f"{first}:1"]


def test_an_id_with_an_address() -> None:
    """Its hash stands for it, as for any sender's id; also in front of an index."""
    hashed = only(called("users.tag", **TAG, event_id=f"tag-{EMAIL}")).id
    several = called("events.publish", [EVENT, EVENT], event_id=f"tag-{EMAIL}").events

    assert hashed.startswith("id-")
    assert [each.id for each in several if isinstance(each, Envelope)] == [f"{hashed}:0", f"{hashed}:1"]


def test_when_it_is_given_up() -> None:
    """The task's own time to expire, or the event's, whichever is first."""
    later = {**EVENT, "expires_at": "2026-01-03T00:00:00Z"}
    expires_at = datetime(2026, 1, 2, 12, tzinfo=UTC)

    assert only(called("users.tag", **TAG, expires_at=expires_at)).expires_at == "2026-01-02T12:00:00.000Z"
    assert only(called("events.publish", later, expires_at=expires_at)).expires_at == "2026-01-02T12:00:00.000Z"
    assert only(called("events.publish", later)).expires_at == "2026-01-03T00:00:00Z"


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("user.tag", "users.tag"),
        ("users.Tag", "users.tag"),
        ("tag_user", "users.tag"),
        ("event.publish", "events.publish"),
        ("objects.upset", "objects.upsert"),
    ],
)
def test_the_nearest_task(name: str, meant: str) -> None:
    """For the dead letter of an unknown one; there is always one, however far."""
    assert nearest(name) == meant
    assert {nearest("billing.invoice"), nearest(""), nearest("x" * 5000)} < TASKS


# --- properties -------------------------------------------------------------------------------------------------------

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(EMAIL)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)
KNOWN = st.sampled_from(sorted({name for schema in SCHEMAS.values() for name in schema.fields} | {"events"}))
NAMED = st.dictionaries(KNOWN | st.text(max_size=5), VALUES, max_size=6)


@given(
    st.sampled_from(sorted(TASKS)), st.lists(VALUES | NAMED, max_size=3), NAMED, NAMED, st.text(min_size=1),
    st.none() | st.just("owner"),
)  # fmt: skip
def test_no_arguments_raise_anything_else(
    task: str, args: Sequence[Any], named: dict[str, Any], headers: dict[str, Any], id_: str, owner: str | None
) -> None:
    """Whatever comes is events, dead letters, or Unusable; and each of them can be kept."""
    try:
        found = published(Call(task, id_, args, named, headers), owner, NOW)
    except Unusable:
        return
    for each in found.events:
        envelope = each.envelope if isinstance(each, Rejected) else each
        assert not isinstance(each, Rejected) or EMAIL not in each.error
        assert decode(encode(envelope)).id == envelope.id
        assert "@" not in envelope.id


@given(st.lists(st.booleans(), min_size=1, max_size=20))
def test_good_events_of_a_list_come_out_in_order(good: list[bool]) -> None:
    """All of them, whatever stands between them."""
    events = [{"type": "a", "event": {"n": n}} if fine else {"n": n} for n, fine in enumerate(good)]
    found = called("events.publish", events).events

    assert [isinstance(each, Envelope) for each in found] == good
    assert [each.event["n"] for each in found if isinstance(each, Envelope)] == [
        n for n, fine in enumerate(good) if fine
    ]
