"""Real Celery publishers, and bytes as other clients write them, become the events that they mean."""

import json
from base64 import b64encode
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
import redis
from builders import EMAIL
from celery import Celery

from cli import redis_server
from config.celery_settings import QUEUE
from publisher import Publisher
from tasks.contract import Published, published
from tasks.envelope import Envelope, Rejected
from tasks.messages import Call, Unusable, call_of, checked

TAG = {"tag": "vip", "email": EMAIL}
EVENT = {"type": "invoice-paid", "event": {"total": 12.5}}


@pytest.fixture
def client(server: redis_server.Server) -> Iterator[Any]:
    found = redis.Redis.from_url(server.url)
    found.flushall()
    yield found
    found.close()


@pytest.fixture(params=[2, 1], ids=["protocol 2", "protocol 1"])
def celery(request: pytest.FixtureRequest, server: redis_server.Server) -> Iterator[Celery]:
    """Another team's application: nothing but an address and a queue."""
    found = Celery(broker=server.url, set_as_current=False)
    found.conf.task_default_queue = QUEUE
    found.conf.task_protocol = request.param
    yield found
    found.close()


def taken(client: Any, key: str = QUEUE) -> tuple[Call, Published]:
    """The next message of a list, read as the door reads it."""
    call = call_of(checked(client.rpop(key)))
    return call, published(call, None, datetime.now(UTC))


def event_of(client: Any, key: str = QUEUE) -> Envelope:
    (event,) = taken(client, key)[1].events
    assert isinstance(event, Envelope), event
    return event


def test_names_positions_and_objects(celery: Celery, client: Any) -> None:
    """Three ways to say the same; the task's id is the event's."""
    ids = [
        celery.send_task("users.tag", kwargs=TAG).id,
        celery.send_task("users.tag", ["vip", EMAIL]).id,
        celery.send_task("users.tag", [TAG]).id,
        celery.send_task("users.tag", ["vip"], {"email": EMAIL}).id,
    ]
    events = [event_of(client) for _ in ids]

    assert [event.id for event in events] == ids
    assert [(event.type, event.event) for event in events] == [("users.tag", TAG)] * 4


def test_a_task_with_a_signature(celery: Celery, client: Any) -> None:
    """A publisher may declare the task for itself, and delay it."""

    @celery.task(name="users.tag", shared=False)
    def tag(**_: Any) -> None:
        """Runs at the router, not here."""

    tag.delay(**TAG)
    tag.s(tag="vip").apply_async(kwargs={"email": EMAIL})

    assert event_of(client).event == event_of(client).event == TAG


def test_events(celery: Celery, client: Any) -> None:
    """One, several, a list, and by name."""
    celery.send_task("events.publish", [EVENT])
    celery.send_task("events.publish", [[EVENT, EVENT]])
    celery.send_task("events.publish", [EVENT, EVENT])
    celery.send_task("events.publish", kwargs={**EVENT, "publisher": "billing"})
    found = [taken(client)[1] for _ in range(4)]

    assert [len(each.events) for each in found] == [1, 2, 2, 1]
    assert all(isinstance(event, Envelope) and event.type == "invoice-paid" for each in found for event in each.events)
    assert found[3].source == "billing"


def test_times(celery: Celery, client: Any) -> None:
    """What countdown, eta and expires become; expires is the event's own, too."""
    begun = datetime.now(UTC)
    celery.send_task("users.tag", kwargs=TAG, countdown=7200, expires=9000)
    celery.send_task("users.tag", kwargs=TAG, eta=begun + timedelta(hours=1), expires=begun + timedelta(hours=2))
    (call, by_seconds), (other, by_moment) = taken(client), taken(client)

    assert call.due_at is not None
    assert timedelta(seconds=7199) < call.due_at - begun < timedelta(seconds=7260)
    assert other.due_at == begun + timedelta(hours=1)
    for found, seconds in ((by_seconds, 9000), (by_moment, 7200)):
        (event,) = found.events
        assert isinstance(event, Envelope)
        assert event.expires_at is not None
        left = datetime.fromisoformat(event.expires_at) - begun - timedelta(seconds=seconds)
        assert abs(left) < timedelta(seconds=60)


def test_headers(server: redis_server.Server, client: Any) -> None:
    """Protocol 2 has a place for them beside the arguments."""
    celery = Celery(broker=server.url, set_as_current=False)
    celery.send_task(
        "users.tag", kwargs=TAG, queue=QUEUE, headers={"publisher": "billing", "event_id": "invoice-1", "reply": True}
    )
    _, found = taken(client)
    celery.close()

    assert (found.source, found.reply) == ("billing", True)
    assert [event.id for event in found.events if isinstance(event, Envelope)] == ["invoice-1"]


