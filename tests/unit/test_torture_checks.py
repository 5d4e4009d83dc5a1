"""The torture program can fail: made-up runs in which one thing is wrong, and each is found."""

import dataclasses
from typing import ClassVar

from tasks import verify as walk
from tasks.verify import Walk
from torture.arrivals import Arrival, arrivals
from torture.checks import End, acceptance, doubles, equation, order, per_id, recoveries, slowest, unexplained, walked
from torture.events import API, INGEST, Event
from torture.load import Taken
from torture.storm import Record

DELIVERED = End("delivered", {"first-to-ingest": ("delivered", "")})


def taken(number: int, name: str = "torture-ingest", at: float = 100.0) -> Taken:
    return Taken(f"e{number}", Event(0, number, name), "website", at)


def came(*numbers: int, destination: str = INGEST, **more: float | None) -> list[Arrival]:
    """One call a second, from second 100 on."""
    values = {"answered_after_s": 0.0, "status": 200, **more}
    return [
        Arrival(seq=seq, at=100.0 + seq, destination=destination, subject=0, number=number, **values)  # type: ignore[arg-type]
        for seq, number in enumerate(numbers)
    ]


def fault(begun_at: float, ended_at: float, *, doubles: bool = True, lingers_s: float = 0.0) -> Record:
    return Record("worker.kill", "worker-0", begun_at, ended_at, doubles, lingers_s)


class TestPerId:
    """Each event has an end."""

    def test_all_is_well(self) -> None:
        """Delivered and arrived, or filtered and arrived nowhere."""
        both = End("delivered", {"first-to-ingest": ("delivered", ""), "to-api": ("delivered", "")})
        sent = [taken(0), taken(1, "torture-nobody"), taken(2, "torture-both")]
        ends = {"e0": DELIVERED, "e1": End("filtered", {}), "e2": both}
        assert per_id(sent, ends, [*came(0, 2), *came(2, destination=API)]) == []

    def test_not_in_the_ledger_is_lost(self) -> None:
        """Also when it has arrived: nobody can say what became of it."""
        (finding,) = per_id([taken(0)], {"e0": None}, came(0))
        assert (finding.what, finding.id) == ("lost", "e0")
        assert finding.seen == "not in the ledger, arrived at encharge_ingest"

    def test_delivered_and_never_arrived_is_lost(self) -> None:
        """The ledger is not believed; a refused call is no arrival."""
        for calls in (came(1), came(0, status=503)):
            assert [finding.what for finding in per_id([taken(0)], {"e0": DELIVERED}, calls)] == ["lost"]

    def test_arrived_at_one_of_two_is_lost(self) -> None:
        """Every route that takes it counts."""
        found = per_id([taken(0, "torture-both")], {"e0": DELIVERED}, came(0))
        assert [finding.what for finding in found] == ["lost"]

    def test_filtered_where_a_route_takes_it_is_lost(self) -> None:
        """An end that is none."""
        assert [each.what for each in per_id([taken(0)], {"e0": End("filtered", {})}, [])] == ["lost"]

    def test_not_ended_is_stuck(self) -> None:
        """Whatever it waits for."""
        end = End("retrying", {"first-to-ingest": ("retrying", "unavailable")})
        assert [finding.what for finding in per_id([taken(0)], {"e0": end}, [])] == ["stuck"]

    def test_dead_letters_have_a_reason(self) -> None:
        """Only attempts that ran out are nobody's failure."""
        for reason, what in (("bug", "dead"), ("poison", "dead"), ("exhausted", "given up"), ("expired", "given up")):
            (finding,) = per_id([taken(0)], {"e0": End("dead", {"first-to-ingest": ("dead", reason)})}, [])
            assert finding.what == what
            assert reason in finding.seen

    def test_arrived_where_no_route_leads(self) -> None:
        """Misrouted."""
        found = per_id([taken(0)], {"e0": DELIVERED}, [*came(0), *came(0, destination=API)])
        assert [finding.what for finding in found] == ["misrouted"]


class TestOrder:
    """Per subject and destination."""

    def test_gaps_and_repeats_in_place_are_in_order(self) -> None:
        """Filtered events leave gaps; a double before the next one writes nothing old over new."""
        assert order(came(0, 2, 2, 3, 7)) == []

    def test_an_older_event_that_comes_first_time_too_late(self) -> None:
        """Reordered."""
        assert [(each.what, each.id) for each in order(came(0, 2, 1, 3))] == [("reordered", "0-1")]

    def test_an_older_event_that_comes_again(self) -> None:
        """Stale: it writes old data over new."""
        assert [(each.what, each.id) for each in order(came(0, 1, 2, 1))] == [("stale", "0-1")]

    def test_acceptance_in_another_order(self) -> None:
        """Answered for as the first, in the ledger as the second: it was overtaken on its way there."""
        ends = {f"e{number}": dataclasses.replace(DELIVERED, accepted_at=at) for number, at in enumerate((5, 9, 7, 9))}
        sent = [taken(number) for number in range(4)]
        assert [(each.what, each.id) for each in acceptance(sent, ends)] == [("misplaced", "e2")]
        assert acceptance([*sent[:2], sent[3]], ends) == []

    def test_lines_are_apart(self) -> None:
        """Other subjects and the other destination go at their own pace; refused calls write nothing."""
        other = [dataclasses.replace(each, subject=1) for each in came(0, 1)]
        assert order([*came(5), *other, *came(1, destination=API)]) == []
        assert order([*came(5), *came(1, status=503)]) == []


