"""The state and payload of every event until it is settled: the one place where "is it done?" is answered.

Redis keys, all times in microseconds of Redis' own clock:

    router:event:<id>    hash    one event
        state            scheduled | unidentified | accepted | running | retrying | lined | held
                         | delivered | filtered | dead | discarded
        at, ended        when it was accepted, when it ended
        source, type, label
        env              the envelope as JSON; kept until it is delivered or filtered
        keys             hashes of the correlation keys, while it is unidentified
        to, said, quota  what it needs to take its place, while it is scheduled
        q:<task>         there for each task whose publisher wants to know what becomes of it
        again            1 once it was put back before it had routes
        subject          hash of the envelope's subject, where there is one; kept as long as env
        owner            who holds the lease (running), or held it last
        crashes          workers that died while they held the lease
        call             the last settling of this lease after which more follows: owner and number
        s:<route>        pending | retrying:<due> | held | parked:<gate> | let:<gate>
                         | delivered | filtered | dead | discarded
        d:<route>        record of the delivery as JSON: attempts, and what a dead letter needs
        o:<route>        where it keeps which order (ledger/include/3_lanes.lua), while it waits or is dead
        l:<route>        1 while it stands in those lanes
        g:<route>        1 while the delivery counts in its subject's grave
        r:<route>        why it is dead
        from, f:<route>  from when on the time until its deliveries, or that one, is measured, where not from `at`
        A settled event keeps its hash, without envelope, for the dedupe window: "seen already" is EXISTS.
    router:accepted      zset    id → when its newest ticket was made; the events that wait for a worker
    router:running       zset    id → when its lease runs out
    router:retrying      zset    id → when its next delivery is due
    router:retrying:at   zset    id → when it was accepted, of those in router:retrying
    router:lined         zset    id → since when it waits for its turn in its subject's line
    router:held          zset    id → since when its deliveries wait for earlier ones, or at gates that are shut
    router:unidentified  zset    id → until when it waits for somebody to know whom it is about
    router:person:<key>, router:early:<key>    ledger/include/6_identity.lua
    router:scheduled     zset    id → when it goes on: its publisher said so, or publishes more than its quota
    router:quota:<source>, router:reply:<task>    ledger/include/8_published.lua
    router:door          string  the worker that takes what others publish; for a few seconds at a time
    router:door:tries    hash    list → how often one looked at it and did not come to an end (ledger/peek.lua)
    router:line:<subject>        list  events not worked on yet, in order of acceptance; only the first may be
    router:lane:<destination>:<subject>  list  deliveries that wait, in order; only the first may be attempted
    router:lanes:<subject>       hash  destination → deliveries in that lane
    router:gate:<name>, router:parked:<name>, router:flight:<name>, router:shut    ledger/include/4_gates.lua
    router:grave:<subject>       hash  "#" → its dead letters; <field> → acceptance of the newest event that wrote it
    router:dead          zset    <id>:<route> → when it died; route "-" when it died before it had any
    router:claimed       string  the newest ticket time ever claimed: what is older and unclaimed was overtaken
    router:suspect       string  id of the one event that runs although workers died during it more than once
    router:tickets       string  how many tickets were made
    router:last          string  the newest time of acceptance; each event has one of its own
    router:counts        hash    source/<name>/<state> and route/<name>/<state> → number
    router:metrics, …    hash    what else is counted, for /metrics: ledger/include/0_measures.lua
    router:recent        list    envelopes of the events that ended last, newest first: at most ARCHIVE_EVENTS of
                                 at most 64 KiB; for people to look at, nothing depends on it
    router:quarantine    zset    id → when; messages that are not even an envelope
    router:quarantine:<id> hash  raw, reason, error, label, source, list that it came from

Each change is one script (tasks/ledger/*.lua), so accepted = delivered + filtered + duplicate + dead + waiting holds
at any moment, per source and per route. The scripts find keys by what they read, so the ledger needs one Redis, not a
cluster. Design and reasons: docs/adr/0001-tickets-and-ledger.md, docs/adr/0012-order-and-gates.md.
"""

import contextlib
import dataclasses
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import redis

