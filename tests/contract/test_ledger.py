"""The ledger: each script, and what it refuses to do."""

import pytest
import redis
from builders import accept, back, balanced, claim, counts, envelope, fake_ledger, lease_out, settled, state_of

from tasks.envelope import Rejected, decode
from tasks.errors import QueueFull, QueueUnavailable
from tasks.ledger import ACCEPTED, DEAD, LONGEST_KEPT, RECENT, RETRYING, RUNNING, SUSPECT, WAITING, Ledger, Result
from tasks.queue import RedisQueue

QUEUE = "events.tickets"


@pytest.fixture
def ledger() -> Ledger:
    return fake_ledger()


def where(ledger: Ledger, id_: str = "e1") -> list[str]:
    """In which of the sorted sets an event is."""
    return [key for key in WAITING if ledger.client.zscore(key, id_) is not None]


def tickets(ledger: Ledger) -> int:
    return int(ledger.client.llen(QUEUE))


def crash(ledger: Ledger, id_: str = "e1", limit: int = 3, sweeper: str = "sweeper") -> tuple[list[str], list[str]]:
    """A worker takes the event and dies; a sweep finds it."""
    claim(ledger, id_, f"dying {id_} {ledger.client.zcard(RUNNING)}")
    lease_out(ledger, id_)
    return ledger.expire([id_], limit, sweeper)


def test_accept(ledger: Ledger) -> None:
    """An event is written down whole, with its ticket."""
    assert accept(ledger, "e1") == [True]

    event = ledger.event("e1")
    assert event is not None
    assert decode(event.envelope or b"") == envelope()
    assert (event.state, event.source, event.type, event.label) == (
        "accepted",
        "encharge",
        "newUser",
        "encharge · newUser",
    )
    assert (event.crashes, event.owner, event.ended_at, event.deliveries) == (0, "", None, {})
    assert (where(ledger), tickets(ledger)) == ([ACCEPTED], 1)
    assert counts(ledger) == {"accepted": 1, "waiting": 1}


def test_duplicates(ledger: Ledger) -> None:
    """The same id again is counted and makes no ticket, alone or among new ones, even twice in one request."""
    accept(ledger, "e1")

    assert accept(ledger, "e1") == [False]
    assert tickets(ledger) == 1
    assert accept(ledger, "e1", "e2", "e2") == [False, True, False]
    assert tickets(ledger) == 2
    assert counts(ledger) == {"accepted": 5, "duplicate": 3, "waiting": 2}


@pytest.mark.parametrize("end", ["delivered", "filtered", "dead"])
def test_a_settled_event_is_still_known(ledger: Ledger, end: str) -> None:
    """An id stays seen after its event ended."""
    accept(ledger, "e1")
    settled(ledger, "e1", Result("a", end, {}))

    assert accept(ledger, "e1") == [False]


def test_full() -> None:
    """Above the limit nothing of the request is taken."""
    ledger = fake_ledger(max_waiting=2)
    accept(ledger, "e1")

    with pytest.raises(QueueFull):
        accept(ledger, "e2", "e3")
    assert ledger.event("e2") is None
    assert (counts(ledger), tickets(ledger)) == ({"accepted": 1, "waiting": 1}, 1)
    assert accept(ledger, "e2") == [True]


def test_redis_away(ledger: Ledger) -> None:
    """Its error has one name, and no text of the server's."""

    def lost(*_: object) -> None:
        raise redis.ConnectionError("quotes something")

    ledger._accept = lost  # type: ignore[assignment]

    with pytest.raises(QueueUnavailable, match=r"^ConnectionError$"):
        accept(ledger, "e1")


@pytest.mark.parametrize("changes", [{"name": "x\ud800"}, {"type": "x\ud800"}])
def test_text_that_is_no_utf8(ledger: Ledger, changes: dict[str, str]) -> None:
    """JSON allows lone surrogates, so an event may have some."""
    assert RedisQueue(ledger).accept([envelope(**changes)]) == [True]