class TestDoubles:
    """Each needs a reason."""

    def test_without_a_fault(self) -> None:
        """Unexplained, with both calls."""
        (finding,) = unexplained(doubles(came(0, 0), []))
        assert (finding.what, finding.id) == ("unexplained", "0-0")
        assert "calls 0 and 1" in finding.seen

    def test_a_fault_at_the_time_of_the_first(self) -> None:
        """Just after it, before it was written down; or just ended before it and still felt."""
        for record in (fault(101.5, 110), fault(90, 99, lingers_s=1), fault(100, 100)):
            (double,) = doubles(came(0, 0), [record])
            assert double.explained_by == "worker.kill"

    def test_a_fault_at_another_time(self) -> None:
        """What was written down long before, or happened to a part that delivers nothing, explains nothing."""
        for record in (fault(103, 110), fault(90, 99), fault(100, 101, doubles=False)):
            assert unexplained(doubles(came(0, 0), [record]))

    def test_an_answer_that_was_withheld(self) -> None:
        """The worker could not know; an answer that came late stretches the time in which a fault may hit."""
        withheld, again = came(0, 0)
        withheld = dataclasses.replace(withheld, answered_after_s=None)
        assert unexplained(doubles([withheld, again], [])) == []
        late = dataclasses.replace(withheld, answered_after_s=2.0)
        assert unexplained(doubles([late, again], [fault(103, 104)])) == []
        assert unexplained(doubles([late, again], []))


class TestEquation:
    """What the ledger counts is what its events are."""

    ROW: ClassVar = {"accepted": 3, "delivered": 1, "filtered": 0, "duplicate": 1, "dead": 0, "waiting": 1}

    def test_it_holds(self) -> None:
        """Per source and route."""
        counts = {
            ("source", "website"): {**self.ROW, "accepted": 2, "waiting": 0},
            ("route", "first-to-ingest"): {"accepted": 1, "delivered": 1},
        }
        assert equation(counts, [taken(0)], {"e0": DELIVERED}) == []

    def test_it_does_not_add_up(self) -> None:
        """A count that got lost."""
        row = {**self.ROW, "accepted": 4}
        assert "does not hold" in equation({("source", "website"): row}, [], {})[0].seen

    def test_it_adds_up_to_something_else(self) -> None:
        """Right sums of wrong numbers."""
        counts = {("source", "website"): self.ROW, ("route", "first-to-ingest"): {"accepted": 1, "filtered": 1}}
        found = equation(counts, [taken(0)], {"e0": DELIVERED})
        assert {finding.id for finding in found} == {"source website", "route first-to-ingest"}


def test_what_the_walk_finds_and_what_is_left() -> None:
    """A line or lane that nobody waits in is a leak; tickets and dead letters may stay."""
    assert walked(Walk(9, {"accepted": 0, "queue": 3, "unacked": 1, "dead": 2}, frozenset())) == []
    assert walked(Walk(9, {"held": 1, "lane": 1}, frozenset())) == []
    assert [each.what for each in walked(Walk(9, {"lane": 1, "queue": 1}, frozenset()))] == ["verify"]
    finding = walk.Finding("e1", "it is nowhere", ("router:line:x",))
    assert [(each.what, each.id) for each in walked(Walk(9, {}, frozenset({finding})))] == [("verify", "e1")]


def test_recovery_is_measured_from_the_end_of_what_overlaps() -> None:
    """While another fault is on nothing can be expected; nor of one after which there was nothing to do."""
    first, second, last = fault(90, 99), fault(98, 101.5), fault(200, 201)
    found = recoveries(came(0, 1, 2, 3), [first, second, last])
    assert found == {first: 0.5, second: 0.5}


def test_the_slowest_delivery() -> None:
    """From acceptance to the first arrival."""
    assert slowest([taken(0, at=99.0), taken(1, at=99.5)], came(0, 1, 0)) == (1.5, "e1 at encharge_ingest")


def test_arrivals_are_read_off_both_apis() -> None:
    """Properties at one, the tag at the other; calls of others do not count."""
    call = {"seq": 7, "at": "2026-01-02T00:00:00.500Z", "method": "POST", "status": 200, "answeredAfterS": None}
    found = arrivals(
        [
            {**call, "path": "/ingest/v1/", "body": '{"properties": {"tag": "3-14"}}'},
            {**call, "path": "/api/v1/tags", "body": '{"tag": "3-15"}'},
            {**call, "path": "/api/v1/people", "body": "[]"},
        ]
    )
    assert [(each.destination, each.subject, each.number) for each in found] == [(INGEST, 3, 14), (API, 3, 15)]
    assert found[0].answered_after_s is None
    assert found[0].at % 60 == 0.5
