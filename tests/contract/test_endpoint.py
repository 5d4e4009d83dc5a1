"""The endpoint as senders see it, with a queue and a ledger that are handed in."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
import redis
import structlog
from builders import EMAIL, SAMPLES, accept, fake_ledger
from flask.testing import FlaskClient
from structlog.testing import LogCapture
from werkzeug.test import TestResponse

from app import create_app
from app.source import Source
from app.sources import encharge
from tasks.envelope import Envelope
from tasks.errors import QueueFull, QueueUnavailable
from tasks.ledger import Ledger

SECRET = "s3cret-of-the-endpoint"
BEARER = {"Authorization": f"Bearer {SECRET}"}
EVENT = SAMPLES[0]


class FakeQueue:
    """Takes everything once, or raises what it is told to."""

    key = "events.tickets"

    def __init__(self) -> None:
        self.seen: dict[str, Envelope] = {}
        self.error: Exception | None = None

    def accept(self, envelopes: Sequence[Envelope]) -> list[bool]:
        if self.error is not None:
            raise self.error
        fresh = [envelope.id not in self.seen for envelope in envelopes]
        self.seen.update((envelope.id, envelope) for envelope in envelopes)
        return fresh

    def ticket(self, *_: str) -> bytes:
        return b""

    def publish(self, ids: Sequence[str]) -> None:
        pass


class DeadRedis:
    """A Redis that does not answer."""

    def register_script(self, _: bytes) -> None:
        pass

    def ping(self) -> None:
        raise redis.ConnectionError("refused")


@pytest.fixture
def queue() -> FakeQueue:
    return FakeQueue()


@pytest.fixture
def logged() -> Any:
    """What is logged meanwhile, as dictionaries."""
    capture = LogCapture()
    before = structlog.get_config()
    structlog.configure(processors=[capture], cache_logger_on_first_use=False)
    yield capture.entries
    structlog.configure(**before)


def client_of(queue: FakeQueue, ledger: Ledger) -> FlaskClient:
    sources = {"encharge": Source(name="encharge", unwrap=encharge.unwrap, secrets=(SECRET,), max_body_bytes=2000)}
    return create_app(sources, queue, ledger).test_client()


@pytest.fixture
def client(queue: FakeQueue, logged: Any) -> FlaskClient:
    return client_of(queue, fake_ledger())


def post(client: FlaskClient, data: Any = EVENT, path: str = "/webhooks/encharge", **options: Any) -> TestResponse:
    body = data if isinstance(data, bytes) else json.dumps(data).encode()
    options = {"headers": BEARER, "content_type": "application/json", **options}
    return client.post(path, data=body, **options)


def answered(response: TestResponse) -> tuple[int, str]:
    assert response.mimetype == "application/json"
    if response.status_code != 200:
        assert set(response.get_json()) == {"code", "message"}
    return response.status_code, response.get_json()["code"]


def test_accepted_then_duplicate(client: FlaskClient, queue: FakeQueue) -> None:
    """200 with the event's id; the same event again is a duplicate, and 200 too."""
    first, second = post(client), post(client)

    assert answered(first) == (200, "accepted")
    assert answered(second) == (200, "duplicate")
    assert first.get_json()["ids"] == second.get_json()["ids"] == list(queue.seen)
    assert [envelope.event for envelope in queue.seen.values()] == [EVENT]


def test_a_source_without_order(queue: FakeQueue) -> None:
    """Its events have no subject, so nothing waits for its turn; by default they have one."""
    for order in (True, False):
        source = Source(name="encharge", unwrap=encharge.unwrap, secrets=(SECRET,), order=order)
        client = create_app({"encharge": source}, queue, fake_ledger()).test_client()
        assert answered(post(client, {**EVENT, "order": order})) == (200, "accepted")
    assert [envelope.subject is None for envelope in queue.seen.values()] == [False, True]


def test_a_webhook_names_its_event_in_the_path(client: FlaskClient, queue: FakeQueue) -> None:
    """Slashes in a tag included."""
    body = {"endUserData": [{"id": "1"}, {"id": "2"}], "eventPayload": {"tag": "a/b"}}

    response = post(client, body, "/webhooks/encharge/added-tag-a/b")

    assert answered(response) == (200, "accepted")
    assert [envelope.name for envelope in queue.seen.values()] == ["added-tag-a/b"] * 2


@pytest.mark.parametrize(
    ("options", "status", "code"),
    [
        ({"data": b"{"}, 400, "invalid_json"),
        ({"data": []}, 400, "invalid_event"),
        ({"data": {"eventPayload": {}}}, 400, "event_name_missing"),
        ({"headers": {}}, 401, "unauthorized"),
        ({"headers": {"Authorization": "Bearer wrong"}}, 401, "unauthorized"),
        ({"path": "/webhooks/nobody"}, 404, "unknown_source"),
        ({"path": "/elsewhere"}, 404, "not_found"),
        ({"path": "/webhooks/"}, 404, "unknown_source"),
        ({"environ_overrides": {"CONTENT_LENGTH": None}}, 411, "length_required"),
        ({"data": b" " * 2001}, 413, "too_large"),
        ({"content_type": "text/plain"}, 415, "unsupported_media_type"),
        ({"headers": {**BEARER, "Content-Encoding": "br"}}, 415, "unsupported_encoding"),
        ({"headers": {**BEARER, "Content-Encoding": "gzip"}}, 400, "invalid_gzip"),
    ],
)
def test_refusals(client: FlaskClient, queue: FakeQueue, options: dict[str, Any], status: int, code: str) -> None:
    """Each has its status and its word; nothing reached the queue."""
    assert answered(post(client, **options)) == (status, code)
    assert queue.seen == {}


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_only_post(client: FlaskClient, method: str) -> None:
    """405 says what is allowed."""
    response = client.open("/webhooks/encharge", method=method)

    assert answered(response) == (405, "method_not_allowed")
    assert "POST" in response.headers["Allow"]


