"""The walk through Redis: silent about what is right, and exact about what is wrong."""

from collections.abc import Callable

import pytest
from bench import Bench, api, route
from builders import accept, state_of

from tasks.action import Request
from tasks.errors import DestinationRejected, DestinationUnavailable
from tasks.ledger import Ledger
from tasks.verify import adopt, verify

DOWN = DestinationUnavailable("answered 503")


@pytest.fixture
def bench() -> Bench:
    """Events in every state: e1 retrying, e2 held behind it, e3 dead, e4 parked, e5 delivered, e6 running, e7 lined."""
    bench = Bench(route("a", lambda event: [Request("api", "POST", "", event.id)]))
    ledger = bench.ledger
    api(bench).answers = [DOWN]
    accept(ledger, "e1", "e2", subject="encharge:same")
    bench.work("e1")
    api(bench).answers = [DestinationRejected("x")]
    accept(ledger, "e3", subject="encharge:three")
    bench.work("e3")
    ledger.pause("api", "someone")
    accept(ledger, "e4", subject="encharge:four")
    bench.work("e4")
    ledger.resume("api")
    ledger.pause("api", "someone")
    accept(ledger, "e5", subject="encharge:five")
    bench.routes = type(bench.routes)(())
    bench.work("e5")
    accept(ledger, "e6", "e7", subject="encharge:six")
    ledger.claim(["e6"], "worker")
    ledger.client.lpush("events.tickets", b"not a ticket")
    return bench


def found(ledger: Ledger) -> dict[str, str]:
    """What is wrong, by event."""
    return {each.event_id: each.what for each in verify(ledger, pause_s=0).findings}


def test_all_that_is_right(bench: Bench) -> None:
    """Nothing to say; it knows what there is."""
    states = {f"e{n}": state_of(bench.ledger, f"e{n}") for n in range(1, 8)}
    assert set(states.values()) == {"retrying", "held", "dead", "accepted", "filtered", "running", "lined"}

    walk = verify(bench.ledger, pause_s=0)

    assert walk.findings == frozenset()
    assert walk.events == 7
    assert walk.places["dead"] == walk.places["running"] == 1


def lose(*keys: str) -> Callable[[Ledger], object]:
    return lambda ledger: ledger.client.delete(*keys)


@pytest.mark.parametrize(
    ("harm", "event_id", "what"),
    [
        (lose("router:event:e7"), "e7", "the event is lost"),
        (lambda ledger: ledger.client.zrem("router:retrying", "e1"), "e1", "in none of the sets"),
        (lambda ledger: ledger.client.zadd("router:accepted", {"e5": 1}), "e5", "it is in router:accepted"),
        (lambda ledger: ledger.client.hset("router:event:e1", "s:a", "held"), "e1", "behind nobody"),
        (lambda ledger: ledger.client.hset("router:event:e1", "s:a", "parked:api"), "e1", "does not have it"),
        (lambda ledger: ledger.client.delete(*ledger.client.keys("router:line:*")), "e7", "in a line that does not"),
        (lambda ledger: ledger.client.delete(*ledger.client.keys("router:lane:*")), "e2", "in a lane that does not"),
        (lambda ledger: ledger.client.zrem("router:dead", "e3:a"), "e3", "dead letters says otherwise"),
        (lambda ledger: ledger.client.hincrby("router:counts", "source/encharge/waiting", 1), "", "counted as waiting"),
    ],
)
def test_all_that_is_wrong(bench: Bench, harm: Callable[[Ledger], object], event_id: str, what: str) -> None:
    """Which event, and how."""
    harm(bench.ledger)

    assert what in found(bench.ledger)[event_id]


def test_where_a_lost_event_was_last_seen(bench: Bench) -> None:
    """All places that name it."""
    bench.ledger.client.delete("router:event:e2")

    (finding,) = [each for each in verify(bench.ledger, pause_s=0).findings if each.event_id]

    assert [place.rpartition(":")[0] for place in finding.last_seen] == ["router", "router:lane:api"]


def test_adopted_events_go_on(bench: Bench) -> None:
    """Forgotten ones are worked on again, each once, and then everything fits."""
    client = bench.ledger.client
    client.delete(*client.keys("router:line:*"), *client.keys("router:lane*"))
    client.zrem("router:held", "e2")

    adopted = adopt(bench.ledger, verify(bench.ledger, pause_s=0).findings)

    assert adopted == ["e2", "e7"]
    assert found(bench.ledger) == {}
