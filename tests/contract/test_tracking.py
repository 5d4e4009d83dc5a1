"""Segment's Tracking API and Webhooks destination, as their clients see us."""

import gzip
import json
from base64 import b64decode, b64encode
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from builders import fake_ledger
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st

from app import create_app
from app.source import Refusal, Source
from app.sources.segment import Call, corrected, unwrap_batch, unwrap_event, unwrap_webhook
from tasks.dead_letter import DeadLetters
from tasks.envelope import Rejected, encode, load, rfc3339
from tasks.ledger import Ledger
from tasks.queue import RedisQueue

VECTORS = Path(__file__).parents[1] / "vectors"
INBOUND = json.loads((VECTORS / "segment_inbound.json").read_text())
SIGNED = json.loads((VECTORS / "segment_signature.json").read_text())["cases"]
TRACK = {"type": "track", "event": "Signed Up", "userId": "u1", "messageId": "m1"}
BASIC = {"Authorization": "Basic " + b64encode(b"WK:").decode()}
NOW = datetime.fromisoformat("2024-05-01T10:00:10.000Z")
CALL = Call("website", NOW, "203.0.113.9")


@pytest.fixture
def ledger() -> Ledger:
    return fake_ledger(max_waiting=10_000)


@pytest.fixture
def client(ledger: Ledger) -> FlaskClient:
    sources = {
        "website": Source("website", None, write_keys={"web": "WK", "ios": "WK-2"}, trusted_proxies=1),
        "hook": Source("hook", unwrap_webhook, ("abc123", "older"), signed=True),
    }
    return create_app(sources, RedisQueue(ledger), ledger).test_client()


def events(ledger: Ledger) -> list[dict[str, Any]]:
    ids = [id_.decode() for id_ in ledger.client.zrange("router:accepted", 0, -1)]
    return [json.loads(event.envelope or b"") for event in ledger.events(ids) if event is not None]


def codes(ledger: Ledger) -> list[str]:
    return [letter.error.rpartition(" ")[2] for letter in DeadLetters(ledger).find()]


@pytest.mark.parametrize("case", INBOUND["requests"], ids=lambda case: case["client"])
def test_each_client_is_answered_as_it_needs(client: FlaskClient, ledger: Ledger, case: dict[str, Any]) -> None:
    """Exactly 200 and {"success": true}; the event is taken, analytics.js' own metrics are not."""
    body = b64decode(case["raw_body_base64"]) if "raw_body_base64" in case else case["raw_body"].encode()
    answer = client.post(case["path"], data=body, headers=case["headers"])

    assert (answer.status_code, answer.get_json()) == (200, {"success": True})
    assert len(events(ledger)) == (0 if case["path"] == "/v1/m" else 1)
    assert "WK" not in json.dumps(events(ledger))


@pytest.mark.parametrize("case", INBOUND["clock_skew"])
def test_clock_skew(case: dict[str, str]) -> None:
    """Timestamp = receivedAt - (sentAt - originalTimestamp)."""
    times = {key: datetime.fromisoformat(value) for key, value in case.items()}
    assert corrected(times["timestamp_in"], times["sentAt"], times["receivedAt"]) == times["timestamp_out"]

    call = Call("website", times["receivedAt"], sent_at=case["sentAt"])
    found = unwrap_event(call, "track", {**TRACK, "timestamp": case["timestamp_in"]})
    assert not isinstance(found, Rejected)
    assert found.event["timestamp"] == found.occurred_at == case["timestamp_out"]
    assert found.event["originalTimestamp"] == case["originalTimestamp_out"]
    assert found.event["receivedAt"] == case["receivedAt"]


@pytest.mark.parametrize(
    "path", ["track", "identify", "page", "screen", "group", "alias", "t", "i", "p", "s", "g", "a"]
)
def test_the_path_says_the_type(client: FlaskClient, ledger: Ledger, path: str) -> None:
    """Long and short forms; the body's own type does not count."""
    body = {"userId": "u1", "event": "E", "groupId": "g1", "previousId": "p1", "type": "nonsense"}
    assert client.post(f"/v1/{path}", json=body, headers=BASIC).status_code == 200
    assert events(ledger)[0]["event"]["type"][0] == path[0]


