"""The tickets that we write ourselves against those of the locked Celery: field by field, and through its consumer."""

import json
import time
from base64 import b64decode
from collections.abc import Iterator
from typing import Any

import fakeredis
import kombu
import pytest
import redis
from celery import Celery
from celery.worker.request import Request

from cli import redis_server
from config.celery_settings import QUEUE, TICKETS, celery_settings
from config.settings import load
from tasks.envelope import Envelope
from tasks.ledger import Ledger
from tasks.messages import checked
from tasks.queue import PUBLISH_TASK, ROUTE_TASK, BrokerQueue, RedisQueue, queue_for, redis_message

#: What differs from message to message, or names the sender.
OWN = {
    ("headers", "id"),
    ("headers", "root_id"),
    ("headers", "origin"),
    ("headers", "argsrepr"),
    ("properties", "correlation_id"),
    ("properties", "reply_to"),
    ("properties", "delivery_tag"),
    ("properties", "delivery_info", "exchange"),
}
IDS = ["e1"]
SHADOW = "encharge · newUser"
EVENT = {
    "id": "e1",
    "source": "encharge",
    "format": "encharge",
    "type": "newUser",
    "name": "newUser",
    "subject": None,
    "received_at": "2026-01-02T03:04:05.678Z",
    "occurred_at": "2026-01-02T03:04:05.678Z",
    "event": {"event": "newUser"},
}


@pytest.fixture
def client(server: redis_server.Server) -> Iterator[Any]:
    found = redis.Redis.from_url(server.url)
    found.flushall()
    yield found
    found.close()


@pytest.fixture
def app(server: redis_server.Server) -> Iterator[Celery]:
    """Celery with the worker's own settings."""
    found = Celery("contract", set_as_current=False)
    found.conf.update(celery_settings(load({"REDIS_URL": server.url})))
    found.conf.task_queues = [kombu.Queue(QUEUE, routing_key=QUEUE)]

    @found.task(name=ROUTE_TASK, shared=False)
    def route(ids: list[str]) -> None:
        """Only registered, never run."""

    @found.task(name=PUBLISH_TASK, shared=False)
    def publish(*events: Any, **named: Any) -> None:
        """Only registered, never run."""

    found.finalize()
    yield found
    found.close()


def celerys(app: Celery, client: Any, task: str, args: list[Any], **options: Any) -> bytes:
    """The bytes that Celery itself puts onto the list."""
    app.send_task(task, args=args, ignore_result=True, **options)
    raw: bytes = client.rpop(QUEUE)
    return raw


def flat(value: Any, place: tuple[Any, ...] = ()) -> dict[tuple[Any, ...], Any]:
    """Every leaf of a JSON value by its place; empty containers are leaves."""
    if isinstance(value, dict | list) and value:
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        return {place_: leaf for key, inner in pairs for place_, leaf in flat(inner, (*place, key)).items()}
    return {place: value}


def opened(raw: bytes) -> dict[str, Any]:
    """A message with its body decoded."""
    message = json.loads(raw)
    return {**message, "body": json.loads(b64decode(message["body"]))}


@pytest.mark.parametrize(
    ("task", "args"),
    [
        (ROUTE_TASK, [IDS]),
        (ROUTE_TASK, [["e1", "e2"]]),
        (PUBLISH_TASK, [EVENT]),
        (PUBLISH_TASK, [{"name": "\u00fc \ud83d\ude00"}]),
    ],
)
def test_field_by_field(app: Celery, client: Any, task: str, args: list[Any]) -> None:
    """The same keys on every level, and the same values but for ids and the sender's name."""
    theirs = flat(opened(celerys(app, client, task, args, shadow=SHADOW)))
    ours = flat(opened(redis_message(task, args, shadow=SHADOW, argsrepr="x")))

    assert set(ours) == set(theirs)
    assert {place for place in ours if ours[place] != theirs[place]} <= OWN


def test_the_order_of_the_headers(app: Celery, client: Any) -> None:
    """Not needed, but free: a reader who compares two messages finds the same order."""
    theirs = opened(celerys(app, client, ROUTE_TASK, [IDS], shadow=SHADOW))
    ours = opened(redis_message(ROUTE_TASK, [IDS], shadow=SHADOW, argsrepr="x"))

    assert list(ours["headers"]) == list(theirs["headers"])


def test_ids_agree_within_a_message() -> None:
    """Id, root, correlation and tag are one id, new for each message."""
    first, second = (opened(redis_message(ROUTE_TASK, [IDS], shadow=None, argsrepr="x")) for _ in range(2))
    ids = {first["headers"]["id"], first["headers"]["root_id"], first["properties"]["correlation_id"]}

    assert ids == {first["properties"]["delivery_tag"]}
    assert first["headers"]["id"] != second["headers"]["id"]


def consumed(app: Celery, messages: int) -> list[Any]:
    """What Celery's own consumer reads from the queue, through the worker's transport."""
    taken: list[Any] = []
    with app.connection_for_read() as connection:
        consumer = app.amqp.TaskConsumer(connection.default_channel, on_message=taken.append)
        with consumer:
            while len(taken) < messages:
                connection.drain_events(timeout=5)
            for message in taken:
                message.ack()
    return taken


