"""Walks all of Redis: whether every event is where its state says, and whether everything that is named exists.

The counts say how many; this says which. Nothing is changed, but what `adopt` is asked to put back.
"""

import collections
import dataclasses
import json
import time
from base64 import b64decode
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from tasks.ledger import DEAD, MESSAGES, QUARANTINE, WAITING, Ledger, StoredEvent, event_key
from tasks.queue import ROUTE_TASK

_PAGE: Final = 500
#: What changes while we walk looks wrong for a moment; what is wrong still is after this.
_LOOK_AGAIN_S: Final = 0.3
_STATES: Final = {key.removeprefix("router:"): key for key in WAITING}


@dataclasses.dataclass(frozen=True, order=True)
class Finding:
    """Something that does not fit. `event_id` is "" where a count is wrong."""

    event_id: str
    what: str
    last_seen: tuple[str, ...]  #: the keys that name the event


@dataclasses.dataclass(frozen=True)
class Walk:
    """What was found on one way through Redis."""

    events: int
    places: Mapping[str, int]  #: kind of place → entries there
    findings: frozenset[Finding]


def verify(ledger: Ledger, *, pause_s: float = _LOOK_AGAIN_S) -> Walk:
    """Walk twice; what looks wrong both times is wrong."""
    first = walk(ledger)
    if not first.findings:
        return first
    time.sleep(pause_s)
    second = walk(ledger)
    same = {(each.event_id, each.what) for each in first.findings}
    return dataclasses.replace(
        second, findings=frozenset(each for each in second.findings if (each.event_id, each.what) in same)
    )


def adopt(ledger: Ledger, findings: Iterable[Finding]) -> list[str]:
    """Put events that nobody would ever work on again back to the queue. Gives their ids."""
    ids = sorted({each.event_id for each in findings if each.event_id})
    if not ids:
        return []
    unsent, adopted = ledger.run("adopt", *ids)
    ledger.sent(unsent)
    return [id_.decode() for id_ in adopted]


def walk(ledger: Ledger) -> Walk:
    """One way through: every place that names events, then every event."""
    seen: dict[str, set[str]] = collections.defaultdict(set)
    places: collections.Counter[str] = collections.Counter()
    lines: dict[str, list[str]] = {}
    for place, ids in _named(ledger, lines):
        places[place.split(":")[1] if place.startswith("router:") else place] += len(ids)
        for id_ in ids:
            seen[id_].add(place)
    problems: list[tuple[str, str]] = []
    waiting: collections.Counter[str] = collections.Counter()
    dead: collections.Counter[str] = collections.Counter()
    known = set()
    for event in _events(ledger):
        known.add(event.id)
        waiting[event.source] += event.state in _STATES
        dead[event.source] += event.state == "dead"
        problems += [(event.id, what) for what in _wrong(event, seen[event.id], lines)]
    dead.update(_quarantined(ledger))
    # A ticket may outlive its event: a wake-up that finds nothing does no harm.
    lost = [id_ for id_ in seen.keys() - known if seen[id_] - {"queue", "unacked"}]
    problems += [(id_, "named, but not there any more: the event is lost") for id_ in lost]
    problems += [("", what) for what in _miscounted(ledger, waiting, dead)]
    findings = frozenset(Finding(id_, what, tuple(sorted(seen[id_])) if id_ else ()) for id_, what in problems)
    return Walk(len(known), dict(places), findings)


def _wrong(event: StoredEvent, seen: set[str], lines: Mapping[str, list[str]]) -> Iterator[str]:
    sets = seen & set(WAITING)
    right = {_STATES[event.state]} if event.state in _STATES else set()
    if sets != right:
        yield f"its state is {event.state}, but it is in {', '.join(sorted(sets)) or 'none of the sets'}"
    line = lines.get(f"router:line:{event.subject}", [])
    if event.state == "lined" and f"router:line:{event.subject}" not in seen:
        yield "it waits for its turn in a line that does not have it"
    if event.state == "lined" and line[:1] == [event.id]:
        yield "it is the first of its line, and was never woken"
    for name, delivery in event.deliveries.items():
        member = f"{event.id}:{name}"
        lanes = [
            f"router:lane:{place}:{event.subject}"
            for place in filter(None, delivery.order.partition(":")[2].split(","))
        ]
        if delivery.state == "held" and any(lane not in seen for lane in lanes):
            yield f"its delivery {name} is held in a lane that does not have it"
        if delivery.state == "held" and all(lines.get(lane, [])[:1] == [member] for lane in lanes):
            yield f"its delivery {name} is held, but behind nobody"
        if delivery.state == "parked" and f"router:parked:{delivery.gate}" not in seen:
            yield f"its delivery {name} is parked at {delivery.gate}, which does not have it"
        if (delivery.state == "dead") != (f"{DEAD}:{name}" in seen):
            yield f"its delivery {name} is {delivery.state}, the list of dead letters says otherwise"