def test_claim(ledger: Ledger) -> None:
    """A claimed event is its owner's, and nobody else's."""
    accept(ledger, "e1", "e2")

    taken = ledger.claim(["e1", "unknown", "e2"], "one")

    assert [(event.id, event.state, event.owner) for event in taken] == [
        ("e1", "running", "one"),
        ("e2", "running", "one"),
    ]
    assert ledger.claim(["e1", "e2"], "two") == []
    assert where(ledger) == [RUNNING]


@pytest.mark.parametrize("end", ["delivered", "filtered", "dead"])
def test_what_is_settled_is_not_claimed(ledger: Ledger, end: str) -> None:
    """A ticket that comes twice does nothing the second time."""
    accept(ledger, "e1")

    assert settled(ledger, "e1", Result("a", end, {})) == end
    assert ledger.claim(["e1"], "two") == []


@pytest.mark.parametrize(
    ("states", "final"),
    [
        ([], "filtered"),
        (["filtered"], "filtered"),
        (["delivered"], "delivered"),
        (["delivered", "filtered"], "delivered"),
        (["dead"], "dead"),
        (["dead", "delivered"], "dead"),
        (["delivered", "dead", "filtered"], "dead"),
        (["delivered", "retrying"], "retrying"),
        (["dead", "retrying"], "retrying"),
        (["delivered", "pending"], "accepted"),
        (["dead", "held"], "accepted"),  # behind nobody
        (["delivered", "parked:encharge_api"], "accepted"),  # and let go at once
    ],
)
def test_settle(ledger: Ledger, states: list[str], final: str) -> None:
    """An event is what the worst of its deliveries is, and waits while one does."""
    accept(ledger, "e1")

    results = [Result(f"r{index}", state, {"n": index}, 60) for index, state in enumerate(states)]

    assert settled(ledger, "e1", *results) == final == state_of(ledger)
    assert where(ledger) == [key for key in WAITING if key.endswith(final)]
    assert balanced(ledger)
    event = ledger.event("e1")
    assert event is not None
    assert (event.envelope is None) == (final in {"delivered", "filtered"})
    assert (event.ended_at is None) == (final in {"retrying", "accepted"})
    assert [event.deliveries[f"r{index}"].record for index in range(len(states))] == [
        {"n": index} for index in range(len(states))
    ]
    for index, state in enumerate(states):
        row = {"accepted": 1, state if state in {"delivered", "filtered", "dead"} else "waiting": 1}
        assert counts(ledger, "route", f"r{index}") == row


@pytest.mark.parametrize(("end", "forgotten"), [("delivered", True), ("filtered", True), ("dead", False)])
def test_what_is_forgotten(ledger: Ledger, end: str, forgotten: bool) -> None:
    """An ended event is remembered for the dedupe window; a dead one until somebody looks after it."""
    accept(ledger, "e1")
    settled(ledger, "e1", Result("a", end, {}))

    assert (0 < ledger.client.ttl("router:event:e1") <= 3600) == forgotten


def test_settle_with_more_to_come(ledger: Ledger) -> None:
    """The lease stays while more deliveries follow."""
    accept(ledger, "e1")
    event = claim(ledger)

    assert (
        ledger.settle(event, [Result("a", "delivered", {}), Result("b", "pending", {})], more=True).state == "running"
    )
    assert where(ledger) == [RUNNING]
    assert counts(ledger, "route", "b") == {"accepted": 1, "waiting": 1}
    assert ledger.settle(event, [Result("b", "delivered", {})]).state == "delivered"
    assert counts(ledger, "route", "b") == {"accepted": 1, "delivered": 1}


def test_a_stale_owner_writes_nothing(ledger: Ledger) -> None:
    """Whoever lost the lease to another has nothing to say any more; nor has anybody after the end."""
    accept(ledger, "e1")
    slow = claim(ledger, owner="slow")
    lease_out(ledger, "e1")
    ledger.expire(["e1"], 3, "sweeper")
    quick = claim(ledger, owner="quick")

    assert ledger.settle(slow, [Result("a", "dead", {})]).state == "stale"
    assert counts(ledger, "route", "a") == {}
    assert ledger.settle(quick, [Result("a", "delivered", {})]).state == "delivered"
    assert ledger.settle(quick, [Result("a", "delivered", {})]).state == "stale"
    assert counts(ledger, "route", "a") == {"accepted": 1, "delivered": 1}


