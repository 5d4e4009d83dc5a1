"""The door for what is published: one step from the list into the ledger, whatever happens in between."""

import json
import random
from base64 import b64decode
from datetime import UTC, datetime, timedelta
from decimal import Decimal
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
from tasks.messages import MOST_BYTES, Call
from tasks.published import Reader
from tasks.publishers import Publisher, Publishers
from tasks.queue import PUBLISH_TASK, redis_message
from tasks.replay import plan

CASES: list[dict[str, Any]] = json.loads((REPOSITORY / "tests/vectors/malformed_messages.json").read_text())["cases"]


@pytest.fixture
def ledger(server: redis_server.Server) -> Ledger:
    """In a real server: the imitation knows no digests."""
    client = connect(server.url, timeout_s=5)
    client.flushall()
    return Ledger(client, max_waiting=10_000, dedupe_window_s=3600, lease_s=10)


def door(ledger: Ledger, *publishers: Publisher, name: str = "w1", threads: int = 4, most: int = 10_000) -> Door:
    known = Publishers({each.name: each for each in publishers})
    return Door(ledger, Reader(known, result_ttl_s=60), name, threads, max_waiting=most)


def message(*args: Any, task: str = PUBLISH_TASK, headers: dict[str, Any] | None = None, **named: Any) -> bytes:
    made = json.loads(redis_message(task, args, named, shadow=None, argsrepr="(…)"))
    made["headers"] |= headers or {}
    return json.dumps(made).encode()


def push(ledger: Ledger, *raw: bytes, queue: str = "events") -> None:
    for each in raw:
        ledger.client.lpush(queue, each)


def all_of(door_: Door) -> None:
    while door_.take() in {"found", "large"}:
        """Until nothing is left."""


def peek(ledger: Ledger, name: str, most: int = 100) -> Any:
    """What somebody sees who looks and dies before the end: list, tries, messages."""
    outcome, *found = ledger.run("peek", name, 3000, 3, most, 100_000, 1000, 1_000_000, "large", "events", "queue")
    assert outcome == b"found"
    return found


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
    assert peek(ledger, "w1")[2]

    assert second.take() == "other", "the first one keeps the door"
    ledger.client.delete("router:door")
    assert second.take() == "found"
    assert states(ledger, "a") == ["accepted"]
    assert first.take() == "other"


def test_two_who_looked_at_the_same_take_it_once(ledger: Ledger) -> None:
    """A worker that stood still for long finds that another was quicker."""
    push(ledger, message(envelope_data(id="a")), message(envelope_data(id="b")))
    slow = door(ledger, name="slow")
    _, _, raw = peek(ledger, "slow", most=1)
    items = [item for each in raw for item in slow.reader.items(each, None, 1)]
    ledger.client.delete("router:door")
    assert door(ledger, name="quick").take() == "found"

    assert not slow._run("events", raw, items)
    assert ledger.counts()["source", "encharge"] == {"accepted": 2, "waiting": 2}


def test_what_kills_its_readers_is_put_aside_and_its_neighbours_are_not(ledger: Ledger) -> None:
    """Looks that came to no end are counted; then one by one, and the one to blame goes into quarantine."""
    push(ledger, message(envelope_data(id="a")), b"this one kills", message(envelope_data(id="b")))
    one = door(ledger)
    for _ in range(20):
        if not ledger.client.llen("events"):
            break
        queue, tries, raw = peek(ledger, "w1")
        if b"this one kills" in raw and tries < 6:
            continue  # the worker died
        one._publish(queue, raw, [item for each in raw for item in one.reader.items(each, None, tries)])

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
    """Seven looks for the most urgent list, then one for another."""
    for n in range(9):
        push(ledger, *(message(envelope_data(id=f"{n}-{i}", subject=None)) for i in range(100)))
    push(ledger, message(envelope_data(id="patient", subject=None)), queue="events\x06\x169")
    one = door(ledger)
    for _ in range(7):
        assert one.take() == "found"
    assert states(ledger, "patient") == ["missing"]
    assert one.take() == "found"
    assert states(ledger, "patient") == ["accepted"]
    assert ledger.client.llen("events") == 200