def test_broken_arguments_of_real_publishers(celery: Celery, client: Any) -> None:
    """Celery sends whatever it is given; each becomes one dead letter that names the field."""
    celery.send_task("users.tag", kwargs={"tga": "vip", "email": EMAIL})
    celery.send_task("events.track", [5], {"email": EMAIL})
    celery.send_task("objects.upsert")
    found = [event for _ in range(3) for event in taken(client)[1].events]

    assert [event.error.split(":")[0] for event in found if isinstance(event, Rejected)] == [
        "tag", "event", "objectType",
    ]  # fmt: skip


def test_our_own_publisher(server: redis_server.Server, client: Any) -> None:
    """publisher.py over a real Redis: one list is touched, under a prefix if there is one; no argument in headers."""
    Publisher(server.url, "billing").tag(tag="vip", email=EMAIL, event_id="invoice-1", countdown=60)
    Publisher(server.url, "shop", prefix="shop:").publish({"total": 1}, type="paid", subject=None)

    assert sorted(client.keys()) == [b"events", b"shop:events"]
    raw = client.lindex(QUEUE, 0)
    assert EMAIL not in json.dumps(json.loads(raw)["headers"])
    call, found = taken(client)
    assert (found.source, call.due_at is not None, call.headers["ignore_result"]) == ("billing", True, True)
    event = event_of(client, "shop:events")
    assert (event.source, event.type, event.event, event.subject) == ("shop", "paid", {"total": 1}, None)


def test_bug_a_teams_own_settings_made_messages_unreadable(server: redis_server.Server, client: Any) -> None:
    """Its application compresses, and pickles, what is its own."""
    team = Celery(broker=server.url, set_as_current=False)
    team.conf.task_serializer, team.conf.task_compression = "pickle", "gzip"
    Publisher(team, "billing").tag(tag="vip", email=EMAIL)
    assert event_of(client).event == TAG

    team.send_task("users.tag", kwargs=TAG, queue=QUEUE, serializer="json")
    with pytest.raises(Unusable, match="publish without task_compression"):
        checked(client.rpop(QUEUE))
    team.close()


def test_bug_stock_celerys_types_are_texts(celery: Celery, client: Any) -> None:
    """As kombu writes them, in arguments and in headers; the same as where Celery reads the message."""
    event = {"total": Decimal("12.50"), "at": datetime(2026, 1, 2, 3, tzinfo=UTC), "key": UUID(int=17), "b": b"x"}
    celery.send_task("events.publish", kwargs={"type": "paid", "event": event}, headers={"event_id": UUID(int=17)})
    raw = client.rpop(QUEUE)
    (found,) = published(call_of(checked(raw)), None, datetime.now(UTC)).events

    assert isinstance(found, Envelope)
    key = str(UUID(int=17))
    assert found.event == {"total": "12.50", "at": "2026-01-02T03:00:00Z", "key": key, "b": "x"}
    by_celery = Call("events.publish", "t", [], {"type": "paid", "event": event})
    (other,) = published(by_celery, None, datetime.now(UTC)).events
    assert isinstance(other, Envelope)
    assert other.event == found.event


def plain(message: dict[str, Any], body: Any) -> dict[str, Any]:
    message["body"], message["properties"]["body_encoding"] = json.dumps(body), "utf-8"
    return message


def packed(message: dict[str, Any], body: Any) -> dict[str, Any]:
    message["body"] = b64encode(json.dumps(body).encode()).decode()
    message["properties"]["body_encoding"] = "base64"
    return message


@pytest.mark.parametrize("write", [plain, packed])
@pytest.mark.parametrize("options", [{}, None, {"callbacks": None}])
def test_bytes_of_lesser_clients(
    client: Any, write: Callable[[dict[str, Any], Any], dict[str, Any]], options: dict[str, Any] | None
) -> None:
    """With as few headers as there can be, and the body packed or plain."""
    message = {
        "content-type": "application/json",
        "headers": {"task": "users.tag", "id": "any id"},
        "properties": {"delivery_tag": "1", "delivery_info": {"exchange": "", "routing_key": QUEUE}},
    }
    client.lpush(QUEUE, json.dumps(write(message, [[], TAG, options])))

    event = event_of(client)
    assert (event.id, event.event) == ("any id", TAG)