@pytest.mark.parametrize(
    "headers",
    [
        BASIC,
        {"Authorization": "Basic " + b64encode(b"WK").decode()},
        {"Authorization": "Basic " + b64encode(b"WK-2:x").decode()},
    ],
)
def test_write_key_in_the_header(client: FlaskClient, headers: dict[str, str]) -> None:
    """With and without a colon; any of the source's keys."""
    assert client.post("/v1/track", json=TRACK, headers=headers).status_code == 200


def test_write_key_in_the_body(client: FlaskClient) -> None:
    """Alone, or beside a Bearer token."""
    body = {**TRACK, "writeKey": "WK"}
    assert client.post("/v1/track", json=body).status_code == 200
    assert client.post("/v1/track", json=body, headers={"Authorization": "Bearer token"}).status_code == 200


@pytest.mark.parametrize("body", [TRACK, {**TRACK, "writeKey": "wk"}, {**TRACK, "writeKey": ["WK"]}])
def test_unknown_write_key(client: FlaskClient, ledger: Ledger, body: Any) -> None:
    """401 as JSON {code, message}: the client's developer hears of it, nothing is taken."""
    answer = client.post("/v1/track", json=body, headers={"Authorization": "Bearer WK"})
    assert (answer.status_code, answer.get_json()["code"]) == (401, "invalid_write_key")
    assert events(ledger) == []


@pytest.mark.parametrize(
    ("path", "body", "headers"),
    [
        ("batch", b"not json", {}),
        ("batch", b"[1]", {}),
        ("batch", b'{"batch": {}}', {}),
        ("batch", b"[" * 10_000, {}),
        ("track", b'"\xff"', {}),
        ("track", json.dumps({**TRACK, "x": "y" * 33_000}).encode(), {}),
        ("batch", json.dumps({"batch": [{**TRACK, "x": "y" * 515_000}]}).encode(), {}),
        ("batch", b"\x1f\x8b broken", {"Content-Encoding": "gzip"}),
        ("batch", gzip.compress(b" " * 10_000_000), {"Content-Encoding": "gzip"}),
        ("batch", b"{}", {"Content-Encoding": "br"}),
    ],
)
def test_bad_requests(client: FlaskClient, path: str, body: bytes, headers: dict[str, str]) -> None:
    """Bad JSON and oversize are 400, as JSON {code, message}."""
    answer = client.post(f"/v1/{path}", data=body, headers={**BASIC, **headers})
    assert answer.status_code == 400
    assert set(answer.get_json()) == {"code", "message"}


INVALID = [
    ({"type": "track", "userId": "u1"}, "event_not_defined"),
    ({"type": "track", "userId": "u1", "event": 5}, "event_not_string"),
    ({"type": "identify"}, "no_user_anon_id"),
    ({"type": "identify", "userId": None, "anonymousId": None}, "no_user_anon_id"),
    ({"type": "identify", "userId": 5}, "id_not_string"),
    ({"type": "identify", "userId": "", "anonymousId": "a1"}, "id_not_string"),
    ({"type": "group", "userId": "u1"}, "id_required"),
    ({"type": "alias", "userId": "u1"}, "id_required"),
    ({"type": "track", "userId": "u1", "event": "E", "properties": "x"}, "properties_not_object"),
    ({"type": "identify", "userId": "u1", "traits": []}, "traits_not_object"),
    ({"type": "page", "userId": "u1", "name": 5}, "name_not_string"),
    ({"type": "screen", "userId": "u1", "category": {}}, "category_not_string"),
    ({"userId": "u1"}, "bad_request"),
    ("no object", "bad_request"),
    ({**TRACK, "x": "y" * 33_000}, "payload_too_large"),
]


