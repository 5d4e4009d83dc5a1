"""ActivatePro's Events API, as its senders see us."""

import gzip
import json
from typing import Any

import pytest
from builders import fake_ledger
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from app import create_app
from app.source import Source
from app.sources import activatepro, encharge
from tasks.dead_letter import DeadLetters
from tasks.errors import QueueUnavailable
from tasks.ledger import Ledger
from tasks.queue import RedisQueue

EVENT = {"event": "Message Sent", "timestamp": "2022-01-11T00:00:00Z", "properties": {"channel": "Email"}}
BODY = {"id": "ABC12345", "events": [EVENT, {**EVENT, "event": "Message Delivered"}]}
TOKEN = {"X-XNG-AuthToken": "newer", "X-XNG-ApiVersion": "1"}


def app(ledger: Ledger, queue: RedisQueue | None = None) -> FlaskClient:
    sources = {
        "encharge": Source("encharge", encharge.unwrap, ("of-encharge",)),
        "crm": Source("crm", activatepro.unwrap, ("newer", "older"), max_body_bytes=10_000),
        "shop": Source("shop", activatepro.unwrap, ("of-the-shop",)),
    }
    return create_app(sources, queue or RedisQueue(ledger), ledger).test_client()


@pytest.fixture
def ledger() -> Ledger:
    return fake_ledger()


@pytest.fixture
def client(ledger: Ledger) -> FlaskClient:
    return app(ledger)


def accepted(ledger: Ledger, source: str = "crm") -> int:
    return ledger.counts().get(("source", source), {}).get("accepted", 0)


def empty(answer: TestResponse) -> int:
    """The status of an answer that must say nothing else."""
    assert answer.data == b""
    assert answer.headers["Content-Length"] == "0"
    assert len(answer.headers["X-Request-ID"]) == 36
    return answer.status_code


def mistake(answer: TestResponse) -> tuple[str, str]:
    assert answer.status_code == 400
    assert answer.content_type == "application/json"
    assert set(answer.get_json()) == {"field", "type"}
    return answer.get_json()["field"], answer.get_json()["type"]


def test_events_of_one_user_are_taken(client: FlaskClient, ledger: Ledger) -> None:
    """202 without a body, each request with an id of its own; both events are kept, in their order."""
    first, again = (client.post("/events", json=BODY, headers=TOKEN) for _ in range(2))

    assert (empty(first), empty(again)) == (202, 202)
    assert first.headers["X-Request-ID"] != again.headers["X-Request-ID"]
    counts = ledger.counts()["source", "crm"]
    assert (counts["accepted"], counts["duplicate"]) == (4, 2)


@pytest.mark.parametrize(("token", "source"), [("newer", "crm"), ("older", "crm"), ("of-the-shop", "shop")])
def test_the_token_says_which_source_it_is(client: FlaskClient, ledger: Ledger, token: str, source: str) -> None:
    """Any secret of any source of this kind; with or without a version, packed or not."""
    answer = client.post(
        "/events",
        data=gzip.compress(json.dumps(BODY).encode()),
        headers={"X-XNG-AuthToken": token, "Content-Encoding": "gzip", "Content-Type": "application/json"},
    )
    assert empty(answer) == 202
    assert accepted(ledger, source) == 2


@pytest.mark.parametrize("token", [None, "", "wrong", "of-encharge", "newer ", "n\u00e9wer"])
def test_without_a_token_nothing_is_said(client: FlaskClient, ledger: Ledger, token: str | None) -> None:
    """401 without a body; a secret of another kind of source does not count."""
    headers = {} if token is None else {"X-XNG-AuthToken": token}
    assert empty(client.post("/events", json=BODY, headers=headers)) == 401
    assert ledger.counts() == {}


@pytest.mark.parametrize(
    ("body", "field", "type_"),
    [
        ([], "body", "WRONG_FORMAT"),
        ({"id": "1"}, "events", "NOT_NULL"),
        ({"id": "1", "events": []}, "events", "NOT_NULL"),
        ({"id": "1", "events": {"event": "E"}}, "events", "WRONG_FORMAT"),
        ({"id": "1", "events": [EVENT] * 51}, "events", "WRONG_VALUE"),
        ({"id": "1", "events": [EVENT, 5]}, "event", "WRONG_FORMAT"),
        ({"id": "1", "events": [EVENT, {}]}, "event", "NOT_NULL"),
        ({"id": "1", "event": "E", "events": [EVENT, {}]}, "event", "NOT_NULL"),
        ({"events": [EVENT]}, "id", "NOT_NULL"),
        ({"id": {}, "events": [EVENT]}, "id", "WRONG_FORMAT"),
        ({"email": "nobody", "events": [EVENT]}, "email", "WRONG_FORMAT"),
        ({"id": "1", "events": [EVENT, {**EVENT, "timestamp": "today"}]}, "timestamp", "WRONG_FORMAT"),
        ({"id": "1", "events": [EVENT, {**EVENT, "properties": "x"}, {}]}, "properties", "WRONG_FORMAT"),
    ],
)
def test_a_mistake_refuses_the_whole_request(
    client: FlaskClient, ledger: Ledger, body: Any, field: str, type_: str
) -> None:
    """400 names the first field and what is wrong with it; the good events of the request are not taken either."""
    assert mistake(client.post("/events", json=body, headers=TOKEN)) == (field, type_)
    assert ledger.counts() == {}
    assert list(DeadLetters(ledger).find()) == []


