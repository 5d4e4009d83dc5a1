"""The door for what is published: one step from the list into the ledger, whatever happens in between."""

import json
import random
from base64 import b64decode
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from builders import REPOSITORY, back, envelope_data

from cli import redis_server
from tasks import routing
from tasks.contract import MOST_EVENTS, Published
from tasks.dead_letter import DeadLetters
from tasks.door import Door
from tasks.envelope import Envelope, Rejected, decode, load
from tasks.ledger import Ledger, Result, connect
from tasks.messages import Call
from tasks.publishers import Publisher, Publishers
from tasks.queue import PUBLISH_TASK, redis_message

CASES: list[dict[str, Any]] = json.loads((REPOSITORY / "tests/vectors/malformed_messages.json").read_text())["cases"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[redis_server.Server]:
    found = redis_server.ensure({}, tmp_path_factory.mktemp("redis"))
    yield found
    redis_server.stop(found)


@pytest.fixture
def ledger(server: redis_server.Server) -> Ledger:
    """In a real server: the imitation knows no digests."""
    client = connect(server.url, timeout_s=5)
    client.flushall()
    return Ledger(client, max_waiting=10_000, dedupe_window_s=3600, lease_s=10)


def door(ledger: Ledger, *publishers: Publisher, name: str = "w1", threads: int = 4, most: int = 10_000) -> Door:
    known = Publishers({each.name: each for each in publishers})
    return Door(ledger, known, name, threads, result_ttl_s=60, max_waiting=most)


def message(*args: Any, task: str = PUBLISH_TASK, headers: dict[str, Any] | None = None, **named: Any) -> bytes:
    made = json.loads(redis_message(task, args, named, shadow=None, argsrepr="(…)"))
    made["headers"] |= headers or {}
    return json.dumps(made).encode()


def push(ledger: Ledger, *raw: bytes, queue: str = "events") -> None:
    for each in raw:
        ledger.client.lpush(queue, each)


def all_of(door_: Door) -> None:
    while door_.take():
        """Until nothing is left."""


def states(ledger: Ledger, *ids: str) -> list[str]:
    return [event.state if event else "missing" for event in ledger.events(ids)]


def tickets(ledger: Ledger) -> list[list[str]]:
    raw = reversed(ledger.client.lrange("events.tickets", 0, -1))
    return [json.loads(json.loads(each)["body"])[0][0] for each in raw]


def letters(ledger: Ledger) -> list[tuple[str, str, str]]:
    return sorted((each.source, each.type, each.reason) for each in DeadLetters(ledger).find())


def test_messages_become_events_in_their_order(ledger: Ledger) -> None:
    """And nothing is left where they came from."""
    push(ledger, *(message(envelope_data(id=f"e{n}", subject="one")) for n in range(3)))
    push(ledger, message([envelope_data(id="e3", subject="one"), envelope_data(id="e4", subject=None)]))

    all_of(door(ledger))

    assert ledger.client.llen("events") == 0
    assert ledger.client.lrange(f"router:line:{ledger.event('e0').subject}", 0, -1) == [b"e0", b"e1", b"e2", b"e3"]  # type: ignore[union-attr]
    assert [id_ for ids in tickets(ledger) for id_ in ids] == ["e0", "e4"]
    assert ledger.counts()["source", "encharge"] == {"accepted": 5, "waiting": 5}


def test_many_share_tickets_few_do_not(ledger: Ledger) -> None:
    push(ledger, *(message(envelope_data(id=f"e{n}", subject=None)) for n in range(12)))
    all_of(door(ledger, threads=4))
    assert [len(each) for each in tickets(ledger)] == [3, 3, 3, 3]


def test_the_same_id_again_is_a_duplicate(ledger: Ledger) -> None:
    push(ledger, message(envelope_data(id="a")), message(envelope_data(id="a")))
    all_of(door(ledger))
    assert ledger.counts()["source", "encharge"] == {"accepted": 2, "waiting": 1, "duplicate": 1}


def test_whoever_dies_between_look_and_script_loses_nothing(ledger: Ledger) -> None:
    """The messages are where they were, and somebody else takes them when the door is free."""
    push(ledger, message(envelope_data(id="a")))
    first, second = door(ledger, name="w1"), door(ledger, name="w2")
    assert ledger.run("peek", "w1", 3000, 3, 100, 10_000, 1000, "events")[2]

    assert not second.take(), "the first one keeps the door"
    ledger.client.delete("router:door")
    assert second.take()
    assert states(ledger, "a") == ["accepted"]
    assert not first.take()


def test_two_who_looked_at_the_same_take_it_once(ledger: Ledger) -> None:
    """A worker that stood still for long finds that another was quicker."""
    push(ledger, message(envelope_data(id="a")), message(envelope_data(id="b")))
    slow = door(ledger, name="slow")
    _, _, raw = ledger.run("peek", "slow", 3000, 3, 1, 10_000, 1000, "events")
    items = [item for each in raw for item in slow._items(each, None, 1)]
    ledger.client.delete("router:door")
    assert door(ledger, name="quick").take()

    assert not slow._run("events", raw, items)
    assert ledger.counts()["source", "encharge"] == {"accepted": 2, "waiting": 2}


def test_what_kills_its_readers_is_put_aside_and_its_neighbours_are_not(ledger: Ledger) -> None:
    """Looks that came to no end are counted; then one by one, and the one to blame goes into quarantine."""
    push(ledger, message(envelope_data(id="a")), b"this one kills", message(envelope_data(id="b")))
    one = door(ledger)
    for _ in range(20):
        batch = ledger.run("peek", "w1", 3000, 3, 100, 100_000, 1000, "events")
        if not batch:
            break
        queue, tries, raw = batch
        if b"this one kills" in raw and tries < 6:
            continue  # the worker died
        one._publish(queue, raw, [item for each in raw for item in one._items(each, None, tries)])

    assert states(ledger, "a", "b") == ["accepted", "lined"]
    assert [reason for _, _, reason in letters(ledger)] == ["poison"]


def test_every_kind_of_malformed_message(ledger: Ledger) -> None:
    """Twenty of each among good ones: nothing is dropped, and each has a reason."""
    raw = [_raw(case["message"]) for case in CASES for _ in range(20)]
    good = [message(envelope_data(id=f"good-{n}", subject=None)) for n in range(200)]
    mixed = raw + good
    random.Random(5).shuffle(mixed)
    push(ledger, *mixed)

    all_of(door(ledger))

    found = letters(ledger)
    assert len(found) == len(raw)
    assert {reason for _, _, reason in found} == {"undecodable", "invalid", "unknown_task"}
    assert set(states(ledger, *(f"good-{n}" for n in range(200)))) == {"accepted"}


def _raw(kept: Any) -> bytes:
    if isinstance(kept, dict):
        return json.dumps(kept).encode()
    kind, _, text = kept.partition(":")
    return b64decode(text) if kind == "base64" else text.encode()


def test_an_unknown_task_is_told_which_is_near(ledger: Ledger) -> None:
    push(ledger, message({}, task="events.publihs", headers={"publisher": "billing"}))
    all_of(door(ledger))
    (letter,) = DeadLetters(ledger).find()
    assert (letter.reason, letter.source) == ("unknown_task", "billing")
    assert letter.error == "there is no task 'events.publihs'; did you mean events.publish?"


def test_a_quarantined_message_goes_back_where_it_came_from(ledger: Ledger) -> None:
    """Its publisher is known by its list."""
    billing = Publisher("billing", prefix="billing:")
    push(ledger, b"junk", queue="billing:events")
    all_of(door(ledger, billing))
    (letter,) = DeadLetters(ledger).find()
    assert (letter.source, letter.raw) == ("billing", "junk")

    DeadLetters(ledger).release(letter.id.removeprefix("quarantine:"))

    assert ledger.client.lrange("billing:events", 0, -1) == [b"junk"]
    assert ledger.counts()["source", "billing"] == {"accepted": 0, "dead": 0}


@pytest.mark.parametrize("queue", ["events\x06\x163", "events\x06\x169", "billing:events", "billing:events\x06\x166"])
def test_lists_of_priorities_and_of_publishers(ledger: Ledger, queue: str) -> None:
    source = queue.partition(":")[0].partition("\x06")[0]
    push(ledger, message(envelope_data(id="a", source=source)), queue=queue)
    all_of(door(ledger, Publisher("billing", prefix="billing:")))
    assert states(ledger, "a") == ["accepted"]


def test_the_urgent_go_first_but_not_for_ever(ledger: Ledger) -> None:
    """Seven looks for the most urgent list, then one for the least urgent."""
    for n in range(9):
        push(ledger, *(message(envelope_data(id=f"{n}-{i}", subject=None)) for i in range(100)))
    push(ledger, message(envelope_data(id="patient", subject=None)), queue="events\x06\x169")
    one = door(ledger)
    for _ in range(7):
        assert one.take()
    assert states(ledger, "patient") == ["missing"]
    assert one.take()
    assert states(ledger, "patient") == ["accepted"]
    assert ledger.client.llen("events") == 200


def test_a_full_ledger_leaves_messages_where_they_are(ledger: Ledger) -> None:
    push(ledger, *(message(envelope_data(id=f"e{n}", subject=None)) for n in range(3)))
    full = door(ledger, most=3)
    assert full.take()
    push(ledger, message(envelope_data(id="later", subject=None)))
    assert not full.take()
    assert ledger.client.llen("events") == 1


def test_a_ticket_among_them_goes_where_tickets_go(ledger: Ledger) -> None:
    """Left by an earlier version; a heartbeat is left out."""
    ticket = redis_message("events.route", [["a"]], shadow=None, argsrepr="x")
    push(ledger, ticket, redis_message("router.alive", [], shadow=None, argsrepr="x"))
    all_of(door(ledger))
    assert ledger.client.lrange("events.tickets", 0, -1) == [ticket]
    assert letters(ledger) == []


def test_what_is_due_later_waits_in_the_ledger(ledger: Ledger) -> None:
    """And takes its place when its time has come, in its order."""
    eta = (datetime.now(UTC) + timedelta(hours=2)).isoformat()
    push(ledger, *(message(envelope_data(id=id_, subject="one"), headers={"eta": eta}) for id_ in ("b", "a")))
    push(ledger, message(envelope_data(id="now", subject="one")))
    all_of(door(ledger))
    assert states(ledger, "b", "a", "now") == ["scheduled", "scheduled", "accepted"]
    assert ledger.wake_scheduled(["a", "b"]) == []

    for id_ in ("a", "b"):
        back(ledger, "router:scheduled", id_, 7201)
    assert set(ledger.overdue(5).scheduled) == {"a", "b"}
    assert ledger.wake_scheduled(["a", "b"]) == ["b", "a"]
    assert states(ledger, "now", "b", "a") == ["accepted", "lined", "lined"]


def test_an_eta_in_the_past_is_now(ledger: Ledger) -> None:
    push(ledger, message(envelope_data(id="a"), headers={"eta": "2026-01-01T00:00:00"}))
    all_of(door(ledger))
    assert states(ledger, "a") == ["accepted"]


def test_beyond_the_quota_events_wait_in_their_order(ledger: Ledger) -> None:
    """Two at once, then one a second; what comes while others wait stands behind them."""
    billing = Publisher("billing", per_second=1, burst=2)
    ids = ["d", "c", "b", "a"]
    push(ledger, *(message(envelope_data(id=id_, source="billing", subject="one")) for id_ in ids))
    all_of(door(ledger, billing))
    assert states(ledger, *ids) == ["accepted", "lined", "scheduled", "scheduled"]

    push(ledger, message(envelope_data(id="0", source="billing", subject="one")))
    all_of(door(ledger, billing))
    assert states(ledger, "0") == ["scheduled"], "two wait still"
    for seconds, id_ in enumerate(("b", "a", "0"), 1):
        back(ledger, "router:scheduled", id_, seconds)
    ledger.client.hset("router:quota:billing", "tat", 0)
    push(ledger, message(envelope_data(id="1", source="billing", subject="one")))
    all_of(door(ledger, billing))
    assert states(ledger, "1") == ["scheduled"], "or it would overtake those whose time has just come"
    assert ledger.wake_scheduled(ledger.overdue(5).scheduled) == ["b", "a", "0"]


def test_a_message_of_many_events_is_taken_in_shares(ledger: Ledger) -> None:
    """Redis does nothing else during a call."""
    push(ledger, message([envelope_data(id=str(n), subject=None) for n in range(MOST_EVENTS)]))
    all_of(door(ledger))
    assert ledger.counts()["source", "encharge"] == {"accepted": MOST_EVENTS, "waiting": MOST_EVENTS}
    assert ledger.client.llen("events") == 0


def test_celery_may_hand_over_what_it_took(ledger: Ledger) -> None:
    """With another broker, or without our door."""
    door(ledger).accept(Call(PUBLISH_TASK, "t1", [envelope_data(id="a")], {}, {}))
    assert states(ledger, "a") == ["accepted"]
    door(ledger).accept(Call(PUBLISH_TASK, "t2", [], {}, {"publisher": "billing"}))


def published(ledger: Ledger, **data: object) -> Envelope:
    push(ledger, message(envelope_data(**data)))
    all_of(door(ledger))
    (id_,) = ledger.client.zrange("router:accepted", 0, -1)
    event = ledger.event(id_.decode())
    assert event is not None
    return decode(event.envelope or b"")


def test_bug_a_published_type_lost_what_was_personal(ledger: Ledger) -> None:
    """And then no route knew it."""
    routes = routing.load(REPOSITORY / "config/routes.yaml")
    event = {"kind": "experience-start", "tenantId": "t", "data": {}, "customContext": {"stage": "start"}}
    envelope = published(
        ledger, format="activity_sync", type="experience-start", name="experience-start", event=event,
        person={"userId": "u1"}, raw=None,
    )  # fmt: skip

    assert (envelope.type, envelope.shown) == ("experience-start", "encharge · experience-…")
    assert list(routes.match(envelope)) != []


def reply(ledger: Ledger, task: str) -> Any:
    raw = ledger.client.get(f"celery-task-meta-{task}")
    return raw and json.loads(raw)


def test_whoever_asks_is_told_what_became_of_it(ledger: Ledger) -> None:
    """When the last event of the task has ended; as Celery's own backend writes it."""
    one = door(ledger)
    items = [envelope_data(id=id_, subject=None) for id_ in ("a", "b")]
    found = Published("encharge", [load(each) for each in items], reply=True)
    ledger.client.lpush("events", b"x")
    one._publish("events", [b"x"], list(one._of_events(Call(PUBLISH_TASK, "t1", [], {}), found)))

    for id_, state in (("a", "delivered"), ("b", "dead")):
        assert reply(ledger, "t1") is None
        (event,) = ledger.claim([id_], f"w-{id_}")
        ledger.settle(event, [Result("r", state, {"reason": "rejected"})])

    told = reply(ledger, "t1")
    assert (told["status"], told["result"]["exc_message"]) == ("FAILURE", ["b: rejected"])
    assert 0 < ledger.client.ttl("celery-task-meta-t1") <= 60

    assert ledger.replay("b", "r", {})
    (event,) = ledger.claim(["b"], "w-again")
    ledger.settle(event, [Result("r", "delivered", {})])
    assert reply(ledger, "t1")["status"] == "SUCCESS"
    assert reply(ledger, "t1")["result"] == {"a": "delivered", "b": "delivered"}


def test_a_duplicate_is_an_answer(ledger: Ledger) -> None:
    push(ledger, message(envelope_data(id="a")))
    one = door(ledger)
    all_of(one)
    found = Published("encharge", [load(envelope_data(id="a"))], reply=True)
    one._publish("events", [], list(one._of_events(Call(PUBLISH_TASK, "t2", [], {}), found)))
    assert reply(ledger, "t2")["result"] == {"a": "duplicate"}


def test_what_is_wrong_is_an_answer(ledger: Ledger) -> None:
    bad = Rejected(load(envelope_data(id="a")), "tag: is missing")
    one = door(ledger)
    one._publish("events", [], list(one._of_events(Call("users.tag", "t3", [], {}), Published("x", [bad], reply=True))))
    assert reply(ledger, "t3")["result"]["exc_message"] == ["a: invalid: tag: is missing"]


def test_one_publishers_flood_does_not_keep_another_one_waiting(ledger: Ledger) -> None:
    """They take turns."""
    billing = Publisher("billing", prefix="billing:")
    for n in range(4):
        push(ledger, *(message(envelope_data(id=f"{n}-{i}", subject=None)) for i in range(100)))
    push(ledger, message(envelope_data(id="b", source="billing", subject=None)), queue="billing:events")
    one = door(ledger, billing)
    assert one.take()
    assert one.take()
    assert states(ledger, "b") == ["accepted"]
    assert ledger.client.llen("events") == 300