from config.celery_settings import QUEUE, TICKETS
from config.metrics import METRICS, NONE
from config.settings import Settings
from tasks.connection import connect as connect  # noqa: PLC0414 - where its callers look for it
from tasks.envelope import Envelope, Rejected, decode, encode, encode_part
from tasks.errors import InvalidEnvelope, QueueFull, QueueUnavailable
from tasks.kept_script import KeptScript

ACCEPTED: Final = "router:accepted"
RUNNING: Final = "router:running"
RETRYING: Final = "router:retrying"
LINED: Final = "router:lined"
HELD: Final = "router:held"
UNIDENTIFIED: Final = "router:unidentified"
SCHEDULED: Final = "router:scheduled"
DEAD: Final = "router:dead"
CLAIMED: Final = "router:claimed"
SUSPECT: Final = "router:suspect"
RECENT: Final = "router:recent"
COUNTS: Final = "router:counts"
QUARANTINE: Final = "router:quarantine"
#: The sets of the events that have not ended.
WAITING: Final = (ACCEPTED, RUNNING, RETRYING, LINED, HELD, UNIDENTIFIED, SCHEDULED)

#: The route of a dead letter that died before it had routes.
NO_ROUTE: Final = "-"
#: The source of messages that are no event, where nobody says whose they are.
MESSAGES: Final = "queue"
#: From this many crashes on, an event never runs beside another such event.
APART_FROM: Final = 2
#: Longer envelopes are not kept after their end, so that the archive's memory is bounded too.
LONGEST_KEPT: Final = 65_536

#: Carries a ticket to another broker than Redis: its label, its ids.
Carry = Callable[[str, Sequence[str]], None]

_UNSEEN_QUEUE_S: Final = 60
#: Events behind another one that are read at once.
_BEHIND_AT_A_TIME: Final = 10
SCRIPTS: Final = Path(__file__).with_name("ledger")
#: What may run although Redis is full: all that does not take events in. Redis 7 or newer.
ALLOW_OOM: Final = b"#!lua flags=allow-oom\n"
_TAKE_IN: Final = frozenset({"accept", "reject"})


@dataclasses.dataclass(frozen=True)
class Shut:
    """A gate through which nothing goes without having been let go."""

    mode: str  #: flowing (only limited, or waited for), open, throttled, unauthorized, busy, probing, ramping, paused
    heard_at: int  #: when a request last went well there while it was shut; 0 = never


@dataclasses.dataclass(frozen=True)
class Delivery:
    """One event along one route, as the ledger has it."""

    state: str
    record: Mapping[str, Any]
    due_at: int | None = None
    gate: str | None = None  #: where it is parked, or has been let go
    order: str = ""


@dataclasses.dataclass(frozen=True)
class StoredEvent:
    """One event's hash, parsed. From `owner` on it is the caller's, when it came from a claim."""

    id: str
    state: str
    source: str
    type: str
    label: str
    accepted_at: int
    ended_at: int | None
    crashes: int
    subject: str
    envelope: bytes | None
    deliveries: Mapping[str, Delivery]
    owner: str
    again: bool = False  #: it was a dead letter before it had routes, and was put back
    blocked: frozenset[str] = frozenset()  #: destinations at which earlier deliveries of the subject wait
    buried: bool = False  #: deliveries of the subject lie in the dead letters
    shut: Mapping[str, Shut] = dataclasses.field(default_factory=dict)  #: gates that were shut at the claim

    def waiting(self) -> dict[str, Delivery]:
        """The deliveries that have not ended, by route."""
        return {name: each for name, each in self.deliveries.items() if each.state not in _ENDED}

    def ready(self) -> dict[str, Delivery]:
        """The waiting deliveries that nothing but time may hold, by route."""
        return {name: each for name, each in self.deliveries.items() if each.state in _READY}


_ENDED: Final = frozenset({"delivered", "filtered", "dead", "discarded"})
_READY: Final = frozenset({"pending", "retrying", "let"})


