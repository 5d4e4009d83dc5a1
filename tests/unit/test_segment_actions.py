"""What Segment's Encharge destination sends is sent here too: its actions, its presets, and its rules."""

import dataclasses
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from builders import REPOSITORY, SAMPLES

from app.sources.encharge import unwrap
from tasks import mapping
from tasks.action import Request, checked
from tasks.actions import ACTIONS
from tasks.actions.segment import DEFINITIONS, defaults
from tasks.errors import MappingFailed
from tasks.routing import load

VECTOR_FOLDER = Path(__file__).parents[1] / "vectors"
VECTORS = json.loads((VECTOR_FOLDER / "encharge_destination.json").read_text(encoding="utf-8"))["cases"]
DEFAULT_REQUESTS = json.loads((VECTOR_FOLDER / "default_requests.json").read_text(encoding="utf-8"))["requests"]
BY_SLUG = {definition.slug: name for name, definition in DEFINITIONS.items()}
ADDRESSES = {"encharge_ingest": "https://ingest.encharge.io/v1/", "encharge_api": "https://api.encharge.io/v1"}
EMAIL = "someone@example.com"
RECEIVED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def sent(name: str, fields: Any) -> Request:
    """The one request that an action makes of these fields."""
    (request,) = ACTIONS[name].requests(checked(ACTIONS[name], fields))
    return request


def by_default(name: str, event: dict[str, Any]) -> Request:
    """The same with the fields that Segment's own mapping takes out of an event."""
    return sent(name, mapping.compile(defaults(name)).resolve(event))


def failure(name: str, fields: Any) -> str:
    with pytest.raises(MappingFailed) as failed:
        sent(name, fields)
    return str(failed.value)


def holds(body: Any, expected: Any) -> bool:
    """Whether a body has every key of the other, at any depth, with equal values."""
    if isinstance(expected, dict):
        return isinstance(body, dict) and all(key in body and holds(body[key], expected[key]) for key in expected)
    return bool(body == expected)


# --- Segment's results


@pytest.mark.parametrize("case", VECTORS, ids=lambda case: case["name"])
def test_vector(case: dict[str, Any]) -> None:
    """Each body has every key and value of Segment's, and fails where Segment's fails, naming the field."""
    name, expected = BY_SLUG[case["action"]], case["expected"]
    if "error" in expected:
        with pytest.raises(MappingFailed, match=expected["error"].split()[-1]):
            by_default(name, case["event"])
        return
    request = by_default(name, case["event"])
    url = ADDRESSES[request.destination] + request.path
    assert (request.method, url.rstrip("/")) == (expected["method"], expected["url"].rstrip("/"))
    assert holds(request.body, expected["body"])
    assert set(request.body) - set(expected["body"]) <= {"name", "user"}


@pytest.mark.parametrize(
    ("action", "event", "name"),
    [
        ("trackEvent", {"type": "track", "event": "Signed Up"}, "Signed Up"),
        ("identifyUser", {"type": "identify"}, "identify"),
        ("trackPageView", {"type": "page"}, "Page View"),
        ("aliasUser", {"type": "alias", "previousId": "u0"}, "alias"),
        ("createUpdateObject", {"type": "group", "groupId": "g1"}, "group"),
    ],
)
def test_what_the_ingest_api_asks_for(action: str, event: dict[str, Any], name: str) -> None:
    """Segment's body lacks the event's name, and for alias the person."""
    body = by_default(BY_SLUG[action], {"userId": "u1", **event}).body

    assert body["name"] == name
    assert body["user"]["userId"] == "u1"


def test_a_page_may_have_a_name() -> None:
    """The action's own field `name` goes into Segment's body as well."""
    assert sent("track_page", {"type": "page", "userId": "u1", "name": "Pricing"}).body["name"] == "Pricing"


