"""ActivatePro's events, unwrapped: of the API, of feeds, and alone."""

import contextlib
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from builders import EMAIL, SAMPLES
from hypothesis import given, settings
from hypothesis import strategies as st

from app.source import Refusal
from app.sources.activatepro import MOST_EVENTS, unwrap
from cli.incoming_events import Intake
from tasks.envelope import Envelope, Rejected, encode, load

RECEIVED = datetime(2026, 1, 2, 3, 4, 5, 678_900, UTC)
RECEIVED_AT = "2026-01-02T03:04:05.678Z"
MESSAGES = (
    "Message Sent",
    "Message Delivered",
    "Message Viewed",
    "Message Clicked",
    "Message Unsubscribed",
    "Message soft_bounced",
    "Message hard_bounced",
    "Message marked_as_spam",
)
ALL = {
    "channel": "Email",
    "type": "Newsletter",
    "url": "https://www.example.com/a",
    "campaignId": "123456",
    "messageId": "304405",
}
AT = "2022-01-11T00:00:00Z"
API: dict[str, Any] = {"id": "ABC12345", "events": [{"event": "Message Sent", "timestamp": AT, "properties": ALL}]}
ROW: dict[str, Any] = {"id": "ABC12345", "event": "Message Sent", "timestamp": AT, **ALL}
NORMAL = {"id": "ABC12345", "event": "Message Sent", "timestamp": AT, "properties": ALL}


def found(body: Any, source: str = "crm", delivery: str | None = None) -> list[Envelope | Rejected]:
    return list(unwrap(source, body, None, RECEIVED, delivery))


def one(body: Any, source: str = "crm", delivery: str | None = None) -> Envelope:
    (envelope,) = found(body, source, delivery)
    assert isinstance(envelope, Envelope), envelope
    return envelope


def rejected(body: Any) -> Rejected:
    (found_,) = found(body)
    assert isinstance(found_, Rejected)
    return found_


@pytest.mark.parametrize("name", MESSAGES)
def test_every_message_event_in_both_forms(name: str) -> None:
    """The API's form and the feed's become the same event with the same id; what was flat stays beside it."""
    sent = one({**API, "events": [{**API["events"][0], "event": name}]})
    fed = one([{**ROW, "event": name}])

    assert sent.event == fed.event == {**NORMAL, "event": name}
    assert (sent.raw, fed.raw) == (None, {**ROW, "event": name})
    assert sent.id == fed.id
    assert (sent.type, sent.name, sent.value) == (name, name, None)
    assert sent.person == {"userId": "ABC12345"}
    assert (sent.subject, sent.format, sent.source) == ("activatepro:ABC12345", "activatepro", "crm")
    assert (sent.occurred_at, sent.received_at) == ("2022-01-11T00:00:00.000Z", RECEIVED_AT)


@pytest.mark.parametrize(
    "row",
    [
        {**{key: value for key, value in ROW.items() if key != "id"}, "userId": "ABC12345"},
        {**{key: value for key, value in ROW.items() if key != "id"}, "User_id": "ABC12345"},
        {**ROW, "id": None, "userId": "ABC12345"},
        {
            **{key: value for key, value in ROW.items() if not key.endswith("Id")},
            "campaign_id": "123456",
            "message_id": "304405",
        },
        {"id": "ABC12345", "event": "Message Sent", "timestamp": AT, "properties": ALL},
        {"id": "ABC12345", "event": "Message Sent", "timestamp": "2022-01-11T01:00:00+01:00", **ALL},
        {"id": "ABC12345", "event": "Message Sent", "timestamp": "2022-01-11 00:00:00.000+00", **ALL},
        {"id": "ABC12345", "event": "Message Sent", "timestamp": AT, "url": ALL["url"], "properties": ALL},
    ],
)
def test_every_spelling_is_the_same_event(row: dict[str, Any]) -> None:
    """One normal form, one id; the time is kept as it was said."""
    envelope = one(row)

    assert {**envelope.event, "timestamp": AT} == NORMAL
    assert envelope.event["timestamp"] == row["timestamp"]
    assert envelope.raw == (None if row == envelope.event else row)
    assert envelope.id == one(ROW).id


def test_a_user_known_by_address_and_business_unit() -> None:
    """The same address in two business units is two users."""
    units = [one({"email": EMAIL, "businessUnit": unit, "events": API["events"]}) for unit in ("de", "fr")]

    assert [envelope.person for envelope in units] == [{"email": EMAIL}] * 2
    assert units[0].event == {"email": EMAIL, "businessUnit": "de", **API["events"][0]}
    assert units[0].subject == f"activatepro:{EMAIL}"
    assert units[0].id != units[1].id
    assert EMAIL not in units[0].id + units[0].shown


