"""Encharge's Activity Stream and REST webhooks, unwrapped."""

import contextlib
import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from builders import EMAIL, SAMPLES
from hypothesis import given, settings
from hypothesis import strategies as st

from app.source import Refusal
from app.sources.encharge import event_type, unwrap
from tasks.envelope import Envelope, encode, load

RECEIVED = datetime(2026, 1, 2, 3, 4, 5, 678_900, UTC)
RECEIVED_AT = "2026-01-02T03:04:05.678Z"
EVENT: dict[str, Any] = {
    "event": "newUser",
    "type": "newUser",
    "properties": {},
    "user": {"id": "1", "email": EMAIL},
    "timestamp": 1562914373005,
}


def one(body: Any, source: str = "encharge") -> Envelope:
    (envelope,) = unwrap(source, body, None, RECEIVED)
    return envelope


def refusal(body: Any, path_name: str | None = None) -> Refusal:
    with pytest.raises(Refusal) as caught:
        unwrap("encharge", body, path_name, RECEIVED)
    assert caught.value.status == 400
    return caught.value


TYPES = {
    "newUser": ("newUser", None),
    "updatedUser": ("updatedUser", None),
    "unsubscribedUser": ("unsubscribedUser", None),
    "added-tag-vip-customer": ("added-tag", "vip-customer"),
    "removed-tag-on-trial": ("removed-tag", "on-trial"),
    "page-visited": ("page-visited", None),
    "form-submitted": ("form-submitted", None),
    "sms-sent": ("sms-sent", None),
    "sms-failed": ("sms-failed", None),
    "email-delivered": ("email-delivered", None),
    "email-open": ("email-open", None),
    "email-click": ("email-click", None),
    "email-reply": ("email-reply", None),
    "email-blocked": ("email-blocked", None),
    "email-bounce": ("email-bounce", None),
    "email-dropped": ("email-dropped", None),
    "email-spamreport": ("email-spamreport", None),
    "performed-step:771": ("performed-step", "771"),
    "errored-step:772": ("errored-step", "772"),
    "newObject-company": ("newObject", "company"),
    "updatedObject-company": ("updatedObject", "company"),
    "deletedObject-company": ("deletedObject", "company"),
    "newAssociation-123": ("newAssociation", "123"),
    "deletedAssociation-123": ("deletedAssociation", "123"),
}


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample["event"])
def test_every_documented_event(sample: dict[str, Any]) -> None:
    """Type and value come out of the name; the event is kept as it came."""
    envelope = one(sample)

    assert (envelope.type, envelope.value) == TYPES[sample["event"]]
    assert envelope.name == sample["event"]
    assert envelope.event == sample
    assert envelope.subject == "encharge:1ad75773-a8d9-4676-b2e8-d2beebf3742f"
    assert envelope.received_at == RECEIVED_AT
    assert envelope.occurred_at == f"2019-07-12T06:52:53.{sample['timestamp'] % 1000:03d}Z"
    assert (envelope.format, envelope.source, envelope.raw) == ("encharge", "encharge", None)


def test_the_samples_are_all_documented_events() -> None:
    """One sample for each."""
    assert [sample["event"] for sample in SAMPLES] == list(TYPES)


@pytest.mark.parametrize(
    ("name", "type_", "value"),
    [
        ("added-tag-a-b-c", "added-tag", "a-b-c"),
        ("removed-tag-added-tag-x", "removed-tag", "added-tag-x"),
        ("performed-step:a:b-c", "performed-step", "a:b-c"),
        ("native-form-submitted-42", "native-form-submitted", "42"),
        ("added-tag-", "added-tag", ""),
        ("added-tag", "added-tag", None),
        ("performed-step-7", "performed-step-7", None),
        ("something-new", "something-new", None),
        ("x" * 101, "x" * 100, None),
    ],
)
def test_names_are_parsed_by_prefix(name: str, type_: str, value: str | None) -> None:
    """What follows the prefix is the value, dashes and colons included; unknown names are their own kind."""
    envelope = one({**EVENT, "event": name})

    assert event_type(name) == type_
    assert (envelope.type, envelope.name, envelope.value) == (type_, name, value)


def test_unknown_keys_and_missing_ones() -> None:
    """Only the name is needed; keys that nobody documented stay in the event."""
    body = {"event": "something-new", "surprise": {"a": [1, None]}}

    envelope = one(body)

    assert envelope.event == body
    assert envelope.subject is None
    assert envelope.occurred_at == RECEIVED_AT


