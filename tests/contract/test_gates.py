"""Gates: a destination in trouble, or a route, parks its deliveries and nobody else's; then lets them go in order."""

import json
import time
from typing import Any

import pytest
from bench import OK, POLICY, Bench, Destination, answered, api, route
from builders import accept, balanced, envelope, state_of

from tasks.action import Request
from tasks.envelope import Envelope
from tasks.errors import (
    DestinationRejected,
    DestinationThrottled,
    DestinationUnauthorized,
    DestinationUnavailable,
    MappingFailed,
)
from tasks.gates import Gate, gates
from tasks.ledger import GatePolicy, Ledger, Result
from tasks.replay import Replay, plan
from tasks.routing import Routes
from tasks.slots import Slots

DOWN = DestinationUnavailable("answered 503")
REFUSED = answered(DestinationUnauthorized("answered 401"), 401)


def numbered(name: str = "a", to: str = "api") -> Any:
    """A route whose request says which event it is of."""
    return route(name, lambda event: [Request(to, "POST", "", event.id)])


@pytest.fixture
def bench() -> Bench:
    return Bench(numbered(), gates=GatePolicy(failures=3, wait_s=50, most_wait_s=150, refused_wait_s=60))


def work_all(bench: Bench) -> None:
    """Take every ticket there is, and those that come of it."""
    while raw := bench.ledger.client.rpop("events.tickets"):
        bench.work(*json.loads(json.loads(raw)["body"])[0][0])


def gate(bench: Bench, name: str = "api") -> Gate:
    (found,) = [each for each in gates(bench.ledger, [name]) if each.name == name]
    return found


def wait_over(bench: Bench, name: str = "api") -> None:
    """The gate has waited long enough; a worker looks."""
    bench.ledger.client.hset(f"router:gate:{name}", "until", 0)
    bench.ledger.tick()


def ids(first: int, last: int) -> list[str]:
    return [f"e{number}" for number in range(first, last + 1)]


def trip(bench: Bench) -> None:
    """Three deliveries fail, the gate opens; e1 to e3 wait for their retries."""
    api(bench).answers = [DOWN] * 3
    accept(bench.ledger, *ids(1, 3))
    work_all(bench)
    api(bench).sent.clear()


def test_failures_in_a_row_open_the_breaker(bench: Bench) -> None:
    """What comes then is parked, and costs no attempt."""
    trip(bench)
    accept(bench.ledger, "e4", "e5")

    work_all(bench)

    assert (gate(bench).mode, gate(bench).parked, api(bench).sent) == ("open", 2, [])
    assert (state_of(bench.ledger, "e4"), bench.event("e4").deliveries["a"].gate) == ("held", "api")
    assert bench.event("e4").deliveries["a"].record == {}
    assert 49 < (gate(bench).until or 0) - time.time() <= 50
    assert balanced(bench.ledger)


def test_a_success_between_failures_keeps_it_closed(bench: Bench) -> None:
    """Failures count in a row only, and refusals of single requests are answers."""
    api(bench).answers = [DOWN, DOWN, OK, DOWN, DOWN, DestinationRejected("answered 400"), DOWN, DOWN]
    accept(bench.ledger, *ids(1, 8))

    work_all(bench)

    assert gate(bench).mode == "flowing"


def test_one_probes_then_more_and_more_go(bench: Bench) -> None:
    """In order of acceptance; when nothing waits any more, the gate is as if nothing had been."""
    trip(bench)
    accept(bench.ledger, *ids(4, 20))
    work_all(bench)

    wait_over(bench)
    assert (gate(bench).mode, gate(bench).in_flight) == ("probing", 1)
    assert bench.ledger.client.llen("events.tickets") == 1
    bench.work("e4")
    assert (gate(bench).mode, gate(bench).in_flight) == ("ramping", 2)
    work_all(bench)

    assert api(bench).sent == ids(4, 20)
    assert (gate(bench).mode, gate(bench).parked) == ("flowing", 0)
    assert bench.ledger.client.smembers("router:shut") == set()


