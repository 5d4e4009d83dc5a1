"""The systems beside Encharge in the sandbox: what they take, what they refuse, and that all of it is seen."""

import base64
import gzip
import json
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from sandbox.server import create_sandbox
from sandbox.state import State
from sandbox.tokens import ACTIVATEPRO_TOKEN, SEGMENT_KEY, WEBHOOK_SECRET, Tokens
from sandbox.webhook import WebhookReceiver
from tasks.destinations.webhook import signature

ACTIVATEPRO = {"X-XNG-AuthToken": ACTIVATEPRO_TOKEN, "X-XNG-ApiVersion": "1"}
SEGMENT = {"Authorization": "Basic " + base64.b64encode(f"{SEGMENT_KEY}:".encode()).decode()}
VIEWED = {"event": "Message Viewed", "timestamp": "2022-01-11T00:00:00Z", "properties": {"channel": "Email"}}
KEY = base64.b64decode(WEBHOOK_SECRET.removeprefix("whsec_"))
NOW = 1_700_000_000


@pytest.fixture(scope="module")
def shared() -> Flask:
    """Made once: its many addresses take longer than a test."""
    return create_sandbox(tokens=Tokens(event_classes=frozenset({"Message Viewed", "Message Sent"})))


@pytest.fixture
def client(shared: Flask) -> FlaskClient:
    client = shared.test_client()
    client.delete("/_sandbox/state")
    client.delete("/_sandbox/faults")
    return client


def upload(client: FlaskClient, body: Any, **headers: str) -> TestResponse:
    return client.post("/activatepro/events", json=body, headers={**ACTIVATEPRO, **headers})


def events(client: FlaskClient) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get("/_sandbox/events").get_json()["events"]
    return found


class TestActivatePro:
    def test_events_of_one_user(self, client: FlaskClient) -> None:
        """202 with nothing in it; each event is one on the page."""
        response = upload(client, {"id": "u1", "events": [VIEWED, {"event": "Message Sent"}]})

        assert (response.status_code, response.data) == (202, b"")
        assert response.headers["X-Request-ID"]
        assert [(event["name"], event["effects"]) for event in events(client)] == [
            ("Message Viewed", ["ActivatePro: id u1"]),
            ("Message Sent", ["ActivatePro: id u1"]),
        ]

    @pytest.mark.parametrize(
        ("body", "answer"),
        [
            ({"id": "u1", "events": [{"event": "Unheard Of"}]}, {"field": "event", "type": "UNKNOWN_VALUE"}),
            ({"id": "u1", "events": [{}]}, {"field": "event", "type": "NOT_NULL"}),
            ({"id": "u1", "events": [VIEWED] * 51}, {"field": "events", "type": "WRONG_VALUE"}),
            ({"id": "u1", "events": []}, {"field": "events", "type": "NOT_NULL"}),
            ({"id": "u1", "events": ["x"]}, {"field": "events", "type": "WRONG_FORMAT"}),
            ({"events": [VIEWED]}, {"field": "id", "type": "NOT_NULL"}),
            ({"id": 1, "events": [VIEWED]}, {"field": "id", "type": "WRONG_FORMAT"}),
            (
                {"id": "u1", "events": [VIEWED, {**VIEWED, "timestamp": "2022-01-11T00:00:00+01:00"}]},
                {"field": "timestamp", "type": "WRONG_FORMAT"},
            ),
            ({"id": "u1", "events": [{**VIEWED, "properties": []}]}, {"field": "properties", "type": "WRONG_FORMAT"}),
            ([], {"field": "body", "type": "WRONG_FORMAT"}),
        ],
    )
    def test_what_is_wrong(self, client: FlaskClient, body: Any, answer: Any) -> None:
        """400 says of which field what; and none of the events is taken."""
        response = upload(client, body)

        assert (response.status_code, response.get_json()) == (400, answer)
        assert events(client) == []

    def test_fifty(self, client: FlaskClient) -> None:
        """As many go."""
        assert upload(client, {"email": "a@example.com", "events": [VIEWED] * 50}).status_code == 202

    def test_the_token(self, client: FlaskClient) -> None:
        """401, without a word."""
        response = upload(client, {"id": "u1", "events": [VIEWED]}, **{"X-XNG-AuthToken": "other"})

        assert (response.status_code, response.data) == (401, b"")


