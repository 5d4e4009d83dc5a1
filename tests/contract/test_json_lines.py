"""Several events in one body at /webhooks/: lists and lines, for the kinds of source that say so."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from builders import balanced, counts, fake_ledger
from flask.testing import FlaskClient

from app import create_app
from app.source import Source
from app.sources import KINDS, activatepro, encharge, segment
from tasks.dead_letter import DeadLetters
from tasks.envelope import Envelope
from tasks.errors import QueueUnavailable
from tasks.ledger import Ledger
from tasks.queue import RedisQueue

SECRET = "secret"
SOURCES = {
    "stream": Source("stream", segment.unwrap_webhook, (SECRET,), several=True),
    "encharge": Source("encharge", encharge.unwrap, (SECRET,)),
    "crm": Source("crm", activatepro.unwrap, (SECRET,), several=True),
}
LINES = "application/x-ndjson"
A, B = ({"type": "track", "messageId": id_, "userId": "u"} for id_ in "ab")
TWO = f"{json.dumps(A)}\n{json.dumps(B)}\n"


@pytest.fixture
def ledger() -> Ledger:
    return fake_ledger()


@pytest.fixture
def client(ledger: Ledger) -> FlaskClient:
    return create_app(SOURCES, RedisQueue(ledger), ledger).test_client()


def post(client: FlaskClient, body: str, media_type: str = LINES, to: str = "stream") -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {SECRET}", "Content-Type": media_type}
    response = client.post(f"/webhooks/{to}", data=body.encode("utf-8", "surrogateescape"), headers=headers)
    return response.status_code, response.get_json()


@pytest.mark.parametrize("media_type", [LINES, "application/ndjson", "application/jsonl", "application/json"])
@pytest.mark.parametrize("body", [TWO, TWO.replace("\n", ""), TWO.replace("\n", "\r\n\r\n"), json.dumps([A, B])])
def test_several_events(client: FlaskClient, body: str, media_type: str) -> None:
    """Lines, events one behind the other, a list; whatever of them the content type says."""
    assert post(client, body, media_type) == (200, {"code": "accepted", "ids": ["a", "b"]})
    assert post(client, body, media_type) == (200, {"code": "duplicate", "ids": ["a", "b"]})


@pytest.mark.parametrize("body", [json.dumps(A), json.dumps(A, indent=1) + "\n", json.dumps([A])])
def test_one_event(client: FlaskClient, body: str) -> None:
    """It may stretch over lines."""
    assert post(client, body) == (200, {"code": "accepted", "ids": ["a"]})


def test_bad_ones_among_good_ones(client: FlaskClient, ledger: Ledger) -> None:
    """Taken and named: the sender cannot send a line again without the others."""
    status, answer = post(client, f'{json.dumps(A)}\n{{"cut": \n7\n[8]\n"\udcff"\n{json.dumps(B)}')

    assert (status, answer["code"]) == (200, "accepted")
    assert answer["ids"][::5] == ["a", "b"]
    assert answer["rejected"] == answer["ids"][1:5]
    assert all(each.startswith("rec-") for each in answer["rejected"])
    assert counts(ledger, name="stream") == {"accepted": 6, "waiting": 2, "dead": 4}
    assert balanced(ledger)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("\n", "invalid_json"),
        ("hello\nworld", "invalid_json"),
        ("7", "invalid_event"),
        ("[]", "invalid_event"),
        (json.dumps([0] * 10_001), "invalid_event"),
        ("{}" * 10_001, "invalid_json"),
    ],
)
def test_nothing_that_can_be_read(client: FlaskClient, ledger: Ledger, body: str, code: str) -> None:
    """Refused, as one event would be; nothing is kept."""
    status, answer = post(client, body)
    assert (status, answer["code"]) == (400, code)
    assert counts(ledger, name="stream") == {}


def test_kinds_of_one_event_a_request(client: FlaskClient) -> None:
    """Encharge documents one event a request: more of them are no request of Encharge's."""
    event = '{"event": "newUser", "user": {"id": "1"}}'
    assert post(client, event, "application/json", "encharge")[0] == 200
    assert post(client, f"{event}\n{event}", "application/json", "encharge")[0] == 400
    assert post(client, f"[{event}]", "application/json", "encharge")[0] == 400
    assert post(client, event, LINES, "encharge")[0] == 415
    assert not KINDS["encharge"].several
    assert KINDS["segment_stream"].several


def untimed(number: int) -> str:
    return json.dumps([{"id": str(each), "event": "E"} for each in range(number)])


class Breaking(RedisQueue):
    """Away at its second call."""

    def __init__(self, ledger: Ledger) -> None:
        def accept(envelopes: Sequence[Envelope]) -> list[bool]:
            self.calls += 1
            if self.calls == 2:
                raise QueueUnavailable("away")
            return ledger.accept(envelopes)

        self.calls = 0
        self.accept = accept


@pytest.mark.parametrize("lines", [False, True])
def test_bug_a_long_list_was_doubled(ledger: Ledger, lines: bool) -> None:
    """Taken in part, then all of it again: events without id and time are known by the body and their place in it."""
    client = create_app(SOURCES, Breaking(ledger), ledger).test_client()
    body = untimed(150).replace("}, {", "}\n{")[1:-1] if lines else untimed(150)

    assert post(client, body, to="crm")[0] == 503
    assert counts(ledger, name="crm")["waiting"] == 100
    assert post(client, body, to="crm")[0] == 200
    assert counts(ledger, name="crm") == {"accepted": 250, "waiting": 150, "duplicate": 100}


def test_a_short_list_again_is_other_events(client: FlaskClient, ledger: Ledger) -> None:
    """It is taken in one piece, so who sends it again means it."""
    for _ in range(2):
        assert post(client, untimed(100), to="crm")[0] == 200
    assert counts(ledger, name="crm")["waiting"] == 200


def test_bug_good_ones_were_taken_before_bad_ones_failed(ledger: Ledger) -> None:
    """Dead letters first: they are known by their content, and what fails behind them doubles nothing."""

    class Full(RedisQueue):
        def __init__(self) -> None:
            def accept(_: Sequence[Envelope]) -> list[bool]:
                raise QueueUnavailable("away")

            self.accept = accept

    body = untimed(2)[:-1] + ', {"id": "bad"}]'
    assert post(create_app(SOURCES, Full(), ledger).test_client(), body, to="crm")[0] == 503
    assert post(create_app(SOURCES, RedisQueue(ledger), ledger).test_client(), body, to="crm")[0] == 200
    assert counts(ledger, name="crm") == {"accepted": 4, "waiting": 2, "dead": 1, "duplicate": 1}


def failing(*_: object) -> list[Envelope]:
    raise RecursionError


def test_bug_an_event_that_we_fail_over_came_for_ever(ledger: Ledger) -> None:
    """Alone in a body it is a dead letter too, as among others; only kinds of one event a request answer 500."""
    several, single = (Source(name, failing, (SECRET,), several=name == "several") for name in ("several", "single"))
    client = create_app({"several": several, "single": single}, RedisQueue(ledger), ledger).test_client()

    status, answer = post(client, "{}", "application/json", "several")
    assert (status, answer["rejected"]) == (200, answer["ids"])
    assert post(client, "{}", "application/json", "single")[0] == 500
    (letter,) = DeadLetters(ledger).find()
    assert (letter.reason, letter.error) == ("bug", "the router failed: RecursionError")