def test_an_id_goes_before_an_address() -> None:
    """Both are the person's, the id is the subject; a number is taken as text."""
    envelope = one({**ROW, "id": 42, "email": EMAIL})

    assert envelope.person == {"userId": "42", "email": EMAIL}
    assert (envelope.subject, envelope.event["id"]) == ("activatepro:42", "42")
    assert envelope.id == one({**ROW, "id": "42"}).id


def test_an_id_among_the_properties() -> None:
    """Where ActivatePro's table of properties has it."""
    properties = {"userId": "ABC12345", "channel": "Email"}
    envelope = one({"event": "Message Sent", "timestamp": AT, "properties": properties})

    assert envelope.person == {"userId": "ABC12345"}
    assert envelope.event["properties"] == properties


def test_two_spellings_at_once_lose_nothing() -> None:
    """The newer one counts; the older stays where it is when both are said."""
    properties = one({**ROW, "campaign_id": "old", "userId": "other"}).event["properties"]

    assert properties == {**ALL, "campaign_id": "old", "userId": "other"}


def test_the_events_of_one_user() -> None:
    """In their order; what is said once for all is said in each."""
    events = [{"event": name, "timestamp": AT} for name in MESSAGES]
    envelopes = [
        each for each in found({"id": "1", "channel": "Email", "events": events}) if isinstance(each, Envelope)
    ]

    assert [envelope.name for envelope in envelopes] == list(MESSAGES)
    assert {envelope.subject for envelope in envelopes} == {"activatepro:1"}
    assert all(envelope.event["properties"] == {"channel": "Email"} for envelope in envelopes)


@pytest.mark.parametrize("user", [{"email": EMAIL}, {"userId": "1"}, {"id": 1, "email": EMAIL}])
def test_bug_an_events_id_became_the_users(user: dict[str, Any]) -> None:
    """Where the request names the user, it is a property of the event, which it still tells from others."""
    events = [{"event": "E", "timestamp": AT, "id": id_} for id_ in ("evt-5", "evt-6")]
    first, second = (each for each in found({**user, "events": events}) if isinstance(each, Envelope))

    assert first.person == second.person == one({**user, "event": "E"}).person
    assert (first.event["properties"], second.event["properties"]) == ({"id": "evt-5"}, {"id": "evt-6"})
    assert first.id != second.id
    assert (
        one({**user, "events": [{"event": "E", "id": "1", "properties": {"id": "own"}}]}).event["properties"]["id"]
        == "own"
    )


def test_items_name_their_users_where_the_request_does_not() -> None:
    """Or say again who it is; what is wrong with an event does not hide its id."""
    assert one({"businessUnit": "de", "events": [{"event": "E", "id": "1"}]}).person == {"userId": "1"}
    assert one({"id": "1", "events": [{"event": "E", "id": 1}]}).event["properties"] == {}
    bad = {"event": "E", "userId": "evt-5", "properties": "x"}
    assert rejected({"email": EMAIL, "events": [bad]}).envelope.event == {**bad, "email": EMAIL}


@pytest.mark.parametrize(
    "change",
    [{"id": "2"}, {"event": "Message Viewed"}, {"timestamp": "2022-01-11T00:00:00.0001Z"}, {"url": "b"}, {"x": 1}],
)
def test_what_differs_anywhere_is_another_event(change: dict[str, Any]) -> None:
    """Several products of one order have one time: all that is said counts."""
    assert one({**ROW, **change}).id != one(ROW).id
    assert one(ROW, "crm").id != one(ROW, "shop").id


def test_without_a_time_the_delivery_says_whether_it_is_the_same() -> None:
    """The time is that of receipt; where nothing names the delivery, the same content again is another event."""
    row = {key: value for key, value in ROW.items() if key != "timestamp"}

    assert one(row).occurred_at == RECEIVED_AT
    assert "timestamp" not in one({**row, "timestamp": ""}).event
    assert one(row).id != one(row).id
    assert one(row, delivery="a:1").id == one(row, delivery="a:1").id != one(row, delivery="a:2").id
    first, second = found([row, row], delivery="a:1")
    assert isinstance(first, Envelope)
    assert isinstance(second, Envelope)
    assert first.id != second.id