def test_a_full_ledger_leaves_messages_where_they_are(ledger: Ledger) -> None:
    push(ledger, *(message(envelope_data(id=f"e{n}", subject=None)) for n in range(3)))
    full = door(ledger, most=3)
    assert full.take() == "found"
    push(ledger, message(envelope_data(id="later", subject=None)))
    assert full.take() == "full"
    assert ledger.client.llen("events") == 1


def test_a_ticket_among_them_goes_where_tickets_go(ledger: Ledger) -> None:
    """Left by an earlier version; a heartbeat is left out."""
    push(ledger, message(["a"], task="events.route", headers={"eta": "2030-01-01T00:00:00Z"}))
    push(ledger, redis_message("router.alive", [], shadow=None, argsrepr="x"))
    all_of(door(ledger))
    (found,) = (json.loads(raw) for raw in ledger.client.lrange("events.tickets", 0, -1))
    assert json.loads(b64decode(found["body"]))[0] == [["a"]]
    assert found["headers"]["eta"] is None, "Celery would keep it in a worker's memory"
    assert letters(ledger) == []


def test_what_is_due_later_waits_in_the_ledger(ledger: Ledger) -> None:
    """And takes its place when its time has come, in its order."""
    eta = (datetime.now(UTC) + timedelta(hours=2)).isoformat()
    push(ledger, *(message(envelope_data(id=id_, subject="one"), headers={"eta": eta}) for id_ in ("b", "a")))
    push(ledger, message(envelope_data(id="now", subject="one")))
    all_of(door(ledger))
    assert states(ledger, "b", "a", "now") == ["scheduled", "scheduled", "accepted"]
    assert ledger.wake_scheduled() == []

    for id_ in ("a", "b"):
        back(ledger, "router:scheduled", id_, 7201)
    assert set(ledger.overdue(5).scheduled) == {"a", "b"}
    assert ledger.wake_scheduled() == ["b", "a"]
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
    for id_ in ("b", "a", "0"):
        back(ledger, "router:scheduled", id_, 10)
    ledger.client.hset("router:quota:billing", "tat", 0)
    push(ledger, message(envelope_data(id="1", source="billing", subject="one")))
    all_of(door(ledger, billing))
    assert states(ledger, "1") == ["scheduled"], "or it would overtake those whose time has just come"
    assert ledger.wake_scheduled() == ["b", "a", "0"]


def test_a_message_of_many_events_is_taken_in_shares(ledger: Ledger) -> None:
    """Redis does nothing else during a call."""
    push(ledger, message([envelope_data(id=str(n), subject=None) for n in range(MOST_EVENTS)]))
    all_of(door(ledger))
    assert ledger.counts()["source", "encharge"] == {"accepted": MOST_EVENTS, "waiting": MOST_EVENTS}
    assert ledger.client.llen("events") == 0


def test_bug_celery_may_hand_over_pythons_objects(ledger: Ledger) -> None:
    """It makes them of what kombu wrote."""
    named = {"type": "paid", "event": {"total": Decimal("12.50"), "at": datetime(2026, 1, 2, tzinfo=UTC)}}
    door(ledger).accept(Call(PUBLISH_TASK, "t1", [], named, {}))

    event = ledger.event("t1")
    assert event is not None
    assert decode(event.envelope or b"").event == {"total": "12.50", "at": "2026-01-02T00:00:00Z"}


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
    one._publish("events", [b"x"], list(one.reader._of_events(Call(PUBLISH_TASK, "t1", [], {}), found)))

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


def test_who_publishes_the_same_again_is_told_what_became_of_it(ledger: Ledger) -> None:
    push(ledger, message(envelope_data(id="a")))
    one = door(ledger)
    all_of(one)
    found = Published("encharge", [load(envelope_data(id="a"))], reply=True)
    one._publish("events", [], list(one.reader._of_events(Call(PUBLISH_TASK, "t2", [], {}), found)))
    assert reply(ledger, "t2") is None, "it is under way"
    (event,) = ledger.claim(["a"], "w")
    ledger.settle(event, [Result("r", "delivered", {})])
    assert reply(ledger, "t2")["result"] == {"a": "delivered"}
    one._publish("events", [], list(one.reader._of_events(Call(PUBLISH_TASK, "t8", [], {}), found)))
    assert reply(ledger, "t8")["result"] == {"a": "delivered"}