def test_a_slow_owner_that_nobody_followed_may_still_settle(ledger: Ledger) -> None:
    """What is delivered is delivered, though the event was back in the queue already."""
    accept(ledger, "e1")
    slow = claim(ledger)
    lease_out(ledger, "e1")
    ledger.expire(["e1"], 3, "sweeper")

    assert ledger.settle(slow, [Result("a", "delivered", {})]).state == "delivered"
    assert where(ledger) == []
    assert ledger.claim(["e1"], "two") == []


def test_renew(ledger: Ledger) -> None:
    """A renewed lease runs anew; one that is gone does not come back."""
    accept(ledger, "e1", "e2")
    claim(ledger, "e1")
    lease_out(ledger, "e1")

    ledger.renew([("e1", "somebody else"), ("e2", "worker"), ("unknown", "worker")])
    assert list(ledger.overdue(60).expired) == ["e1"]
    ledger.renew([("e1", "worker")])
    ledger.renew([])

    assert ledger.overdue(60).expired == []
    assert where(ledger, "e2") == [ACCEPTED]


def test_expire_puts_back(ledger: Ledger) -> None:
    """A dead worker's event goes back to the queue with a new ticket, and its crash is counted."""
    accept(ledger, "e1")

    assert crash(ledger) == (["e1"], [])
    event = ledger.event("e1")
    assert event is not None
    assert (event.state, event.crashes, where(ledger), tickets(ledger)) == ("accepted", 1, [ACCEPTED], 2)
    assert balanced(ledger)


def test_a_lease_handed_back_runs_out_at_once_and_is_no_crash(ledger: Ledger) -> None:
    """A worker that must end leaves its events to others; what is somebody else's by now stays as it is."""
    accept(ledger, "e1", "e2")
    claim(ledger, "e1", "mine")
    claim(ledger, "e2", "another's")

    ledger.hand_back([("e1", "mine"), ("e2", "mine"), ("unknown", "mine")])

    assert (ledger.overdue(5).expired, ledger.overdue(5).given_back) == ([], ["e1"])
    assert ledger.expire(["e1", "e2"], 1, "sweeper") == (["e1"], [])
    event = ledger.event("e1")
    assert event is not None
    assert (event.state, event.crashes) == ("accepted", 0)
    assert state_of(ledger, "e2") == "running"


def test_a_living_lease_does_not_expire(ledger: Ledger) -> None:
    """The script checks again, whatever the sweeper thought it saw."""
    accept(ledger, "e1")
    claim(ledger)

    assert ledger.expire(["e1", "unknown"], 3, "sweeper") == ([], [])
    assert state_of(ledger) == "running"


def test_at_the_limit_the_caller_owns_the_event(ledger: Ledger) -> None:
    """Too many crashes: it goes to nobody but the sweeper, who settles it."""
    accept(ledger, "e1")
    crash(ledger)
    crash(ledger)

    assert crash(ledger) == ([], ["e1"])
    assert ledger.claim(["e1"], "worker") == []
    event = ledger.event("e1")
    assert event is not None
    assert event.owner == "sweeper"
    assert ledger.settle(event, [Result("-", "dead", {})]).state == "dead"


def test_a_sweeper_that_dies_loses_nothing(ledger: Ledger) -> None:
    """An event at the limit whose sweeper died goes to the next one."""
    accept(ledger, "e1")
    crash(ledger, limit=1)
    lease_out(ledger, "e1")

    assert ledger.overdue(60).expired == ["e1"]
    assert ledger.expire(["e1"], 1, "other") == ([], ["e1"])


def test_suspects_run_apart(ledger: Ledger) -> None:
    """Two events during which workers died do not run together again; the second waits for a moment."""
    accept(ledger, "e1", "e2", "e3")
    for id_ in ("e1", "e2"):
        crash(ledger, id_, limit=9)
        crash(ledger, id_, limit=9)

    taken = ledger.claim(["e1", "e2", "e3"], "worker")

    assert [event.id for event in taken] == ["e1", "e3"]
    assert where(ledger, "e2") == [RETRYING]
    assert ledger.settle(taken[0], [Result("a", "delivered", {})]).state == "delivered"
    back(ledger, RETRYING, "e2", 1)
    assert [event.id for event in ledger.claim(["e2"], "worker 2")] == ["e2"]
    assert ledger.client.get(SUSPECT) == b"e2"


