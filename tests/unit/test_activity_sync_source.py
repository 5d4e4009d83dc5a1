"""Activity Sync, unwrapped."""

import contextlib
import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from builders import EMAIL
from hypothesis import given, settings
from hypothesis import strategies as st

from app.source import Refusal
from app.sources.activity_sync import looks_like, unwrap
from tasks.envelope import Envelope, Rejected, encode, load

RECEIVED = datetime(2026, 1, 2, 3, 4, 5, 678_900, UTC)
RECEIVED_AT = "2026-01-02T03:04:05.678Z"
PHONE = "+61491570006"
MESSAGE = "1d8e4e9c-69d8-4cd1-83fe-c13ef6870cfd"
EXPERIENCE = "501b95b3-06d3-4398-9ad4-b2563e158308"
EVENT: dict[str, Any] = {
    "version": "1.0",
    "timestamp": "2024-08-27T13:25:04.913Z",
    "tenantId": "foo",
    "workflowContext": {
        "experienceContext": {"experienceId": EXPERIENCE},
        "flowContext": {"flowId": "f-1", "flowName": "My first flow", "flowVersion": 2},
        "nodeContext": {"nodeId": "node-e72ur", "nodeName": "", "outputName": "conversation_2"},
    },
    "customContext": {},
    "kind": "message-opened",
    "data": {"messageId": MESSAGE, "detail": ""},
    "pii": ["detail"],
}


def taken(body: Any, delivery: str | None = None, source: str = "sync") -> Envelope:
    (found,) = unwrap(source, body, None, RECEIVED, delivery)
    assert isinstance(found, Envelope), found.error
    return found


def rejected(body: Any, delivery: str | None = None) -> Rejected:
    (found,) = unwrap("sync", body, None, RECEIVED, delivery)
    assert isinstance(found, Rejected)
    return found


def test_an_event_is_kept_as_it_came() -> None:
    """Type and name are its kind; nothing is added to it, and nothing else keeps a copy."""
    envelope = taken(EVENT)

    assert envelope.event is EVENT
    assert (envelope.type, envelope.name, envelope.value) == ("message-opened", "message-opened", None)
    assert (envelope.format, envelope.source, envelope.raw) == ("activity_sync", "sync", None)
    assert (envelope.received_at, envelope.occurred_at) == (RECEIVED_AT, "2024-08-27T13:25:04.913Z")
    assert envelope.correlation == [f"message:3:foo:{MESSAGE}", f"experience:3:foo:{EXPERIENCE}"]
    assert (envelope.person, envelope.subject) == (None, None)


def test_a_list_is_as_many_events() -> None:
    """One that is none among them spoils only itself."""
    found = unwrap("sync", [EVENT, 5, {**EVENT, "kind": "experience-start"}], None, RECEIVED)

    assert [type(each) for each in found] == [Envelope, Rejected, Envelope]


@pytest.mark.parametrize("missing", ["version", "pii", "customContext", "data", "workflowContext", "tenantId"])
def test_keys_that_may_be_missing(missing: str) -> None:
    """Some of the document's own samples lack version or pii."""
    event = {key: value for key, value in EVENT.items() if key != missing}

    assert taken(event).event == event


def test_a_kind_that_nobody_documented_passes() -> None:
    """The sender adds kinds; each is a type of its own."""
    assert taken({**EVENT, "kind": "message-forwarded"}).type == "message-forwarded"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"kind": None}, "kind must be a text"),
        ({"kind": ""}, "kind must be a text"),
        ({"kind": "x" * 101}, "kind must be a text"),
        ({"kind": "a\nb"}, "kind must be a text"),
        ({"data": "x"}, "version 1.0, kind message-opened: data must be an object"),
        ({"workflowContext": []}, "workflowContext must be an object"),
        ({"pii": "detail"}, "pii must be a list of texts"),
        ({"pii": [1]}, "pii must be a list of texts"),
        ({"version": "2.0"}, "version 2.0 is not known, of kind message-opened"),
        ({"version": True}, "version True is not known"),
        ({"version": f"{EMAIL}"}, "version (unreadable) is not known"),
        ({"version": "0.0"}, "version 0.0, kind message-opened: no messageId"),
        ({"version": "0.0", "kind": "action"}, "version 0.0, kind action: no known form in version 1.0"),
    ],
)
def test_what_is_no_event_becomes_a_dead_letter(change: dict[str, Any], says: str) -> None:
    """The sender could not do better when asked again. The reason names version, kind and field, never a value."""
    found = rejected({**EVENT, **change})

    assert says in found.error
    assert EMAIL not in found.error
    assert found.envelope.event == {**EVENT, **change}
    assert load(json.loads(encode(found.envelope))) == found.envelope


