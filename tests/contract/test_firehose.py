"""The door for Firehose, as Firehose sees it: what it sends, and what it takes for an answer."""

import base64
import gzip
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from builders import EMAIL, REPOSITORY, SAMPLES, balanced, counts, fake_ledger
from firehose_standin import Reply, objection, request, unreadable
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app import create_app
from app.source import Source
from app.sources import activatepro, activity_sync, encharge, segment
from tasks.dead_letter import DeadLetters
from tasks.envelope import Envelope
from tasks.errors import QueueFull, QueueUnavailable
from tasks.ledger import Ledger
from tasks.queue import RedisQueue

VECTORS: dict[str, Any] = json.loads((REPOSITORY / "tests/vectors/firehose.json").read_text())
KEY = VECTORS["plain"]["headers"]["X-Amz-Firehose-Access-Key"]
ID = VECTORS["plain"]["headers"]["X-Amz-Firehose-Request-Id"]
SOURCES = {
    "segment": Source("segment", segment.unwrap_webhook, ("other-key", KEY), several=True),
    "encharge": Source("encharge", encharge.unwrap, (KEY,), max_request_bytes=100_000),
    "activity": Source("activity", activity_sync.unwrap, (KEY,), several=True),
    "crm": Source("crm", activatepro.unwrap, (KEY,), several=True),
    "signed": Source("signed", segment.unwrap_webhook, (KEY,), signed=True),
    "site": Source("site", None, write_keys={"web": KEY}),
}
TRACK = {"type": "track", "event": "A", "userId": "u1", "messageId": "m1"}
ACTIVITY = json.loads(VECTORS["plain"]["records_decoded"][0]["data"])


@pytest.fixture
def ledger() -> Ledger:
    return fake_ledger()


@pytest.fixture
def client(ledger: Ledger) -> FlaskClient:
    return create_app(SOURCES, RedisQueue(ledger), ledger).test_client()


def post(
    client: FlaskClient, records: Sequence[bytes] = (), id_: str = ID, path: str = "/firehose/segment", **changes: Any
) -> Reply:
    """Deliver records; of headers, "" takes one away."""
    headers, body = request(id_, records or [json.dumps(TRACK).encode()], KEY, packed=changes.pop("packed", False))
    headers = {name: value for name, value in {**headers, **changes.pop("headers", {})}.items() if value}
    return reply(client.open(path, **{"method": "POST", "data": body, "headers": headers, **changes}))


def reply(response: TestResponse) -> Reply:
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Reply(response.status_code, headers, response.data)


def taken(client: FlaskClient, *records: bytes, id_: str = ID, path: str = "/firehose/segment") -> None:
    assert objection(post(client, records, id_, path), id_) == ""


def refused(answer: Reply, id_: str = ID) -> tuple[int, str]:
    """The status, and the word of the reason; in a form that Firehose reads."""
    assert unreadable(answer, id_) == ""
    return answer.status, json.loads(answer.body)["errorMessage"].partition(":")[0]


# --- vectors


@pytest.mark.parametrize("name", ["plain", "gzip"])
@pytest.mark.parametrize(
    ("source", "accepted", "dead"),
    [
        ("segment", 6, {"undecodable": 1}),
        ("encharge", 1, {"invalid": 5, "undecodable": 1}),
        ("activity", 1, {"invalid": 3, "undecodable": 1}),
    ],
)
def test_vector_requests(
    client: FlaskClient, ledger: Ledger, name: str, source: str, accepted: int, dead: Mapping[str, int]
) -> None:
    """Seven shapes of records, plain and packed: the events are taken, what is none is a dead letter of its own."""
    case = VECTORS[name]
    body = case["raw_body"].encode() if name == "plain" else base64.b64decode(case["raw_body_base64"])
    for _ in range(2):
        answer = reply(client.post(f"/firehose/{source}", data=body, headers=case["headers"]))
        assert objection(answer, ID) == ""

    assert counts(ledger, name=source) == {
        "accepted": 14,
        "waiting": accepted,
        "dead": sum(dead.values()),
        "duplicate": 14 - accepted - sum(dead.values()),  # to Activity Sync, what is no event is known by its content
    }
    reasons = [letter.reason for letter in DeadLetters(ledger).find()]
    assert {reason: reasons.count(reason) for reason in reasons} == dead
    assert balanced(ledger)


