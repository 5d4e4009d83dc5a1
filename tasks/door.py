"""The door for what other teams publish: from their lists into the ledger, in one step.

A message stays where its publisher put it until the script that accepts its events takes it away (ledger/publish.lua).
So nobody holds anything in between: whoever dies leaves the messages where they were, and nothing is to be given back.
One worker at a time keeps the door, because the order of a list is the order of acceptance.
"""

import dataclasses
import itertools
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
from tasks.messages import Call, Unusable, call_of, checked, shown_task
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
_NOT_MINE_S: Final = 0.5
#: How long to wait for a message; messages in other lists than that of all wait so long for a look.
_WAIT_S: Final = 0.1
_AFTER_FAILURE_S: Final = 0.5
#: Looks without an end after which messages are taken one by one, and after which the one is to blame.
_CAREFUL_FROM: Final = 3
_POISON_FROM: Final = 6
#: After as many looks, the least urgent list has its turn.
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
    turns: Iterator[int] = dataclasses.field(default_factory=itertools.count)

    def turn(self) -> None:
        """Take some of what is there; wait a little when there is nothing."""
        try:
            if not self.take():
                self._wait()
        except Exception:
            time.sleep(_AFTER_FAILURE_S)
            raise

    def take(self) -> bool:
        """Take some of what is there. Gives False when there was nothing, or somebody else keeps the door."""
        lists = self._lists(next(self.turns))
        found = self.ledger.run(
            "peek", self.name, _KEPT_MS, _CAREFUL_FROM, _MOST_MESSAGES, _MOST_BYTES, self.max_waiting, *lists
        )
        if not found:
            return False
        queue, tries, raw = found
        items = [item for each in raw for item in self._items(each, lists[queue.decode()], tries)]
        self._publish(queue, raw, items)
        return True

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
        """List → whose it is, the most urgent first; each publisher's is the first of its kind in turn."""
        owners = list(self.publishers.lists().items())
        first = turn % len(owners)
        lists = [(f"{queue}{step}", owner) for step in STEPS for queue, owner in owners[first:] + owners[:first]]
        return dict(reversed(lists) if turn % _TURNS == _TURNS - 1 else lists)

    def _wait(self) -> None:
        keeper = self.ledger.client.get("router:door")
        if keeper != self.name.encode():
            time.sleep(_NOT_MINE_S)
            return
        try:
            # From its end to its end: nothing moves, and whoever waits for it is woken.
            self.ledger.client.blmove(QUEUE, QUEUE, _WAIT_S, "RIGHT", "RIGHT")
        except redis.ResponseError:
            # A full Redis refuses it, but not the script that takes messages.
            time.sleep(_WAIT_S)

    def _publish(self, queue: str | bytes, raw: Sequence[bytes], items: Sequence[Item]) -> None:
        # Known by ids: done once more after a death in between, they are duplicates. The rest goes with the messages.
        known, rest = ([item for item in items if (item[0] == "keep") == kept] for kept in (False, True))
        while len(known) > _MOST_ITEMS:
            self._run(queue, (), known[:_MOST_ITEMS])
            known = known[_MOST_ITEMS:]
        if self._run(queue, raw, [*known, *rest]):
            for item in items:
                self._say(item)

    def _run(self, queue: str | bytes, raw: Sequence[bytes], items: Sequence[Item]) -> bool:
        """Take the messages and keep the items. Gives False when somebody else was quicker."""
        digest = sha1(b"".join(raw), usedforsecurity=False).hexdigest()
        events = sum(item[0] == "event" for item in items)
        in_ticket = max(1, min(_MOST_IN_TICKET, -(-events // self.threads)))
        taken, *answer = self.ledger.run(
            "publish", queue, len(raw), digest, in_ticket, *self.ledger.correlation, *itertools.chain(*items)
        )
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
            yield _kept(raw, "poison", f"{tries - 1} workers died while they read it", "message", owner)
            return
        try:
            call = call_of(checked(raw))
        except Unusable as unusable:
            yield _kept(raw, unusable.reason, str(unusable), "message", owner)
            return
        yield from self._of_call(call, owner, raw)

    def _of_call(self, call: Call, owner: str | None, raw: bytes) -> Iterator[Item]:
        if call.task == ROUTE_TASK:
            yield "ticket", raw
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
            yield _kept(raw, "unknown_task", f"there is no task {label!r}{hint}", label, source)
            return
        try:
            found = contract.published(call, owner, datetime.now(UTC), self.publishers.reserved)
            yield from self._of_events(call, found)
        except Unusable as unusable:
            yield _kept(raw, unusable.reason, str(unusable), label, source)
        except Exception as error:
            # Ours, and no reason to read the message again and again.
            log.exception("message.failed", task=label)
            place = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{type(error).__name__} at {place.filename}:{place.lineno}"
            yield _kept(raw, "bug", where, label, source)

    def _of_events(self, call: Call, found: Published) -> Iterator[Item]:
        task = call.id if found.reply else ""
        items: list[Item] = [("reply", task, len(found.events), self.result_ttl_s)] if task and found.events else []
        due = str(int(call.due_at.timestamp() * 1_000_000)) if call.due_at else ""
        items += [
            self._event(each, due, task) if isinstance(each, Envelope) else _dead(each, task) for each in found.events
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


def _dead(rejected: Rejected, task: str) -> Item:
    envelope, outcome = rejected.envelope, f"{rejected.reason}: {rejected.error}"
    return "dead", envelope.source, *described(envelope), rejected.record, task, outcome


def _kept(raw: bytes, reason: str, error: str, label: str, source: str | None) -> Item:
    return "keep", str(uuid.uuid4()), raw, reason, error, label, source or MESSAGES
