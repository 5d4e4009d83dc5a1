"""Each action's requests, as data."""

from typing import Any

import pytest

from tasks.action import Action, Field, Request, checked, in_utc, in_utf8, person, present
from tasks.actions import ACTIONS
from tasks.actions.send_to_segment import message_id
from tasks.errors import MappingFailed

EMAIL = "someone@example.com"
NEW = "other@example.com"


def ingest(body: dict[str, Any]) -> tuple[Request, ...]:
    return (Request("encharge_ingest", "POST", "", body),)


def upload(identity: dict[str, str], **event: Any) -> tuple[Request, ...]:
    body = {**identity, "events": [{"event": "Message Viewed", **event}]}
    return (Request("activatepro", "POST", "/events", body),)


CASES: list[tuple[str, dict[str, Any], tuple[Request, ...]]] = [
    (
        "alias_user",
        {"userId": "u1", "email": NEW, "previousUserId": "u0", "previousEmail": EMAIL},
        ingest(
            {
                "name": "alias",
                "type": "alias",
                "previousUserId": "u0",
                "previousEmail": EMAIL,
                "user": {"userId": "u1", "email": NEW},
            }
        ),
    ),
    (
        "alias_user",
        {"email": NEW, "previousEmail": EMAIL},
        ingest({"name": "alias", "type": "alias", "previousEmail": EMAIL, "user": {"email": NEW}}),
    ),
    (
        "archive_user",
        {"email": EMAIL, "userId": "u1"},
        (Request("encharge_api", "DELETE", "/people", None, (("people[0][email]", EMAIL),)),),
    ),
    (
        "archive_user",
        {"id": "e-1", "erase": True},
        (Request("encharge_api", "DELETE", "/people", None, (("people[0][id]", "e-1"), ("force", "true"))),),
    ),
    (
        "archive_user",
        {"userId": "u1", "erase": False},
        (Request("encharge_api", "DELETE", "/people", None, (("people[0][userId]", "u1"),)),),
    ),
    (
        "forward_event",
        {
            "name": "Order",
            "user": {"userId": "u1", "plan": "pro"},
            "properties": {"total": 1},
            "type": "track",
            "sourceIp": "192.0.2.1",
        },
        ingest(
            {
                "name": "Order",
                "type": "track",
                "user": {"userId": "u1", "plan": "pro"},
                "properties": {"total": 1},
                "sourceIp": "192.0.2.1",
            }
        ),
    ),
    ("forward_event", {"name": "Order", "user": {"email": EMAIL}}, ingest({"name": "Order", "user": {"email": EMAIL}})),
    (
        "identify_user",
        {"email": EMAIL, "userId": "u1", "user": {"plan": "pro"}, "ip": "192.0.2.1"},
        ingest({"name": "identify", "user": {"email": EMAIL, "userId": "u1", "plan": "pro"}, "sourceIp": "192.0.2.1"}),
    ),
    (
        "identify_user",
        {"email": EMAIL, "user": {"email": NEW}},
        ingest({"name": "identify", "user": {"email": NEW}}),
    ),
    (
        "send_to_segment",
        {
            "type": "track",
            "event": "Order Completed",
            "userId": 7,
            "properties": {"total": 1},
            "timestamp": "2022-01-11T02:00:00+02:00",
            "messageId": "m-1",
        },
        (
            Request(
                "segment",
                "POST",
                "",
                {
                    "type": "track",
                    "userId": "7",
                    "event": "Order Completed",
                    "properties": {"total": 1},
                    "timestamp": "2022-01-11T00:00:00.000Z",
                    "messageId": "m-1",
                },
            ),
        ),
    ),
    (
        "send_to_segment",
        {"type": "alias", "userId": "new", "previousId": "old"},
        (Request("segment", "POST", "", {"type": "alias", "userId": "new", "previousId": "old"}),),
    ),
    (
        "send_webhook",
        {"to": "crm", "type": "user.created", "data": {"a": 1}, "timestamp": "2022-01-11T00:00:00Z", "id": "e1:route"},
        (
            Request(
                "webhook-crm",
                "POST",
                "",
                {"type": "user.created", "timestamp": "2022-01-11T00:00:00.000Z", "data": {"a": 1}},
                id="e1:route",
            ),
        ),
    ),
    (
        "tag_user",
        {"tag": "vip,paying", "email": EMAIL},
        ingest({"name": "identify", "user": {"email": EMAIL, "tags": "vip,paying"}}),
    ),
    (
        "track_event",
        {"event": "Order", "userId": "u1", "properties": {"total": 1}, "userFields": {"plan": "pro"}, "ip": "::1"},
        ingest(
            {"name": "Order", "user": {"userId": "u1", "plan": "pro"}, "properties": {"total": 1}, "sourceIp": "::1"}
        ),
    ),
    ("track_event", {"event": "Order", "email": EMAIL}, ingest({"name": "Order", "user": {"email": EMAIL}})),
    (
        "track_page",
        {"email": EMAIL, "properties": {"url": "https://www.example.com/"}},
        ingest(
            {
                "name": "Page View",
                "type": "page",
                "user": {"email": EMAIL},
                "properties": {"url": "https://www.example.com/"},
            }
        ),
    ),
    (
        "track_page",
        {"name": "Pricing", "userId": "u1", "userFields": {"seen": "yes"}, "ip": "192.0.2.1"},
        ingest({"name": "Pricing", "type": "page", "user": {"userId": "u1", "seen": "yes"}, "sourceIp": "192.0.2.1"}),
    ),
    (
        "unsubscribe_user",
        {"email": EMAIL, "id": "e-1"},
        (Request("encharge_api", "POST", "/people/unsubscribe", None, (("email", EMAIL),)),),
    ),
    (
        "unsubscribe_user",
        {"id": "e-1"},
        (Request("encharge_api", "POST", "/people/unsubscribe", None, (("id", "e-1"),)),),
    ),
    (
        "untag_user",
        {"tag": "vip", "email": EMAIL, "id": "e-1"},
        (Request("encharge_api", "DELETE", "/tags", {"tag": "vip", "email": EMAIL, "id": "e-1"}),),
    ),
    (
        "upload_event",
        {
            "event": "Message Viewed",
            "id": "u1",
            "email": EMAIL,
            "timestamp": "2022-01-11T02:00:00+02:00",
            "properties": {"channel": "Email"},
        },
        upload({"id": "u1"}, timestamp="2022-01-11T00:00:00.000Z", properties={"channel": "Email"}),
    ),
    ("upload_event", {"event": "Message Viewed", "userId": "u1"}, upload({"id": "u1"})),
    (
        "upload_event",
        {"event": "Message Viewed", "email": EMAIL, "businessUnit": "north"},
        upload({"email": EMAIL, "businessUnit": "north"}),
    ),
    (
        "upsert_object",
        {
            "objectType": "company",
            "externalId": "acme-1",
            "id": "o-1",
            "objectData": {"name": "Acme", "id": "other", "externalId": "other"},
            "email": EMAIL,
            "userId": "u1",
        },
        ingest(
            {
                "name": "group",
                "type": "group",
                "objectType": "company",
                "properties": {"name": "Acme", "id": "o-1", "externalId": "acme-1"},
                "user": {"email": EMAIL, "userId": "u1"},
            }
        ),
    ),
    (
        "upsert_object",
        {"objectType": "company"},
        ingest({"name": "group", "type": "group", "objectType": "company", "properties": {}}),
    ),
]