@dataclasses.dataclass(frozen=True)
class Result:
    """How one delivery went: its new state, the delay when it is retried, its record.

    States: pending, retrying, held, parked:<gate>, delivered, filtered, dead.
    """

    route: str
    state: str
    record: Mapping[str, Any]
    delay_s: float = 0
    order: str = ""  #: "pass:" or "hold:" (what follows a dead letter) and its destinations; "" = no order
    failure: str = ""  #: reason, when it is the route's own: bug, invalid, unmappable
    reason: str = ""  #: why the attempt failed; "" = nothing was attempted, or it went well (dead: as its record says)
    destination: str = ""  #: where its last request went; "" = there was none
    fields: Sequence[str] = ()  #: what it has written, where that may make a dead letter stale


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What a request to a destination says about the destination."""

    destination: str
    word: str  #: ok, failed, throttled, unauthorized, busy
    wait_s: float = 0  #: throttled: how long it asked us to wait; 0 = it did not say


@dataclasses.dataclass(frozen=True)
class GatePolicy:
    """When gates shut by themselves."""

    failures: int = 10  #: in a row; then the destination counts as down
    wait_s: float = 1  #: until the first probe; doubles with each that fails
    most_wait_s: float = 30
    refused_wait_s: float = 60  #: until a destination that refuses our key is probed
    route_failures: int = 20  #: failures of a route's own before it pauses itself
    route_ratio: float = 0.5  #: share of its deliveries that must fail so
    route_window_s: float = 60

    def arguments(self) -> tuple[str, ...]:
        """As settle.lua takes it; times in microseconds."""
        waits = (self.wait_s, self.most_wait_s, self.refused_wait_s)
        return (
            str(self.failures),
            *(_micros(seconds) for seconds in waits),
            str(self.route_failures),
            str(self.route_ratio),
            _micros(self.route_window_s),
        )


@dataclasses.dataclass(frozen=True)
class Settled:
    """What became of the event; who is next, where the caller took it; gates that changed, and those that are shut."""

    state: str
    next: StoredEvent | None = None
    changes: Sequence[tuple[str, str]] = ()
    shut: Mapping[str, Shut] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Overdue:
    """What a sweep should look at; the scripts check each again."""

    expired: Sequence[str]
    given_back: Sequence[str]  #: leases that their owner gave up
    due: Sequence[str]
    lost: Mapping[str, float]  #: id → score seen
    early: Sequence[str]  #: nobody knew in time whom they are about
    scheduled: Sequence[str]  #: their time has come


class Ledger:
    """The scripts as methods. Safe to share between threads.

    `queue` is the key of Celery's list in this Redis, to which the scripts push tickets; "" where `carry` takes them
    to another broker.
    """

    def __init__(
        self,
        client: Any,
        *,
        max_waiting: int,
        dedupe_window_s: int,
        lease_s: float,
        archive_events: int = 0,
        gates: GatePolicy = GatePolicy(),
        correlation_wait_s: float = 30,
        correlation_ttl_s: int = 604_800,
    ) -> None:
        self.client = client
        self.queue = TICKETS
        self.carry: Carry = _nowhere
        self._max_waiting = max_waiting
        self._dedupe_window_s = dedupe_window_s
        self._lease_us = int(lease_s * 1_000_000)
        self._archive_events = archive_events
        self._gates = gates.arguments()
        self._calls = itertools.count(1)  # by which settle.lua knows one that comes twice
        self.correlation = (correlation_wait_s, correlation_ttl_s)
        self._accept = KeptScript(client, script("accept"))
        self._scripts = {
            path.stem: client.register_script(script(path.stem))
            for path in sorted(SCRIPTS.glob("*.lua"))
            if path.stem not in {"accept", "quarantine"}
        }

    def run(self, script: str, *args: Any) -> Any:
        """Run a script of tasks/ledger/ with these arguments behind the queue's key."""
        return self._scripts[script](keys=(), args=(self.queue, *args))

    def sent(self, tickets: Iterable[Sequence[bytes]]) -> None:
        """Carry the tickets that a script could not push."""
        for label, *ids in tickets:
            self.carry(label.decode(), [id_.decode() for id_ in ids])

    # --- accept -----------------------------------------------------------------------------------------------

    def accept(self, envelopes: Sequence[Envelope]) -> list[bool]:
        """Write events of one source down and push their tickets, in one step. Gives for each: new (or duplicate).

        Raises QueueFull (nothing was taken) or QueueUnavailable (Redis did not say whether it was).
        """
        args: list[Any] = [self.queue, self._max_waiting, envelopes[0].source, *self.correlation, len(envelopes)]
        for envelope in envelopes:
            subject, said, keys = placed(envelope)
            args += (*described(envelope), subject, said, len(keys), *keys)
        try:
            answer = self._accept(args)
        except redis.RedisError as error:
            raise QueueUnavailable(type(error).__name__) from error
        if answer[0] == b"full":
            raise QueueFull(f"{self._max_waiting} events wait already")
        self.sent(answer[1])
        return [flag == 1 for flag in answer[2:]]

    def reject(self, rejected: Sequence[Rejected]) -> list[bool]:
        """Keep events of one source as dead letters, each with what is wrong. Gives for each: new.

        Raises QueueUnavailable.
        """
        args: list[Any] = [rejected[0].envelope.source]
        for each in rejected:
            args += (*described(each.envelope), each.record)
        try:
            return [flag == 1 for flag in self.run("reject", *args)]
        except redis.RedisError as error:
            raise QueueUnavailable(type(error).__name__) from error

    def push(self, queue: str, messages: Sequence[bytes]) -> None:
        """Put messages onto a list, as publishers do; needs no other right than theirs. Raises QueueUnavailable."""
        try:
            self.client.lpush(queue, *messages)
        except redis.RedisError as error:
            raise QueueUnavailable(type(error).__name__) from error

    # --- work -------------------------------------------------------------------------------------------------

    def claim(self, ids: Sequence[str], owner: str) -> list[StoredEvent]:
        """Take a lease on those of the events that are free; `owner` must be new for each claim."""
        # A batch may name an event twice; asked twice by one owner, the script would give it out twice.
        shut, *taken = self.run("claim", owner, self._lease_us, APART_FROM, *dict.fromkeys(ids))
        gates = _shut(shut)
        return [_claimed(each, gates) for each in taken]

    def settle(
        self,
        event: StoredEvent,
        results: Iterable[Result],
        verdicts: Sequence[Verdict] = (),
        *,
        more: bool = False,
        take: str = "",
    ) -> Settled:
        """Write down how deliveries went; unless `more` follow, the lease ends and the event with it, if all ended.

        `take`: the caller goes on with the next event in the subject's line ("line"), or in its lanes too ("any"), if
        there is one. The state is "stale" when the lease had gone to somebody else and nothing was written.
        """
        args: list[Any] = [event.id, event.owner, self._lease_us, self._dedupe_window_s, self._archive_events]
        args += (LONGEST_KEPT, next(self._calls) if more else "", take, *self._gates, len(verdicts))
        for verdict in verdicts:
            args += (verdict.destination, verdict.word, _micros(verdict.wait_s))
        for each in results:
            args += (each.route, each.state, _micros(each.delay_s), _record(each.record), each.order, each.failure)
            reason = each.reason or (str(each.record.get("reason") or "") if each.state == "dead" else "")
            args += (reason, each.destination or NONE, len(each.fields), *each.fields)
        state, unsent, changed, shut, *taken = self.run("settle", *args)
        self.sent(unsent)
        gates = _shut(shut)
        following = _claimed(taken[0], gates) if taken else None
        return Settled(state.decode(), following, _changes(changed), gates)

    def behind(self, event: StoredEvent, most: int, most_bytes: int = 524_288) -> Iterator[Envelope]:
        """The events behind a claimed one in its subject's line, in order, as far as `settle` would give them out.

        Up to the first that was worked on before: it has deliveries already. Nobody works on them while the caller has
        the first one. Reads only, some at a time. None when the event is not the first.
        """
        first, *ids = [id_.decode() for id_ in self.client.lrange(f"router:line:{event.subject}", 0, most)] or [""]
        if first != event.id:
            return
        for at in range(0, len(ids), _BEHIND_AT_A_TIME):
            for other in self.events(ids[at : at + _BEHIND_AT_A_TIME]):
                if other is None or other.state != "lined" or other.crashes or other.deliveries:
                    return
                most_bytes -= len(other.envelope or b"")
                if most_bytes < 0:
                    return
                try:
                    yield decode(other.envelope or b"")
                except InvalidEnvelope:
                    return

    def renew(self, held: Sequence[tuple[str, str]]) -> list[bool]:
        """Let these leases, each of an event and its owner, run anew. Gives for each: still its owner's, or lost."""
        if not held:
            return []
        return [own == 1 for own in self.run("renew", self._lease_us, *itertools.chain.from_iterable(held))]

    def hand_back(self, held: Sequence[tuple[str, str]]) -> None:
        """Let these leases, each of an event and its owner, run out now, without counting it as a crash."""
        if held:
            self.run("hand_back", *itertools.chain.from_iterable(held))

    # --- sweep ------------------------------------------------------------------------------------------------

    def overdue(self, grace_s: float, most: int = 100) -> Overdue:
        """What looks as if it needed a new ticket: at most `most` of each kind."""
        seconds, micros = self.client.time()
        now = seconds * 1_000_000 + micros
        pipe = self.client.pipeline(transaction=False)
        pipe.zrangebyscore(RUNNING, "(0", now, start=0, num=most)
        pipe.zrangebyscore(RUNNING, "-inf", 0, start=0, num=most)
        pipe.zrangebyscore(RETRYING, "-inf", now, start=0, num=most)
        pipe.zrangebyscore(ACCEPTED, "-inf", now - grace_s * 1_000_000, start=0, num=most, withscores=True)
        pipe.zrangebyscore(UNIDENTIFIED, "-inf", now, start=0, num=most)
        pipe.zrangebyscore(SCHEDULED, "-inf", now, start=0, num=most)
        pipe.get(CLAIMED)
        pipe.llen(self.queue)
        expired, given_back, due, old, early, scheduled, claimed, length = pipe.execute()
        overtaken_before = float(claimed or 0)
        if not self.queue:
            # Another broker's queue, whose length nobody tells us: with time enough, a ticket counts as lost.
            overtaken_before = max(overtaken_before, now - _UNSEEN_QUEUE_S * 1_000_000)
        elif length == 0:
            overtaken_before = float("inf")
        return Overdue(
            [id_.decode() for id_ in expired],
            [id_.decode() for id_ in given_back],
            [id_.decode() for id_ in due],
            {id_.decode(): score for id_, score in old if score < overtaken_before},
            [id_.decode() for id_ in early],
            [id_.decode() for id_ in scheduled],
        )

    def expire(self, ids: Sequence[str], limit: int, owner: str) -> tuple[list[str], list[str]]:
        """Leases that ran out. Gives the ids put back, and those that crashed `limit` times: the caller owns them."""
        unsent, back, mine = self.run("expire", limit, self._lease_us, owner, *ids)
        self.sent(unsent)
        return [id_.decode() for id_ in back], [id_.decode() for id_ in mine]

    def wake_due(self, ids: Sequence[str]) -> list[str]:
        """Retries whose time has come go back to the queue. Gives their ids."""
        unsent, back = self.run("due", *ids)
        self.sent(unsent)
        return [id_.decode() for id_ in back]

    def wake_lost(self, events: Mapping[str, float]) -> list[str]:
        """Events whose ticket was lost (id → score seen) get a new one. Gives their ids."""
        args = itertools.chain.from_iterable((id_, f"{score:.0f}") for id_, score in events.items())
        unsent, back = self.run("lost", *args)
        self.sent(unsent)
        return [id_.decode() for id_ in back]

    def wake_early(self, ids: Sequence[str]) -> list[str]:
        """Events that waited long enough for somebody to know whom they are about go on. Gives their ids."""
        unsent, gone = self.run("early", self.correlation[1], *ids)
        self.sent(unsent)
        return [id_.decode() for id_ in gone]

    def wake_scheduled(self, most: int = 200) -> list[str]:
        """The first events whose time has come take their place. Gives their ids, in their order."""
        unsent, gone = self.run("scheduled", *self.correlation, most)
        self.sent(unsent)
        return [id_.decode() for id_ in gone]

    # --- gates ------------------------------------------------------------------------------------------------

    def tick(self) -> Sequence[tuple[str, str]]:
        """Let go what shut gates allow by now. Gives the gates that changed, and to what."""
        unsent, changed = self.run("tick")
        self.sent(unsent)
        return _changes(changed)

    def limit(self, limits: Mapping[str, tuple[float | None, int | None]]) -> None:
        """Say what destinations may be asked at most: requests a second, and at a time; None = as much as we like."""
        args = [(name, rate or "", at_a_time or "") for name, (rate, at_a_time) in limits.items()]
        (unsent,) = self.run("limit", *itertools.chain.from_iterable(args))
        self.sent(unsent)

    def pause(self, gate: str, by: str) -> bool:
        """Shut a gate by hand. Gives False when it was paused already."""
        return bool(self.run("pause", gate, "pause", by)[1])

    def resume(self, gate: str) -> bool:
        """Open a gate by hand, whatever shut it. Gives False when nothing had."""
        unsent, changed = self.run("pause", gate, "resume", "")
        self.sent(unsent)
        return bool(changed)

    # --- dead letters -----------------------------------------------------------------------------------------

    def replay(self, id_: str, route: str, record: Mapping[str, Any]) -> bool:
        """Put one dead letter back on its route; False when it is none (any more)."""
        unsent, done = self.run("replay", id_, route, json.dumps(record))
        self.sent(unsent)
        return bool(done)

    def discard(self, id_: str, route: str) -> bool:
        """Throw one dead letter away; False when it is none (any more)."""
        unsent, done = self.run("discard", id_, route, self._dedupe_window_s)
        self.sent(unsent)
        return bool(done)

    def newer(self, event: StoredEvent, fields: Sequence[str]) -> bool:
        """Whether a younger event of the same subject was delivered that has written one of these fields."""
        if not event.subject or not fields:
            return False
        times = self.client.hmget(f"router:grave:{event.subject}", fields)
        return any(int(at) > event.accepted_at for at in times if at is not None)

    def release(self, id_: str, *, back: bool, message: bytes = b"") -> bool:
        """Take a message out of quarantine: back onto its list, or `message` in its place; else away for good."""
        return bool(self.run("release", id_, "back" if back else "away", message))

    def dead(self, most: int = 500) -> Iterator[tuple[str, str, int]]:
        """Every dead letter, oldest first: event id, route, when it died. Reads `most` at a time."""
        start = 0
        while page := self.client.zrange(DEAD, start, start + most - 1, withscores=True):
            for member, died_at in page:
                id_, _, route = member.decode().rpartition(":")
                yield id_, route, int(died_at)
            start += most

    # --- look -------------------------------------------------------------------------------------------------

    def event(self, id_: str) -> StoredEvent | None:
        """One event, or None when it is not (any more) in the ledger."""
        hash_ = self.client.hgetall(event_key(id_))
        return parse_event(id_, hash_) if hash_ else None

    def events(self, ids: Sequence[str]) -> list[StoredEvent | None]:
        """Several events in one round trip."""
        pipe = self.client.pipeline(transaction=False)
        for id_ in ids:
            pipe.hgetall(event_key(id_))
        return [parse_event(id_, hash_) if hash_ else None for id_, hash_ in zip(ids, pipe.execute(), strict=True)]

    def stored(self, most: int) -> list[Envelope]:
        """The newest events whose payload is still here, oldest first: waiting ones, and those that ended lately."""
        pipe = self.client.pipeline(transaction=False)
        for key in WAITING:
            pipe.zrevrange(key, 0, most - 1)
        ids = [id_ for found in pipe.execute() for id_ in found]
        for id_ in ids:
            pipe.hget(event_key(id_.decode()), "env")
        # Last, so that an event which ends meanwhile is found here.
        pipe.lrange(RECENT, 0, most - 1)
        *waiting, recent = pipe.execute()
        found = {envelope.id: envelope for envelope in _readable([*reversed(recent), *waiting])}
        return sorted(found.values(), key=lambda envelope: envelope.received_at)[-most:]

    def counts(self) -> dict[tuple[str, str], dict[str, int]]:
        """("source" or "route", name) → state → number."""
        table: dict[tuple[str, str], dict[str, int]] = {}
        for field, number in self.client.hgetall(COUNTS).items():
            kind, name, state = field.decode().split("/")
            table.setdefault((kind, name), {})[state] = int(number)
        return dict(sorted(table.items(), key=lambda row: (row[0][0] != "source", row[0][1])))

    def sizes(self) -> dict[str, float]:
        """How many events are where, and how old the oldest unclaimed one is (seconds)."""
        pipe = self.client.pipeline(transaction=False)
        pipe.time()
        for key in (*WAITING, DEAD, QUARANTINE):
            pipe.zcard(key)
        pipe.llen(self.queue)
        pipe.zrange(ACCEPTED, 0, 0, withscores=True)
        (seconds, micros), *waiting, dead, quarantined, length, oldest = pipe.execute()
        unclaimed, running, retrying, lined, held, unidentified, scheduled = waiting
        age = seconds + micros / 1e6 - oldest[0][1] / 1e6 if oldest else 0.0
        return {
            "unclaimed": unclaimed,
            "unclaimed_oldest_seconds": max(age, 0.0),
            "running": running,
            "retrying": retrying,
            "lined": lined,
            "held": held,
            "unidentified": unidentified,
            "scheduled": scheduled,
            "dead_letters": dead + quarantined,
            "queue_length": length,
        }

    def ping(self) -> bool:
        """Whether Redis answers."""
        try:
            return bool(self.client.ping())
        except redis.RedisError:
            return False