def test_a_suspect_that_crashed_again_blocks_nobody(ledger: Ledger) -> None:
    """When its lease ran out the next suspect may run."""
    accept(ledger, "e1", "e2")
    for _ in range(2):
        crash(ledger, "e1", limit=9)
        crash(ledger, "e2", limit=9)
    claim(ledger, "e1")
    lease_out(ledger, "e1")

    assert [event.id for event in ledger.claim(["e2"], "worker")] == ["e2"]


def test_due(ledger: Ledger) -> None:
    """A retry sleeps until its time, and then goes back to the queue."""
    accept(ledger, "e1")
    settled(ledger, "e1", Result("a", "retrying", {}, 60))

    assert ledger.claim(["e1"], "early") == []
    assert ledger.overdue(60).due == []
    assert ledger.wake_due(["e1"]) == []
    back(ledger, RETRYING, "e1", 61)
    assert ledger.overdue(60).due == ["e1"]
    assert ledger.wake_due(["e1", "unknown"]) == ["e1"]
    assert (state_of(ledger), where(ledger), tickets(ledger)) == ("accepted", [ACCEPTED], 2)
    assert claim(ledger).deliveries["a"].state == "retrying"


def test_a_due_retry_may_be_claimed_directly(ledger: Ledger) -> None:
    """A ticket from elsewhere finds it too."""
    accept(ledger, "e1")
    settled(ledger, "e1", Result("a", "retrying", {}, 60))
    back(ledger, RETRYING, "e1", 61)

    assert claim(ledger).id == "e1"
    assert where(ledger) == [RUNNING]


def test_lost_because_overtaken(ledger: Ledger) -> None:
    """An event that is older than one claimed, and still unclaimed, lost its ticket."""
    accept(ledger, "e1")
    back(ledger, ACCEPTED, "e1", 100)
    accept(ledger, "e2")
    assert ledger.overdue(60).lost == {}
    claim(ledger, "e2")

    lost = ledger.overdue(60).lost

    assert list(lost) == ["e1"]
    assert ledger.wake_lost(lost) == ["e1"]
    assert ledger.wake_lost(lost) == []
    assert (tickets(ledger), ledger.overdue(60).lost) == (3, {})


def test_lost_because_the_queue_is_empty(ledger: Ledger) -> None:
    """No ticket anywhere, and the grace is over."""
    accept(ledger, "e1")
    ledger.client.delete(QUEUE)

    assert ledger.overdue(60).lost == {}
    back(ledger, ACCEPTED, "e1", 61)
    assert set(ledger.overdue(60).lost) == {"e1"}


def test_a_claimed_event_is_not_lost(ledger: Ledger) -> None:
    """Between the look and the script a worker may have come."""
    accept(ledger, "e1")
    ledger.client.delete(QUEUE)
    back(ledger, ACCEPTED, "e1", 61)
    lost = ledger.overdue(60).lost
    claim(ledger)

    assert ledger.wake_lost(lost) == []


def test_at_most_so_many_of_each_kind(ledger: Ledger) -> None:
    """One sweep is bounded."""
    accept(ledger, *(f"e{index}" for index in range(5)))
    ledger.claim([f"e{index}" for index in range(5)], "worker")
    for index in range(5):
        lease_out(ledger, f"e{index}")

    assert len(ledger.overdue(60, most=3).expired) == 3


def test_scripts_push_nothing_to_another_broker(ledger: Ledger) -> None:
    """Somebody else carries the tickets, and hears of each event that has to be worked on."""
    carried: list[tuple[str, list[str]]] = []
    ledger.queue, ledger.carry = "", lambda label, ids: carried.append((label, list(ids)))
    accept(ledger, "e1")
    accept(ledger, "e2", subject="encharge:1")
    crash(ledger)
    settled(ledger, "e1", Result("a", "delivered", {}))

    assert tickets(ledger) == 0
    assert carried == [("encharge · newUser", ["e1"]), ("encharge · newUser", ["e1"]), ("encharge · newUser", ["e2"])]


