"""The state and payload of every event until it is settled: the one place where "is it done?" is answered.

Redis keys, all times in microseconds of Redis' own clock:

    router:event:<id>    hash    one event
        state            accepted | running | retrying | delivered | filtered | dead | discarded
        at, ended        when it was accepted, when it ended
        source, type, label
        env              the envelope as JSON; kept until it is delivered or filtered
        owner            who holds the lease (running), or held it last
        crashes          workers that died while they held the lease
        s:<route>        pending | retrying:<due> | delivered | filtered | dead | discarded
        d:<route>        record of the delivery as JSON: attempts, and what a dead letter needs
        A settled event keeps its hash, without envelope, for the dedupe window: "seen already" is EXISTS.
    router:accepted      zset    id → when its newest ticket was made; the events that wait for a worker
    router:running       zset    id → when its lease runs out
    router:retrying      zset    id → when its next delivery is due
    router:dead          zset    <id>:<route> → when it died; route "-" when it died before it had any
    router:claimed       string  the newest ticket time ever claimed: what is older and unclaimed was overtaken
    router:suspect       string  id of the one event that runs although workers died during it more than once
    router:counts        hash    source/<name>/<state> and route/<name>/<state> → number
    router:recent        list    envelopes of the events that ended last, newest first: at most ARCHIVE_EVENTS of
                                 at most 64 KiB; for people to look at, nothing depends on it
    router:quarantine    zset    id → when; messages that are not even an envelope
    router:quarantine:<id> hash  raw, reason, error, label

Each change is one script (tasks/ledger/*.lua), so accepted = delivered + filtered + duplicate + dead + waiting holds
at any moment, per source and per route. Design and reasons: docs/adr/0001-tickets-and-ledger.md.
"""

import contextlib
import dataclasses
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import redis

from tasks.connection import connect as connect  # noqa: PLC0414 - where its callers look for it
from tasks.envelope import Envelope, decode, encode
from tasks.errors import InvalidEnvelope, QueueFull, QueueUnavailable
from tasks.kept_script import KeptScript

ACCEPTED: Final = "router:accepted"
RUNNING: Final = "router:running"
RETRYING: Final = "router:retrying"
DEAD: Final = "router:dead"
CLAIMED: Final = "router:claimed"
SUSPECT: Final = "router:suspect"
RECENT: Final = "router:recent"
COUNTS: Final = "router:counts"
QUARANTINE: Final = "router:quarantine"

#: The route of a dead letter that died before it had routes.
NO_ROUTE: Final = "-"
#: From this many crashes on, an event never runs beside another such event.
APART_FROM: Final = 2
#: Longer envelopes are not kept after their end, so that the archive's memory is bounded too.
LONGEST_KEPT: Final = 65_536

#: Makes the ticket of one event: (id, label) → what is pushed onto the queue's list; empty = nothing is pushed.
TicketFor = Callable[[str, str], bytes]

_UNSEEN_QUEUE_S: Final = 60
SCRIPTS: Final = Path(__file__).with_name("ledger")


@dataclasses.dataclass(frozen=True)
class Delivery:
    """One event along one route, as the ledger has it."""

    state: str
    record: Mapping[str, Any]
    due_at: int | None = None


@dataclasses.dataclass(frozen=True)
class StoredEvent:
    """One event's hash, parsed. `owner` is the caller's when it came from a claim."""

    id: str
    state: str
    source: str
    type: str
    label: str
    accepted_at: int
    ended_at: int | None
    crashes: int
    owner: str
    envelope: bytes | None
    deliveries: Mapping[str, Delivery]

    def waiting(self) -> dict[str, Delivery]:
        """The deliveries that have not ended, by route."""
        return {name: each for name, each in self.deliveries.items() if each.state in {"pending", "retrying"}}


@dataclasses.dataclass(frozen=True)
class Result:
    """How one delivery went: its new state, the delay when it is retried, its record."""

    route: str
    state: str
    record: Mapping[str, Any]
    delay_s: float = 0


@dataclasses.dataclass(frozen=True)
class Overdue:
    """What a sweep should look at; the scripts check each again."""

    expired: Mapping[str, str]  #: id → label
    due: Mapping[str, str]
    lost: Mapping[str, tuple[str, float]]  #: id → label, score seen