@pytest.mark.parametrize(("item", "code"), INVALID)
def test_content_is_never_a_client_error(client: FlaskClient, ledger: Ledger, item: Any, code: str) -> None:
    """200; the bad event is a dead letter with Segment's code, its neighbour goes on, and the equation holds."""
    good = {**TRACK, "messageId": "good"}
    answer = client.post("/v1/batch", json={"batch": [item, good]}, headers=BASIC)

    assert (answer.status_code, answer.get_json()) == (200, {"success": True})
    assert [event["id"] for event in events(ledger)] == ["good"]
    assert codes(ledger) == [code]
    counts = ledger.counts()["source", "website"]
    assert (counts["accepted"], counts["dead"], counts["waiting"]) == (2, 1, 1)


def test_a_source_without_order(ledger: Ledger) -> None:
    """Its events have no subject, so nothing waits for its turn."""
    sources = {"website": Source("website", None, write_keys={"web": "WK"}, order=False)}
    client = create_app(sources, RedisQueue(ledger), ledger).test_client()
    client.post("/v1/batch", json={"batch": [TRACK]}, headers=BASIC)
    assert [event["subject"] for event in events(ledger)] == [None]


def test_bug_ids_that_utf8_cannot_carry_were_one() -> None:
    """Each became a question mark, and the second event a duplicate."""
    call = Call("website", NOW)
    first, second = (
        unwrap_event(call, "track", {"event": "A", "userId": "u", "messageId": id_}) for id_ in ("\ud800", "\ud801")
    )

    assert first.id != second.id


def test_limits_of_a_batch(client: FlaskClient, ledger: Ledger) -> None:
    """2,500 events are taken with few tickets; 2,501 and none are one dead letter each."""
    batch = [{"type": "page", "userId": f"u{number}", "messageId": str(number)} for number in range(2501)]
    assert client.post("/v1/batch", json={"batch": batch[:2500]}, headers=BASIC).status_code == 200
    assert ledger.client.zcard("router:accepted") == 2500
    assert ledger.client.llen("events.tickets") == 100
    assert client.post("/v1/batch", json={"batch": batch}, headers=BASIC).status_code == 200
    assert client.post("/v1/batch", json={"batch": []}, headers=BASIC).status_code == 200
    assert codes(ledger) == ["too_many_events", "empty_batch"]


def test_duplicates_by_message_id(client: FlaskClient, ledger: Ledger) -> None:
    """The same messageId is the same event, in one batch or in two."""
    client.post("/v1/batch", json={"batch": [TRACK, TRACK]}, headers=BASIC)
    client.post("/v1/track", json=TRACK, headers=BASIC)
    counts = ledger.counts()["source", "website"]
    assert (counts["accepted"], counts["duplicate"], counts["waiting"]) == (3, 2, 1)


def test_bug_a_message_id_with_an_address_was_shown(client: FlaskClient, ledger: Ledger) -> None:
    """Logs, Flower and tables show ids: this one is a hash there, the same each time, and in the event as it came."""
    for _ in range(2):
        assert (
            client.post("/v1/track", json={**TRACK, "messageId": "m-a@example.com"}, headers=BASIC).status_code == 200
        )

    (envelope,) = events(ledger)
    assert envelope["id"] == "id-" + sha256(b"m-a@example.com").hexdigest()[:40]
    assert envelope["event"]["messageId"] == "m-a@example.com"


def test_common_fields() -> None:
    """Batch context and integrations under the item's own, the caller's address on demand, a messageId if missing."""
    call = Call("website", NOW, "203.0.113.9", None, {"direct": True, "a": 1}, {"All": False, "X": True})
    item = {"type": "track", "event": "E", "anonymousId": "a1", "context": {"a": 2}, "integrations": {"X": False}}
    (found,) = unwrap_batch(call, [item])
    assert not isinstance(found, Rejected)
    assert found.event["context"] == {"direct": True, "a": 2, "ip": "203.0.113.9"}
    assert found.event["integrations"] == {"All": False, "X": False}
    assert found.event["messageId"] == found.id
    assert found.id.startswith("router-")
    assert found.event["timestamp"] == found.occurred_at == rfc3339(NOW)
    assert (found.type, found.name, found.subject) == ("track", "E", "segment:a1")