def test_replay_of_one_route(ledger: Ledger) -> None:
    """Only that route goes again, with the record given; the rest of the event stays as it is."""
    accept(ledger, "e1")
    settled(ledger, "e1", Result("a", "delivered", {}), Result("b", "dead", {}), Result("c", "dead", {}))

    assert ledger.replay("e1", "b", {"sent": 1})
    assert not ledger.replay("e1", "b", {})
    assert not ledger.replay("e1", "a", {})
    assert not ledger.replay("e2", "b", {})
    assert (state_of(ledger), where(ledger), tickets(ledger)) == ("accepted", [ACCEPTED], 2)
    assert [route for _, route, _ in ledger.dead()] == ["c"]
    assert counts(ledger) == {"accepted": 1, "waiting": 1}
    event = claim(ledger)
    assert {name: delivery.state for name, delivery in event.deliveries.items()} == {
        "a": "delivered",
        "b": "pending",
        "c": "dead",
    }
    assert event.deliveries["b"].record == {"sent": 1}
    assert ledger.settle(event, [Result("b", "delivered", {})]).state == "dead"
    assert balanced(ledger)


def test_replay_of_an_event_that_had_no_routes(ledger: Ledger) -> None:
    """It starts from the beginning, as if it had never been tried."""
    accept(ledger, "e1")
    settled(ledger, "e1", Result("-", "dead", {}))

    assert ledger.replay("e1", "-", {})
    assert claim(ledger).deliveries == {}
    assert counts(ledger, "route", "-") == {}
    assert balanced(ledger)


def test_replay_while_it_runs(ledger: Ledger) -> None:
    """Settling finds the delivery that was put back, and lets it go on."""
    accept(ledger, "e1")
    settled(ledger, "e1", Result("a", "dead", {}), Result("b", "retrying", {}))
    event = claim(ledger)

    assert ledger.replay("e1", "a", {})
    assert state_of(ledger) == "running"
    assert ledger.settle(event, [Result("b", "delivered", {})]).state == "accepted"
    assert claim(ledger).deliveries["a"].state == "pending"
    assert balanced(ledger)


def test_replay_while_another_route_waits(ledger: Ledger) -> None:
    """It need not wait for the other one's time."""
    accept(ledger, "e1")
    settled(ledger, "e1", Result("a", "dead", {}), Result("b", "retrying", {}, 3600))

    assert ledger.replay("e1", "a", {})
    assert (state_of(ledger), tickets(ledger)) == ("accepted", 2)
    assert balanced(ledger)


def test_replay_forgets_crashes(ledger: Ledger) -> None:
    """A replayed poison event gets a fresh count."""
    accept(ledger, "e1")
    crash(ledger, limit=1)
    event = ledger.event("e1")
    assert event is not None
    ledger.settle(event, [Result("-", "dead", {})])

    ledger.replay("e1", "-", {})

    assert claim(ledger).crashes == 0


def test_discard(ledger: Ledger) -> None:
    """One by one; with the last one the event is over. What was dead stays counted as dead."""
    accept(ledger, "e1")
    settled(ledger, "e1", Result("a", "dead", {}), Result("b", "dead", {}))

    assert ledger.discard("e1", "a")
    assert not ledger.discard("e1", "a")
    assert state_of(ledger) == "dead"
    assert ledger.discard("e1", "b")
    event = ledger.event("e1")
    assert event is not None
    assert (event.state, event.envelope) == ("discarded", None)
    assert ledger.client.zcard(DEAD) == 0
    assert counts(ledger) == {"accepted": 1, "dead": 1, "discarded": 1}
    assert counts(ledger, "route", "a") == {"accepted": 1, "dead": 1, "discarded": 1}
    assert not ledger.replay("e1", "a", {})
    assert 0 < ledger.client.ttl("router:event:e1") <= 3600


def test_discard_while_another_route_waits(ledger: Ledger) -> None:
    """The other one goes its way."""
    accept(ledger, "e1")
    settled(ledger, "e1", Result("a", "dead", {}), Result("b", "retrying", {}))

    assert ledger.discard("e1", "a")
    assert ledger.settle(claim(ledger), [Result("b", "delivered", {})]).state == "delivered"
    assert balanced(ledger)