def ledger_of(settings: Settings, client: Any, *, max_waiting: int | None = None) -> Ledger:
    """The ledger in that Redis as the settings want it; `max_waiting` in place of theirs."""
    ledger = Ledger(
        client,
        max_waiting=settings.max_waiting if max_waiting is None else max_waiting,
        dedupe_window_s=settings.dedupe_window_s,
        lease_s=settings.lease_s,
        archive_events=settings.archive_events,
        gates=GatePolicy(
            failures=settings.breaker_failures,
            wait_s=settings.breaker_wait_s,
            most_wait_s=settings.breaker_most_wait_s,
            refused_wait_s=settings.unauthorized_wait_s,
            route_failures=settings.route_pause_failures,
            route_ratio=settings.route_pause_ratio,
            route_window_s=settings.route_pause_window_s,
        ),
        correlation_wait_s=settings.correlation_wait_s,
        correlation_ttl_s=settings.correlation_ttl_s,
    )
    ledger.queue = TICKETS if settings.has_door else QUEUE
    return ledger


def _nowhere(_label: str, _ids: Sequence[str]) -> None:
    """Tickets go by the scripts."""


#: The buckets of the one histogram that a script keeps, in seconds.
_BOUNDS: Final = b"local function delivery_bounds() return {%b} end\n" % (
    ",".join(f"{bound:g}" for bound in METRICS["delivery_seconds"].bounds).encode()
)