def _miscounted(ledger: Ledger, waiting: Mapping[str, int], dead: Mapping[str, int]) -> Iterator[str]:
    for (kind, name), counts in ledger.counts().items():
        if kind != "source":
            continue
        if counts.get("waiting", 0) != waiting.get(name, 0):
            yield f"source {name}: {counts.get('waiting', 0)} are counted as waiting, {waiting.get(name, 0)} are there"
        there = dead.get(name, 0)
        counted = counts.get("dead", 0) - counts.get("discarded", 0)
        if counted != there:
            yield f"source {name}: {counted} are counted as dead, {there} are there"


def _quarantined(ledger: Ledger) -> Iterator[str]:
    """The source of each message in quarantine."""
    for id_, _ in ledger.client.zscan_iter(QUARANTINE, count=_PAGE):
        source = ledger.client.hget(f"{QUARANTINE}:{id_.decode()}", "source")
        yield source.decode() if source else MESSAGES


def _named(ledger: Ledger, lines: dict[str, list[str]]) -> Iterator[tuple[str, list[str]]]:
    """Every place that names events: (place, ids)."""
    client = ledger.client
    for key in WAITING:
        yield key, [id_.decode() for id_, _ in client.zscan_iter(key, count=_PAGE)]
    for member, _ in client.zscan_iter(DEAD, count=_PAGE):
        id_, _, route = member.decode().rpartition(":")
        yield f"{DEAD}:{route}", [id_]
    for key in client.scan_iter("router:parked:*", count=_PAGE):
        members = [member.decode() for member, _ in client.zscan_iter(key, count=_PAGE)]
        yield key.decode(), [member.rpartition(":")[0] for member in members]
    for key in client.scan_iter("router:line:*", count=_PAGE):
        lines[key.decode()] = [id_.decode() for id_ in client.lrange(key, 0, -1)]
        yield key.decode(), lines[key.decode()]
    for key in client.scan_iter("router:lane:*", count=_PAGE):
        lines[key.decode()] = [member.decode() for member in client.lrange(key, 0, -1)]
        yield key.decode(), [member.rpartition(":")[0] for member in lines[key.decode()]]
    if ledger.queue:
        yield "queue", [id_ for raw in client.lrange(ledger.queue, 0, -1) for id_ in _named_by(raw)]
        yield "unacked", [id_ for _, raw in client.hscan_iter("unacked", count=_PAGE) for id_ in _named_by(raw)]


def _named_by(raw: bytes) -> list[str]:
    """The ids that a ticket of ours names, on the queue or unacknowledged; none for other messages."""
    try:
        found = json.loads(raw)
        return _ids(found[0] if isinstance(found, list) else found)
    except (ValueError, KeyError, TypeError, IndexError):
        return []


def _ids(message: Mapping[str, Any]) -> list[str]:
    if message["headers"]["task"] != ROUTE_TASK:
        return []
    body = message["body"]
    text = b64decode(body) if message["properties"]["body_encoding"] == "base64" else body
    return [str(id_) for id_ in json.loads(text)[0][0]]


def _events(ledger: Ledger) -> Iterator[StoredEvent]:
    prefix = len(event_key(""))
    page: list[str] = []
    # A scan may give a key twice.
    for key in set(ledger.client.scan_iter(f"{event_key('')}*", count=_PAGE)):
        page.append(key.decode()[prefix:])
        if len(page) == _PAGE:
            yield from filter(None, ledger.events(page))
            page = []
    yield from filter(None, ledger.events(page))