def test_dead_letters_in_pages(ledger: Ledger) -> None:
    """Every one of them, oldest first, in as many reads as it takes; ids may hold colons."""
    for index in range(5):
        accept(ledger, f"a:{index}")
        settled(ledger, f"a:{index}", Result("r", "dead", {}))

    assert [(id_, route) for id_, route, _ in ledger.dead(most=2)] == [(f"a:{index}", "r") for index in range(5)]


def test_counts_and_sizes(ledger: Ledger) -> None:
    """Sources first, then routes; sizes as they are now."""
    accept(ledger, "e1", "e2", "e3", "e4")
    accept(ledger, "s1", source="a-shop")
    settled(ledger, "e1", Result("z", "dead", {}))
    settled(ledger, "e2", Result("b", "retrying", {}, 60))
    claim(ledger, "e3")
    back(ledger, ACCEPTED, "e4", 100)

    assert list(ledger.counts()) == [("source", "a-shop"), ("source", "encharge"), ("route", "b"), ("route", "z")]
    sizes = ledger.sizes()
    assert 100 <= sizes.pop("unclaimed_oldest_seconds") < 160
    assert sizes == {
        "unclaimed": 2,
        "running": 1,
        "retrying": 1,
        "lined": 0,
        "held": 0,
        "unidentified": 0,
        "scheduled": 0,
        "dead_letters": 1,
        "queue_length": 2,
    }
    assert fake_ledger().sizes()["unclaimed_oldest_seconds"] == 0


def test_look(ledger: Ledger) -> None:
    """One event, several, none."""
    accept(ledger, "e1")

    assert ledger.event("unknown") is None
    first, second = ledger.events(["unknown", "e1"])
    assert first is None
    assert second == ledger.event("e1")
    assert ledger.ping()


def test_bug_an_event_named_twice_in_a_ticket_was_given_out_twice(ledger: Ledger) -> None:
    """A batch with the same messageId twice makes such a ticket."""
    accept(ledger, "e1")
    assert len(ledger.claim(["e1", "e1"], "one")) == 1


def test_bug_a_claim_whose_answer_was_lost_cost_the_whole_lease(ledger: Ledger) -> None:
    """The same owner asking again gets what it was given; another owner does not."""
    accept(ledger, "e1")
    ledger.claim(["e1"], "one")
    assert [event.id for event in ledger.claim(["e1"], "one")] == ["e1"]
    assert ledger.claim(["e1"], "two") == []


def test_bug_settling_twice_counted_twice(ledger: Ledger) -> None:
    """A settle whose answer was lost is sent again, and changes nothing."""
    accept(ledger, "e1")
    event = claim(ledger)
    results = [Result("a", "delivered", {}), Result("b", "pending", {})]
    assert ledger.settle(event, results, more=True).state == "running"
    assert ledger.settle(event, results, more=True).state == "running"
    table = ledger.counts()
    assert table["route", "a"] == {"accepted": 1, "delivered": 1}
    assert table["route", "b"] == {"accepted": 1, "waiting": 1}


def test_bug_a_swept_worker_went_on_beside_the_next_one(ledger: Ledger) -> None:
    """After its lease was swept a worker may say how it ended, and not that more follows."""
    accept(ledger, "e1")
    event = claim(ledger)
    lease_out(ledger, "e1")
    ledger.expire(["e1"], 3, "sweeper")
    assert ledger.settle(event, [Result("a", "delivered", {})], more=True).state == "stale"
    assert ledger.settle(event, [Result("a", "delivered", {})]).state == "delivered"


def test_bug_events_in_retry_were_no_back_pressure() -> None:
    """Whatever waits fills Redis, in the queue or not."""
    ledger = fake_ledger(max_waiting=2)
    accept(ledger, "e1", "e2")
    ledger.settle(claim(ledger, "e1"), [Result("a", "retrying", {}, 60)])
    claim(ledger, "e2")
    with pytest.raises(QueueFull):
        accept(ledger, "e3")


def test_bug_a_record_that_is_no_json_left_the_event_running(ledger: Ledger) -> None:
    """A handler's request may hold anything; the dead letter keeps its text."""
    accept(ledger, "e1")
    record = {"reason": "bug", "request": {"body": {("a", 1): 2}}}
    assert ledger.settle(claim(ledger), [Result("a", "dead", record)]).state == "dead"
    event = ledger.event("e1")
    assert event is not None
    assert event.deliveries["a"].record["reason"] == "bug"