def test_what_is_wrong_is_an_answer(ledger: Ledger) -> None:
    bad = Rejected(load(envelope_data(id="a")), "tag: is missing")
    one = door(ledger)
    found = Published("x", [bad], reply=True)
    one._publish("events", [], list(one.reader._of_events(Call("users.tag", "t3", [], {}), found)))
    assert reply(ledger, "t3")["result"]["exc_message"] == ["a: invalid: tag: is missing"]


def test_one_publishers_flood_does_not_keep_another_one_waiting(ledger: Ledger) -> None:
    """They take turns."""
    billing = Publisher("billing", prefix="billing:")
    for n in range(4):
        push(ledger, *(message(envelope_data(id=f"{n}-{i}", subject=None)) for i in range(100)))
    push(ledger, message(envelope_data(id="b", source="billing", subject=None)), queue="billing:events")
    one = door(ledger, billing)
    assert one.take() == "found"
    assert one.take() == "found"
    assert states(ledger, "b") == ["accepted"]
    assert ledger.client.llen("events") == 300


def test_bug_whoever_asked_about_a_task_that_is_none_waited_for_ever(ledger: Ledger) -> None:
    """Nothing of it becomes an event, and that is an answer."""
    push(ledger, message(task="users.tickle", headers={"reply": True, "id": "t4"}))
    push(ledger, message(headers={"id": "t5"}, reply=True))
    all_of(door(ledger))
    assert reply(ledger, "t4")["result"]["exc_message"][0].startswith("task: unknown_task: there is no task")
    assert reply(ledger, "t5")["result"]["exc_message"][0].startswith("task: invalid: ")


def test_bug_two_events_of_one_id_were_waited_for_for_ever(ledger: Ledger) -> None:
    push(ledger, message([envelope_data(id="a", subject=None)] * 2, headers={"reply": True, "id": "t6"}))
    all_of(door(ledger))
    (event,) = ledger.claim(["a"], "w")
    ledger.settle(event, [Result("r", "delivered", {})])
    assert reply(ledger, "t6")["result"] == {"a": "delivered"}


def test_bug_what_no_contract_had_passed_was_delivered_by_a_replay(ledger: Ledger) -> None:
    """It stays a dead letter; its publisher sends it again."""
    push(ledger, message(task="users.tag", email="someone@example.com", tga="vip"))
    all_of(door(ledger))
    (letter,) = DeadLetters(ledger).find()
    planned = plan(ledger, [letter])
    assert (letter.task, planned.ids, planned.never) == ("users.tag", (), (letter.id,))


def test_bug_what_json_has_not_was_lost_on_its_way_from_celery(ledger: Ledger) -> None:
    """With the door off Celery hands over what its publisher's Python had."""
    when = datetime(2026, 1, 1, tzinfo=UTC)
    door(ledger).accept(Call(PUBLISH_TASK, "t7", [envelope_data(id="a", event={"at": when})], {}, {}))
    kept = [event.state for event in ledger.events(["a"]) if event] or [
        each.reason for each in DeadLetters(ledger).find()
    ]
    assert len(kept) == 1


def test_bug_two_publishers_of_one_id_lost_the_seconds_event(ledger: Ledger) -> None:
    """Ids are each publisher's own; who comes second goes by its name, too."""
    for source in ("billing", "shop", "shop"):
        push(ledger, message(envelope_data(id="1001", source=source, subject=None)))
    all_of(door(ledger))
    assert states(ledger, "1001", "shop:1001") == ["accepted", "accepted"]
    (event,) = ledger.claim(["shop:1001"], "w")
    assert (decode(event.envelope or b"").id, event.source) == ("shop:1001", "shop")
    assert ledger.counts()["source", "shop"] == {"accepted": 2, "waiting": 1, "duplicate": 1}