def test_the_vectors_records_are_those_described() -> None:
    """Plain and packed bodies hold the same records."""
    packed = json.loads(gzip.decompress(base64.b64decode(VECTORS["gzip"]["raw_body_base64"])))
    plain = json.loads(VECTORS["plain"]["raw_body"])
    assert packed["records"] == plain["records"]
    described = [each["data"].encode() for each in VECTORS["plain"]["records_decoded"]]
    assert [base64.b64decode(each["data"]) for each in plain["records"]] == described


def vector_reply(case: Mapping[str, Any]) -> Reply:
    """An answer of the vectors, with whatever headers it does not name as they should be."""
    body = b"" if case["body"] is None else json.dumps(case["body"]).encode()
    headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **case.get("headers", {})}
    return Reply(case["status"], {name.lower(): value for name, value in headers.items()}, body)


@pytest.mark.parametrize("case", VECTORS["good_responses"])
def test_vector_answers_that_are_good(case: Mapping[str, Any]) -> None:
    """The stand-in takes them."""
    assert objection(vector_reply(case), ID) == ""


REJECTED = {
    "202 is not 200": "status is not 200",
    "204 no body": "status is not 200",
    "requestId missing": "requestId is not the request's",
    "requestId null (from the AWS troubleshooting page)": "requestId is not the request's",
    "requestId differs": "requestId is not the request's",
    "timestamp is a string": "timestamp is no integer",
    "unexpected field": "fields are not those expected",
    "wrong content type": "Content-Type is not application/json",
}


@pytest.mark.parametrize("case", VECTORS["responses_firehose_rejects"], ids=lambda case: case["why"])
def test_vector_answers_that_firehose_rejects(case: Mapping[str, Any]) -> None:
    """The stand-in does too, each for its reason."""
    assert objection(vector_reply(case), ID) == REJECTED[case["why"]]


def test_the_vectors_refusal() -> None:
    """The stand-in can read it; and it counts as not delivered."""
    answer = vector_reply(VECTORS["error_body"])
    assert unreadable(answer, ID) == ""
    assert objection(answer, ID) == "status is not 200"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"content-encoding": "gzip"}, "has a Content-Encoding"),
        ({"content-length": ""}, "has no Content-Length"),
        ({"content-type": "application/json; charset=utf-8"}, "Content-Type is not application/json"),
    ],
)
def test_the_stand_in_is_as_strict_about_headers(change: dict[str, str], why: str) -> None:
    """What the vectors leave out."""
    good = vector_reply(VECTORS["good_responses"][0])
    assert objection(Reply(200, {**good.headers, **change}, good.body), ID) == why
    assert unreadable(Reply(413, good.headers, good.body), ID) == "413 is lost for good"