@pytest.mark.parametrize("body", [None, 5, "text", True, []])
def test_what_is_no_body_is_refused(body: Any) -> None:
    """Neither an object nor a list of something."""
    with pytest.raises(Refusal) as caught:
        unwrap("sync", body, None, RECEIVED)
    assert caught.value.status == 400


def test_too_many_at_once_are_refused() -> None:
    """All or nothing: none is taken."""
    with pytest.raises(Refusal) as caught:
        unwrap("sync", [EVENT] * 2501, None, RECEIVED)
    assert caught.value.status == 413


# --- the same event ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"version": 1.0},
        {"pii": []},
        {"customContext": {"plan": "pro"}},
        {"timestamp": "2024-08-27T23:25:04.913+10:00"},
        {"workflowContext": {**EVENT["workflowContext"], "flowContext": {"flowName": "Renamed"}}},
    ],
)
def test_what_only_describes_does_not_make_another_event(change: dict[str, Any]) -> None:
    """A repetition is known, by whatever way it comes, though the sender may have filled it in otherwise."""
    first, again = taken(EVENT, "kinesis:a:1:0"), taken({**EVENT, **change}, "firehose:b:2:0")

    assert re.fullmatch("as-[0-9a-f]{40}", first.id)
    assert again.id == first.id


@pytest.mark.parametrize(
    "change",
    [
        {"tenantId": "bar"},
        {"kind": "message-link-clicked"},
        {"timestamp": "2024-08-27T13:25:04.914Z"},
        {"data": {"messageId": "m-2", "detail": ""}},
        {"data": {"messageId": MESSAGE, "detail": "again"}},
        {"data": {"actionId": "a-1"}},
        {"data": {"usage": [{"uom": "sms", "qty": 1}]}},
        {"metadata": {"matchedType": "Rule"}},
        {"workflowContext": {"nodeContext": {"nodeId": "node-2"}}},
        {"workflowContext": {"experienceContext": {"experienceId": "e-2"}}},
    ],
)
def test_what_happened_makes_another_event(change: dict[str, Any]) -> None:
    """Tenant, kind, time, place in the flow, and all that data says."""
    assert taken({**EVENT, **change}).id != taken(EVENT).id


def test_the_source_is_in_the_id() -> None:
    """Two senders may say the same."""
    assert taken(EVENT, source="other").id != taken(EVENT).id


@pytest.mark.parametrize("timestamp", [None, "yesterday", 5, "9999-12-31T23:59:59-23:00"])
def test_without_a_time_the_delivery_tells_events_apart(timestamp: Any) -> None:
    """The same record again is the same event; without either, rather twice than never."""
    event = {**EVENT, "timestamp": timestamp}

    assert taken(event, "kinesis:s:0:7:0").id == taken(event, "kinesis:s:0:7:0").id
    assert taken(event, "kinesis:s:0:7:0").id != taken(event, "kinesis:s:0:8:0").id
    assert taken(event).id != taken(event).id
    assert taken(event).occurred_at == RECEIVED_AT


def test_each_event_of_a_list_has_a_delivery_of_its_own() -> None:
    """Two alike without a time, in one record, are two."""
    event = {**EVENT, "timestamp": None}

    first, second = unwrap("sync", [event, event], None, RECEIVED, "firehose:r:0:0")

    assert isinstance(first, Envelope)
    assert isinstance(second, Envelope)
    assert first.id != second.id