class Ledger:
    """The scripts as methods. Safe to share between threads."""

    def __init__(
        self, client: Any, *, max_waiting: int, dedupe_window_s: int, lease_s: float, archive_events: int = 0
    ) -> None:
        self.client = client
        self._max_waiting = max_waiting
        self._dedupe_window_s = dedupe_window_s
        self._lease_us = int(lease_s * 1_000_000)
        self._archive_events = archive_events
        self._accept = KeptScript(client, (SCRIPTS / "accept.lua").read_bytes())
        self._scripts = {
            path.stem: client.register_script(path.read_bytes())
            for path in sorted(SCRIPTS.glob("*.lua"))
            if path.stem not in {"accept", "quarantine"}
        }

    def _run(self, script: str, keys: Sequence[str], args: Sequence[Any]) -> Any:
        return self._scripts[script](keys=keys, args=args)

    # --- accept -----------------------------------------------------------------------------------------------

    def accept(self, envelopes: Sequence[Envelope], queue: str, tickets: Sequence[bytes]) -> list[bool]:
        """Write events of one source down and push their tickets, in one step. Gives for each: new (or duplicate).

        Raises QueueFull (nothing was taken) or QueueUnavailable (Redis did not say whether it was).
        """
        args: list[Any] = [self._max_waiting, envelopes[0].source, len(tickets), *tickets]
        keys = [ACCEPTED, COUNTS, queue, RUNNING, RETRYING]
        for envelope in envelopes:
            keys.append(event_key(envelope.id))
            args += (envelope.id, _text(envelope.shown), _text(envelope.type), encode(envelope))
        try:
            answer = self._accept(keys, args)
        except redis.RedisError as error:
            raise QueueUnavailable(type(error).__name__) from error
        if answer[0] == b"full":
            raise QueueFull(f"{self._max_waiting} events wait already")
        return [flag == 1 for flag in answer[1:]]

    def reject(self, envelopes: Sequence[Envelope], errors: Sequence[str]) -> list[bool]:
        """Keep events of one source as dead letters `invalid`, each with what is wrong. Gives for each: new.

        Raises QueueUnavailable.
        """
        args: list[Any] = [envelopes[0].source]
        keys = [COUNTS, DEAD]
        for envelope, error in zip(envelopes, errors, strict=True):
            record = json.dumps({"attempts": [], "reason": InvalidEnvelope.reason, "error": error})
            keys.append(event_key(envelope.id))
            args += (envelope.id, _text(envelope.shown), _text(envelope.type), encode(envelope), record)
        try:
            return [flag == 1 for flag in self._run("reject", keys, args)]
        except redis.RedisError as error:
            raise QueueUnavailable(type(error).__name__) from error

    # --- work -------------------------------------------------------------------------------------------------

    def claim(self, ids: Sequence[str], owner: str) -> list[StoredEvent]:
        """Take a lease on those of the events that are free; `owner` must be new for each claim."""
        # A batch may name an event twice; asked twice by one owner, the script would give it out twice.
        ids = list(dict.fromkeys(ids))
        keys = [ACCEPTED, RUNNING, RETRYING, CLAIMED, SUSPECT, *map(event_key, ids)]
        taken = self._run("claim", keys, [owner, self._lease_us, APART_FROM, *ids])
        return [parse_event(id_.decode(), _pairs(flat)) for id_, flat in taken]

    def settle(self, event: StoredEvent, results: Iterable[Result], *, more: bool = False) -> str:
        """Write down how deliveries went; unless `more` follow, the lease ends and the event with it, if all ended.

        Gives the event's state, or "stale" when the lease had gone to somebody else and nothing was written.
        """
        args: list[Any] = [event.id, event.owner, self._dedupe_window_s, int(more), self._archive_events, LONGEST_KEPT]
        for result in results:
            delay_us = int(result.delay_s * 1_000_000)
            args += (
                result.route,
                result.state,
                delay_us,
                _record(result.record),
            )
        keys = [event_key(event.id), ACCEPTED, RUNNING, RETRYING, DEAD, COUNTS, SUSPECT, RECENT]
        answer: bytes = self._run("settle", keys, args)
        return answer.decode()

    def renew(self, held: Sequence[tuple[str, str]]) -> None:
        """Let these leases, each of an event and its owner, run anew; what went to somebody else stays as it is."""
        if held:
            keys = [RUNNING, *(event_key(id_) for id_, _ in held)]
            self._run("renew", keys, [self._lease_us, *itertools.chain.from_iterable(held)])

    def hand_back(self, held: Sequence[tuple[str, str]]) -> None:
        """Let these leases, each of an event and its owner, run out now, without counting it as a crash."""
        if held:
            keys = [RUNNING, *(event_key(id_) for id_, _ in held)]
            self._run("hand_back", keys, list(itertools.chain.from_iterable(held)))

    # --- sweep ------------------------------------------------------------------------------------------------

    def overdue(self, queue: str, grace_s: float, most: int = 100) -> Overdue:
        """What looks as if it needed a new ticket: at most `most` of each kind."""
        seconds, micros = self.client.time()
        now = seconds * 1_000_000 + micros
        pipe = self.client.pipeline(transaction=False)
        pipe.zrangebyscore(RUNNING, "-inf", now, start=0, num=most)
        pipe.zrangebyscore(RETRYING, "-inf", now, start=0, num=most)
        pipe.zrangebyscore(ACCEPTED, "-inf", now - grace_s * 1_000_000, start=0, num=most, withscores=True)
        pipe.get(CLAIMED)
        pipe.llen(queue)
        expired, due, old, claimed, length = pipe.execute()
        overtaken_before = float(claimed or 0)
        if not queue:
            # Another broker's queue, whose length nobody tells us: with time enough, a ticket counts as lost.
            overtaken_before = max(overtaken_before, now - _UNSEEN_QUEUE_S * 1_000_000)
        elif length == 0:
            overtaken_before = float("inf")
        lost = [(id_, score) for id_, score in old if score < overtaken_before]
        labels = self._labels([*expired, *due, *(id_ for id_, _ in lost)])
        return Overdue(
            {id_.decode(): labels[id_] for id_ in expired},
            {id_.decode(): labels[id_] for id_ in due},
            {id_.decode(): (labels[id_], score) for id_, score in lost},
        )

    def expire(
        self, events: Mapping[str, str], queue: str, ticket: TicketFor, limit: int, owner: str
    ) -> tuple[list[str], list[str]]:
        """Leases that ran out. Gives the ids put back, and those that crashed `limit` times: the caller owns them."""
        args: list[Any] = [limit, self._lease_us, owner]
        for id_, label in events.items():
            args += (id_, ticket(id_, label))
        keys = [ACCEPTED, RUNNING, queue, SUSPECT, *map(event_key, events)]
        back, mine = self._run("expire", keys, args)
        return [id_.decode() for id_ in back], [id_.decode() for id_ in mine]

    def wake_due(self, events: Mapping[str, str], queue: str, ticket: TicketFor) -> list[str]:
        """Retries whose time has come go back to the queue. Gives their ids."""
        args: list[Any] = []
        for id_, label in events.items():
            args += (id_, ticket(id_, label))
        keys = [ACCEPTED, RETRYING, queue, *map(event_key, events)]
        return [id_.decode() for id_ in self._run("due", keys, args)]

    def wake_lost(self, events: Mapping[str, tuple[str, float]], queue: str, ticket: TicketFor) -> list[str]:
        """Events whose ticket was lost get a new one. Gives their ids."""
        args: list[Any] = []
        for id_, (label, score) in events.items():
            args += (id_, f"{score:.0f}", ticket(id_, label))
        return [id_.decode() for id_ in self._run("lost", [ACCEPTED, queue], args)]

    # --- dead letters -----------------------------------------------------------------------------------------

    def replay(self, id_: str, route: str, record: Mapping[str, Any], queue: str, ticket: bytes) -> bool:
        """Put one dead letter back on its route; False when it is none (any more)."""
        keys = [event_key(id_), ACCEPTED, RETRYING, DEAD, COUNTS, queue]
        return bool(self._run("replay", keys, [id_, route, json.dumps(record), ticket]))

    def discard(self, id_: str, route: str) -> bool:
        """Throw one dead letter away; False when it is none (any more)."""
        return bool(self._run("discard", [event_key(id_), DEAD, COUNTS], [id_, route, self._dedupe_window_s]))

    def release(self, id_: str, source: str, queue: str | None, message: bytes = b"") -> bool:
        """Take a message out of quarantine: back onto the queue, or `message` in its place; without a queue, away."""
        keys = [QUARANTINE, f"{QUARANTINE}:{id_}", COUNTS, queue or ""]
        return bool(self._run("release", keys, [id_, source, "away" if queue is None else "back", message]))

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
        for key in (ACCEPTED, RUNNING, RETRYING):
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

    def sizes(self, queue: str) -> dict[str, float]:
        """How many events are where, and how old the oldest unclaimed one is (seconds)."""
        pipe = self.client.pipeline(transaction=False)
        pipe.time()
        for key in (ACCEPTED, RUNNING, RETRYING, DEAD, QUARANTINE):
            pipe.zcard(key)
        pipe.llen(queue)
        pipe.zrange(ACCEPTED, 0, 0, withscores=True)
        (seconds, micros), unclaimed, running, retrying, dead, quarantined, length, oldest = pipe.execute()
        age = seconds + micros / 1e6 - oldest[0][1] / 1e6 if oldest else 0.0
        return {
            "unclaimed": unclaimed,
            "unclaimed_oldest_seconds": max(age, 0.0),
            "running": running,
            "retrying": retrying,
            "dead_letters": dead + quarantined,
            "queue_length": length,
        }

    def ping(self) -> bool:
        """Whether Redis answers."""
        try:
            return bool(self.client.ping())
        except redis.RedisError:
            return False

    def _labels(self, ids: Sequence[bytes]) -> dict[bytes, str]:
        pipe = self.client.pipeline(transaction=False)
        for id_ in ids:
            pipe.hget(event_key(id_.decode()), "label")
        return {id_: (label or b"").decode() for id_, label in zip(ids, pipe.execute() if ids else [], strict=True)}


def event_key(id_: str) -> str:
    """The key of one event's hash."""
    return f"router:event:{id_}"


def parse_event(id_: str, hash_: Mapping[bytes, bytes]) -> StoredEvent:
    """An event's hash → StoredEvent."""
    deliveries = {}
    for field, value in hash_.items():
        if field.startswith(b"s:"):
            state, _, due = value.decode().partition(":")
            record = json.loads(hash_.get(b"d:" + field[2:], b"{}"))
            deliveries[field[2:].decode()] = Delivery(state, record, int(due) if due else None)
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
        owner=hash_.get(b"owner", b"").decode(),
        envelope=hash_.get(b"env"),
        deliveries=deliveries,
    )


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