# --- what is refused


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"path": "/firehose/nobody"}, 404, "unknown_source"),
        ({"path": "/firehose/"}, 404, "unknown_source"),
        ({"path": "/firehose"}, 404, "unknown_source"),
        ({"path": "/firehose/segment/more"}, 404, "unknown_source"),
        ({"path": "/firehose/signed"}, 404, "unknown_source"),
        ({"path": "/firehose/site"}, 404, "unknown_source"),
        ({"method": "GET"}, 405, "method_not_allowed"),
        ({"method": "PUT"}, 405, "method_not_allowed"),
        ({"headers": {"X-Amz-Firehose-Access-Key": ""}}, 401, "unauthorized"),
        ({"headers": {"X-Amz-Firehose-Access-Key": "wrong"}}, 401, "unauthorized"),
        ({"headers": {"X-Amz-Firehose-Access-Key": '{"api_key": "wrong"}'}}, 401, "unauthorized"),
        ({"headers": {"X-Amz-Firehose-Access-Key": '{"api_key": 7}'}}, 401, "unauthorized"),
        ({"headers": {"X-Amz-Firehose-Access-Key": '{"api_key": "\\ud800"}'}}, 401, "unauthorized"),
        ({"headers": {"X-Amz-Firehose-Access-Key": "{"}}, 401, "unauthorized"),
        ({"headers": {"X-Amz-Firehose-Access-Key": "", "Authorization": f"Bearer {KEY}"}}, 401, "unauthorized"),
        ({"headers": {"X-Amz-Firehose-Protocol-Version": "2.0"}}, 400, "unsupported_version"),
        ({"headers": {"Content-Type": "text/plain"}}, 415, "unsupported_media_type"),
        ({"headers": {"Content-Encoding": "br"}}, 415, "unsupported_encoding"),
        ({"headers": {"Content-Encoding": "gzip"}}, 400, "invalid_gzip"),
        ({"environ_overrides": {"CONTENT_LENGTH": None}}, 411, "length_required"),
        ({"data": b"{"}, 400, "invalid_json"),
        ({"data": b"[]"}, 400, "invalid_request"),
        ({"data": b'{"requestId": "x"}'}, 400, "invalid_request"),
        ({"data": b'{"requestId": "x", "records": {}}'}, 400, "invalid_request"),
        ({"data": b'{"requestId": "x", "records": []}'}, 400, "invalid_request"),
        ({"data": json.dumps({"records": [{"data": ""}] * 10_001}).encode()}, 400, "invalid_request"),
        ({"data": json.dumps({"records": [{"data": "A" * 1_365_337}]}).encode()}, 400, "invalid_request"),
        ({"path": "/firehose/encharge", "data": b" " * 100_001}, 400, "too_large"),
    ],
)
def test_refusals(client: FlaskClient, ledger: Ledger, changes: dict[str, Any], status: int, code: str) -> None:
    """Each with its status and in Firehose's form, whatever went wrong how early; nothing was taken."""
    assert refused(post(client, **changes)) == (status, code)
    assert counts(ledger, name="segment") == {}


@pytest.mark.parametrize(
    ("attributes", "right"),
    [
        ({f"k{number}": "v" for number in range(50)}, True),
        ({f"k{number}": "v" for number in range(51)}, False),
        ({"k" * 256: "v" * 1024}, True),
        ({"k" * 257: "v"}, False),
        ({"": "v"}, False),
        ({"k": "v" * 1025}, False),
        ({"name": "Zo\u00eb"}, True),
        ({}, True),
    ],
)
def test_common_attributes(client: FlaskClient, attributes: dict[str, str], right: bool) -> None:
    """Up to 50 texts, names up to 256 characters, values up to 1,024."""
    given = json.dumps({"commonAttributes": attributes})
    answer = post(client, headers={"X-Amz-Firehose-Common-Attributes": given})
    assert (answer.status == 200) is right
    if not right:
        assert refused(answer) == (400, "invalid_attributes")


@pytest.mark.parametrize(
    "given", ["{", "[]", "{}", '{"commonAttributes": 7}', '{"commonAttributes": {"a": 1}}', "\xff"]
)
def test_what_are_no_common_attributes(client: FlaskClient, given: str) -> None:
    """Firehose cannot have sent it."""
    answer = post(client, headers={"X-Amz-Firehose-Common-Attributes": given})
    assert refused(answer) == (400, "invalid_attributes")


@pytest.mark.parametrize("key", [KEY, "other-key", json.dumps({"api_key": KEY})])
def test_access_keys(client: FlaskClient, key: str) -> None:
    """Any of the source's secrets, plain or as Secrets Manager keeps it."""
    assert objection(post(client, headers={"X-Amz-Firehose-Access-Key": key}), ID) == ""