class TestSegment:
    def test_a_packed_batch(self, client: FlaskClient) -> None:
        """It is on the page, and unpacked among the calls."""
        body = {"batch": [{"type": "track", "event": "Order", "userId": "1"}, {"type": "page"}]}

        response = client.post(
            "/segment/v1/batch",
            data=gzip.compress(json.dumps(body).encode()),
            headers={**SEGMENT, "Content-Encoding": "gzip"},
        )

        assert (response.status_code, response.get_json()) == (200, {"success": True})
        assert [(event["name"], event["effects"]) for event in events(client)] == [
            ("Order", ["Segment: userId 1"]),
            ("page", ["Segment: discarded, it names nobody (no_user_anon_id)"]),
        ]
        (call,) = client.get("/_sandbox/calls").get_json()["calls"]
        assert json.loads(call["body"]) == body

    @pytest.mark.parametrize(
        ("data", "headers", "status"),
        [
            (b'{"batch":[]}', {}, 401),
            (b'{"batch":{}}', SEGMENT, 400),
            (b"[]", SEGMENT, 400),
            (b"{", SEGMENT, 400),
            (b"no gzip", {**SEGMENT, "Content-Encoding": "gzip"}, 400),
            (json.dumps({"batch": [{"text": "x" * 33_000}]}).encode(), SEGMENT, 400),
            (json.dumps({"batch": [{"text": "x" * 30_000}] * 18}).encode(), SEGMENT, 400),
        ],
    )
    def test_what_is_refused(self, client: FlaskClient, data: bytes, headers: dict[str, str], status: int) -> None:
        """Keys, JSON and sizes."""
        assert client.post("/segment/v1/batch", data=data, headers=headers).status_code == status
        assert events(client) == []


def webhook_headers(body: bytes, at: int = NOW, key: bytes = KEY) -> dict[str, str]:
    return {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(at),
        "webhook-signature": f"v1,AAAA {signature(key, 'msg_1', str(at), body)}",
        "Content-Type": "application/json",
    }


@pytest.mark.parametrize(
    ("changes", "status"),
    [({}, 204), ({"key": b"x" * 24}, 401), ({"at": NOW - 301}, 401), ({"at": NOW + 301}, 401), ({"at": -1}, 401)],
)
def test_webhooks(changes: dict[str, Any], status: int) -> None:
    """Signed by us, and of now."""
    state, app = State(), Flask("test")
    app.register_blueprint(WebhookReceiver(state, WEBHOOK_SECRET, now=lambda: NOW).blueprint())
    body = b'{"type":"order","data":{}}'

    response = app.test_client().post("/webhook", data=body, headers=webhook_headers(body, **changes))

    assert response.status_code == status
    recorded, _ = state.events_since(1)
    assert [event.name for event in recorded] == (["order"] if status == 204 else [])


@pytest.mark.parametrize("path", ["/activatepro/events", "/segment/v1/batch", "/webhook"])
def test_faults_hit_them_too(client: FlaskClient, path: str) -> None:
    """The gate is in front of all."""
    client.put("/_sandbox/faults", json=[{"status": 503, "retry_after": 7, "path": path}])

    response = client.post(path, json={})

    assert (response.status_code, response.headers["Retry-After"]) == (503, "7")


def test_on_an_open_address_only_with_keys_of_ones_own() -> None:
    """Who sets none does not get them there."""
    assert Tokens().own() == Tokens("", "", "")
    assert Tokens.of({"ACTIVATEPRO_TOKEN": "a", "SEGMENT_WRITE_KEY": "b"}).own() == Tokens("a", "b", "")
    client = create_sandbox(tokens=Tokens().own()).test_client()
    assert client.post("/activatepro/events", json={}, headers=ACTIVATEPRO).status_code == 404


def test_tokens_of_an_environment() -> None:
    """Empty is unset."""
    assert Tokens.of({"ACTIVATEPRO_TOKEN": ""}) == Tokens()
    assert Tokens.of({"SANDBOX_ACTIVATEPRO_EVENTS": "A, B,"}).event_classes == {"A", "B"}