def test_bug_many_of_one_eta_went_on_in_the_order_of_their_names(ledger: Ledger) -> None:
    """More of them than a sweep takes at a time."""
    eta = (datetime.now(UTC) + timedelta(hours=2)).isoformat()
    ids = [f"{n * 7919 % 1000}-{n}" for n in range(250)]
    push(ledger, message([envelope_data(id=id_, subject="one") for id_ in ids], headers={"eta": eta}))
    all_of(door(ledger))
    (due,) = {score for _, score in ledger.client.zrange("router:scheduled", 0, -1, withscores=True)}
    push(ledger, message(envelope_data(id="next", subject="one"), headers={"eta": "2099-01-01T00:00:00Z"}))
    all_of(door(ledger))
    ledger.client.zadd("router:scheduled", dict.fromkeys(ids, due - 7_300_000_000) | {"next": due - 7_299_999_999})
    assert len(ledger.overdue(5, 200).scheduled) == 200
    gone = ledger.wake_scheduled(200) + ledger.wake_scheduled(200)
    assert gone.pop() == "next", "its time was later, by a microsecond"
    assert gone == ids


def test_bug_a_quota_that_was_taken_back_let_others_overtake(ledger: Ledger) -> None:
    """Those who wait because of it go first."""
    ids = ["a", "b", "c"]
    push(ledger, *(message(envelope_data(id=id_, source="billing", subject="one")) for id_ in ids))
    all_of(door(ledger, Publisher("billing", per_second=0.001)))
    push(ledger, message(envelope_data(id="late", source="billing", subject="one")))
    all_of(door(ledger))
    assert states(ledger, *ids, "late") == ["accepted", "scheduled", "scheduled", "scheduled"]


def test_bug_an_eta_kept_a_publishers_others_behind_its_quota(ledger: Ledger) -> None:
    """It waits for its time, not for the quota."""
    eta = (datetime.now(UTC) + timedelta(hours=2)).isoformat()
    billing = Publisher("billing", per_second=1000, burst=10)
    push(ledger, message(envelope_data(id="later", source="billing", subject=None), headers={"eta": eta}))
    push(ledger, message(envelope_data(id="now", source="billing", subject=None)))
    all_of(door(ledger, billing))
    assert states(ledger, "later", "now") == ["scheduled", "accepted"]


def test_bug_a_large_message_came_to_the_worker_whole(ledger: Ledger) -> None:
    """It goes into quarantine inside Redis, and its neighbours go on."""
    push(ledger, b"x" * (MOST_BYTES + 1), message(envelope_data(id="a", subject=None)))
    all_of(door(ledger))
    (letter,) = DeadLetters(ledger).find()
    assert (letter.reason, len(letter.raw or "")) == ("invalid", MOST_BYTES + 1)
    assert states(ledger, "a") == ["accepted"]


def test_bug_what_is_said_for_all_events_of_a_call_multiplied_it(ledger: Ledger) -> None:
    """A small message must not become hundreds of megabytes."""
    push(ledger, message([{}] * 300, type="t", event={"note": "x" * 50_000}))
    all_of(door(ledger))
    ((_, _, reason),) = letters(ledger)
    assert reason == "invalid"


def test_bug_made_up_publishers_filled_every_report(ledger: Ledger) -> None:
    """A thousand names, and no more but those that the file names."""
    one = door(ledger, Publisher("billing"))
    one.reader.names.update(f"n{number}" for number in range(1000))
    push(ledger, message(envelope_data(id="a", source="one-more")), message(envelope_data(id="b", source="billing")))
    all_of(one)
    assert [reason for _, _, reason in letters(ledger)] == ["invalid"]
    assert states(ledger, "b") == ["accepted"]


@pytest.mark.parametrize("id_", ["Bestellung-Ä1", 'a"1', "a\\1", "x" * 200, "quarantine"])
def test_bug_ids_that_json_writes_otherwise_were_still_one(ledger: Ledger, id_: str) -> None:
    """Whoever comes second gets an id that can be read again, and keeps it."""
    for source in ("billing", "quarantine" if id_ == "quarantine" else "shop"):
        for _ in range(2):
            push(ledger, message(envelope_data(id=id_, source=source, subject=None)))
    all_of(door(ledger))
    second = ledger.client.zrange("router:accepted", 0, -1)
    ids = [each.decode() for each in second if each.decode() != id_]
    assert len(ids) == 1
    for event in ledger.claim([id_, *ids], "w"):
        assert decode(event.envelope or b"").id == event.id
    assert [row["duplicate"] for (kind, _), row in ledger.counts().items() if kind == "source"] == [1, 1]