def test_the_request_id_is_in_the_body_too(client: FlaskClient) -> None:
    """Without the header that is echoed; without either the request is refused."""
    bare = {"X-Amz-Firehose-Request-Id": ""}
    assert objection(post(client, headers=bare), ID) == ""
    assert refused(post(client, headers=bare, data=b'{"requestId": "b", "records": 1}'), "b") == (
        400,
        "invalid_request",
    )
    assert refused(post(client, headers=bare, data=b'{"records": [{"data": ""}]}'), "") == (400, "invalid_request")
    assert refused(post(client, id_="x" * 201), "x" * 201) == (400, "invalid_request")


class Failing(RedisQueue):
    """Raises what it is told to at the call that it is told."""

    def __init__(self, ledger: Ledger, error: Exception, at_call: int = 1) -> None:
        def accept(envelopes: Sequence[Envelope]) -> list[bool]:
            self.calls += 1
            if self.calls == at_call:
                raise error
            return ledger.accept(envelopes)

        self.calls = 0
        self.accept = accept


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (QueueFull("full"), 503, "queue_full"),
        (QueueUnavailable("away"), 503, "queue_unavailable"),
        (RuntimeError(f"quotes {EMAIL}"), 500, "bug"),
    ],
)
def test_not_taken(ledger: Ledger, error: Exception, status: int, code: str) -> None:
    """Redis full or away, and our own mistakes: refused in Firehose's form, so it comes again."""
    answer = post(create_app(SOURCES, Failing(ledger, error), ledger).test_client())
    assert refused(answer) == (status, code)
    assert EMAIL.encode() not in answer.body


# --- what is taken


def test_a_request_that_fails_in_the_middle_comes_again(ledger: Ledger) -> None:
    """What was taken before is known by its id the second time."""
    queue = Failing(ledger, QueueUnavailable("away"), at_call=2)
    client = create_app(SOURCES, queue, ledger).test_client()
    records = [json.dumps({**TRACK, "messageId": f"m{number}"}).encode() for number in range(600)]

    assert refused(post(client, records)) == (503, "queue_unavailable")
    assert counts(ledger, name="segment") == {"accepted": 100, "waiting": 100}
    taken(client, *records)
    assert counts(ledger, name="segment") == {"accepted": 700, "waiting": 600, "duplicate": 100}
    assert queue.calls == 8


@pytest.mark.parametrize(
    ("source", "event"),
    [
        ("segment", {"type": "track", "userId": "u1"}),
        ("encharge", {"event": "newUser", "user": {"id": "1"}}),
        ("encharge", {"no": "event"}),
        ("segment", "text"),
    ],
)
def test_the_same_request_again(client: FlaskClient, ledger: Ledger, source: str, event: Any) -> None:
    """An event without id and time is known by request and place: twice in one request it is two events, not more."""
    record = json.dumps(event).encode()
    for _ in range(2):
        taken(client, record + b"\n" + record, record, path=f"/firehose/{source}")
    found = counts(ledger, name=source)
    assert (found["accepted"], found["duplicate"]) == (6, 3)
    taken(client, record, id_="another request", path=f"/firehose/{source}")
    assert counts(ledger, name=source)["duplicate"] == 3


@pytest.mark.parametrize(
    ("source", "event"),
    [
        ("segment", TRACK),
        ("segment", {"type": "track", "userId": "u1", "timestamp": "2026-01-02T03:04:05Z"}),
        ("encharge", SAMPLES[0]),
    ],
)
def test_the_same_event_in_another_request(client: FlaskClient, ledger: Ledger, source: str, event: Any) -> None:
    """An event with an id or a time of its own is the same event wherever it comes."""
    record = json.dumps(event).encode()
    taken(client, record, path=f"/firehose/{source}")
    taken(client, b"{}", record, id_="another request", path=f"/firehose/{source}")
    assert counts(ledger, name=source)["duplicate"] == 1