@pytest.mark.parametrize(("name", "fields", "requests"), CASES)
def test_requests(name: str, fields: dict[str, Any], requests: tuple[Request, ...]) -> None:
    """An action's fields become exactly these requests."""
    assert ACTIONS[name].requests(checked(ACTIONS[name], fields)) == requests


def test_every_action_has_its_names() -> None:
    """Each action has the task by which other teams call it."""
    assert {name: action.task for name, action in ACTIONS.items()} == {
        "alias_user": "users.alias",
        "archive_user": "users.archive",
        "forward_event": "events.forward",
        "identify_user": "users.identify",
        "send_to_segment": "events.segment",
        "send_webhook": "events.webhook",
        "tag_user": "users.tag",
        "track_event": "events.track",
        "track_page": "events.page",
        "unsubscribe_user": "users.unsubscribe",
        "untag_user": "users.untag",
        "upload_event": "events.upload",
        "upsert_object": "objects.upsert",
    }
    assert {name for name, _, _ in CASES} == set(ACTIONS)


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("alias_user", {"email": NEW}),
        ("alias_user", {"previousEmail": EMAIL}),
        ("archive_user", {"erase": True}),
        ("forward_event", {"name": "Order", "user": {"plan": "pro"}}),
        ("identify_user", {"user": {"email": EMAIL}}),
        ("send_to_segment", {"type": "identify", "traits": {"email": EMAIL}}),
        ("tag_user", {"tag": "vip"}),
        ("track_event", {"event": "Order"}),
        ("track_page", {"name": "Pricing"}),
        ("unsubscribe_user", {}),
        ("untag_user", {"tag": "vip"}),
        ("upload_event", {"event": "Message Viewed", "businessUnit": "north"}),
    ],
)
def test_nobody_to_act_on(name: str, fields: dict[str, Any]) -> None:
    """Without an identifier there is no request, and the message names the fields that would do."""
    action = ACTIONS[name]

    with pytest.raises(MappingFailed, match=r"nothing identifies the person: none of .* has a value"):
        action.requests(checked(action, fields))


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("forward_event", "name is missing; user is missing"),
        ("tag_user", "tag is missing"),
        ("track_event", "event is missing"),
        ("untag_user", "tag is missing"),
        ("upsert_object", "objectType is missing"),
    ],
)
@pytest.mark.parametrize("nothing", [{}, dict.fromkeys(["name", "user", "tag", "event", "objectType"], "")])
def test_required_fields(name: str, missing: str, nothing: dict[str, Any]) -> None:
    """Every missing field is named at once; an empty text is missing too."""
    with pytest.raises(MappingFailed) as caught:
        checked(ACTIONS[name], nothing)

    assert str(caught.value) == f"{name}: {missing}"