def test_bug_an_id_like_anothers_renamed_one_was_a_duplicate(ledger: Ledger) -> None:
    """And what was renamed once stays so, when the other has been forgotten."""
    for source, id_ in (("billing", "1001"), ("web2", "shop:1001"), ("shop", "1001")):
        push(ledger, message(envelope_data(id=id_, source=source, subject=None)))
    all_of(door(ledger))
    assert ledger.client.zcard("router:accepted") == 3
    ledger.client.delete("router:event:1001")
    push(ledger, message(envelope_data(id="1001", source="shop", subject=None)))
    all_of(door(ledger))
    assert ledger.counts()["source", "shop"]["duplicate"] == 1


def test_bug_a_time_before_all_times_stopped_the_door(ledger: Ledger) -> None:
    """It is read as whatever it is; a fault of ours is kept with its message, and the neighbours go on."""
    typed = {"__type__": "datetime", "__value__": "0001-01-01T00:00:00+01:00"}
    push(ledger, message(envelope_data(id="a", subject=None, event={"at": typed})), message(envelope_data(id="b")))
    assert door(ledger).take() == "found"
    assert states(ledger, "b") == ["accepted"]
    assert states(ledger, "a") == ["accepted"] or len(letters(ledger)) == 1


def test_bug_who_asked_about_a_dead_event_was_not_told_why_nor_of_its_replay(ledger: Ledger) -> None:
    push(ledger, message(envelope_data(id="a", subject=None), headers={"reply": True, "id": "t\n1"}))
    all_of(door(ledger))
    (event,) = ledger.claim(["a"], "w")
    ledger.settle(event, [Result("r", "dead", {"reason": "rejected"}, reason="rejected")])
    push(ledger, message(envelope_data(id="a", subject=None), headers={"reply": True, "id": "t2"}))
    all_of(door(ledger))
    assert reply(ledger, "t\n1")["result"]["exc_message"] == ["a: rejected"]
    assert reply(ledger, "t2")["result"]["exc_message"] == ["a: rejected"]

    assert ledger.replay("a", "r", {})
    (event,) = ledger.claim(["a"], "w2")
    ledger.settle(event, [Result("r", "delivered", {})])
    assert reply(ledger, "t\n1")["result"] == reply(ledger, "t2")["result"] == {"a": "delivered"}


def test_bug_a_task_id_that_came_again_was_told_of_the_first(ledger: Ledger) -> None:
    """What it asks now counts."""
    for id_ in ("a", "b"):
        push(ledger, message(envelope_data(id=id_, subject=None), headers={"reply": True, "id": "t1"}))
        all_of(door(ledger))
    (event,) = ledger.claim(["a"], "w")
    ledger.settle(event, [Result("r", "delivered", {})])
    assert reply(ledger, "t1") is None
    (event,) = ledger.claim(["b"], "w2")
    ledger.settle(event, [Result("r", "delivered", {})])
    assert reply(ledger, "t1")["result"] == {"b": "delivered"}


def test_bug_refused_names_had_rows_of_their_own(ledger: Ledger) -> None:
    """What is refused for its name does not count under it."""
    one = door(ledger)
    one.reader.names.update(f"n{number}" for number in range(1000))
    push(ledger, message(task="users.tagg", headers={"publisher": "one-more"}))
    push(ledger, message(envelope_data(id="a", source="one-more")))
    all_of(one)
    assert {source for source, _, _ in letters(ledger)} <= {"queue", "published"}


def test_bug_what_had_expired_could_not_be_put_back(ledger: Ledger) -> None:
    """Whoever puts it back wants it, whatever its publisher's time was."""
    push(ledger, message(envelope_data(id="a", subject=None, expires_at="2026-01-01T00:00:00Z")))
    all_of(door(ledger))
    (event,) = ledger.claim(["a"], "w")
    assert not event.again
    ledger.settle(event, [Result("-", "dead", {"reason": "expired"})])
    assert ledger.replay("a", "-", {})
    (event,) = ledger.claim(["a"], "w2")
    assert event.again
