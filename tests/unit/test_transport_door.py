"""The door in front of the worker: which messages pass."""

import contextlib
import json
from base64 import b64decode, b64encode
from typing import Any

import pytest
from builders import REPOSITORY
from celery import Celery
from flower.utils.broker import Broker
from hypothesis import given, settings
from hypothesis import strategies as st

from config.celery_settings import celery_settings
from config.settings import load
from tasks.messages import MOST_BYTES, Unusable, checked
from tasks.queue import PUBLISH_TASK, ROUTE_TASK, redis_message
from tasks.transport import without_arguments

HIDDEN = {"argsrepr": "(…)", "kwargsrepr": "{…}"}
CASES = json.loads((REPOSITORY / "tests/vectors/malformed_messages.json").read_text())["cases"]
#: Not the door's business: the message is sound, what it asks for is not; Celery's consumer says so.
INSIDE = {
    "unknown task",
    "unknown task, protocol 1",
    "bad ETA",
    "retries is text",
    "priority is text",
    "wrong arguments",
}


def raw(case: dict[str, Any]) -> bytes:
    message = case["message"]
    if isinstance(message, dict):
        return json.dumps(message).encode()
    kind, _, text = message.partition(":")
    return b64decode(text) if kind == "base64" else text.encode()


def good(**changes: Any) -> dict[str, Any]:
    message = json.loads(redis_message(ROUTE_TASK, [["e1"]], shadow="x", argsrepr="x"))
    return {**message, **changes}


def passes(message: Any) -> dict[str, Any]:
    return checked(json.dumps(message).encode())


@pytest.mark.parametrize("case", [case for case in CASES if case["stock"] == "runs"], ids=lambda case: case["name"])
def test_what_runs_passes(case: dict[str, Any]) -> None:
    """Protocol 2 and 1, base64 or plain, as clients in other languages write them."""
    assert checked(raw(case)) == case["message"]


@pytest.mark.parametrize("case", [case for case in CASES if case["name"] in INSIDE], ids=lambda case: case["name"])
def test_sound_messages_pass(case: dict[str, Any]) -> None:
    """A message of sound form reaches the consumer, which judges what it asks for."""
    assert checked(raw(case)) == case["message"]


REFUSED = [case for case in CASES if case["stock"] != "runs" and case["name"] not in INSIDE]


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case["name"])
def test_what_would_end_a_worker_stays_outside(case: dict[str, Any]) -> None:
    """Each with a reason that a dead letter may have."""
    with pytest.raises(Unusable) as caught:
        checked(raw(case))

    assert caught.value.reason == (
        "invalid" if case["name"] in {"pickle", "kwargs null, protocol 1"} else "undecodable"
    )


def test_no_case_is_forgotten() -> None:
    """The cases that crash or lose something are all among those refused."""
    harmful = ("exits", "crashes", "reconnects", "lost")

    assert {case["name"] for case in CASES if any(word in case["stock"] for word in harmful)} <= {
        case["name"] for case in REFUSED
    }


def test_our_own_ticket_passes() -> None:
    """The door knows the house's own."""
    ticket = good()

    assert passes(ticket) == ticket


@pytest.mark.parametrize(
    "body",
    [[], [[]], [[], {}], [[], {}, {}, {}], [{}, {}, {}], [[], [], {}], [[], {}, []], {}, None, "x", 5],
)
def test_the_body_of_protocol_2(body: Any) -> None:
    """A list of arguments, an object of named ones, an object of options or null."""
    with pytest.raises(Unusable):
        passes(good(body=b64encode(json.dumps(body).encode()).decode()))


def test_options_may_be_null() -> None:
    """Some clients send no options."""
    assert passes(good(body=b64encode(b'[[["e1"]], {}, null]').decode()))


@pytest.mark.parametrize("headers", [[], 0, "", False, [1], "x", 5])
def test_headers_of_another_kind(headers: Any) -> None:
    """With a body of protocol 2 there is no task without headers."""
    with pytest.raises(Unusable):
        passes(good(headers=headers))


@pytest.mark.parametrize("encoding", [[], {}])
def test_body_encoding_of_another_kind(encoding: Any) -> None:
    """Neither of the known words: unusable."""
    message = good()
    message["properties"]["body_encoding"] = encoding

    with pytest.raises(Unusable):
        passes(message)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("content-encoding",), 5),
        (("content-encoding",), ["utf-8"]),
        (("headers", "timelimit"), 5),
        (("headers", "timelimit"), [None]),
        (("headers", "timelimit"), "x"),
        (("headers", "stamped_headers"), 5),
        (("headers", "eta"), ""),
        (("headers", "eta"), {}),
        (("headers", "expires"), ""),
        (("headers", "expires"), 0),
        (("headers", "expires"), False),
        (("headers", "expires"), True),
        (("headers", "expires"), []),
    ],
)
def test_headers_that_would_end_a_worker(place: tuple[str, ...], value: Any) -> None:
    """What Celery's consumer unpacks without a look must have the shape it expects."""
    message = good()
    (message if len(place) == 1 else message[place[0]])[place[-1]] = value

    with pytest.raises(Unusable):
        passes(message)


@settings(max_examples=30)
@given(st.binary(max_size=60))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    """Whatever is pushed onto the list is a message or unusable."""
    with contextlib.suppress(Unusable):
        checked(data)


SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
PLACES = [
    ("body",),
    ("content-type",),
    ("content-encoding",),
    ("headers",),
    ("headers", "task"),
    ("headers", "id"),
    ("properties",),
    ("properties", "body_encoding"),
    ("properties", "delivery_tag"),
    ("properties", "delivery_info"),
    ("properties", "delivery_info", "exchange"),
    ("properties", "delivery_info", "routing_key"),
]