def test_the_address_behind_a_proxy(client: FlaskClient, ledger: Ledger) -> None:
    """What the trusted proxy saw, not what a sender claims before it."""
    body = {**TRACK, "context": {"direct": True}}
    client.post("/v1/track", json=body, headers={**BASIC, "X-Forwarded-For": "198.51.100.1, 203.0.113.9"})
    assert events(ledger)[0]["event"]["context"]["ip"] == "203.0.113.9"


def test_preflight(client: FlaskClient) -> None:
    """Browsers may send the Authorization header of analytics.js."""
    answer = client.options("/v1/t", headers={"Origin": "https://www.example.com"})
    assert answer.status_code == 204
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert "authorization" in answer.headers["Access-Control-Allow-Headers"]
    assert (
        client.post("/v1/t", json=TRACK, headers={**BASIC, "Origin": "x"}).headers["Access-Control-Allow-Origin"] == "*"
    )


def test_an_activity_stream_through_a_segment_source(client: FlaskClient, ledger: Ledger) -> None:
    """Encharge may be given a Segment source: its own envelope works there too."""
    event = {"event": "added-tag-vip", "properties": {"tag": "vip"}, "user": {"id": "1"}, "timestamp": 1562914373005}
    assert client.post("/v1/track", json={**event, "writeKey": "WK"}).status_code == 200
    (found,) = events(ledger)
    assert (found["format"], found["type"]) == ("encharge", "added-tag")


@pytest.mark.parametrize("case", SIGNED, ids=lambda case: case["name"])
def test_signatures(client: FlaskClient, ledger: Ledger, case: dict[str, str]) -> None:
    """Segment's own signatures pass on the raw bytes; any other does not."""
    headers = {"X-Signature": case["x_signature"], "Content-Type": "application/json"}
    assert client.post("/webhooks/hook", data=case["raw_body"], headers=headers).status_code == 200
    assert client.post("/webhooks/hook", data=case["raw_body"] + " ", headers=headers).status_code in {200, 401}
    headers["X-Signature"] = case["x_signature"].upper()
    assert client.post("/webhooks/hook", data=case["raw_body"], headers=headers).status_code == 401
    assert (
        client.post("/webhooks/hook", data=case["raw_body"], headers={"Content-Type": "application/json"}).status_code
        == 401
    )


def test_webhook_events() -> None:
    """Times stay as Segment sent them; deletions and mapped bodies are events too."""
    body = [TRACK, {"type": "delete", "userId": "u1", "timestamp": "2024-05-01T10:00:00.000Z"}, {"free": "form"}]
    track, delete, free = unwrap_webhook("hook", body, None, NOW)
    assert (track.id, track.name) == ("m1", "Signed Up")
    assert (delete.type, delete.subject, delete.occurred_at) == ("delete", "segment:u1", "2024-05-01T10:00:00.000Z")
    assert (free.type, free.subject) == ("webhook", None)
    assert free.id == unwrap_webhook("hook", {"free": "form"}, None, NOW)[0].id


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)
KEYS = ("type", "event", "userId", "anonymousId", "messageId", "timestamp", "sentAt", "context", "integrations", "user")


@given(st.lists(st.fixed_dictionaries({}, optional=dict.fromkeys(KEYS, JSON)) | JSON, max_size=3))
def test_whatever_comes_is_an_envelope(items: list[Any]) -> None:
    """Every item becomes an event or a dead letter whose envelope validates; only a Refusal is raised."""
    try:
        found = unwrap_batch(CALL, items)
    except Refusal:
        return
    for each in found:
        envelope = each.envelope if isinstance(each, Rejected) else each
        assert load(json.loads(encode(envelope))) == envelope
