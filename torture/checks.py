"""The promise, checked event by event: pure functions over what was sent, what the ledger says, and what arrived."""

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from tasks.ledger import WAITING
from tasks.verify import Walk
from torture.arrivals import Arrival, good
from torture.load import Taken
from torture.storm import Record

#: A worker has written down what it did within this, unless a fault keeps it from it.
SETTLED_WITHIN_S: Final = 2.0
#: The sandbox's clock and ours are one; what is read off them is rounded.
_SLACK_S: Final = 0.3
#: What explains a double that a destination's own fault has made.
WITHHELD: Final = "answer withheld"
#: Tickets may outlive their events, and dead letters stay.
_MAY_STAY: Final = frozenset({"queue", "unacked", "dead"})
#: Ends that no fault of ours may cause.
_GIVEN_UP: Final = frozenset({"exhausted", "expired"})


@dataclasses.dataclass(frozen=True)
class End:
    """What the ledger says of one event: its state, and of each of its routes state and reason."""

    state: str
    deliveries: Mapping[str, tuple[str, str]]
    accepted_at: int = 0  #: microseconds of Redis' clock

    @property
    def settled(self) -> bool:
        return self.state in {"delivered", "filtered", "dead"}


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that is not as promised; `seen` is what the event was last seen as."""

    what: str  #: lost | stuck | dead | misrouted | misplaced | reordered | stale | unexplained | equation | verify | …
    id: str
    seen: str


#: Subject and destination: where order is promised.
_Line = tuple[int, str]


def per_id(taken: Iterable[Taken], ends: Mapping[str, End | None], came: Iterable[Arrival]) -> list[Finding]:
    """Every event that was answered for has an end, and has arrived wherever its routes lead, and nowhere else."""
    arrived: defaultdict[tuple[int, int], set[str]] = defaultdict(set)
    for arrival in came:
        if good(arrival):
            arrived[arrival.subject, arrival.number].add(arrival.destination)
    found: list[Finding] = []
    for each in taken:
        found += _of_one(each, ends.get(each.id), arrived[each.event.subject, each.event.number])
    return found


def _of_one(taken: Taken, end: End | None, arrived: set[str]) -> list[Finding]:
    id_, expected = taken.id, taken.event.expected
    where = f"arrived at {', '.join(sorted(arrived)) or 'no destination'}"
    if end is None:
        return [Finding("lost", id_, f"not in the ledger, {where}")]
    said = f"{end.state} {dict(end.deliveries)}, {where}"
    if not end.settled:
        return [Finding("stuck", id_, said)]
    found = [Finding("misrouted", id_, said)] if arrived - set(expected) else []
    for destination, route in expected.items():
        state, reason = end.deliveries.get(route, ("missing", ""))
        if state == "dead":
            found.append(Finding("given up" if reason in _GIVEN_UP else "dead", id_, f"{route}: {reason}, {where}"))
        elif destination not in arrived or state != "delivered":
            found.append(Finding("lost", id_, said))
    return found


def acceptance(taken: Iterable[Taken], ends: Mapping[str, End | None]) -> list[Finding]:
    """The ledger has accepted the events of a subject in the order in which they were answered for.

    Only then can they be delivered in it: what was spooled must not be overtaken.
    """
    newest: dict[int, tuple[int, str]] = {}
    found = []
    for each in sorted(taken, key=lambda one: (one.event.subject, one.event.number)):
        end = ends.get(each.id)
        if end is None:
            continue
        at, before = newest.get(each.event.subject, (0, ""))
        if end.accepted_at < at:
            text = f"{each.event.tag}, accepted {(at - end.accepted_at) / 1e6:.3f} s before {before}, which came first"
            found.append(Finding("misplaced", each.id, text))
        newest[each.event.subject] = max((at, before), (end.accepted_at, each.event.tag))
    return found


def order(came: Iterable[Arrival]) -> list[Finding]:
    """Per subject and destination events first arrive in their order, and no older one comes again after a newer."""
    newest: dict[_Line, int] = {}
    seen: set[tuple[_Line, int]] = set()
    found = []
    for arrival in filter(good, came):
        line = (arrival.subject, arrival.destination)
        before = newest.get(line, -1)
        if arrival.number < before:
            what = "stale" if (line, arrival.number) in seen else "reordered"
            text = f"at {arrival.destination} after {arrival.subject}-{before}, call {arrival.seq} at {arrival.at:.3f}"
            found.append(Finding(what, _name(arrival), text))
        seen.add((line, arrival.number))
        newest[line] = max(before, arrival.number)
    return found


@dataclasses.dataclass(frozen=True)
class Double:
    """An event that came to a destination once more."""

    first: Arrival  #: the arrival before
    again: Arrival
    explained_by: str  #: the fault that kept the worker from writing it down; "" = none


def doubles(came: Iterable[Arrival], faults: Sequence[Record]) -> list[Double]:
    """Every repeated arrival, with what explains it."""
    last: dict[tuple[_Line, int], Arrival] = {}
    found = []
    for arrival in filter(good, came):
        key = ((arrival.subject, arrival.destination), arrival.number)
        if key in last:
            found.append(Double(last[key], arrival, _explanation(last[key], faults)))
        last[key] = arrival
    return found


def unexplained(of: Iterable[Double]) -> list[Finding]:
    """Those that no fault explains."""
    return [
        Finding(
            "unexplained",
            _name(double.again),
            f"at {double.again.destination}, calls {double.first.seq} and {double.again.seq}, "
            f"{double.again.at - double.first.at:.3f} s apart, the first at {double.first.at:.3f}",
        )
        for double in of
        if not double.explained_by
    ]


def _explanation(first: Arrival, faults: Sequence[Record]) -> str:
    """What kept the worker from writing down that this arrival was taken."""
    if first.answered_after_s is None:
        return WITHHELD
    begin, end = first.at - _SLACK_S, first.at + first.answered_after_s + SETTLED_WITHIN_S
    # The one that began last is the likeliest.
    for fault in sorted(faults, key=lambda each: -each.begun_at):
        if fault.doubles and fault.begun_at <= end and fault.ended_at + fault.lingers_s >= begin:
            return fault.kind
    return ""


def equation(
    counts: Mapping[tuple[str, str], Mapping[str, int]], taken: Iterable[Taken], ends: Mapping[str, End | None]
) -> list[Finding]:
    """The ledger's counts add up, and are what its events say one by one."""
    found = []
    for (kind, name), row in counts.items():
        ended = sum(row.get(state, 0) for state in ("delivered", "filtered", "duplicate", "dead", "waiting"))
        if row.get("accepted", 0) != ended or min(row.values(), default=0) < 0:
            found.append(Finding("equation", f"{kind} {name}", f"does not hold: {dict(row)}"))
    counted: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for each in taken:
        end = ends.get(each.id)
        if end is not None:
            counted["source", each.source][end.state if end.settled else "waiting"] += 1
            for route, (state, _) in end.deliveries.items():
                counted["route", route][state] += 1
    for key, states in counted.items():
        row = counts.get(key, {})
        wrong = {
            state: (row.get(state, 0), states[state])
            for state in ("delivered", "filtered", "dead")
            if row.get(state, 0) != states[state]
        }
        if key[0] == "source" and row.get("accepted", 0) - row.get("duplicate", 0) != states.total():
            wrong["accepted - duplicate"] = (row.get("accepted", 0) - row.get("duplicate", 0), states.total())
        if wrong:
            found.append(Finding("equation", " ".join(key), f"(counted by the ledger, by event): {wrong}"))
    return found