def test_a_body_that_is_none(client: FlaskClient) -> None:
    """Not JSON is a mistake in the body; what is too large or of another type has a status of its own."""
    post = [
        client.post("/events", data=data, headers={**TOKEN, "Content-Type": type_})
        for data, type_ in (
            (b'{"id"', "application/json"),
            (b"[" * 100, "application/json"),
            (b" " * 10_001, "application/json"),
            (b"{}", "text/plain"),
        )
    ]
    assert [answer.status_code for answer in post] == [400, 400, 413, 415]
    assert all(answer.get_json() == {"field": "body", "type": "WRONG_FORMAT"} for answer in post)


def test_fifty_events_are_not_too_many(client: FlaskClient, ledger: Ledger) -> None:
    """The most that the API takes."""
    body = {"email": "someone@example.com", "events": [{**EVENT, "properties": {"n": n}} for n in range(50)]}
    assert empty(client.post("/events", json=body, headers=TOKEN)) == 202
    assert accepted(ledger) == 50


def test_only_that_call_exists(client: FlaskClient) -> None:
    """Events are posted; a slash behind it is the same address."""
    assert empty(client.get("/events")) == 405
    assert empty(client.post("/events/", json=BODY, headers=TOKEN)) == 202


@pytest.mark.parametrize("path", ["/eventsfoo", "/events/x", "/events//"])
def test_bug_what_begins_like_it_was_this_door(client: FlaskClient, path: str) -> None:
    """It is nobody's, and answered so."""
    answer = client.post(path, json=BODY, headers=TOKEN)
    assert (answer.status_code, answer.get_json()["code"]) == (404, "not_found")


def test_bug_a_request_was_taken_in_part() -> None:
    """Fifty events without a time, more than 512 KiB as they are kept, where 40 may wait: none is taken."""
    events = [{"event": "E", "properties": {"n": n, "text": "\u00e9" * 2300}} for n in range(50)]
    body = json.dumps({"id": "1", "events": events}, ensure_ascii=False).encode()
    headers = {"X-XNG-AuthToken": "of-the-shop", "Content-Type": "application/json"}

    for room, status, taken in ((40, 503, 0), (50, 202, 50)):
        ledger = fake_ledger(max_waiting=room)
        assert empty(app(ledger).post("/events", data=body, headers=headers)) == status
        assert accepted(ledger, "shop") == taken


def test_what_is_not_taken_is_to_be_sent_again(ledger: Ledger) -> None:
    """5xx is what senders repeat: 503 while nothing can be taken, 500 for a mistake of ours."""

    class Away(RedisQueue):
        def __init__(self, error: Exception) -> None:
            super().__init__(ledger)
            self.error = error
            self.accept = self.raises  # type: ignore[assignment]

        def raises(self, _: object) -> list[bool]:
            raise self.error

    away, broken = (
        app(ledger, Away(error)).post("/events", json=BODY, headers=TOKEN)
        for error in (QueueUnavailable("ConnectionError"), RuntimeError())
    )
    assert (empty(away), away.headers["Retry-After"]) == (503, "5")
    assert empty(broken) == 500


def test_the_other_door_takes_both_forms(client: FlaskClient, ledger: Ledger) -> None:
    """At /webhooks/<source> each event goes its own way: a bad one is a dead letter, and the others are taken."""
    rows = [{"id": "1", "event": "Registered", "timestamp": EVENT["timestamp"]}, {"id": "1"}, BODY]
    answer = client.post("/webhooks/crm", json=rows, headers={"Authorization": "Bearer older"})

    assert answer.status_code == 200
    assert len(answer.get_json()["ids"]) == 4
    counts = ledger.counts()["source", "crm"]
    assert (counts["accepted"], counts["waiting"], counts["dead"]) == (4, 3, 1)
    (letter,) = DeadLetters(ledger).find()
    assert letter.error == "event is missing: ActivatePro answers NOT_NULL"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)


@given(body=JSON | st.fixed_dictionaries({"id": JSON, "events": st.lists(JSON | st.just(EVENT), max_size=60)}))
def test_whatever_comes_is_answered_in_the_same_form(body: Any) -> None:
    """All or nothing: 202 and every event, or 400 with field and type and none."""
    ledger = fake_ledger()
    headers = {**TOKEN, "Content-Type": "application/json"}
    answer = app(ledger).post("/events", data=json.dumps(body), headers=headers)
    if answer.status_code == 202:
        assert accepted(ledger) == len(body["events"])
    else:
        mistake(answer)
        assert accepted(ledger) == 0