def test_the_consumer_reads_both_alike(app: Celery, client: Any) -> None:
    """Celery's consumer makes the same task, arguments and headers of our message as of its own."""
    theirs = celerys(app, client, ROUTE_TASK, [IDS], shadow=SHADOW)
    ours = redis_message(ROUTE_TASK, [IDS], shadow=SHADOW, argsrepr="x")
    client.lpush(TICKETS, theirs, ours)

    messages = consumed(app, 2)
    requests = [Request(message, app=app, task=app.tasks[ROUTE_TASK]) for message in messages]

    for message, request in zip(messages, requests, strict=True):
        assert message.payload == [[IDS], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]
        assert (request.name, request.task.name) == (SHADOW, ROUTE_TASK)
        assert (request.args, request.kwargs, request.content_type) == ([IDS], {}, "application/json")
    first, second = (
        {**message.headers, **dict.fromkeys(("id", "root_id", "origin", "argsrepr"))} for message in messages
    )
    assert first == second
    assert client.llen(TICKETS) == client.hlen("unacked") == 0


def test_the_ledgers_script_pushes_a_ticket(app: Celery, client: Any) -> None:
    """An accepted event's ticket arrives at the consumer, with the event's name for people."""
    ledger = Ledger(client, max_waiting=10, dedupe_window_s=60, lease_s=10)
    queue = queue_for(load({}), ledger)
    assert isinstance(queue, RedisQueue)
    another = Ledger(client, max_waiting=10, dedupe_window_s=60, lease_s=10)
    elsewhere = queue_for(load({"BROKER_URL": "redis://127.0.0.1:6379/7"}), another)
    assert isinstance(elsewhere, BrokerQueue), "tickets pushed into the ledger's Redis would reach nobody there"
    queue.accept([Envelope(**EVENT)])

    (message,) = consumed(app, 1)

    assert (message.headers["task"], message.headers["shadow"]) == (ROUTE_TASK, SHADOW)
    assert message.payload[0] == [IDS]
    assert [event.id for event in ledger.claim(message.payload[0][0], "worker")] == IDS


def test_what_is_unusable_goes_into_quarantine(app: Celery, client: Any) -> None:
    """Through the worker's transport: the bad message is kept raw, the good one behind it arrives."""
    good = redis_message(ROUTE_TASK, [IDS], shadow=SHADOW, argsrepr="x")
    client.lpush(TICKETS, b"\xffjunk", good)

    (message,) = consumed(app, 1)

    assert message.payload[0] == [IDS]
    (id_,) = client.zrange("router:quarantine", 0, -1)
    assert client.hgetall(b"router:quarantine:" + id_)[b"raw"] == b"\xffjunk"


def test_celerys_own_messages_pass_the_door(app: Celery, client: Any) -> None:
    """What any Celery client sends, with an ETA or without, is usable."""
    for options in ({}, {"countdown": 5}, {"expires": 60}, {"priority": 3}, {"headers": {"x": 1}}):
        raw = celerys(app, client, PUBLISH_TASK, [EVENT], **options)
        assert checked(raw) == json.loads(raw)


def test_another_broker_carries_the_same(app: Celery, client: Any) -> None:
    """Over a broker that is not Redis, kombu publishes a message with the same headers and body."""
    ledger = Ledger(fakeredis.FakeRedis(), max_waiting=10, dedupe_window_s=60, lease_s=10)
    queue = queue_for(load({"BROKER_URL": "memory://"}), ledger)
    assert isinstance(queue, BrokerQueue)
    assert queue.accept([Envelope(**EVENT)]) == [True]
    assert queue.accept([Envelope(**EVENT)]) == [False]
    assert queue.accept([Envelope(**{**EVENT, "id": id_, "subject": None}) for id_ in ("e2", "e3")]) == [True, True]

    with kombu.Connection("memory://") as connection, connection.SimpleQueue(QUEUE, no_ack=True) as simple:
        first, second = simple.get(timeout=1), simple.get(timeout=1)
        with pytest.raises(simple.Empty):
            simple.get_nowait()

    theirs = opened(celerys(app, client, ROUTE_TASK, [IDS], shadow=SHADOW))
    own = ("id", "root_id", "origin", "argsrepr")
    assert {**first.headers, **dict.fromkeys(own)} == {**theirs["headers"], **dict.fromkeys(own)}
    assert first.payload == theirs["body"]
    assert (first.content_type, first.content_encoding) == ("application/json", "utf-8")
    assert first.properties["correlation_id"] == first.headers["id"]
    assert second.payload[0] == [["e2", "e3"]]
    assert second.headers["shadow"] == "encharge · 2 events"


def away() -> tuple[Ledger, BrokerQueue]:
    """A queue whose broker does not answer."""
    ledger = Ledger(fakeredis.FakeRedis(), max_waiting=10, dedupe_window_s=60, lease_s=10)
    return ledger, BrokerQueue(ledger, f"amqp://127.0.0.1:{redis_server.free_port()}//")


def test_a_broker_that_is_away_loses_nothing() -> None:
    """The event is in the ledger when the ticket could not be sent; accepting it does not fail."""
    ledger, queue = away()

    assert queue.accept([Envelope(**EVENT)]) == [True]
    found = ledger.event("e1")
    assert found is not None
    assert found.state == "accepted"


def test_a_broker_that_is_away_costs_little_time() -> None:
    """The sender waits two seconds at most for our answer."""
    _, queue = away()
    before = time.monotonic()

    queue.accept([Envelope(**EVENT)])

    assert time.monotonic() - before < 1