def walked(walk: Walk) -> list[Finding]:
    """What does not fit in Redis; and what is left of order and gates when nothing waits any more."""
    found = [Finding("verify", each.event_id or "counts", f"{each.what} ({each.last_seen})") for each in walk.findings]
    places = {place: entries for place, entries in walk.places.items() if entries and place not in _MAY_STAY}
    if places and not any(walk.places.get(key.removeprefix("router:")) for key in WAITING):
        found.append(Finding("verify", "nothing waits", f"and yet there is something in {places}"))
    return found


def recoveries(came: Iterable[Arrival], faults: Sequence[Record]) -> dict[Record, float]:
    """Seconds from a fault's end, and that of all that overlap it, to the next good arrival.

    Without the faults after which none came: then nothing was left to do, or an event is lost or stuck.
    """
    times = sorted(arrival.at for arrival in came if good(arrival))
    found = {}
    for fault in faults:
        end = fault.ended_at
        for other in sorted(faults, key=lambda each: each.begun_at):
            if other.begun_at <= end < other.ended_at:
                end = other.ended_at
        following = next((at for at in times if at >= end), None)
        if following is not None:
            found[fault] = following - end
    return found


def slowest(taken: Iterable[Taken], came: Iterable[Arrival]) -> tuple[float, str]:
    """The longest time from an event's acceptance to its first arrival at a destination, and which event it was."""
    sent = {(each.event.subject, each.event.number): each for each in taken}
    first: dict[tuple[int, int, str], Arrival] = {}
    for arrival in filter(good, came):
        first.setdefault((arrival.subject, arrival.number, arrival.destination), arrival)
    waits = (
        (arrived.at - sent[subject, number].at, f"{sent[subject, number].id} at {destination}")
        for (subject, number, destination), arrived in first.items()
        if (subject, number) in sent
    )
    return max(waits, default=(0.0, ""))


def _name(arrival: Arrival) -> str:
    return f"{arrival.subject}-{arrival.number}"