def test_a_probe_that_fails_doubles_the_wait_and_costs_no_attempt(bench: Bench) -> None:
    """So a long outage does not use up the attempts of whoever stands in front."""
    trip(bench)
    accept(bench.ledger, "e4")
    work_all(bench)
    for wait_s in (100, 150, 150):
        api(bench).answers = [DOWN]
        wait_over(bench)
        work_all(bench)
        assert wait_s - 1 < (gate(bench).until or 0) - time.time() <= wait_s

    delivery = bench.event("e4").deliveries["a"]
    assert (delivery.state, delivery.record["tried"], len(delivery.record["attempts"])) == ("parked", 0, 3)
    wait_over(bench)
    work_all(bench)
    assert state_of(bench.ledger, "e4") == "delivered"


def test_another_destination_goes_on(bench: Bench) -> None:
    """An event along two routes is delivered where it can be."""
    trip(bench)
    bench.destinations["other"] = Destination()
    bench.routes = Routes((numbered(), numbered("b", to="other")))
    accept(bench.ledger, "e4")

    work_all(bench)

    assert bench.destinations["other"].sent == ["e4"]
    assert {name: each.state for name, each in bench.event("e4").deliveries.items()} == {
        "a": "parked",
        "b": "delivered",
    }


def test_order_behind_a_gate(bench: Bench) -> None:
    """Of one subject only the first is parked; the others are held behind it, and follow."""
    trip(bench)
    accept(bench.ledger, *ids(4, 6), subject="encharge:same")
    work_all(bench)
    assert (gate(bench).parked, state_of(bench.ledger, "e5")) == (1, "held")

    wait_over(bench)
    work_all(bench)

    assert api(bench).sent == ids(4, 6)


def test_throttled_the_whole_destination_waits(bench: Bench) -> None:
    """As long as it asked; whoever was told so has lost no attempt."""
    api(bench).answers = [DestinationThrottled("answered 429", 70)]
    accept(bench.ledger, *ids(1, 4))

    work_all(bench)

    assert (gate(bench).mode, gate(bench).parked, api(bench).sent) == ("throttled", 4, ["e1"])
    assert 69 < (gate(bench).until or 0) - time.time() <= 70
    assert bench.record()["tried"] == 0
    wait_over(bench)
    work_all(bench)
    assert api(bench).sent == ["e1", "e2", "e3", "e4", "e1"], "the refused one lets others try first"


def test_throttled_without_a_time(bench: Bench) -> None:
    """Not so fast: fewer at a time, and each that was told so tries again later, without an attempt lost."""
    api(bench).answers = [DestinationThrottled("answered 429")]
    accept(bench.ledger, "e1", "e2")
    work_all(bench)

    assert (state_of(bench.ledger, "e1"), state_of(bench.ledger, "e2")) == ("retrying", "delivered")
    assert bench.record()["tried"] == 0
    for _ in range(POLICY.max_attempts):
        api(bench).answers = [DestinationThrottled("answered 429")]
        bench.later()
        bench.work("e1")
    assert state_of(bench.ledger, "e1") == "retrying"


def test_throttled_again_and_again_without_a_time(bench: Bench) -> None:
    """Said four times before anything went well, it stops for a moment, and longer each time."""
    api(bench).answers = [DestinationThrottled("answered 429")] * 7
    accept(bench.ledger, *ids(1, 4))
    work_all(bench)
    assert (gate(bench).mode, len(api(bench).sent)) == ("throttled", 4)
    assert abs((gate(bench).until or 0) - (gate(bench).since or 0) - 0.2) < 0.001

    accept(bench.ledger, "e5")
    work_all(bench)
    wait_over(bench)
    work_all(bench)

    assert abs((gate(bench).until or 0) - (gate(bench).since or 0) - 0.4) < 0.001
    bench.ledger.client.hset("router:gate:api", "slower", 30)
    accept(bench.ledger, "e6")
    work_all(bench)
    wait_over(bench)
    work_all(bench)
    assert 149 < (gate(bench).until or 0) - time.time() <= 150