# --- whom it is about -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "data", "person"),
    [
        ("outbound-email", {"to": EMAIL}, {"email": EMAIL}),
        ("outbound-email", {"to": f" {EMAIL.upper()} "}, {"email": EMAIL}),
        ("outbound-email", {"to": f"Someone <{EMAIL}>"}, {"email": EMAIL}),
        ("outbound-email", {"to": [EMAIL], "from": "company@example.com"}, {"email": EMAIL}),
        ("outbound-email", {"to": [EMAIL, EMAIL.title()]}, {"email": EMAIL}),
        ("outbound-email", {"to": f"{EMAIL}, other@example.com"}, None),
        ("outbound-email", {"to": [EMAIL, "other@example.com"]}, None),
        ("outbound-email", {"to": "nobody"}, None),
        ("outbound-email", {"to": []}, None),
        ("outbound-email", {"to": 5}, None),
        ("outbound-email", {"from": EMAIL, "replyTo": EMAIL}, None),
        ("outbound-sms", {"recipient": PHONE}, {"phone": PHONE}),
        ("outbound-sms", {"recipient": "+61 491 570-006"}, {"phone": PHONE}),
        ("outbound-sms", {"recipient": "0491 570 006"}, {"phone": "0491570006"}),
        ("outbound-sms", {"recipient": "12345"}, None),
        ("outbound-sms", {"recipient": "+1234567890123456"}, None),
        ("inbound-sms-matched", {"sender": PHONE}, {"phone": PHONE}),
        ("outbound-sms", {"sender": PHONE}, None),
    ],
)
def test_who_is_addressed(kind: str, data: dict[str, Any], person: dict[str, str] | None) -> None:
    """The only recipient, or who wrote to us; more than one recipient name nobody."""
    envelope = taken({**EVENT, "kind": kind, "data": data})

    assert envelope.person == person
    assert envelope.subject == (f"activity_sync:{next(iter(person.values()))}" if person else None)


@pytest.mark.parametrize(
    ("context", "person", "named"),
    [
        ({"userId": "u-1"}, {"userId": "u-1"}, "u-1"),
        ({"user_id": 7}, {"userId": "7"}, "7"),
        ({"id": "x", "userId": "u-1"}, {"userId": "u-1"}, "u-1"),
        ({"USER-ID": "u-1"}, {"userId": "u-1"}, "u-1"),
        ({"Email": EMAIL.upper()}, {"email": EMAIL}, EMAIL),
        ({"email_address": EMAIL, "phone": PHONE}, {"email": EMAIL, "phone": PHONE}, EMAIL),
        ({"mobileNumber": PHONE}, {"phone": PHONE}, PHONE),
        ({"userId": "", "email": "x", "phone": True}, None, None),
        ({"userId": "a\x00b"}, None, None),
        ({"userId": "x" * 81}, None, None),
        ({"plan": EMAIL}, None, None),
    ],
)
def test_who_the_flow_names(context: dict[str, Any], person: dict[str, str] | None, named: str | None) -> None:
    """CustomContext is free, so the usual spellings are looked for; an id goes before addresses."""
    envelope = taken({**EVENT, "customContext": context})

    assert envelope.person == person
    assert envelope.subject == (named and f"activity_sync:{named}")


def test_whom_the_flow_names_is_nobody_else() -> None:
    """A flow about one person may write to another: the address is not taken for that person's."""
    event = {**EVENT, "kind": "outbound-email", "data": {"to": EMAIL}}

    assert taken({**event, "customContext": {"userId": "u-1"}}).person == {"userId": "u-1"}
    assert taken({**event, "customContext": {"email": "own@example.com"}}).person == {"email": "own@example.com"}
    assert taken({**event, "customContext": {"plan": "pro"}}).person == {"email": EMAIL}


@pytest.mark.parametrize("id_", [None, 5.5, "", "a\nb", "x" * 81, {}, "\ud800"])
def test_ids_that_cannot_be_part_of_a_key_correlate_nothing(id_: Any) -> None:
    """Neither too long nor unprintable."""
    context = {"experienceContext": {"experienceId": id_}}

    assert taken({**EVENT, "data": {"messageId": id_}, "workflowContext": context}).correlation == ()


def test_the_message_may_be_named_in_metadata() -> None:
    """An inbound message has it there too."""
    event = {**EVENT, "data": {}, "metadata": {"messageId": "m-1"}, "workflowContext": None}

    assert taken(event).correlation == ["message:3:foo:m-1"]


@pytest.mark.parametrize(
    ("context", "person"),
    [
        ({"email": EMAIL, "email2": "other@example.com"}, {"email": EMAIL}),
        ({"Email": EMAIL, "e-mail": "other@example.com"}, {"email": EMAIL}),
        ({"ID 2": "order-77"}, None),
        ({"id": "order-77"}, None),
        ({"Email": "", "email": EMAIL}, {"email": EMAIL}),
        ({"User ID": None, "userId": "u1"}, {"userId": "u1"}),
    ],
)
def test_bug_another_key_named_the_person(context: dict[str, Any], person: dict[str, str] | None) -> None:
    """A second address, or the id of something else, is not whom it is about; of one key twice the first counts."""
    assert taken({**EVENT, "customContext": context}).person == person


