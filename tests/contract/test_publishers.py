"""Publishers at the door: nobody goes by somebody else's name, and a quota delays what is above it and nothing else."""

import itertools
import time
from collections.abc import Sequence

import pytest
from builders import envelope_data

from cli import redis_server
from tasks.dead_letter import DeadLetters
from tasks.door import Door
from tasks.ledger import SCHEDULED, Ledger, connect
from tasks.published import Reader
from tasks.publishers import Publisher, Publishers
from tasks.queue import PUBLISH_TASK, redis_message

BILLING = Publisher("billing", prefix="billing:")


@pytest.fixture
def ledger(server: redis_server.Server) -> Ledger:
    client = connect(server.url, timeout_s=5)
    client.flushall()
    return Ledger(client, max_waiting=10_000, dedupe_window_s=3600, lease_s=10)


def take(ledger: Ledger, *publishers: Publisher, sources: Sequence[str] = ()) -> None:
    """All that lies there."""
    known = Publishers({each.name: each for each in publishers}, frozenset(sources))
    door = Door(ledger, Reader(known, result_ttl_s=60), "w1", 4, max_waiting=10_000)
    while door.take() == "found":
        """Until nothing is left."""


def publish(ledger: Ledger, *ids: str, queue: str = "events", **changes: str | None) -> None:
    """A message for each event."""
    for id_ in ids:
        raw = redis_message(PUBLISH_TASK, [envelope_data(id=id_, **changes)], shadow=None, argsrepr="(…)")
        ledger.client.lpush(queue, raw)


def call(ledger: Ledger, task: str, publisher: str) -> None:
    """A message that names its publisher beside the arguments of its task."""
    named = {"publisher": publisher, "event_id": "mine", "email": "someone@example.com", "tag": "vip"}
    ledger.client.lpush("events", redis_message(task, [], named, shadow=None, argsrepr="(…)"))


def states(ledger: Ledger) -> dict[str, str]:
    found = {}
    for key in ledger.client.scan_iter("router:event:*"):
        id_ = key.decode().removeprefix("router:event:")
        event = ledger.event(id_)
        assert event is not None
        found[id_] = event.state
    return found


def by_source(ledger: Ledger) -> dict[str, int]:
    return {name: counts["accepted"] for (kind, name), counts in ledger.counts().items() if kind == "source"}


@pytest.mark.parametrize("name", ["billing", "encharge"])
def test_a_proven_name_cannot_be_claimed(ledger: Ledger, name: str) -> None:
    """Neither that of a list's owner nor that of a source: a dead letter of nobody, and the id stays free."""
    publish(ledger, "mine", source=name)
    call(ledger, "users.tag", name)
    take(ledger, BILLING, sources=["encharge"])

    letters = list(DeadLetters(ledger).find())
    assert {(letter.reason, letter.source) for letter in letters} == {("invalid", "published")}
    assert all(
        "publisher: A source, or a publisher with a list of its own, has this name" in each.error for each in letters
    )
    assert by_source(ledger) == {"published": 2}
    assert "mine" not in states(ledger)


def test_a_name_that_is_nobodys_can_be(ledger: Ledger) -> None:
    """Whoever shares the list of all is believed."""
    publish(ledger, "a", source="shop")
    take(ledger, BILLING, Publisher("shop"), sources=["encharge"])
    assert states(ledger) == {"a": "accepted"}
    assert by_source(ledger) == {"shop": 1}


def test_what_cannot_be_read_is_not_counted_for_a_name_that_was_claimed(ledger: Ledger) -> None:
    """An unknown task of somebody who says that he is billing is nobody's."""
    call(ledger, "users.tagg", "billing")
    take(ledger, BILLING)
    (letter,) = DeadLetters(ledger).find()
    assert (letter.reason, letter.source) == ("unknown_task", "queue")


def test_whoever_writes_to_a_list_is_its_owner(ledger: Ledger) -> None:
    """A message without a name has the owner's, and one with another name is refused, as the owner's."""
    ledger.client.lpush(
        "billing:events", redis_message(PUBLISH_TASK, [{"type": "paid", "event": {}}], shadow=None, argsrepr="")
    )
    publish(ledger, "other", queue="billing:events", source="shop")
    take(ledger, BILLING)

    assert by_source(ledger) == {"billing": 2}
    (letter,) = DeadLetters(ledger).find()
    assert (letter.reason, letter.source) == ("invalid", "billing")


def test_a_quota_spreads_what_is_above_it(ledger: Ledger) -> None:
    """The burst at once, then one each fiftieth of a second; none is lost, none overtakes, and nobody else waits."""
    ids = [f"b{number:02}" for number in range(20)]
    publish(ledger, *ids, source="billing", subject=None)
    publish(ledger, "s1", source="shop", subject=None)
    take(ledger, Publisher("billing", per_second=50, burst=5), Publisher("shop"))

    assert [id_ for id_, state in sorted(states(ledger).items()) if state == "accepted"] == [*ids[:5], "s1"]
    due = ledger.client.zrange(SCHEDULED, 0, -1, withscores=True)
    assert [id_.decode() for id_, _ in due] == ids[5:]
    gaps = [later - earlier for (_, earlier), (_, later) in itertools.pairwise(due)]
    assert all(abs(gap - 20_000) < 2 for gap in gaps)
    early = ledger.wake_scheduled()
    assert early == ids[5 : 5 + len(early)] != ids[5:], "before its time nothing goes on"
    time.sleep(0.35)
    ledger.wake_scheduled()
    assert set(states(ledger).values()) == {"accepted"}

    publish(ledger, "b99", source="billing", subject=None)
    take(ledger, Publisher("billing", per_second=50, burst=5))
    assert states(ledger)["b99"] == "accepted", "when all went on, it is as before"


def test_a_quota_keeps_the_order_of_a_subject(ledger: Ledger) -> None:
    """What comes later does not overtake what waits, though there is room for it again by then."""
    one = Publisher("billing", per_second=20, burst=1)
    publish(ledger, "b1", "b2", source="billing", subject="order:1")
    take(ledger, one)
    assert states(ledger) == {"b1": "accepted", "b2": "scheduled"}
    time.sleep(0.12)  # its time has come, and no sweeper has looked yet
    publish(ledger, "b3", source="billing", subject="order:1")
    take(ledger, one)
    assert states(ledger)["b3"] == "scheduled"
    assert [id_.decode() for id_ in ledger.client.zrange(SCHEDULED, 0, -1)] == ["b2", "b3"]


def test_those_without_a_name_can_have_a_quota(ledger: Ledger) -> None:
    """All of them together."""
    for number in range(3):
        raw = redis_message("users.tag", [], {"email": f"p{number}@example.com", "tag": "x"}, shadow=None, argsrepr="")
        ledger.client.lpush("events", raw)
    take(ledger, Publisher("published", per_second=0.5, burst=1))
    assert sorted(states(ledger).values()) == ["accepted", "scheduled", "scheduled"]