def test_bug_one_event_that_always_fails_kept_a_destination_shut(bench: Bench) -> None:
    """A probe that fails lets another one try; who fails although others get through has attempts to lose."""
    api(bench).before = lambda body: api(bench).answers.insert(0, DOWN) if body == "e1" else None
    accept(bench.ledger, "e1")
    for number in range(2, 30):
        accept(bench.ledger, f"e{number}")
        work_all(bench)
        wait_over(bench)
        bench.later()
        bench.ledger.wake_due(bench.ledger.overdue(60).due)
    work_all(bench)

    assert {state_of(bench.ledger, id_) for id_ in ids(2, 29)} == {"delivered"}
    assert state_of(bench.ledger, "e1") == "dead"


def test_bug_a_limit_behind_a_resumed_route_let_nothing_through() -> None:
    """A delivery has one pass: past its route's gate, only a pause stops it there."""
    bench = Bench(numbered())
    bench.ledger.limit({"api": (None, 3)})
    bench.ledger.pause("route:a", "someone")
    accept(bench.ledger, *ids(1, 30))
    work_all(bench)

    bench.ledger.resume("route:a")
    for _ in range(3):
        work_all(bench)
        bench.ledger.tick()

    assert sorted(api(bench).sent) == sorted(ids(1, 30))


def test_bug_a_worker_went_on_into_a_gate_that_another_had_shut(bench: Bench) -> None:
    """A ticket of many events sees what was shut since it was claimed."""
    accept(bench.ledger, *ids(1, 10), subject=None)
    api(bench).before = lambda body: bench.ledger.pause("api", "someone") if body == "e3" else None

    work_all(bench)

    assert api(bench).sent == ids(1, 3)
    assert gate(bench).parked == 7


def test_bug_an_older_event_at_work_was_overtaken_when_its_route_was_resumed() -> None:
    """Nothing younger is let go while it is; in a moment we look again."""
    bench = Bench(numbered("a"), numbered("b", to="other"), other=Destination(DOWN))
    bench.ledger.pause("route:a", "someone")
    accept(bench.ledger, "e1", "e2", subject="encharge:same")
    work_all(bench)
    bench.later()
    running = bench.ledger.claim(["e1"], "worker")
    bench.ledger.resume("route:a")
    work_all(bench)
    assert api(bench).sent == []

    bench.ledger.settle(running[0], [Result("b", "delivered", {})])
    bench.ledger.tick()
    work_all(bench)

    assert api(bench).sent == ["e1", "e2"]


@pytest.mark.parametrize("order", ["pass", "hold"])
def test_bug_replays_of_events_that_never_had_requests_kept_no_order(order: str) -> None:
    """They go through their subject's line again; and what holds after a failure holds after a bug too."""
    broken = [True]

    def handler(event: Envelope) -> list[Request]:
        if broken[0]:
            raise ValueError("x")
        return [Request("api", "POST", "", event.id)]

    bench = Bench(route("a", handler, order=order))
    accept(bench.ledger, *ids(1, 3), subject="encharge:same")
    work_all(bench)
    assert [state_of(bench.ledger, id_) for id_ in ids(1, 3)] == [
        "dead",
        *(["held"] * 2 if order == "hold" else ["dead"] * 2),
    ]
    broken[0] = False
    api(bench).answers = [DOWN]

    Replay(bench.ledger, bench.letters, bench.queue).run([letter.id for letter in bench.letters.find()][::-1])
    work_all(bench)
    assert api(bench).sent == ["e1"]
    bench.later()
    bench.ledger.wake_due(bench.ledger.overdue(60).due)
    work_all(bench)

    assert api(bench).sent == ["e1", "e1", "e2", "e3"]


def test_the_longest_wait_that_is_honoured(bench: Bench) -> None:
    """RETRY_AFTER_CAP_S, here 100 s."""
    api(bench).answers = [DestinationThrottled("answered 429", 9999)]
    accept(bench.ledger, "e1")
    work_all(bench)

    assert 99 < (gate(bench).until or 0) - time.time() <= 100