def test_rejected_events_are_dead_and_counted_once(ledger: Ledger) -> None:
    """Invalid by content: accepted and dead in one step; the same again is a duplicate; replay takes it up anew."""
    assert ledger.reject([Rejected(envelope(id="e1"), "no user"), Rejected(envelope(id="e2"), "no event")]) == [
        True,
        True,
    ]
    assert ledger.reject([Rejected(envelope(id="e1"), "no user")]) == [False]
    found = ledger.counts()["source", "encharge"]
    assert (found["accepted"], found["dead"], found["duplicate"]) == (3, 2, 1)
    assert ledger.replay("e1", "-", {})
    assert [event.id for event in ledger.claim(["e1"], "one")] == ["e1"]


# --- what is kept after the end ---------------------------------------------------------------------------------


def stored(ledger: Ledger, most: int = 10) -> list[str]:
    return [each.id for each in ledger.stored(most)]


@pytest.mark.parametrize("end", ["delivered", "filtered", "dead"])
def test_ended_events_are_kept_to_look_at(end: str) -> None:
    """The archive has the envelope of an event that ended, however it ended, and no more than it may hold."""
    ledger = fake_ledger(archive_events=2)
    for id_ in ("e1", "e2", "e3"):
        accept(ledger, id_)
        assert ledger.settle(claim(ledger, id_), [Result("a", end, {})]).state == end

    assert [decode(text).id for text in ledger.client.lrange(RECENT, 0, -1)] == ["e3", "e2"]
    assert ledger.client.exists(RECENT, "router:accepted", "router:running") == 1
    assert counts(ledger) == {"accepted": 3, end: 3}
    assert balanced(ledger)


def test_what_goes_on_is_not_in_the_archive_yet() -> None:
    """Neither between two deliveries, nor while one waits for its retry, nor by somebody without the lease."""
    ledger = fake_ledger(archive_events=2)
    accept(ledger, "e1")
    event = claim(ledger)

    ledger.settle(event, [Result("a", "delivered", {}), Result("b", "pending", {})], more=True)
    assert ledger.settle(event, [Result("b", "retrying", {}, 60)]).state == "retrying"
    assert ledger.settle(event, [Result("b", "delivered", {})]).state == "stale"
    assert ledger.client.exists(RECENT) == 0


def test_an_archive_of_none_is_empty() -> None:
    """Switched off, nothing is kept, and what was kept before goes with the next event that ends."""
    ledger = fake_ledger()
    ledger.client.lpush(RECENT, "what was kept before")
    accept(ledger, "e1")
    settled(ledger, "e1", Result("a", "delivered", {}))

    assert ledger.client.exists(RECENT) == 0
    assert stored(ledger) == []


def test_the_archive_keeps_no_long_envelopes() -> None:
    """One that is longer than the limit is delivered as any other, and not kept."""
    ledger = fake_ledger(archive_events=2)
    accept(ledger, "e1", event={"text": "x" * LONGEST_KEPT})

    assert settled(ledger, "e1", Result("a", "delivered", {})) == "delivered"
    assert ledger.client.exists(RECENT) == 0


def test_stored_events() -> None:
    """Waiting, running, retrying and ended ones, in the order in which they came, each once, the newest of them."""
    ledger = fake_ledger(archive_events=10)
    ids = ["e1", "e2", "e3", "e4", "e5"]
    for second, id_ in enumerate(ids):
        accept(ledger, id_, received_at=f"2026-01-02T03:04:0{second}Z")
    assert stored(ledger) == ids

    settled(ledger, "e4", Result("a", "dead", {}))
    settled(ledger, "e1", Result("a", "delivered", {}))
    settled(ledger, "e2", Result("a", "retrying", {}, 60))
    claim(ledger, "e3")
    assert stored(ledger) == ids
    assert stored(ledger, 2) == ["e4", "e5"]

    ledger.replay("e4", "a", {})
    assert stored(ledger) == ids
    ledger.client.lpush(RECENT, b"no envelope")
    assert stored(ledger) == ids
