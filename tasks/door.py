"""The door for what other teams publish: from their lists into the ledger, in one step.

A message stays where its publisher put it until the script that accepts its events takes it away (ledger/publish.lua).
So nobody holds anything in between: whoever dies leaves the messages where they were, and nothing is to be given back.
One worker at a time keeps the door, because the order of a list is the order of acceptance.
"""

import dataclasses
import itertools
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha1
from typing import Final

import redis
import structlog

from config.celery_settings import QUEUE
from tasks.ledger import MESSAGES, Ledger
from tasks.messages import MOST_BYTES, Call
from tasks.published import Item, Reader, kept
from tasks.publishers import STEPS
from tasks.queue import redis_message

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
_TRIES: Final = "router:door:tries"
#: Looks without an end after which messages are taken one by one.
_CAREFUL_FROM: Final = 3
#: After as many looks, one of the lists is the first of all.
_TURNS: Final = 8

#: Whom to tell of what became a dead letter at the door: id, name, reason.
Tell = Callable[[str, str, str], None]


def _nobody(_id: str, _name: str, _reason: str) -> None:
    """Nobody is told."""


@dataclasses.dataclass(frozen=True)
class Door:
    """Takes what is published. `name` is this worker's; `threads` that work on what was taken."""

    ledger: Ledger
    reader: Reader
    name: str
    threads: int
    max_waiting: int
    tell: Tell = _nobody
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
        outcome, *found = self.ledger.run("peek", self.name, *limits, large, *_with_owners(lists))
        if outcome == b"large":
            self._say(kept(b"", "invalid", "", "message", lists[found[0].decode()], large))
        if outcome == b"found":
            queue, tries, raw = found
            try:
                items = [item for each in raw for item in self.reader.items(each, lists[queue.decode()], tries)]
                self._publish(queue, raw, items)
            except (redis.ConnectionError, redis.TimeoutError):
                # Nobody died of what is in the list.
                self.ledger.client.hincrby(_TRIES, queue, -1)
                raise
        return str(outcome.decode())

    def accept(self, call: Call) -> None:
        """Take one call that Celery took off its queue. Returns when it is in the ledger, however long that takes."""
        raw = redis_message(call.task, call.args, call.kwargs, task_id=call.id, shadow=None, argsrepr="(…)")
        items = list(self.reader.of_call(call, None, raw))
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
        owners = list(self.reader.publishers.lists().items())
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


def _with_owners(lists: Mapping[str, str | None]) -> Iterator[str]:
    for queue, owner in lists.items():
        yield queue
        yield owner or MESSAGES


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