@settings(max_examples=60)
@given(place=st.sampled_from(PLACES), value=SCALARS, gone=st.booleans())
def test_no_broken_ticket_raises_anything_else(place: tuple[str, ...], value: Any, gone: bool) -> None:
    """One thing wrong, or missing, anywhere: a message or unusable."""
    message = good()
    holder = message
    for key in place[:-1]:
        holder = holder[key]
    if gone:
        del holder[place[-1]]
    else:
        holder[place[-1]] = value

    with contextlib.suppress(Unusable):
        passes(message)


@pytest.mark.parametrize("data", [b"[" * 100_000, b'{"a":' * 100_000])
def test_depth(data: bytes) -> None:
    """Nesting without end is undecodable."""
    with pytest.raises(Unusable):
        checked(data)


@pytest.mark.parametrize("place", [("headers", "task"), ("headers", "id"), ("properties", "delivery_tag")])
def test_bug_half_a_character_in_a_name_ended_the_worker(place: tuple[str, str]) -> None:
    """JSON can write a lone surrogate, UTF-8 cannot: the quarantine's own record of it raised in the consumer."""
    message = good()
    message[place[0]][place[1]] = "\ud800"
    with pytest.raises(Unusable):
        passes(message)
    old = {**good(), "headers": {}, "body": json.dumps({"task": "\ud800", "id": "1"})}
    old["properties"]["body_encoding"] = "utf-8"
    with pytest.raises(Unusable):
        passes(old)


@pytest.mark.parametrize("key", ["task", "id"])
def test_bug_an_empty_name_ended_the_worker(key: str) -> None:
    """The consumer took an empty text for none and looked for it in the body, which is a list."""
    message = good()
    message["headers"][key] = ""
    with pytest.raises(Unusable, match="no task name or no id"):
        passes(message)


def test_half_a_character_in_an_event_passes() -> None:
    """It is somebody's event, and is kept as it is."""
    body = json.dumps([[{"event": {"note": "\ud800"}}], {}, None])
    message = json.loads(redis_message(PUBLISH_TASK, [], shadow=None, argsrepr=""))
    assert passes({**message, "body": b64encode(body.encode()).decode()})


@pytest.mark.parametrize(
    ("args", "named"),
    [
        ([], {}),
        ([["e1"], "more"], {}),
        ([[{"email": "someone@example.com"}]], {}),
        (["e1"], {}),
        ([["\ud800"]], {}),
        ([["e1"]], {"ids": []}),
        ([["e1"] * 1001], {}),
    ],
)
def test_bug_a_ticket_that_is_none_was_logged_with_its_text(args: list[Any], named: dict[str, Any]) -> None:
    """The task raised, Celery logged the exception with what it quotes, and the message was gone."""
    with pytest.raises(Unusable, match="ticket"):
        passes(good(body=b64encode(json.dumps([args, named, None]).encode()).decode()))


@pytest.mark.parametrize("depth", [257, 300, 900])
def test_bug_a_message_too_deep_to_be_written_down_was_lost(depth: int) -> None:
    """What the parser just bears, the writer of the dead letter did not: the task failed after its acknowledgement."""
    body = f"[[{'[' * depth}{']' * depth}], {{}}, null]"
    message = json.loads(redis_message(PUBLISH_TASK, [], shadow=None, argsrepr=""))
    with pytest.raises(Unusable, match="deeper"):
        passes({**message, "body": b64encode(body.encode()).decode()})


def test_a_message_beyond_all_measure() -> None:
    """1 MiB and no more."""
    with pytest.raises(Unusable, match="larger"):
        checked(b" " * (MOST_BYTES + 1))


def test_bug_flower_showed_what_others_published() -> None:
    """Arguments stay out of Flower, in both protocols; our own tickets still name their events."""
    address = "someone@example.com"
    call = {"id": "1", "task": "events.publish", "args": [{"email": address}], "kwargs": {}, "retries": 2}
    old = {**json.loads(redis_message(PUBLISH_TASK, [], shadow=None, argsrepr="")), "headers": {}}
    old["body"] = b64encode(json.dumps(call).encode()).decode()
    new = without_arguments(checked(json.dumps(old).encode()))
    assert new["headers"] == {"lang": "py", "id": "1", "task": "events.publish", "retries": 2, **HIDDEN}
    assert json.loads(b64decode(new["body"])) == [[{"email": address}], {}, {}]

    second = without_arguments(json.loads(redis_message(PUBLISH_TASK, [], shadow=f"x {address}", argsrepr=address)))
    assert {key: second["headers"][key] for key in HIDDEN} == HIDDEN
    assert address not in second["headers"]["shadow"]
    ticket = json.loads(redis_message(ROUTE_TASK, [["e1"]], shadow="encharge · newUser", argsrepr="('e1',)"))
    assert without_arguments(ticket) == ticket


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("redis://:secret@127.0.0.1:6379/1", "Redis"),
        ("rediss://127.0.0.1:6379/0", "RedisSsl"),
        ("unix:///run/redis.sock?db=2", "RedisSocket"),
        ("sentinel://127.0.0.1:26379,127.0.0.1:26380/0?master=router", "RedisSentinel"),
    ],
)
def test_bug_flower_did_not_know_the_broker(url: str, kind: str) -> None:
    """Its page of queues was a 404: kombu put the name of our transport into the address."""
    app = Celery(set_as_current=False)
    app.conf.update(celery_settings(load({"REDIS_URL": url})))
    with app.connection() as connection:
        address = connection.as_uri(include_password=True)

    broker = Broker(address, broker_options=app.conf.broker_transport_options, broker_use_ssl=app.conf.broker_use_ssl)

    assert type(broker).__name__ == kind