PROBE = Action(
    "probe",
    "probe",
    "",
    {"text": Field(""), "thing": Field("", "object"), "flag": Field("", "boolean")},
    lambda _: (),
)


@pytest.mark.parametrize(
    ("given", "clean"),
    [
        ({"text": 5}, {"text": "5"}),
        ({"text": 1.5}, {"text": "1.5"}),
        ({"text": 0}, {"text": "0"}),
        ({"text": True}, {"text": "true"}),
        ({"text": False}, {"text": "false"}),
        ({"text": None}, {}),
        ({"text": ""}, {}),
        ({"thing": {}}, {"thing": {}}),
        ({"flag": "true"}, {"flag": True}),
        ({"flag": "false"}, {"flag": False}),
        ({"flag": False}, {"flag": False}),
        ({"unknown": "x"}, {}),
    ],
)
def test_values_become_what_the_action_takes(given: dict[str, Any], clean: dict[str, Any]) -> None:
    """Numbers become text, "true" a truth, nothing nothing."""
    assert checked(PROBE, given) == clean


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"text": ["secret"]}, "text must be of kind string"),
        ({"text": {"a": "secret"}}, "text must be of kind string"),
        ({"thing": "secret"}, "thing must be of kind object"),
        ({"thing": ["secret"]}, "thing must be of kind object"),
        ({"flag": "secret"}, "flag must be of kind boolean"),
        ({"flag": 1}, "flag must be of kind boolean"),
        ({"text": [1], "flag": 2}, "text must be of kind string; flag must be of kind boolean"),
    ],
)
def test_wrong_kinds_are_named_without_their_values(given: dict[str, Any], problem: str) -> None:
    """All problems at once, and never what the event said."""
    with pytest.raises(MappingFailed) as caught:
        checked(PROBE, given)

    assert str(caught.value) == f"probe: {problem}"