@pytest.mark.parametrize(
    "to",
    [
        [EMAIL, {"email": "other@example.com"}],
        [EMAIL, f"{'x' * 320}@example.com"],
        [EMAIL, None],
        ["(" * 300] * 6,
        ["(" * 300 + EMAIL] * 6,
    ],
    ids=["object", "long", "null", "nested", "nested address"],
)
def test_bug_a_list_that_cannot_be_read_named_the_rest(to: list[Any]) -> None:
    """One of several recipients is not the only one because the others are unreadable; nothing of it fails."""
    assert taken({**EVENT, "kind": "outbound-email", "data": {"to": to}}).person is None


def test_bug_two_tenants_shared_a_key() -> None:
    """A colon in a tenant's name or an id moves no border; the longest keys fit."""
    one, other = (
        {**EVENT, "tenantId": "a:b", "data": {"messageId": "c"}},
        {**EVENT, "tenantId": "a", "data": {"messageId": "b:c"}},
    )
    assert not {taken(one).correlation[0]} & {taken(other).correlation[0]}
    longest = {**EVENT, "tenantId": "t" * 80, "workflowContext": {"experienceContext": {"experienceId": "x" * 80}}}
    assert max(map(len, taken(longest).correlation)) <= 200


def test_bug_pii_of_version_0_0_was_lost() -> None:
    """What the event itself calls personal stays so beside what its kind has; what is no list of texts is no event."""
    old = {"version": "0.0", "kind": "message-sent", "messageId": "m", "note": "x", "detail": "d"}

    assert taken({**old, "pii": ["note", "detail"]}).event["pii"] == ["note", "detail"]
    assert taken({**old, "pii": ["note"]}).event["pii"] == ["note", "detail"]
    assert "pii must be a list of texts" in rejected({**old, "pii": "note"}).error
    assert "pii must be a list of texts" in rejected({**old, "pii": [["note"]]}).error


# --- 0.0 -------------------------------------------------------------------------------------------------------------

V0: dict[str, Any] = {
    "experienceId": EXPERIENCE,
    "timestamp": "2024-08-27T13:25:04.913Z",
    "workflowContext": {"flowContext": {"flowId": "f-1", "flowName": "My first flow"}, "nodeContext": None},
    "customContext": {},
}
EMAIL_PAYLOAD = {"kind": "email", "sender": "company@example.com", "recipient": EMAIL, "subject": "s", "body": "b"}
SMS_PAYLOAD = {"kind": "sms", "sender": "+61491570110", "recipient": PHONE, "body": "b"}


@pytest.mark.parametrize(
    ("old", "kind", "data", "pii"),
    [
        ({"kind": "experience-start"}, "experience-start", {}, []),
        ({"kind": "experience-finish", "outcome": "success"}, "experience-complete", {}, []),
        ({"kind": "experience-finish", "outcome": {"success": True}}, "experience-complete", {}, []),
        ({"kind": "experience-finish", "outcome": {"success": {}}}, "experience-complete", {}, []),
        ({"kind": "experience-finish", "outcome": "failure"}, "experience-failed", {}, []),
        ({"kind": "experience-finish", "outcome": {"success": False}}, "experience-failed", {}, []),
        ({"kind": "experience-finish", "outcome": {"failure": "x"}}, "experience-failed", {}, []),
        (
            {"kind": "queued", "messageId": "m", "payload": EMAIL_PAYLOAD},
            "outbound-email",
            {"messageId": "m", "from": "company@example.com", "to": EMAIL, "subject": "s", "body": "b"},
            ["from", "to", "subject", "body"],
        ),
        (
            {"kind": "queued", "messageId": "m", "payload": SMS_PAYLOAD},
            "outbound-sms",
            {"recipient": PHONE, "body": "b", "messageId": "m"},
            ["body", "recipient"],
        ),
        ({"kind": "sent-to-gateway", "messageId": "m"}, "message-sent", {"messageId": "m"}, []),
        (
            {"kind": "validation-failed", "messageId": "m", "errors": [{"errorMessage": "a"}, {"errorMessage": "b"}]},
            "message-failed",
            {"messageId": "m", "detail": "a; b"},
            ["detail"],
        ),
        (
            {"kind": "message-delivered", "messageId": "m", "detail": "d"},
            "message-delivered",
            {"messageId": "m", "detail": "d"},
            ["detail"],
        ),
        (
            {"kind": "inbound-message-unmatched", "payload": {"sender": PHONE, "body": "b"}},
            "inbound-sms-unmatched",
            {"sender": PHONE, "body": "b"},
            ["sender", "body"],
        ),
        (
            {"kind": "inbound-message-trigger", "sender": PHONE, "body": "b"},
            "inbound-sms-matched",
            {"sender": PHONE, "body": "b"},
            ["sender", "body"],
        ),
    ],
)
def test_what_version_0_0_becomes(old: dict[str, Any], kind: str, data: dict[str, Any], pii: list[str]) -> None:
    """The form of 1.0 for routes, beside the event as it came."""
    envelope = taken({**V0, **old})

    assert envelope.raw == {**V0, **old}
    assert (envelope.type, envelope.event["kind"], envelope.event["version"]) == (kind, kind, "1.0")
    assert envelope.event["data"] == data
    assert envelope.event["pii"] == pii
    assert envelope.event["workflowContext"]["experienceContext"] == {"experienceId": EXPERIENCE}
    assert envelope.event["workflowContext"]["flowContext"] == V0["workflowContext"]["flowContext"]
    assert f"experience:0::{EXPERIENCE}" in envelope.correlation
    assert taken({"version": "0.0", **V0, **old}).id == envelope.id


