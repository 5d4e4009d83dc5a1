"""The door for what other teams publish: from their lists into the ledger, in one step.

A message stays where its publisher put it until the script that accepts its events takes it away (ledger/publish.lua).
So nobody holds anything in between: whoever dies leaves the messages where they were, and nothing is to be given back.
One worker at a time keeps the door, because the order of a list is the order of acceptance.
"""

import dataclasses
import itertools
import json
import time
import traceback
import uuid
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha1
from typing import Any, Final

import redis
import structlog

from config.celery_settings import QUEUE
from tasks import contract
from tasks.contract import TASKS, Published
from tasks.dead_letter import MESSAGES
from tasks.envelope import Envelope, Rejected
from tasks.ledger import Ledger, described, placed
from tasks.messages import MOST_BYTES, Call, Unusable, call_of, checked, shown_task
from tasks.publishers import STEPS, Publishers
from tasks.queue import ALIVE_TASK, ROUTE_TASK, redis_message

log: Final = structlog.get_logger("tasks.door")

#: Messages, and bytes of them, in one call to Redis: it serves nobody else meanwhile.
_MOST_MESSAGES: Final = 100
_MOST_BYTES: Final = 512 * 1024
#: Events and dead letters likewise: a message may carry many.
_MOST_ITEMS: Final = 500
#: As many events in a ticket as in one of the endpoint's at the most.
_MOST_IN_TICKET: Final = 25
#: Whoever keeps the door and dies, keeps it for so long.
_KEPT_MS: Final = 3000
#: How long to wait for a message; messages in other lists than that of all wait so long for a look.
_WAIT_S: Final = 0.1
_AFTER_FAILURE_S: Final = 0.5
#: What to wait for is not told: somebody else's end, or what waits to be worked on.
_PAUSES_S: Final = {"other": 0.5, "full": 0.2}
#: Bytes of the events of one call: what is said once for all of them, each has.
_MOST_OF_A_CALL: Final = 4 * 1024 * 1024
_MOST_NAMES: Final = 1000
_TRIES: Final = "router:door:tries"
#: Looks without an end after which messages are taken one by one, and after which the one is to blame.
_CAREFUL_FROM: Final = 3
_POISON_FROM: Final = 6
#: After as many looks, one of the lists is the first of all.
_TURNS: Final = 8

#: What the script takes for one thing that it has to keep.
Item = Sequence[Any]
#: Whom to tell of what became a dead letter at the door: id, name, reason.
Tell = Callable[[str, str, str], None]


def _nobody(_id: str, _name: str, _reason: str) -> None:
    """Nobody is told."""