@pytest.mark.parametrize("given", [None, "secret", ["secret"], 5])
def test_a_mapping_gives_an_object(given: Any) -> None:
    """Whatever else it gives is refused, unquoted."""
    with pytest.raises(MappingFailed) as caught:
        checked(PROBE, given)

    assert str(caught.value) == "the mapping must give an object of fields for probe"


@pytest.mark.parametrize("given", [[], {}])
def test_no_unhashable_value_passes_as_a_flag(given: Any) -> None:
    """A list or an object where a flag belongs is a failed mapping like any other."""
    with pytest.raises(MappingFailed):
        checked(PROBE, {"flag": given})


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2022-01-11T00:00:00Z", "2022-01-11T00:00:00.000Z"),
        ("2022-01-11 01:30:00.123456+05:30", "2022-01-10T20:00:00.123Z"),
    ],
)
def test_times_become_utc(text: str, utc: str) -> None:
    """Whatever zone they name."""
    assert in_utc("timestamp", text) == utc


@pytest.mark.parametrize(
    "text", ["secret", "2022-01-11", "2022-01-11T00:00:00", "0001-01-01T00:00:00+23:59", "1641859200"]
)
def test_a_time_that_is_none(text: str) -> None:
    """A time without a zone could be any; what it says is not repeated."""
    with pytest.raises(MappingFailed, match=r"^timestamp must be a date and time with a zone, as in RFC 3339$"):
        in_utc("timestamp", text)


def test_bug_letters_counted_for_six_bytes_at_segments_limit() -> None:
    """It counts bytes of UTF-8, and gets no more; but for half a character, which UTF-8 has not."""
    action = ACTIONS["send_to_segment"]
    fields = {"type": "page", "userId": "1", "properties": {"text": "п" * 16_000}}

    (request,) = action.requests(checked(action, fields))

    assert len(in_utf8(request.body)) < 32_768
    assert in_utf8({"half": "\ud800 é"}) == b'{"half":"\\ud800 \xc3\xa9"}'


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"type": "track", "userId": "1"}, "send_to_segment: track needs event"),
        ({"type": "group", "userId": "1"}, "send_to_segment: group needs groupId"),
        ({"type": "alias", "anonymousId": "1"}, "send_to_segment: alias needs previousId, userId"),
        ({"type": "delete"}, "send_to_segment: type must be track or identify or page or screen or group or alias"),
        (
            {"type": "page", "userId": "1", "properties": {"text": "x" * 32_768}},
            "send_to_segment: the event is larger than the 32 KiB that Segment takes",
        ),
    ],
)
def test_what_segment_would_refuse(fields: dict[str, Any], problem: str) -> None:
    """Segment answers 200 to most of it and throws it away; so it is not sent."""
    action = ACTIONS["send_to_segment"]

    with pytest.raises(MappingFailed) as caught:
        action.requests(checked(action, fields))

    assert str(caught.value) == problem


def test_a_message_id_fits() -> None:
    """A longer one becomes a hash, the same each time."""
    assert message_id("x" * 100) == "x" * 100
    assert len(message_id("x" * 101)) <= 100
    assert message_id("x" * 101) == message_id("x" * 101) != message_id("x" * 102)


def test_helpers() -> None:
    """`present` drops what is not there, `person` keeps the identifiers in the order asked for."""
    assert present(a=1, b=None, c="") == {"a": 1, "c": ""}
    assert person({"userId": "u1", "email": EMAIL, "plan": "x"}, "email", "userId") == {"email": EMAIL, "userId": "u1"}