def test_a_number_beside_a_text_stays_so() -> None:
    """EmailId is a number and flowId a text; both stay what they are."""
    sample = next(sample for sample in SAMPLES if sample["event"] == "email-open")

    properties = load(json.loads(encode(one(sample)))).event["properties"]

    assert (properties["emailId"], properties["flowId"]) == (59969, "48918")


@pytest.mark.parametrize(
    ("user", "subject"),
    [
        ({"id": "1", "email": EMAIL}, "encharge:1"),
        ({"email": EMAIL}, f"encharge:{EMAIL}"),
        ({"id": "", "email": EMAIL}, f"encharge:{EMAIL}"),
        ({"id": 7}, "encharge:7"),
        ({"id": "x" * 600}, "encharge:" + "x" * 491),
        ({}, None),
        (None, None),
    ],
)
def test_the_subject(user: Any, subject: str | None) -> None:
    """The person's id, or else the e-mail address, or nobody."""
    assert one({**EVENT, "user": user}).subject == subject


@pytest.mark.parametrize(
    ("user", "person"),
    [
        ({"id": "1", "email": EMAIL}, {"email": EMAIL}),
        ({"email": EMAIL, "userId": "u-1"}, {"email": EMAIL, "userId": "u-1"}),
        ({"id": "1"}, None),
        ({"email": 5, "userId": ""}, None),
        ({"email": "x" * 501}, None),
        (None, None),
    ],
)
def test_the_person(user: Any, person: dict[str, str] | None) -> None:
    """What other systems know the person by, too; Encharge's own id is none of theirs."""
    assert one({**EVENT, "user": user}).person == person


@pytest.mark.parametrize(
    ("timestamp", "occurred_at"),
    [
        (1562914373005, "2019-07-12T06:52:53.005Z"),
        (1562914373005.9, "2019-07-12T06:52:53.005Z"),
        (0, "1970-01-01T00:00:00.000Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
        (None, RECEIVED_AT),
        (True, RECEIVED_AT),
        ("1562914373005", RECEIVED_AT),
        ([1], RECEIVED_AT),
        (10**15, RECEIVED_AT),
        (10**400, RECEIVED_AT),
        (-(10**15), RECEIVED_AT),
        (1e308, RECEIVED_AT),
    ],
)
def test_timestamps(timestamp: Any, occurred_at: str) -> None:
    """Milliseconds since 1970; what is none, or no time at all, gives way to the time of receipt."""
    envelope = one({**EVENT, "timestamp": timestamp})

    assert envelope.occurred_at == occurred_at
    assert envelope.event["timestamp"] == timestamp


def test_a_time_before_the_year_1000() -> None:
    """Nonsense, but a time: four digits of year all the same."""
    assert one({**EVENT, "timestamp": -62_000_000_000_000}).occurred_at == "0005-04-19T09:46:40.000Z"


def test_the_same_content_is_the_same_event() -> None:
    """The id does not depend on the order of keys, the time of receipt, or the process."""
    shuffled = dict(reversed(EVENT.items()))
    (later,) = unwrap("encharge", shuffled, None, datetime(2027, 1, 1, tzinfo=UTC))

    assert later.id == one(EVENT).id
    assert re.fullmatch("enc-[0-9a-f]{40}", later.id)


@pytest.mark.parametrize(
    "change",
    [
        {"event": "newUser2"},
        {"user": {"id": "2", "email": EMAIL}},
        {"user": {"id": "1", "email": "other@example.com"}},
        {"timestamp": 1562914373006},
        {"timestamp": "1562914373005"},
        {"properties": {"a": 1}},
        {"object": {"id": "o-1"}},
    ],
)
def test_any_difference_is_another_event(change: dict[str, Any]) -> None:
    """Name, person, time, properties and object tell events apart."""
    assert one({**EVENT, **change}).id != one(EVENT).id


def test_the_source_is_in_the_id() -> None:
    """Two accounts may send the same content."""
    assert one(EVENT, "encharge").id != one(EVENT, "other").id


@pytest.mark.parametrize(("people", "number"), [(1, 1), (3, 3)])
def test_a_webhook_with_persons(people: int, number: int) -> None:
    """Each person is an event of its own; nothing of the body is lost."""
    users = [{"id": str(index), "email": EMAIL, "plan": "pro"} for index in range(people)]
    body = {"endUserData": users, "eventPayload": {"tag": "vip-1"}}

    envelopes = unwrap("encharge", body, "added-tag-vip-1", RECEIVED)

    assert len({envelope.id for envelope in envelopes}) == number
    assert [envelope.subject for envelope in envelopes] == [f"encharge:{index}" for index in range(people)]
    for envelope, user in zip(envelopes, users, strict=True):
        assert envelope.event == {
            "event": "added-tag-vip-1",
            "type": "added-tag",
            "properties": {"tag": "vip-1"},
            "user": user,
        }
        assert envelope.raw is None
        assert (envelope.occurred_at, envelope.received_at) == (RECEIVED_AT, RECEIVED_AT)


@pytest.mark.parametrize("body", [{"eventPayload": {"a": 1}}, {"endUserData": [], "eventPayload": {"a": 1}}])
def test_a_webhook_without_persons(body: dict[str, Any]) -> None:
    """Object events name nobody."""
    (envelope,) = unwrap("encharge", body, "newObject-company", RECEIVED)

    assert envelope.subject is None
    assert envelope.event == {"event": "newObject-company", "type": "newObject", "properties": {"a": 1}}


def test_the_same_webhook_later_is_another_event() -> None:
    """Its body has no time, so it cannot be told from a repetition: rather twice than never."""
    body = {"endUserData": [{"id": "1"}], "eventPayload": None}

    first = unwrap("encharge", body, "newUser", RECEIVED)
    second = unwrap("encharge", body, "newUser", RECEIVED)

    assert first[0].id != second[0].id


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        [EVENT],
        5,
        "text",
        {},
        {"user": {}},
        {"event": None},
        {"event": ""},
        {"event": 5},
        {"event": "x" * 501},
        {**EVENT, "user": "x"},
        {**EVENT, "user": []},
        {**EVENT, "properties": "x"},
    ],
)
def test_what_is_no_event_is_refused(body: Any) -> None:
    """400, with a message that does not quote the body."""
    assert refusal(body).code == "invalid_event"
    assert EMAIL not in refusal(body).message


