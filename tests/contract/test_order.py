"""Order: events of one subject one after another, deliveries of one subject to one destination one after another."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from bench import Bench, Destination, api, route, sends
from builders import accept, back, balanced, counts, lease_out, state_of
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tasks.action import Request
from tasks.errors import DestinationRejected, DestinationThrottled, DestinationUnavailable
from tasks.ledger import LINED, RETRYING, WAITING, Ledger
from tasks.replay import Replay
from tasks.routing import Routes
from tasks.sweeper import Sweeper

SAME = {"subject": "encharge:1"}
DOWN = DestinationUnavailable("answered 503")


def tickets(ledger: Ledger) -> list[list[str]]:
    """The ids of the tickets in the queue, the oldest first."""
    found = ledger.client.lrange("events.tickets", 0, -1)
    return [json.loads(json.loads(raw)["body"])[0][0] for raw in reversed(found)]


def taken(ledger: Ledger) -> list[str]:
    """Take all tickets off the queue: the ids."""
    ids = [id_ for each in tickets(ledger) for id_ in each]
    ledger.client.delete("events.tickets")
    return ids


def by_number(bench: Bench, order: str = "pass") -> None:
    """One route, whose request says which event it is of."""
    bench.routes = Routes((route("a", lambda event: [Request("api", "POST", "", event.id)], order=order),))


def test_only_the_first_of_a_subject_has_a_ticket() -> None:
    """However many wait behind it, and whether they came in one request or in several."""
    bench = Bench()
    accept(bench.ledger, "e1", "e2", **SAME)
    accept(bench.ledger, "e3", **SAME)
    accept(bench.ledger, "e4", subject=None)
    accept(bench.ledger, "e5", subject=None)

    assert tickets(bench.ledger) == [["e1"], ["e4"], ["e5"]]
    assert [state_of(bench.ledger, id_) for id_ in ("e1", "e2", "e3", "e4")] == [
        "accepted",
        "lined",
        "lined",
        "accepted",
    ]
    assert bench.ledger.claim(["e2", "e3"], "worker") == [], "a ticket that names them comes too early"
    assert counts(bench.ledger)["waiting"] == 5


def test_a_worker_goes_on_with_the_next_of_the_line() -> None:
    """Without a ticket for each; after 25 in a row others get their turn."""
    bench = Bench()
    by_number(bench)
    accept(bench.ledger, *(f"e{number}" for number in range(60)), **SAME)

    bench.work("e0")
    assert api(bench).sent == [f"e{number}" for number in range(25)]
    assert bench.leases.held == []
    assert taken(bench.ledger) == ["e0", "e25"]
    bench.work("e25")
    bench.work(*taken(bench.ledger))

    assert api(bench).sent == [f"e{number}" for number in range(60)]
    assert bench.ledger.client.exists("router:line:1", LINED) == 0
    assert balanced(bench.ledger)


def test_a_retry_holds_its_subject_at_its_destination_only() -> None:
    """Later events go to the other destination, another subject goes everywhere; then all in order."""
    bench = Bench(bad=Destination(DOWN))
    bench.routes = Routes(
        (
            route("a", lambda event: [Request("bad", "POST", "", event.id)]),
            route("b", lambda event: [Request("api", "POST", "", event.id)]),
        )
    )
    accept(bench.ledger, "e1", "e2", "e3", **SAME)
    accept(bench.ledger, "e4", subject="encharge:4")

    bench.work("e1")
    bench.work("e4")

    assert api(bench).sent == ["e1", "e2", "e3", "e4"]
    assert bench.destinations["bad"].sent == ["e1", "e4"]
    assert [bench.event(id_).deliveries["a"].state for id_ in ("e1", "e2", "e3")] == ["retrying", "held", "held"]
    assert [state_of(bench.ledger, id_) for id_ in ("e1", "e2", "e3", "e4")] == [
        "retrying",
        "held",
        "held",
        "delivered",
    ]
    taken(bench.ledger)
    bench.later()
    bench.work("e1")
    for _ in range(2):
        bench.work(*taken(bench.ledger))

    assert bench.destinations["bad"].sent == ["e1", "e4", "e1", "e2", "e3"]
    assert bench.ledger.client.keys("router:lane*") == []
    assert balanced(bench.ledger)


def test_an_event_that_comes_later_waits_behind_the_retry() -> None:
    """It came when the others had long been worked on."""
    bench = Bench()
    by_number(bench)
    api(bench).answers = [DOWN]
    accept(bench.ledger, "e1", **SAME)
    bench.work("e1")
    accept(bench.ledger, "e2", **SAME)

    bench.work("e2")

    assert (api(bench).sent, state_of(bench.ledger, "e2")) == (["e1"], "held")


@pytest.mark.parametrize(("order", "state"), [("pass", "delivered"), ("hold", "held")])
def test_what_a_dead_letter_does_to_those_behind_it(order: str, state: str) -> None:
    """They pass, or are held until it is replayed or thrown away."""
    bench = Bench()
    by_number(bench, order)
    api(bench).answers = [DestinationRejected("answered 400")]
    accept(bench.ledger, "e1", "e2", **SAME)

    bench.work("e1")
    bench.work("e2")

    assert (state_of(bench.ledger, "e1"), state_of(bench.ledger, "e2")) == ("dead", state)


@pytest.mark.parametrize("mended", [True, False])
def test_a_dead_letter_that_holds_lets_go(mended: bool) -> None:
    """Replayed it goes first; thrown away, those behind it go."""
    bench = Bench()
    by_number(bench, "hold")
    api(bench).answers = [DestinationRejected("answered 400")]
    accept(bench.ledger, "e1", "e2", **SAME)
    bench.work("e1")
    taken(bench.ledger)

    if mended:
        Replay(bench.ledger, bench.letters, bench.queue).run(["e1:a"])
        bench.work(*taken(bench.ledger))
    else:
        bench.ledger.discard("e1", "a")
    bench.work(*taken(bench.ledger))

    assert api(bench).sent == (["e1", "e1", "e2"] if mended else ["e1", "e2"])
    assert bench.ledger.client.keys("router:lane*") == []


def test_order_off() -> None:
    """A route that asks for none neither holds nor is held."""
    bench = Bench()
    by_number(bench, "off")
    api(bench).answers = [DOWN]
    accept(bench.ledger, "e1", "e2", **SAME)

    bench.work("e1")

    assert api(bench).sent == ["e1", "e2"]
    assert (state_of(bench.ledger, "e1"), state_of(bench.ledger, "e2")) == ("retrying", "delivered")


def test_routes_of_one_event_to_one_destination_keep_order_too() -> None:
    """The second is not tried while the first waits; nor does it cost an attempt."""
    bench = Bench(route("a", sends("one")), route("b", sends("two")))
    api(bench).answers = [DOWN]
    accept(bench.ledger, "e1")

    bench.work()
    assert (api(bench).sent, bench.states()) == (["one"], {"a": "retrying", "b": "held"})
    taken(bench.ledger)
    bench.later()
    bench.work()
    bench.work(*taken(bench.ledger))

    assert (api(bench).sent, bench.states()) == (["one", "one", "two"], {"a": "delivered", "b": "delivered"})


def test_a_crash_in_the_line_keeps_the_place() -> None:
    """The event of a dead worker is still the first; nobody overtakes."""
    bench = Bench()
    by_number(bench)
    accept(bench.ledger, "e1", "e2", **SAME)
    bench.ledger.claim(["e1"], "dying")
    lease_out(bench.ledger, "e1")
    Sweeper(bench.ledger, "sweeper", grace_s=60, crash_limit=3).sweep()

    bench.work("e2")
    assert api(bench).sent == []
    bench.work("e1")

    assert api(bench).sent == ["e1", "e2"]


def test_poison_lets_the_line_go_on() -> None:
    """What is buried by the sweeper leaves its place to the next."""
    bench = Bench()
    accept(bench.ledger, "e1", "e2", **SAME)
    bench.ledger.claim(["e1"], "dying")
    lease_out(bench.ledger, "e1")
    taken(bench.ledger)

    Sweeper(bench.ledger, "sweeper", grace_s=60, crash_limit=1).sweep()

    assert (state_of(bench.ledger, "e1"), taken(bench.ledger)) == ("dead", ["e2"])


def test_replays_of_one_subject_keep_their_order() -> None:
    """In order of acceptance, whatever the order they are named in; behind what waits there already."""
    bench = Bench()
    by_number(bench)
    api(bench).answers = [DestinationRejected("answered 400")] * 3
    accept(bench.ledger, "e1", "e2", "e3", **SAME)
    bench.work("e1")
    api(bench).sent.clear()
    api(bench).answers = [DOWN]
    accept(bench.ledger, "e4", **SAME)
    bench.work("e4")
    taken(bench.ledger)

    Replay(bench.ledger, bench.letters, bench.queue).run(["e3:a", "e1:a", "e2:a"])
    bench.work(*taken(bench.ledger))
    assert (api(bench).sent, taken(bench.ledger)) == (["e4"], [])
    back(bench.ledger, RETRYING, "e4", 3600)
    bench.work("e4")
    for _ in range(3):
        bench.work(*taken(bench.ledger))

    assert api(bench).sent == ["e4", "e4", "e1", "e2", "e3"]
    assert balanced(bench.ledger)


def test_an_event_that_died_before_it_had_routes_lines_up_again() -> None:
    """At the end of the line."""
    bench = Bench()
    accept(bench.ledger, "e1", "e2", **SAME)
    bench.ledger.client.hset("router:event:e1", "env", b"{}")
    bench.work("e1")
    accept(bench.ledger, "e3", "e4", **SAME)
    taken(bench.ledger)

    Replay(bench.ledger, bench.letters, bench.queue).run(["e1:-"])

    assert state_of(bench.ledger, "e1") == "lined"
    assert taken(bench.ledger) == []


def test_bug_a_line_whose_first_vanished_stood_still() -> None:
    """An event's hash may be deleted by hand."""
    bench = Bench()
    accept(bench.ledger, "e1", "e2", "e3", **SAME)
    bench.ledger.client.delete("router:event:e2")

    bench.work("e1")

    assert state_of(bench.ledger, "e3") == "delivered"