#: What accepting does not stand on. It runs for each event, and so does all that stands in front of it.
_NOT_FOR_ACCEPT: Final = frozenset({"3_lanes", "4_gates", "5_claims", "8_published"})


def script(name: str) -> bytes:
    """A script with all that stands in front of it."""
    left_out = _NOT_FOR_ACCEPT if name == "accept" else frozenset()
    parts = [path.read_bytes() for path in sorted((SCRIPTS / "include").glob("*.lua")) if path.stem not in left_out]
    text = b"".join([_BOUNDS, *parts, (SCRIPTS / f"{name}.lua").read_bytes()])
    return text if name in _TAKE_IN else ALLOW_OOM + text


def subject_key(subject: str) -> str:
    """What stands for a subject in keys: people's addresses are not to be read there."""
    return sha256(subject.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def event_key(id_: str) -> str:
    """The key of one event's hash."""
    return f"router:event:{id_}"


def parse_event(id_: str, hash_: Mapping[bytes, bytes]) -> StoredEvent:
    """An event's hash → StoredEvent."""
    deliveries = {
        field[2:].decode(): _delivery(value.decode(), hash_, field[2:])
        for field, value in hash_.items()
        if field.startswith(b"s:")
    }
    ended = hash_.get(b"ended")
    return StoredEvent(
        id=id_,
        state=hash_.get(b"state", b"").decode(),
        source=hash_.get(b"source", b"").decode(),
        type=hash_.get(b"type", b"").decode(),
        label=hash_.get(b"label", b"").decode(),
        accepted_at=int(hash_.get(b"at", b"0")),
        ended_at=int(ended) if ended else None,
        crashes=int(hash_.get(b"crashes", b"0")),
        subject=hash_.get(b"subject", b"").decode(),
        envelope=hash_.get(b"env"),
        deliveries=deliveries,
        owner=hash_.get(b"owner", b"").decode(),
        again=b"again" in hash_,
    )


def _delivery(stored: str, hash_: Mapping[bytes, bytes], route: bytes) -> Delivery:
    state, _, rest = stored.partition(":")
    return Delivery(
        state,
        json.loads(hash_.get(b"d:" + route, b"{}")),
        due_at=int(rest) if state == "retrying" else None,
        gate=rest if state in {"parked", "let"} else None,
        order=hash_.get(b"o:" + route, b"").decode(),
    )


def _claimed(taken: Sequence[Any], shut: Mapping[str, Shut]) -> StoredEvent:
    id_, blocked, buried, flat = taken
    event = parse_event(id_.decode(), _pairs(flat))
    waits_at = frozenset(destination.decode() for destination in blocked)
    return dataclasses.replace(event, blocked=waits_at, buried=bool(buried), shut=shut)


def _shut(flat: Sequence[bytes]) -> dict[str, Shut]:
    rows = zip(flat[::3], flat[1::3], flat[2::3], strict=True)
    return {gate.decode(): Shut(mode.decode(), int(heard)) for gate, mode, heard in rows}


def _changes(flat: Sequence[bytes]) -> list[tuple[str, str]]:
    return [(gate.decode(), mode.decode()) for gate, mode in zip(flat[::2], flat[1::2], strict=True)]


def described(envelope: Envelope) -> tuple[str, bytes, bytes, bytes]:
    """What the scripts write down of every event: id, label, type, envelope."""
    return envelope.id, _text(envelope.shown), _text(envelope.type), encode(envelope)


def placed(envelope: Envelope) -> tuple[str, str, list[str]]:
    """What decides an event's line: its subject ("" = none), what it says of its person, its correlation keys."""
    subject = subject_key(envelope.subject) if envelope.subject else ""
    if not envelope.correlation:
        return subject, "", []
    return subject, _said(envelope), _correlation_keys(envelope)


def _said(envelope: Envelope) -> str:
    """What an envelope says of its person, as the text that another envelope can take over; "" = nothing."""
    if not envelope.person:
        return ""
    return encode_part({"subject": envelope.subject, "person": dict(envelope.person)})


def _correlation_keys(envelope: Envelope) -> list[str]:
    """What stands for its correlation keys; a source knows nothing of what another one calls the same."""
    return [subject_key(f"{envelope.source}\n{key}") for key in envelope.correlation]


def _micros(seconds: float) -> str:
    return str(int(seconds * 1_000_000))


def _record(record: Mapping[str, Any]) -> str:
    """A record as JSON. A handler's request may hold what JSON cannot: then its text is kept, and nothing fails."""
    try:
        return json.dumps(record, separators=(",", ":"), default=repr)
    except (TypeError, ValueError, RecursionError):
        plain = {
            key: value if isinstance(value, str | int | float | list) else repr(value) for key, value in record.items()
        }
        return json.dumps(plain, separators=(",", ":"), default=repr)


def _readable(texts: Iterable[bytes | None]) -> Iterator[Envelope]:
    for text in texts:
        if text is not None:
            with contextlib.suppress(InvalidEnvelope):
                yield decode(text)


def _text(value: str) -> bytes:
    """Text for people; JSON allows lone surrogates, UTF-8 does not."""
    return value.encode("utf-8", "replace")


def _pairs(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))