def test_a_wrong_key_parks_everything(bench: Bench) -> None:
    """The key is wrong, not the event. Probed with another event each time, until it is mended."""
    api(bench).answers = [REFUSED, REFUSED]
    accept(bench.ledger, *ids(1, 3))
    work_all(bench)
    assert (gate(bench).mode, gate(bench).parked, api(bench).sent) == ("unauthorized", 3, ["e1"])

    wait_over(bench)
    work_all(bench)
    assert (gate(bench).mode, api(bench).sent) == ("unauthorized", ["e1", "e2"])
    wait_over(bench)
    work_all(bench)

    assert sorted(api(bench).sent[2:]) == ["e1", "e2", "e3"]
    assert {state_of(bench.ledger, id_) for id_ in ids(1, 3)} == {"delivered"}


def test_an_event_that_alone_is_refused_dies(bench: Bench) -> None:
    """Others got through since: it is the event, or what its route asks for."""
    api(bench).answers = [REFUSED]
    accept(bench.ledger, "e1", "e2")
    work_all(bench)
    api(bench).answers = [OK, REFUSED]
    wait_over(bench)

    work_all(bench)

    assert api(bench).sent == ["e1", "e2", "e1"]
    letter = bench.letters.get("e1:a")
    assert letter is not None
    assert letter.reason == "unauthorized"
    assert state_of(bench.ledger, "e2") == "delivered"


def test_paused_by_hand(bench: Bench) -> None:
    """Nothing goes, whatever the time; resumed, all of it in order."""
    assert bench.ledger.pause("api", "someone")
    assert not bench.ledger.pause("api", "another")
    accept(bench.ledger, *ids(1, 30))
    work_all(bench)
    wait_over(bench)
    assert (gate(bench).mode, gate(bench).paused_by, gate(bench).parked) == ("paused", "someone", 30)

    assert bench.ledger.resume("api")
    work_all(bench)

    assert api(bench).sent == ids(1, 30)
    assert not bench.ledger.resume("api")
    assert gate(bench).mode == "flowing"


def test_resumed_while_it_is_still_down(bench: Bench) -> None:
    """One goes first, and the gate is open again."""
    trip(bench)
    accept(bench.ledger, "e4", "e5")
    work_all(bench)
    api(bench).answers = [DOWN]

    assert bench.ledger.resume("api")
    work_all(bench)

    assert (api(bench).sent, gate(bench).mode) == (["e4"], "open")


def test_a_rate(bench: Bench) -> None:
    """A quarter second's worth at once, then as time goes by."""
    bench.ledger.limit({"api": (0.4, None)})
    accept(bench.ledger, *ids(1, 5))
    for sent in (1, 2, 3):
        work_all(bench)
        assert (api(bench).sent, gate(bench).mode, gate(bench).parked) == (ids(1, sent), "flowing", 5 - sent)
        bench.ledger.client.hincrby("router:gate:api", "at", -2_600_000)
        bench.ledger.tick()


def test_at_most_so_many_at_a_time(bench: Bench) -> None:
    """Over all workers: each that ends lets another go."""
    bench.ledger.limit({"api": (None, 2)})
    accept(bench.ledger, *ids(1, 10))
    for id_ in ids(1, 10):
        bench.work(id_)

    assert len(api(bench).sent) == 2 or gate(bench).in_flight <= 2
    work_all(bench)

    assert sorted(api(bench).sent) == sorted(ids(1, 10))
    bench.ledger.limit({"api": (None, None)})
    assert bench.ledger.client.smembers("router:shut") == set()


def test_what_was_let_go_and_never_came_back_counts_no_more(bench: Bench) -> None:
    """It was settled by somebody else: its place is free after a minute. One that only waits long keeps its place."""
    bench.ledger.limit({"api": (None, 1)})
    accept(bench.ledger, "e1", "e2")
    bench.work("e1")
    bench.work("e2")
    bench.ledger.client.delete("events.tickets")
    client = bench.ledger.client
    (flying,) = client.zrange("router:flight:api", 0, -1)
    for kept in (True, False):
        client.zadd("router:flight:api", {flying: 1})
        if not kept:
            client.hset("router:event:" + flying.decode().removesuffix(":a"), "s:a", "pending")
        bench.ledger.tick()
        assert (client.zscore("router:flight:api", flying) is not None) == kept
    assert (gate(bench).in_flight, gate(bench).parked) == (1, 0)