def test_401_says_how(client: FlaskClient) -> None:
    """WWW-Authenticate, as RFC 9110 wants it."""
    assert post(client, headers={}).headers["WWW-Authenticate"] == 'Bearer, Basic realm="events"'


def test_a_body_that_breaks_off(client: FlaskClient, queue: FakeQueue) -> None:
    """Shorter than its Content-Length: 400."""
    response = post(client, environ_overrides={"CONTENT_LENGTH": "1999"})

    assert answered(response)[0] == 400
    assert queue.seen == {}


@pytest.mark.parametrize(
    ("error", "code"),
    [(QueueFull("5 events wait already"), "queue_full"), (QueueUnavailable("ConnectionError"), "queue_unavailable")],
)
def test_not_now(client: FlaskClient, queue: FakeQueue, error: Exception, code: str) -> None:
    """503, and when to come again."""
    queue.error = error

    response = post(client)

    assert answered(response) == (503, code)
    assert int(response.headers["Retry-After"]) > 0


def test_our_own_mistakes(client: FlaskClient, queue: FakeQueue) -> None:
    """500 in the same form, without the exception's text."""
    queue.error = RuntimeError(f"quotes {EMAIL}")

    response = post(client)

    assert answered(response) == (500, "bug")
    assert EMAIL not in response.text


def test_no_log_line_has_secret_or_payload(
    client: FlaskClient, queue: FakeQueue, logged: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    """Identifiers, never what was sent, whatever goes wrong."""
    marked = {**EVENT, "properties": {"note": "payload-note"}}
    post(client, marked)
    post(client, marked, headers={"Authorization": f"Bearer {SECRET}-wrong"})
    post(client, marked, f"/webhooks/encharge?secret={SECRET}-wrong", headers={})
    post(client, marked, "/webhooks/nobody/payload-note")
    post(client, b'{"note": payload-note}')
    post(client, [marked])
    post(client, marked, content_type="text/plain")
    for error in (QueueFull("full"), QueueUnavailable("away")):
        queue.error = error
        post(client, marked)

    lines = f"{logged} {caplog.text}"
    assert len(logged) >= 8
    for word in (SECRET, "payload-note", EMAIL):
        assert word not in lines


def test_alive_and_ready(client: FlaskClient) -> None:
    """Alive without Redis, ready with it."""
    assert answered(client.get("/livez")) == (200, "alive")
    assert answered(client.get("/readyz")) == (200, "ready")


def test_not_ready_without_redis(queue: FakeQueue) -> None:
    """503 while Redis is away; still alive."""
    client = client_of(queue, Ledger(DeadRedis(), max_waiting=1, dedupe_window_s=1, lease_s=1))

    assert client.get("/readyz").status_code == 503
    assert client.get("/readyz").get_json() == {"code": "redis_unreachable"}
    assert client.get("/livez").status_code == 200
    assert "event_router_redis_up 0.0" in client.get("/metrics").text


def test_metrics(queue: FakeQueue) -> None:
    """The ledger's numbers, in Prometheus' words."""
    ledger = fake_ledger()
    accept(ledger, "e1")
    accept(ledger, "e1", "e2")

    text = client_of(queue, ledger).get("/metrics").text

    assert 'event_router_source_events_total{source="encharge",state="accepted"} 3.0' in text
    assert 'event_router_source_events_total{source="encharge",state="duplicate"} 1.0' in text
    assert 'event_router_source_waiting{source="encharge"} 2.0' in text
    assert "event_router_unclaimed 2.0" in text
    assert "event_router_queue_length 2.0" in text


def test_metrics_of_a_gate(queue: FakeQueue) -> None:
    """Why it is shut, and how much waits there."""
    ledger = fake_ledger()
    ledger.pause("encharge_api", "someone")

    text = client_of(queue, ledger).get("/metrics").text

    assert 'event_router_gate_shut{gate="encharge_api",state="paused"} 1.0' in text
    assert 'event_router_gate_parked{gate="encharge_api"} 0.0' in text


def test_bug_a_large_webhook_that_came_again_was_a_duplicate(queue: FakeQueue) -> None:
    """It has no id and no time, whether it is large or small: losing it is worse than a double."""
    sources = {"encharge": Source(name="encharge", unwrap=encharge.unwrap, secrets=(SECRET,))}
    client = create_app(sources, queue, fake_ledger()).test_client()
    body = {"endUserData": [{"id": str(number)} for number in range(100)], "eventPayload": {"note": "x" * 6000}}

    for _ in range(2):
        assert post(client, body, "/webhooks/encharge/newUser").get_json()["code"] == "accepted"

    assert len(queue.seen) == 200