@pytest.mark.parametrize(
    "body",
    [
        {"endUserData": {"id": "1"}},
        {"endUserData": ["x"]},
        {"endUserData": [{"id": "1"}, 5]},
        {"endUserData": [], "eventPayload": []},
        {"eventPayload": "x"},
    ],
)
def test_what_is_no_webhook_is_refused(body: Any) -> None:
    """A webhook is a list of persons and an object."""
    assert refusal(body, "newUser").code == "invalid_event"


@pytest.mark.parametrize("path_name", [None, ""])
def test_a_webhook_needs_its_name_in_the_path(path_name: str | None) -> None:
    """Its body does not say what happened."""
    assert refusal({"eventPayload": {}}, path_name).code == "event_name_missing"


def test_a_long_name_in_the_path_is_refused() -> None:
    """As in the body: 500 characters at most."""
    refusal({"eventPayload": {}}, "x" * 501)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)
#: Times of the years 1000 to 9999, and numbers that are no time.
TIMESTAMPS = (
    st.integers(-30_000_000_000_000, 250_000_000_000_000)
    | st.integers(min_value=10**15)
    | JSON.filter(lambda value: isinstance(value, bool) or not isinstance(value, int | float))
)
BODIES = st.fixed_dictionaries(
    {},
    optional={
        "event": JSON | st.sampled_from(list(TYPES)),
        "type": JSON,
        "user": JSON | st.fixed_dictionaries({}, optional={"id": JSON, "email": JSON}),
        "properties": JSON | st.dictionaries(st.text(max_size=9), JSON, max_size=3),
        "object": JSON,
        "timestamp": TIMESTAMPS,
        "endUserData": JSON | st.lists(st.dictionaries(st.text(max_size=9), JSON, max_size=3), max_size=3),
        "eventPayload": JSON | st.dictionaries(st.text(max_size=9), JSON, max_size=3),
        "surprise": JSON,
    },
)


@settings(max_examples=40)
@given(body=BODIES | JSON, path_name=st.none() | st.text(max_size=500))
def test_any_json_is_either_refused_or_a_valid_envelope(body: Any, path_name: str | None) -> None:
    """Nothing but Refusal is raised, and what is accepted survives its way through the ledger unchanged."""
    with contextlib.suppress(Refusal):
        for envelope in unwrap("encharge", body, path_name, RECEIVED):
            assert load(json.loads(encode(envelope))) == envelope