def test_an_event_as_a_whole() -> None:
    """What only Segment has stands where Segment puts it, and what the person is called twice."""
    body = sent(
        "track_event",
        {
            "event": "Order",
            "type": "track",
            "email": EMAIL,
            "segmentAnonymousId": "a1",
            "ip": "192.0.2.1",
            "groupId": "g1",
            "userFields": {"plan": "pro", "score": None},
            "timestamp": "2024-05-01T10:00:00.000Z",
            "campaign": {"name": "spring", "unknown": 1},
        },
    ).body

    assert body == {
        "name": "Order",
        "event": "Order",
        "userFields": {"plan": "pro", "score": None},
        "type": "track",
        "email": EMAIL,
        "segmentAnonymousId": "a1",
        "timestamp": "2024-05-01T10:00:00.000Z",
        "context": {"ip": "192.0.2.1", "campaign": {"name": "spring"}, "groupId": "g1"},
        "user": {"email": EMAIL, "segmentAnonymousId": "a1", "plan": "pro", "score": None},
    }


def test_an_object_in_segments_form() -> None:
    """A group's own ids are the sender's: without a groupId they are left out, and the person is always there."""
    data = {"objectType": "company", "objectData": {"id": "7", "externalId": "x1", "name": "Acme"}}

    assert sent("upsert_object", {**data, "form": "segment"}).body == {
        "name": "group",
        "type": "group",
        "objectType": "company",
        "properties": {"name": "Acme"},
        "user": {},
    }
    assert sent("upsert_object", data).body["properties"] == data["objectData"]


def test_an_alias_without_time_or_id() -> None:
    """What says that a mapping is Segment's is enough: the new id stands in both places."""
    event = {"type": "alias", "userId": "u1", "previousId": "u0"}

    assert by_default("alias_user", event).body == {
        "name": "alias",
        "type": "alias",
        "previousUserId": "u0",
        "user": {"userId": "u1"},
        "userId": "u1",
    }


@pytest.mark.parametrize("found", [{}, {"segmentAnonymousId": "a1"}])
def test_nobody(found: dict[str, str]) -> None:
    """An event of nobody at all has nowhere to go; an anonymous id is enough in Segment's form."""
    fields = {"event": "Order", "type": "track", "userFields": {"email": None, "userId": ""}, **found}
    if found:
        assert sent("track_event", fields).body["user"]["segmentAnonymousId"] == "a1"
    else:
        assert "nothing identifies the person" in failure("track_event", fields)


# --- what happens to fields before


@pytest.mark.parametrize(
    ("given", "body"),
    [
        ({"userId": 123}, {"userId": "123"}),
        ({"userId": 123.0}, {"userId": "123"}),
        ({"userId": [123]}, {"userId": "123"}),
        ({"userId": ["u1"]}, {"userId": "u1"}),
        ({"messageId": True}, {"messageId": "true"}),
        ({"event": 5}, {"event": "5", "name": "5"}),
        (
            {"page": {"title": 5, "url": None, "referrer": "", "extra": {}}},
            {"context": {"page": {"title": "5", "referrer": ""}}},
        ),
        ({"location": {"latitude": 1.5}}, {"context": {"location": {}}}),
        ({"timestamp": "2024-02-29t23:59:59.123456789+0530"}, {"timestamp": "2024-02-29t23:59:59.123456789+0530"}),
        ({"timestamp": "2016-12-31 18:59:60-05"}, {"timestamp": "2016-12-31 18:59:60-05"}),
        ({"properties": {"a": None, "b": ""}}, {"properties": {"a": None, "b": ""}}),
    ],
)
def test_values_become_what_segment_makes_of_them(given: dict[str, Any], body: dict[str, Any]) -> None:
    """Numbers and lists of one become texts, objects keep their known keys, and free objects stay as they are."""
    fields = {"event": "Order", "type": "track", "userId": "u1", **given}
    found = sent("track_event", fields).body

    assert {key: found[key] for key in body} == body