@pytest.mark.parametrize(
    ("row", "code"),
    [
        (5, "event:WRONG_FORMAT"),
        ({**ROW, "event": None}, "event:NOT_NULL"),
        ({**ROW, "event": ""}, "event:NOT_NULL"),
        ({"id": "1"}, "event:NOT_NULL"),
        ({"id": "1", "events": []}, "event:NOT_NULL"),
        ({**ROW, "event": 5}, "event:WRONG_FORMAT"),
        ({**ROW, "event": "x" * 501}, "event:WRONG_FORMAT"),
        ({**ROW, "id": None}, "id:NOT_NULL"),
        ({**ROW, "id": ""}, "id:NOT_NULL"),
        ({**ROW, "id": ["1"]}, "id:WRONG_FORMAT"),
        ({**ROW, "id": True}, "id:WRONG_FORMAT"),
        ({**ROW, "id": 1.5}, "id:WRONG_FORMAT"),
        ({**ROW, "id": "x" * 501}, "id:WRONG_FORMAT"),
        ({**ROW, "email": "nobody"}, "email:WRONG_FORMAT"),
        ({**ROW, "businessUnit": {}}, "businessUnit:WRONG_FORMAT"),
        ({**ROW, "timestamp": "yesterday"}, "timestamp:WRONG_FORMAT"),
        ({**ROW, "timestamp": 1641859200}, "timestamp:WRONG_FORMAT"),
        ({**ROW, "properties": "x"}, "properties:WRONG_FORMAT"),
    ],
)
def test_what_is_no_event_is_rejected_alone(row: Any, code: str) -> None:
    """The field and ActivatePro's word for the mistake, never the value; the others go on."""
    first, bad, last = found([ROW, row, {**ROW, "event": "Message Viewed"}])

    assert isinstance(first, Envelope)
    assert isinstance(last, Envelope)
    assert isinstance(bad, Rejected)
    assert bad.code == code
    assert bad.error.startswith(code.partition(":")[0] + " ")
    assert "nobody" not in bad.error
    assert bad.envelope.event in (row, {"item": row})
    assert load(json.loads(encode(bad.envelope))) == bad.envelope
    assert rejected([row]).envelope.id == bad.envelope.id


@pytest.mark.parametrize("body", [None, [], 5, "text", True])
def test_what_holds_no_events_is_refused(body: Any) -> None:
    """Neither an object nor a list of something."""
    with pytest.raises(Refusal) as caught:
        unwrap("crm", body, None, RECEIVED)
    assert (caught.value.status, caught.value.code) == (400, "invalid_event")


@pytest.mark.parametrize(
    "body", [[ROW] * (MOST_EVENTS + 1), {"id": "1", "note": "x" * 100_000, "events": [{"event": "E"}] * 50}]
)
def test_too_much_is_refused(body: Any) -> None:
    """So many events, or so much said for all of them, would cost more memory than the request has bytes."""
    with pytest.raises(Refusal) as caught:
        unwrap("crm", body, None, RECEIVED)
    assert caught.value.status == 413


@pytest.mark.parametrize(
    ("event", "format_"),
    [
        (API, "activatepro"),
        (ROW, "activatepro"),
        ({"email": EMAIL, "event": "Registered"}, "activatepro"),
        ({"User_id": "1", "event": "Registered"}, "activatepro"),
        (SAMPLES[0], "encharge"),
        ({"event": "newUser"}, "encharge"),
        ({"type": "track", "event": "E", "userId": "1", "messageId": "m"}, "segment"),
        ({"type": "track", "event": "E", "userId": "1", "id": "m"}, "segment"),
        ({"event": "E", "userId": "1", "properties": {}}, "segment"),
    ],
)
def test_commands_know_whose_event_it_is(event: dict[str, Any], format_: str) -> None:
    """Without being told, by what only this sender's events have."""
    (each,) = Intake({}, None, None, RECEIVED).envelopes(event)
    assert (each.envelope if isinstance(each, Rejected) else each).format == format_


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)
KEYS = ("id", "userId", "User_id", "email", "businessUnit", "event", "timestamp", "properties", "campaign_id", "url")
ROWS = st.fixed_dictionaries(
    {"event": st.sampled_from(MESSAGES) | JSON, "id": st.text(max_size=9) | JSON},
    optional={
        **dict.fromkeys(set(KEYS) - {"id", "event"}, JSON),
        "email": st.just(EMAIL) | JSON,
        "timestamp": st.datetimes().map(datetime.isoformat) | JSON,
        "properties": st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=9), JSON, max_size=3) | JSON,
    },
)


@settings(max_examples=60)
@given(body=ROWS | st.lists(ROWS, max_size=3) | JSON | st.fixed_dictionaries({"id": JSON, "events": st.lists(ROWS)}))
def test_any_json_is_refused_rejected_or_a_valid_envelope(body: Any) -> None:
    """Nothing but Refusal is raised, and what is accepted survives its way through the ledger unchanged."""
    with contextlib.suppress(Refusal):
        for each in unwrap("crm", body, None, RECEIVED, "delivery"):
            envelope = each.envelope if isinstance(each, Rejected) else each
            assert load(json.loads(encode(envelope))) == envelope