def test_a_destination_that_hangs_takes_no_more_threads(bench: Bench) -> None:
    """No place is left for it: parked, and fewer go at a time."""
    bench.slots = Slots(4, ("api", "other"))
    for _ in range(3):
        assert bench.slots.enter("api")
    accept(bench.ledger, *ids(1, 3))

    work_all(bench)

    assert (api(bench).sent, gate(bench).mode, gate(bench).parked) == ([], "busy", 3)
    for _ in range(3):
        bench.slots.leave("api")
    wait_over(bench)
    work_all(bench)
    assert api(bench).sent == ids(1, 3)


def failing(reason: str) -> Any:
    def handler(event: Envelope) -> list[Request]:
        if event.event.get("good"):
            return [Request("api", "POST", "", event.id)]
        if reason == "bug":
            raise ValueError("x")
        raise MappingFailed("x")

    return handler


@pytest.mark.parametrize(
    ("reason", "good", "bad", "mode"),
    [
        ("bug", 5, 6, "paused"),
        ("bug", 12, 6, "flowing"),
        ("bug", 0, 4, "flowing"),
        ("unmappable", 0, 5, "paused"),
        ("unmappable", 1, 20, "flowing"),
    ],
)
def test_a_bad_deploy_pauses_its_route(reason: str, good: int, bad: int, mode: str) -> None:
    """Failures of its own beyond a share; unmappable ones, which may be right, only where nothing else is."""
    bench = Bench(route("a", failing(reason)), numbered("b"), gates=GatePolicy(route_failures=5))
    flags = [False] + [True] * good + [False] * (bad - 1)
    events = [envelope(id=f"e{n}", event={"good": flag}) for n, flag in enumerate(flags)]
    bench.ledger.accept(events)

    work_all(bench)

    assert gate(bench, "route:a").mode == mode
    assert len(set(api(bench).sent)) == good + bad, "the other route goes on"


def test_a_paused_route_holds_nobody_else() -> None:
    """What it has for a subject waits; another route's deliveries of the same subject pass. Resumed, in order."""
    bench = Bench(numbered("a", to="other"), numbered("b"), other=Destination())
    bench.ledger.pause("route:a", "someone")
    accept(bench.ledger, *ids(1, 5), subject="encharge:same")
    accept(bench.ledger, "e6")
    work_all(bench)
    assert (api(bench).sent, bench.destinations["other"].sent) == (ids(1, 6), [])
    assert gate(bench, "route:a").parked == 6

    bench.ledger.resume("route:a")
    work_all(bench)

    sent = bench.destinations["other"].sent
    assert [id_ for id_ in sent if id_ != "e6"] == ids(1, 5)
    assert (sorted(sent), gate(bench, "route:a").mode) == (ids(1, 6), "flowing")
    assert balanced(bench.ledger)


def test_a_replay_that_would_write_old_over_new() -> None:
    """The plan says so: a younger event of the subject has written the same field since, and not another one."""
    bench = Bench(
        route("a", lambda event: [Request("api", "POST", "", {"name": "identify", "user": event.event["user"]})])
    )
    api(bench).answers = [DestinationRejected("answered 400")] * 2

    def take(id_: str, **user: Any) -> None:
        bench.ledger.accept([envelope(id=id_, subject="encharge:same", event={"user": {"email": "x", **user}})])
        work_all(bench)

    take("e1", plan="free")
    take("e2", city="Here")
    take("e3", plan="pro")

    letters = list(bench.letters.find())
    assert {letter.id for letter in letters} == {"e1:a", "e2:a"}
    assert plan(bench.ledger, letters).stale == ("e1:a",)
    Replay(bench.ledger, bench.letters, bench.queue).run(["e1:a", "e2:a"])
    work_all(bench)
    assert bench.ledger.client.keys("router:grave*") == []


def test_changes_of_gates_reach_the_caller(bench: Bench) -> None:
    """So that each is logged once, by whoever caused it."""
    ledger: Ledger = bench.ledger
    api(bench).answers = [DOWN] * 3
    accept(ledger, *ids(1, 4))
    work_all(bench)
    ledger.client.hset("router:gate:api", "until", 0)

    assert list(ledger.tick()) == [("api", "probing")]
    assert list(ledger.tick()) == []
