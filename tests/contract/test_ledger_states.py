"""Whatever happens in whatever order: no event is lost, none is in two places, and the sums hold."""

from typing import Any

from builders import back, balanced, counts, envelope, fake_ledger, lease_out
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tasks.ledger import ACCEPTED, RETRYING, Result, StoredEvent
from tasks.ledger import WAITING as PLACES
from tasks.queue import RedisQueue
from tasks.sweeper import Sweeper

IDS = [f"e{number}" for number in range(4)]
ROUTES = ["a", "b"]
OUTCOMES = st.sampled_from(["delivered", "filtered", "dead", "retrying"])
WAITING = {"pending", "retrying"}
CRASH_LIMIT = 3


class LedgerMachine(RuleBasedStateMachine):
    """Workers, sweepers, senders and operators at one ledger."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = fake_ledger()
        self.queue = RedisQueue(self.ledger)
        self.sweeper = Sweeper(self.ledger, "sweeper", grace_s=60, crash_limit=CRASH_LIMIT)
        self.held: dict[str, StoredEvent] = {}
        self.delivered: set[tuple[str, str]] = set()
        self.known: set[str] = set()
        self.owners = 0

    @rule(ids=st.lists(st.sampled_from(IDS), min_size=1, max_size=3))
    def accept(self, ids: list[str]) -> None:
        """A request with new events and known ones."""
        fresh = self.queue.accept([envelope(id=id_) for id_ in ids])
        assert fresh == [id_ not in self.known and id_ not in ids[:index] for index, id_ in enumerate(ids)]
        self.known |= set(ids)

    @rule(ids=st.lists(st.sampled_from(IDS), min_size=1, max_size=3))
    def claim(self, ids: list[str]) -> None:
        """A worker with a ticket, which may be an old one."""
        self.owners += 1
        for event in self.ledger.claim(ids, f"worker {self.owners}"):
            assert event.id in self.known
            assert event.id not in self.held, "an event is given out once"
            assert event.envelope is not None
            assert not event.deliveries or any(delivery.state in WAITING for delivery in event.deliveries.values())
            self.held[event.id] = event

    @precondition(lambda self: self.held)
    @rule(data=st.data(), more=st.booleans())
    def settle(self, data: Any, more: bool) -> None:
        """The worker says how it went, in one step or in two."""
        event = self.held.pop(data.draw(st.sampled_from(sorted(self.held)), label="id"))
        waiting = [name for name, delivery in event.deliveries.items() if delivery.state in WAITING]
        routes = waiting or data.draw(st.sampled_from([[], ["a"], ROUTES, ["-"]]), label="routes")
        results = []
        for name in routes:
            assert (event.id, name) not in self.delivered
            state = "dead" if name == "-" else data.draw(OUTCOMES, label=name)
            results.append(Result(name, state, {"attempts": []}, 60))
        if more and len(results) > 1:
            head, *rest = results
            plan = [Result(result.route, "pending", {}) for result in rest]
            assert self.ledger.settle(event, [head, *plan], more=True).state == "running"
            results = rest
            self._note(event.id, head)
        assert self.ledger.settle(event, results).state != "stale"
        for result in results:
            self._note(event.id, result)

    def _note(self, id_: str, result: Result) -> None:
        if result.state == "delivered":
            self.delivered.add((id_, result.route))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def crash(self, data: Any) -> None:
        """The worker dies; its lease runs out, and a sweeper comes."""
        event = self.held.pop(data.draw(st.sampled_from(sorted(self.held)), label="id"))
        lease_out(self.ledger, event.id)
        self.sweeper.sweep()
        after = self.ledger.event(event.id)
        assert after is not None
        assert after.state == ("dead" if event.crashes + 1 >= CRASH_LIMIT else "accepted")
        if after.state == "dead":
            assert self.ledger.settle(event, [Result("a", "delivered", {})]).state == "stale"

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def stall(self, data: Any) -> None:
        """The worker is slow, not dead: what it says after a sweep counts unless another one took over."""
        event = self.held.pop(data.draw(st.sampled_from(sorted(self.held)), label="id"))
        waiting = [name for name, delivery in event.deliveries.items() if delivery.state in WAITING]
        results = [Result(name, "delivered", {}) for name in waiting or ["a"]]
        lease_out(self.ledger, event.id)
        self.sweeper.sweep()
        if data.draw(st.booleans(), label="another took over"):
            self.claim([event.id])
        free = event.id not in self.held and event.crashes + 1 < CRASH_LIMIT
        written = self.ledger.settle(event, results).state != "stale"
        assert written == free
        if written:
            self.delivered |= {(event.id, result.route) for result in results}

    @rule()
    def wait(self) -> None:
        """An hour goes by: every retry is due."""
        for id_ in IDS:
            if self.ledger.client.zscore(RETRYING, id_) is not None:
                back(self.ledger, RETRYING, id_, 3600)
        self.sweeper.sweep()
        assert self.ledger.client.zcard(RETRYING) == 0

    @rule()
    def lose_tickets(self) -> None:
        """Redis forgets the queue; a sweep after the grace gives every waiting event a new ticket."""
        self.ledger.client.delete(self.queue.key)
        waiting = self.ledger.client.zrange(ACCEPTED, 0, -1)
        for id_ in waiting:
            back(self.ledger, ACCEPTED, id_.decode(), 3600)
        self.sweeper.sweep()
        assert self.ledger.client.llen(self.queue.key) == len(waiting)

    @rule(id_=st.sampled_from(IDS), route=st.sampled_from([*ROUTES, "-"]))
    def replay(self, id_: str, route: str) -> None:
        """An operator puts a dead letter back, if it is one."""
        was_dead = (id_, route) in self._dead()
        assert self.ledger.replay(id_, route, {}) == was_dead

    @rule(id_=st.sampled_from(IDS), route=st.sampled_from([*ROUTES, "-"]))
    def discard(self, id_: str, route: str) -> None:
        """An operator throws a dead letter away, if it is one."""
        was_dead = (id_, route) in self._dead()
        assert self.ledger.discard(id_, route) == was_dead

    def _dead(self) -> set[tuple[str, str]]:
        return {(id_, route) for id_, route, _ in self.ledger.dead()}

    @invariant()
    def sums_hold(self) -> None:
        """Accepted = delivered + filtered + duplicate + dead + waiting, per source and per route."""
        assert balanced(self.ledger), self.ledger.counts()
        assert all(number >= 0 for row in self.ledger.counts().values() for number in row.values())

    @invariant()
    def waiting_is_what_waits(self) -> None:
        """The source's number is that of the events in the sorted sets."""
        there = sum(self.ledger.client.zcard(key) for key in PLACES)
        assert counts(self.ledger).get("waiting", 0) == there

    @invariant()
    def each_event_is_in_one_place(self) -> None:
        """Its state names the only sorted set that has it; ended events are in none."""
        dead = self._dead()
        for event in filter(None, self.ledger.events(IDS)):
            places = [
                key.removeprefix("router:") for key in PLACES if self.ledger.client.zscore(key, event.id) is not None
            ]
            ended = event.state in {"delivered", "filtered", "dead", "discarded"}
            assert places == ([] if ended else [event.state])
            assert (event.envelope is None) == (event.state in {"delivered", "filtered", "discarded"})
            for name, delivery in event.deliveries.items():
                assert ((event.id, name) in dead) == (delivery.state == "dead")
                assert ((event.id, name) in self.delivered) == (delivery.state == "delivered")
                assert not ended or delivery.state not in WAITING

    @invariant()
    def nothing_is_lost(self) -> None:
        """Every event that was ever accepted is still known."""
        assert {event.id for event in self.ledger.events(IDS) if event is not None} == self.known


TestLedgerStates = LedgerMachine.TestCase
TestLedgerStates.settings = settings(
    max_examples=20,
    stateful_step_count=25,
    deadline=None,
    # A failing story of 25 steps is read sooner than a shorter one is found.
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
