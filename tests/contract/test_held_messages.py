"""What a worker holds: tickets without a trace in Redis, other messages with one; and a Redis that is full."""

import json
from base64 import b64decode
from collections.abc import Iterator
from typing import Any

import kombu
import pytest
import redis

from cli import redis_server
from config.celery_settings import QUEUE, celery_settings
from config.settings import load
from tasks.heartbeat import Heartbeats, Worker, alive_queue
from tasks.queue import PUBLISH_TASK, ROUTE_TASK, redis_message


@pytest.fixture
def client(server: redis_server.Server) -> Iterator[Any]:
    found = redis.Redis.from_url(server.url)
    found.config_set("maxmemory", 0)
    found.flushall()
    yield found
    found.config_set("maxmemory", 0)
    found.close()


@pytest.fixture
def connection(server: redis_server.Server, client: Any) -> Iterator[kombu.Connection]:
    """The worker's connection to a broker beside the ledger's Redis, where others' messages come to it, too."""
    yield from connected({"REDIS_URL": "redis://127.0.0.1:1/0", "BROKER_URL": server.url})


def connected(environ: dict[str, str]) -> Iterator[kombu.Connection]:
    conf = celery_settings(load(environ))
    with kombu.Connection(
        conf["broker_url"], transport=conf["broker_transport"], transport_options=conf["broker_transport_options"]
    ) as found:
        yield found


def put(client: Any, task: str, *names: str) -> None:
    """Messages on the queue, the first to be taken first."""
    for name in names:
        client.lpush(QUEUE, redis_message(task, [[name]], shadow=None, argsrepr="x"))


def queued(client: Any) -> list[str]:
    """The names in the queue's messages, the next to be taken first."""
    bodies = [b64decode(json.loads(raw)["body"]) for raw in reversed(client.lrange(QUEUE, 0, -1))]
    return [json.loads(body)[0][0][0] for body in bodies]


def take(connection: kombu.Connection, messages: int) -> list[Any]:
    """Take that many off the queue, and hold them."""
    taken: list[Any] = []
    channel = connection.default_channel
    consumer = kombu.Consumer(
        channel,
        queues=[kombu.Queue(QUEUE, routing_key=QUEUE)],
        on_message=taken.append,
        accept=["json"],
        prefetch_count=messages,
    )
    consumer.consume()
    while len(taken) < messages:
        connection.drain_events(timeout=5)
    consumer.cancel()
    return taken


def kept(client: Any) -> tuple[int, int]:
    return client.hlen("unacked"), client.zcard("unacked_index")


def test_a_ticket_leaves_no_trace(client: Any, connection: kombu.Connection) -> None:
    """It is only a wake-up: the ledger knows what waits."""
    put(client, ROUTE_TASK, "e1", "e2")
    first, second = take(connection, 2)

    assert kept(client) == (0, 0)
    first.ack()
    second.reject(requeue=True)
    assert queued(client) == ["e2"]


def test_another_message_is_kept_until_it_is_acknowledged(client: Any, connection: kombu.Connection) -> None:
    """It is the only copy."""
    put(client, PUBLISH_TASK, "e1", "e2")
    first, second = take(connection, 2)

    assert kept(client) == (2, 2)
    first.ack()
    second.reject(requeue=True)
    assert kept(client) == (0, 0)
    assert queued(client) == ["e2"]


def test_tickets_are_handed_back_in_their_order(client: Any, connection: kombu.Connection) -> None:
    """Before the ones that came meanwhile; another message stays with who works on it."""
    put(client, ROUTE_TASK, "e1", "e2", "e3")
    put(client, PUBLISH_TASK, "p1")
    tickets = take(connection, 4)[:3]
    put(client, ROUTE_TASK, "e4")
    tickets[0].ack()

    connection.default_channel.hand_back()

    assert queued(client) == ["e2", "e3", "e4"]
    assert kept(client) == (1, 1)


def test_where_there_is_a_door_only_tickets_are_read(client: Any, server: redis_server.Server) -> None:
    """And handed back to the list that they came from; what others publish is left to the door."""
    put(client, PUBLISH_TASK, "p1")
    client.lpush("events.tickets", redis_message(ROUTE_TASK, [["e1"]], shadow=None, argsrepr="x"))
    for connection in connected({"REDIS_URL": server.url}):
        (ticket,) = take(connection, 1)
        assert ticket.payload[0] == [["e1"]]
        assert client.llen("events.tickets") == 0
        connection.default_channel.hand_back()
    assert (client.llen("events.tickets"), queued(client)) == (1, ["p1"])


def test_a_closed_connection_puts_all_back(client: Any, connection: kombu.Connection) -> None:
    """As stock does, tickets included."""
    put(client, ROUTE_TASK, "e1")
    put(client, PUBLISH_TASK, "p1")
    take(connection, 2)

    connection.close()

    assert sorted(queued(client)) == ["e1", "p1"]
    assert kept(client) == (0, 0)


def test_a_full_redis_loses_no_message(client: Any, connection: kombu.Connection) -> None:
    """A worker connects, takes, acknowledges and gives back while every command that needs memory is refused."""
    put(client, ROUTE_TASK, "e1")
    put(client, PUBLISH_TASK, "p1", "p2")
    client.config_set("maxmemory", 1)
    with pytest.raises(redis.OutOfMemoryError):
        client.set("more", "x")

    _, first, _ = take(connection, 3)
    assert kept(client) == (2, 2)
    first.ack()
    connection.default_channel.hand_back()

    assert queued(client) == ["e1"]
    assert kept(client) == (1, 1)


def test_a_heartbeat_is_under_way_once(client: Any) -> None:
    """Whoever does not take it gets no second one; a full Redis takes it too."""
    worker = Worker("w@host", "host", 7, 30)
    heartbeats = Heartbeats(client)

    for silent_s in (0, 5):
        heartbeats.beat(Worker("w@host", "host", 7, 30, silent_s), b"beat")
    client.config_set("maxmemory", 1)
    heartbeats.beat(Worker("w@host", "host", 7, 30, 40), b"beat")

    assert client.lrange(alive_queue("w@host"), 0, -1) == [b"beat"]
    assert 0 < client.ttl(alive_queue("w@host")) <= 60
    (seen,) = heartbeats.workers()
    assert (seen.name, seen.host, seen.pid, seen.alive, round(seen.silent_s)) == ("w@host", "host", 7, False, 40)
    heartbeats.leave(worker)
    assert heartbeats.workers() == []
    assert client.llen(alive_queue("w@host")) == 0


def test_who_has_been_silent_for_long_is_forgotten(client: Any) -> None:
    """When another's heart beats; the longest silent comes first."""
    heartbeats = Heartbeats(client)
    for pid, silent_s in ((1, 700), (2, 1), (3, 20)):
        heartbeats.beat(Worker("w:x@host", "host", pid, 30, silent_s), b"")

    assert [(seen.pid, seen.name) for seen in heartbeats.workers()] == [(3, "w:x@host"), (2, "w:x@host")]