@pytest.mark.parametrize("nothing", [None, ""])
@pytest.mark.parametrize("name", ["properties", "userFields", "email", "campaign", "messageId", "groupId", "timestamp"])
def test_nothing_is_left_out(name: str, nothing: Any) -> None:
    """Null and the empty text are not sent."""
    fields = {"event": "Order", "type": "track", "userId": "u1", name: nothing}

    assert sent("track_event", fields).body == {
        "name": "Order",
        "event": "Order",
        "type": "track",
        "userId": "u1",
        "context": {},
        "user": {"userId": "u1"},
    }


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"type": None, "messageId": "m1"}, "type is missing"),
        ({"event": ""}, "event is missing"),
        ({"event": None, "type": ["", ""]}, "event is missing; type must be of kind string"),
        ({"properties": "secret"}, "properties must be of kind object"),
        ({"properties": [{"a": "secret"}]}, "properties must be of kind object"),
        ({"userId": ["secret", "secret"]}, "userId must be of kind string"),
        ({"userId": {"a": "secret"}}, "userId must be of kind string"),
        (
            {"campaign": {"name": {"a": "secret"}, "term": []}},
            "campaign.name must be of kind string; campaign.term must",
        ),
        ({"page": "secret"}, "page must be of kind object"),
        ({"timestamp": "secret"}, "timestamp must be a date and time with a zone"),
        ({"timestamp": 1714557600}, "timestamp must be a date and time with a zone"),
        ({"timestamp": "2024-05-01T10:00:00"}, "timestamp must be a date and time with a zone"),
        ({"timestamp": "2023-02-29T10:00:00Z"}, "timestamp must be a date and time with a zone"),
        ({"timestamp": "2024-05-01T24:00:00Z"}, "timestamp must be a date and time with a zone"),
        ({"timestamp": "2024-05-01T10:00:60Z"}, "timestamp must be a date and time with a zone"),
        ({"timestamp": "0001-01-01T00:00:00+23:59"}, "timestamp must be a date and time with a zone"),
        ({"timestamp": "2024-05-01"}, "timestamp must be a date and time with a zone"),
        ({"form": "secret"}, "form must be segment"),
    ],
)
def test_what_segment_refuses(given: dict[str, Any], problem: str) -> None:
    """All problems at once, with the names of fields and never their values."""
    found = failure("track_event", {"event": "Order", "type": "track", "userId": "u1", **given})

    assert found.startswith(f"track_event: {problem}")
    assert "secret" not in found


def test_required_in_segments_form_only() -> None:
    """An alias by e-mail address is ours; Segment's needs both user ids."""
    fields = {"email": EMAIL, "previousEmail": "other@example.com"}

    assert sent("alias_user", fields).body["user"] == {"email": EMAIL}
    assert failure("alias_user", {**fields, "messageId": "m1"}) == (
        "alias_user: userId is missing; previousUserId is missing"
    )


# --- tags


@pytest.mark.parametrize(
    ("fields", "request_"),
    [
        ({"via": "api"}, Request("encharge_api", "POST", "/tags", {"tag": "vip", "email": EMAIL})),
        (
            {"via": "ingest"},
            Request("encharge_ingest", "POST", "", {"name": "identify", "user": {"email": EMAIL, "tags": "vip"}}),
        ),
        (
            {"email": None, "segmentAnonymousId": "a1"},
            Request(
                "encharge_ingest", "POST", "", {"name": "identify", "user": {"segmentAnonymousId": "a1", "tags": "vip"}}
            ),
        ),
    ],
)
def test_tags(fields: dict[str, Any], request_: Request) -> None:
    """Tags travel by the Ingest API or, as Segment sends them, by the REST API."""
    assert sent("tag_user", {"tag": "vip", "email": EMAIL, **fields}) == request_


@pytest.mark.parametrize(("name", "more"), [("tag_user", {"via": "api"}), ("tag_user", {}), ("untag_user", {})])
def test_a_tag_for_nobody(name: str, more: dict[str, str]) -> None:
    """Segment's words stand first."""
    assert failure(name, {"tag": "vip", **more}).startswith("No user ID, email, or anonymous ID provided.")


def test_an_unknown_way() -> None:
    """There are two ways for a tag."""
    assert failure("tag_user", {"tag": "vip", "email": EMAIL, "via": "mail"}) == "tag_user: via must be ingest or api"


# --- what was there before


def test_the_default_routes_send_what_they_sent() -> None:
    """Not a byte of the default routes' requests has changed."""
    routes = load(REPOSITORY / "config/routes.yaml", ["encharge"])
    found = {}
    for event in SAMPLES:
        (one,) = unwrap("encharge", event, None, RECEIVED)
        for route in routes.match(one):
            requests = [dataclasses.asdict(request) for request in route.requests(one)]
            assert not any(request.pop("id") for request in requests), "Encharge is told no id of a request"
            found[f"{event['event']} -> {route.name}"] = json.dumps(requests, separators=(",", ":"))

    assert found == DEFAULT_REQUESTS
