"""Putting dead letters back."""

import pytest
from builders import accept, balanced, claim, counts, fake_ledger, settled

from tasks.dead_letter import DeadLetters
from tasks.ledger import Ledger, Result
from tasks.queue import RedisQueue
from tasks.replay import Plan, Replay, plan

RECORD = {
    "reason": "exhausted",
    "error": "x",
    "attempts": [{"number": 1}, {"number": 2}],
    "tried": 12,
    "since": 1.0,
    "sent": 1,
}


@pytest.fixture
def ledger() -> Ledger:
    return fake_ledger()


@pytest.fixture
def replay(ledger: Ledger) -> Replay:
    return Replay(ledger, DeadLetters(ledger), RedisQueue(ledger))


def die(ledger: Ledger, id_: str, *routes: str) -> None:
    accept(ledger, id_)
    settled(ledger, id_, *(Result(route, "dead", RECORD) for route in routes))


def test_a_plan_changes_nothing(ledger: Ledger, replay: Replay) -> None:
    """It counts by reason, route and type."""
    die(ledger, "e1", "a", "b")
    die(ledger, "e2", "a")
    replay.letters.quarantine(b"raw", "undecodable", "x", "message")

    found = plan(ledger, replay.letters.find())

    assert found.ids[:3] == ("e1:a", "e1:b", "e2:a")
    assert found.counts == {
        ("exhausted", "a", "newUser"): 2,
        ("exhausted", "b", "newUser"): 1,
        ("undecodable", "-", "message"): 1,
    }
    assert len(list(replay.letters.find())) == 4
    assert plan(ledger, []) == Plan((), {}, ())


def test_only_that_route(ledger: Ledger, replay: Replay) -> None:
    """One of two dead deliveries goes again; the other stays dead."""
    die(ledger, "e1", "a", "b")

    assert replay.run(["e1:a"]) == 1
    assert [letter.id for letter in replay.letters.find()] == ["e1:b"]
    assert claim(ledger).deliveries["a"].state == "pending"


def test_a_second_life(ledger: Ledger, replay: Replay) -> None:
    """Its history and the requests that were sent stay; attempts and age start anew."""
    die(ledger, "e1", "a")
    replay.run(["e1:a"])

    record = dict(claim(ledger).deliveries["a"].record)

    assert record.pop("since") > 1_700_000_000
    assert record == {"attempts": RECORD["attempts"], "made": 0, "tried": 0, "sent": 1}


def test_those_gone_are_passed_over(ledger: Ledger, replay: Replay) -> None:
    """Discarded, replayed already, or never there."""
    die(ledger, "e1", "a", "b")
    ledger.discard("e1", "b")

    assert replay.run(["e1:a", "e1:a", "e1:b", "e1:c", "e9:a", "quarantine:x", ""]) == 1
    assert ledger.client.llen("events.tickets") == 2


def test_an_event_that_had_no_routes(ledger: Ledger, replay: Replay) -> None:
    """It starts from the beginning."""
    die(ledger, "e1", "-")

    assert replay.run(["e1:-"]) == 1
    assert claim(ledger).deliveries == {}


def test_all_of_it_and_the_sums_hold(ledger: Ledger, replay: Replay) -> None:
    """Everything back, and every row of the counts adds up."""
    die(ledger, "e1", "a", "b")
    die(ledger, "e2", "-")
    replay.letters.quarantine(b"raw", "undecodable", "x", "message")

    assert replay.run(plan(ledger, replay.letters.find()).ids) == 4
    assert list(replay.letters.find()) == []
    assert b"raw" in ledger.client.lrange("events", 0, -1)
    assert counts(ledger) == {"accepted": 2, "waiting": 2}
    assert balanced(ledger)