@pytest.mark.parametrize(
    ("old", "says"),
    [
        ({"kind": "experience-finish"}, "outcome is neither success nor failure"),
        ({"kind": "experience-finish", "outcome": 1}, "outcome is neither success nor failure"),
        ({"kind": "queued", "messageId": "m", "payload": {"kind": "fax"}}, "payload.kind is neither email nor sms"),
        ({"kind": "queued", "payload": SMS_PAYLOAD}, "no messageId"),
        ({"kind": "inbound-message-trigger"}, "no sender"),
        ({"kind": "inbound-call", "payload": {"sender": PHONE}}, "neither matched nor unmatched"),
        ({"kind": "survey-answered"}, "no known form in version 1.0"),
    ],
)
def test_what_version_0_0_says_otherwise_is_kept_as_a_dead_letter(old: dict[str, Any], says: str) -> None:
    """With a reason that names the version and the kind."""
    found = rejected({**V0, **old})

    assert found.error == f"version 0.0, kind {old['kind']}: {says}"
    assert found.envelope.event == {**V0, **old}
    assert found.reason == "invalid"


def test_which_events_look_like_activity_sync() -> None:
    """For commands that are not told who sent a file."""
    assert looks_like(EVENT)
    assert looks_like({**V0, "kind": "queued", "payload": SMS_PAYLOAD})
    assert not looks_like({"event": "newUser", "user": {}})
    assert not looks_like({"type": "track", "event": "x", "userId": "1"})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)
KINDS = st.sampled_from(
    ["queued", "experience-finish", "validation-failed", "outbound-email", "message-opened", "inbound"]
)
DATA = st.fixed_dictionaries(
    {}, optional={"messageId": JSON, "to": JSON | st.emails(), "recipient": JSON, "sender": JSON, "detail": JSON}
)
BODIES = st.fixed_dictionaries(
    {},
    optional={
        "version": JSON | st.sampled_from(["1.0", "0.0", "1.1"]),
        "timestamp": JSON | st.datetimes().map(datetime.isoformat),
        "tenantId": JSON,
        "workflowContext": JSON | st.fixed_dictionaries({}, optional={"experienceContext": JSON, "nodeContext": JSON}),
        "customContext": JSON | st.fixed_dictionaries({}, optional={"userId": JSON, "email": JSON, "phone": JSON}),
        "kind": JSON | KINDS,
        "data": JSON | DATA,
        "metadata": JSON,
        "pii": JSON | st.lists(st.text(max_size=5), max_size=2),
        "experienceId": JSON,
        "messageId": JSON,
        "payload": JSON | DATA,
        "outcome": JSON,
        "errors": JSON,
        "surprise": JSON,
    },
)


@settings(max_examples=60)
@given(body=BODIES | st.lists(BODIES | JSON, max_size=3) | JSON, delivery=st.none() | st.just("firehose:r:0:0"))
def test_any_json_is_refused_rejected_or_a_valid_envelope(body: Any, delivery: str | None) -> None:
    """Nothing but Refusal is raised, and what is kept survives its way through the ledger unchanged."""
    with contextlib.suppress(Refusal):
        for found in unwrap("sync", body, None, RECEIVED, delivery):
            envelope = found.envelope if isinstance(found, Rejected) else found
            assert load(json.loads(encode(envelope))) == envelope