@dataclasses.dataclass(frozen=True)
class Door:
    """Takes what is published. `name` is this worker's; `threads` that work on what was taken."""

    ledger: Ledger
    publishers: Publishers
    name: str
    threads: int
    result_ttl_s: int
    max_waiting: int
    others: Container[str] = ()  #: tasks beside the contract's that a team has given its workers; Celery runs them
    tell: Tell = _nobody
    names: set[str] = dataclasses.field(default_factory=set)  #: publishers that were heard of
    turns: Iterator[int] = dataclasses.field(default_factory=itertools.count)

    def turn(self) -> None:
        """Take some of what is there; wait a little when there is nothing."""
        try:
            outcome = self.take()
            if outcome == "empty":
                self._wait()
            elif outcome in _PAUSES_S:
                time.sleep(_PAUSES_S[outcome])
        except Exception:
            time.sleep(_AFTER_FAILURE_S)
            raise

    def take(self) -> str:
        """Take some of what is there.

        Gives "found" or "large" when something was taken; "empty"; "full" when the ledger has too much already; "other"
        when somebody else keeps the door.
        """
        lists = self._lists(next(self.turns))
        limits = (_KEPT_MS, _CAREFUL_FROM, _MOST_MESSAGES, _MOST_BYTES, self.max_waiting, MOST_BYTES)
        large = str(uuid.uuid4())
        outcome, *found = self.ledger.run("peek", self.name, *limits, large, *lists)
        if outcome == b"large":
            self._say(_kept(b"", "invalid", "", "message", None, large))
        if outcome == b"found":
            queue, tries, raw = found
            try:
                items = [item for each in raw for item in self._items(each, lists[queue.decode()], tries)]
                self._publish(queue, raw, items)
            except (redis.ConnectionError, redis.TimeoutError):
                # Nobody died of what is in the list.
                self.ledger.client.hincrby(_TRIES, queue, -1)
                raise
        return str(outcome.decode())

    def accept(self, call: Call) -> None:
        """Take one call that Celery took off its queue. Returns when it is in the ledger, however long that takes."""
        raw = redis_message(call.task, call.args, call.kwargs, task_id=call.id, shadow=None, argsrepr="(…)")
        items = list(self._of_call(call, None, raw))
        while True:
            try:
                return self._publish(QUEUE, (), items)
            except redis.RedisError as error:
                # The message is acknowledged late, so another worker would do the same.
                log.warning("ledger.unreachable", loop="door", error=type(error).__name__)
                time.sleep(_AFTER_FAILURE_S)

    def _lists(self, turn: int) -> Mapping[str, str | None]:
        """List → whose it is, the most urgent first; each publisher's is the first of its kind in turn.

        Now and then a list is the first of all, each in its turn: nothing waits for ever behind what is more urgent.
        """
        owners = list(self.publishers.lists().items())
        first = turn % len(owners)
        lists = [(f"{queue}{step}", owner) for step in STEPS for queue, owner in owners[first:] + owners[:first]]
        if turn % _TURNS == _TURNS - 1:
            every = [(f"{queue}{step}", owner) for step in reversed(STEPS) for queue, owner in owners]
            lists.insert(0, every[turn // _TURNS % len(every)])
        return dict(lists)

    def _wait(self) -> None:
        try:
            # From its end to its end: nothing moves, and whoever waits for it is woken.
            self.ledger.client.blmove(QUEUE, QUEUE, _WAIT_S, "RIGHT", "RIGHT")
        except redis.ResponseError:
            # A full Redis refuses it, but not the script that takes messages.
            time.sleep(_WAIT_S)

    def _publish(self, queue: str | bytes, raw: Sequence[bytes], items: Sequence[Item]) -> None:
        # Known by ids: done once more after a death in between, they are duplicates. The rest goes with the messages.
        known, rest = ([item for item in items if (item[0] == "keep") == kept] for kept in (False, True))
        *before, last = _shares(known) or [[]]
        for share in before:
            if not self._run(queue, raw, share, away=False):
                return
        if self._run(queue, raw, [*last, *rest]):
            for item in items:
                self._say(item)

    def _run(self, queue: str | bytes, raw: Sequence[bytes], items: Sequence[Item], *, away: bool = True) -> bool:
        """Keep the items, and take the messages away. Gives False when somebody else was quicker."""
        digest = sha1(b"".join(raw), usedforsecurity=False).hexdigest()
        events = sum(item[0] == "event" for item in items)
        in_ticket = max(1, min(_MOST_IN_TICKET, -(-events // self.threads)))
        options = (len(raw), digest, int(away), in_ticket, *self.ledger.correlation)
        taken, *answer = self.ledger.run("publish", queue, *options, *itertools.chain(*items))
        if taken:
            self.ledger.sent(answer[0])
        return bool(taken)

    def _say(self, item: Item) -> None:
        """What operators are to know of what was taken."""
        match item:
            case ("dead", source, id_, label, _, _, _, _, outcome):
                reason = outcome.partition(":")[0]
                log.warning("event.rejected", event_id=id_, source=source, reason=reason)
                self.tell(id_, label.decode(), reason)
            case ("keep", id_, _, reason, _, label, source):
                log.warning("message.quarantined", reason=reason, task=label, source=source)
                self.tell(id_, f"{source} · {label}", reason)

    def _items(self, raw: bytes, owner: str | None, tries: int) -> Iterator[Item]:
        if tries >= _POISON_FROM:
            yield _kept(raw, "poison", f"{tries - 1} looks at it came to no end", "message", owner)
            return
        try:
            call = call_of(checked(raw))
        except Unusable as unusable:
            yield _kept(raw, unusable.reason, str(unusable), "message", owner)
            return
        yield from self._of_call(call, owner, raw)

    def _of_call(self, call: Call, owner: str | None, raw: bytes) -> Iterator[Item]:
        if call.task == ROUTE_TASK:
            yield "ticket", redis_message(ROUTE_TASK, call.args, shadow=None, argsrepr="(…)")
            return
        if call.task == ALIVE_TASK:
            return  # a heartbeat; there are younger ones
        if call.task not in TASKS and call.task in self.others and not call.task.startswith("celery."):
            yield "ticket", raw
            return
        label = shown_task(call.task)
        claimed = contract.publisher_of(call)
        source = owner or (claimed if claimed not in self.publishers.reserved else None)
        if call.task not in TASKS:
            near = contract.nearest(call.task)
            hint = f"; did you mean {near}?" if near else ""
            yield from self._unusable(
                call, _kept(raw, "unknown_task", f"there is no task {label!r}{hint}", label, source)
            )
            return
        try:
            _check(call)
            found = contract.published(call, owner, datetime.now(UTC), self.publishers.reserved)
            self._check_name(found.source)
            yield from self._of_events(call, found)
        except Unusable as unusable:
            yield from self._unusable(call, _kept(raw, unusable.reason, str(unusable), label, source))
        except Exception as error:
            # Ours, and no reason to read the message again and again.
            log.exception("message.failed", task=label)
            place = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{type(error).__name__} at {place.filename}:{place.lineno}"
            yield from self._unusable(call, _kept(raw, "bug", where, label, source))

    def _unusable(self, call: Call, kept: Item) -> Iterator[Item]:
        """A call that becomes no event, and the answer, where its publisher waits for one."""
        if True in (call.headers.get("reply"), call.kwargs.get("reply")):
            _, _, _, reason, error, _, _ = kept
            yield "reply", call.id, 1, self.result_ttl_s
            yield "answer", call.id, f"{reason}: {error}"
        yield kept

    def _check_name(self, source: str) -> None:
        """Raises Unusable for one name too many: each has rows of its own in every report."""
        if source in self.names or source in self.publishers.known:
            return
        if len(self.names) >= _MOST_NAMES:
            raise Unusable("invalid", f"publisher: {_MOST_NAMES} names are in use; name it in publishers.yaml")
        self.names.update(name for kind, name in self.ledger.counts() if kind == "source")
        self.names.add(source)

    def _of_events(self, call: Call, found: Published) -> Iterator[Item]:
        task = call.id if found.reply else ""
        size = sum(len(each.encoded) for each in found.events if isinstance(each, Envelope))
        if size > _MOST_OF_A_CALL:
            raise Unusable("invalid", f"the events of one call are larger than {_MOST_OF_A_CALL} bytes together")
        ids = {(each if isinstance(each, Envelope) else each.envelope).id for each in found.events}
        items: list[Item] = [("reply", task, len(ids), self.result_ttl_s)] if task else []
        due = str(int(call.due_at.timestamp() * 1_000_000)) if call.due_at else ""
        items += [
            self._event(each, due, task) if isinstance(each, Envelope) else _dead(each, call.task, task)
            for each in found.events
        ]
        yield from items

    def _event(self, envelope: Envelope, due: str, task: str) -> Item:
        subject, said, keys = placed(envelope)
        publisher = self.publishers.known.get(envelope.source)
        quota = ("", "")
        if publisher is not None and publisher.per_second:
            quota = (str(int(1_000_000 / publisher.per_second)), str(publisher.burst))
        head = ("event", envelope.source, *described(envelope), subject, said)
        return (*head, task, due, *quota, len(keys), *keys)


def _dead(rejected: Rejected, name: str, task: str) -> Item:
    envelope, outcome = rejected.envelope, f"{rejected.reason}: {rejected.error}"
    # By the task's name replays know that there is nothing to try again: it was never valid.
    record = json.dumps({**json.loads(rejected.record), "task": name})
    return "dead", envelope.source, *described(envelope), record, task, outcome


def _check(call: Call) -> None:
    """Raises Unusable for what is wrong whatever its arguments say."""
    if call.wrong:
        raise Unusable("invalid", call.wrong)


def _shares(items: Sequence[Item]) -> list[list[Item]]:
    """As many as one call to Redis takes at a time, by number and by bytes."""
    shares: list[list[Item]] = []
    room = 0
    for item in items:
        size = sum(len(value) for value in item if isinstance(value, bytes))
        if not shares or len(shares[-1]) == _MOST_ITEMS or size > room:
            shares.append([])
            room = _MOST_BYTES
        shares[-1].append(item)
        room -= size
    return shares


def _kept(raw: bytes, reason: str, error: str, label: str, source: str | None, id_: str = "") -> Item:
    return "keep", id_ or str(uuid.uuid4()), raw, reason, error, label, source or MESSAGES