IDS = [f"e{number}" for number in range(8)]
OUTCOMES: list[Any] = [None, None, None, DOWN, DestinationThrottled("answered 429", 1), DestinationRejected("no")]


class OrderMachine(RuleBasedStateMachine):
    """Two subjects, two destinations, all that may happen to them; then everything calms down, and everything ends."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench(other=Destination())
        self.bench.routes = Routes(
            (
                route("a", lambda event: [Request("api", "POST", "", event.id)]),
                route("b", lambda event: [Request("other", "POST", "", event.id)], order="hold"),
                route(
                    "c", lambda event: [Request("other", "POST", "", event.id), Request("api", "POST", "", event.id)]
                ),
            )
        )
        self.known: list[str] = []
        self.subjects: dict[str, str] = {}
        self.replayed: set[str] = set()
        #: Deliveries that were parked at their route's own gate: other routes go on, and they line up behind those.
        self.stepped_aside: set[tuple[str, str]] = set()
        self.overtaken: list[tuple[str, str, str]] = []
        for name, destination in self.bench.destinations.items():
            destination.before = self._look(name)

    def _look(self, destination: str) -> Callable[[str], None]:
        """Before a request goes out: nothing older of the same subject may wait for the same destination."""

        def look(id_: str) -> None:
            older = [one for one in self.known[: self.known.index(id_)] if self.subjects[one] == self.subjects[id_]]
            for one in older:
                for name, delivery in self.bench.event(one).waiting().items():
                    if destination in delivery.order and (one, name) not in self.stepped_aside:
                        self.overtaken.append((id_, one, destination))

        return look

    @invariant()
    def nobody_overtakes(self) -> None:
        """But those that an operator put back behind what was there."""
        assert not [row for row in self.overtaken if row[1] not in self.replayed], self.overtaken

    @rule(count=st.integers(1, 3), subject=st.sampled_from(["x", "y"]))
    def accept(self, count: int, subject: str) -> None:
        ids = [f"e{len(self.known) + number}" for number in range(count)]
        accept(self.bench.ledger, *ids, subject=subject)
        self.known += ids
        self.subjects |= dict.fromkeys(ids, subject)

    @rule(data=st.data())
    def work(self, data: Any) -> None:
        """A worker takes the oldest ticket; destinations do as the dice say."""
        for name in ("api", "other"):
            answers = data.draw(st.lists(st.sampled_from(OUTCOMES), max_size=4), label=name)
            self.bench.destinations[name].answers = [
                answer or Destination().send(Request("", "", "")) for answer in answers
            ]
        self._work()

    def _work(self) -> None:
        raw = self.bench.ledger.client.rpop("events.tickets")
        if raw is not None:
            self.bench.work(*json.loads(json.loads(raw)["body"])[0][0])

    @rule()
    def crash(self) -> None:
        """A worker dies with what the oldest ticket names."""
        raw = self.bench.ledger.client.rpop("events.tickets")
        if raw is not None:
            for event in self.bench.ledger.claim(json.loads(json.loads(raw)["body"])[0][0], "dying"):
                lease_out(self.bench.ledger, event.id)
            self._sweep()

    @rule()
    def lose_tickets(self) -> None:
        self.bench.ledger.client.delete("events.tickets")

    @rule(gate=st.sampled_from(["api", "other", "route:a"]), pause=st.booleans())
    def operate(self, gate: str, pause: bool) -> None:
        if pause:
            self.bench.ledger.pause(gate, "operator")
        else:
            self.bench.ledger.resume(gate)

    @rule(data=st.data())
    def replay_or_discard(self, data: Any) -> None:
        letters = [(id_, name) for id_, name, _ in self.bench.ledger.dead()]
        if letters:
            id_, name = data.draw(st.sampled_from(letters))
            if data.draw(st.booleans()):
                self.replayed.add(id_)
                self.bench.ledger.replay(id_, name, {})
            else:
                self.bench.ledger.discard(id_, name)

    @rule()
    def time_passes(self) -> None:
        client = self.bench.ledger.client
        for id_ in self.known:
            for key in (RETRYING, "router:accepted"):
                if client.zscore(key, id_) is not None:
                    back(self.bench.ledger, key, id_, 100)
            for name, delivery in self.bench.event(id_).deliveries.items():
                if delivery.state == "retrying":
                    client.hset(f"router:event:{id_}", f"s:{name}", "retrying:1")
        for gate in ("api", "other", "route:a"):
            if client.hexists(f"router:gate:{gate}", "until"):
                client.hset(f"router:gate:{gate}", "until", 0)
        self._sweep()
        self.bench.ledger.tick()

    def _sweep(self) -> None:
        Sweeper(self.bench.ledger, "sweeper", grace_s=60, crash_limit=4).sweep()

    @invariant()
    def who_stepped_aside(self) -> None:
        for id_ in self.known:
            for name, delivery in self.bench.event(id_).deliveries.items():
                if (delivery.gate or "").startswith("route:"):
                    self.stepped_aside.add((id_, name))

    @invariant()
    def sums_hold(self) -> None:
        assert balanced(self.bench.ledger), self.bench.ledger.counts()

    @invariant()
    def each_event_is_in_one_place(self) -> None:
        for id_ in self.known:
            event = self.bench.event(id_)
            places = [key for key in WAITING if self.bench.ledger.client.zscore(key, id_) is not None]
            assert places == ([] if event.ended_at else [f"router:{event.state}"]), event

    def teardown(self) -> None:
        """Everything ends, and every lane, line and gate is empty: nothing was forgotten anywhere."""
        for gate in ("api", "other", "route:a"):
            self.bench.ledger.resume(gate)
        for destination in self.bench.destinations.values():
            destination.answers = []
        for _ in range(40):
            for id_, name, _ in list(self.bench.ledger.dead()):
                self.bench.ledger.discard(id_, name)
            self.time_passes()
            while self.bench.ledger.client.llen("events.tickets"):
                self._work()
            if all(self.bench.event(id_).ended_at for id_ in self.known) and not list(self.bench.ledger.dead()):
                break
        waiting = [event for event in map(self.bench.event, self.known) if not event.ended_at]
        assert not waiting, waiting
        client = self.bench.ledger.client
        left = [key for pattern in ("lane*", "line*", "parked*", "grave*") for key in client.keys(f"router:{pattern}")]
        assert not left, left


TestOrderMachine = OrderMachine.TestCase
TestOrderMachine.settings = settings(
    max_examples=15, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