def test_broken_records(client: FlaskClient, ledger: Ledger) -> None:
    """Not even base64, no text, no data, no record: each a dead letter with all that came; the rest is taken."""
    records = [{"data": "%"}, {"data": None}, {}, 7, {"data": "eyJ"}, {"data": base64.b64encode(b'{"a": 1}').decode()}]
    body = json.dumps({"requestId": ID, "timestamp": 1, "records": records}).encode()

    for _ in range(2):
        assert objection(post(client, data=body), ID) == ""

    letters = list(DeadLetters(ledger).find())
    assert {letter.reason for letter in letters} == {"undecodable"}
    kept = [json.loads(letter.envelope["event"]["record"]) for letter in letters if letter.envelope]
    assert sorted(kept, key=str) == sorted(records[:5], key=str)
    assert counts(ledger, name="segment") == {"accepted": 12, "waiting": 1, "dead": 5, "duplicate": 6}


class Counting(RedisQueue):
    """Remembers how much went to Redis at a time."""

    def __init__(self, ledger: Ledger) -> None:
        def accept(envelopes: Sequence[Envelope]) -> list[bool]:
            self.calls.append((len(envelopes), sum(len(each.encoded) for each in envelopes)))
            return ledger.accept(envelopes)

        self.calls: list[tuple[int, int]] = []
        self.accept = accept


@pytest.mark.parametrize(("size", "number", "calls"), [(10, 201, 3), (100_000, 11, 3), (600_000, 2, 2)])
def test_redis_gets_bounded_pieces(ledger: Ledger, size: int, number: int, calls: int) -> None:
    """At most 100 events and 512 KiB at a time, or one event that is larger."""
    queue = Counting(ledger)
    client = create_app(SOURCES, queue, ledger).test_client()
    events = [{**TRACK, "messageId": f"m{each}", "properties": {"text": "x" * size}} for each in range(number)]

    taken(client, *(json.dumps(event).encode() for event in events))

    assert len(queue.calls) == calls
    assert sum(events for events, _ in queue.calls) == number
    assert all(events <= 100 and (size <= 512 * 1024 or events == 1) for events, size in queue.calls)


WEIRD = "\ud800\x00\uffff" + "\U0001f4a9" * 300


@pytest.mark.parametrize(
    ("source", "event"),
    [
        ("encharge", {"event": WEIRD, "user": {"id": WEIRD, "email": WEIRD}}),
        ("segment", {"type": WEIRD, "event": WEIRD, "userId": WEIRD, "messageId": WEIRD, "timestamp": WEIRD}),
        ("activity", {"kind": WEIRD, "tenantId": WEIRD, "version": "1.0", "data": {"messageId": WEIRD, WEIRD: WEIRD}}),
        ("activity", {**ACTIVITY, "customContext": {"userId": WEIRD}}),
        ("activity", {**ACTIVITY, "tenantId": WEIRD, "timestamp": WEIRD}),
        ("crm", {"event": WEIRD, "userId": WEIRD, "timestamp": WEIRD}),
    ],
)
def test_no_text_blocks_a_stream(client: FlaskClient, source: str, event: Any) -> None:
    """Lone surrogates, NUL, texts too long: taken or a dead letter, never a failure that would come again."""
    taken(
        client,
        json.dumps(event).encode(),
        json.dumps(event, ensure_ascii=False).encode("utf-8", "surrogatepass"),
        path=f"/firehose/{source}",
    )


def test_order_within_a_request(ledger: Ledger) -> None:
    """Events of one person reach their line in the order of the records."""
    client = create_app(SOURCES, RedisQueue(ledger), ledger).test_client()
    taken(client, *(json.dumps({**TRACK, "messageId": f"m{number}"}).encode() for number in range(300)))
    (line,) = ledger.client.keys("router:line:*")
    assert ledger.client.lrange(line, 0, -1) == [f"m{number}".encode() for number in range(300)]
