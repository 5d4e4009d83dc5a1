"""What published messages become: what the ledger has to keep of each.

Nothing of a message is lost: it becomes events, dead letters, or, where nothing can be made of it, a message in
quarantine; and an answer, where its publisher waits for one.
"""

import dataclasses
import traceback
import uuid
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import structlog

from tasks import contract
from tasks.contract import TASKS, Published
from tasks.envelope import Envelope, Rejected
from tasks.ledger import MESSAGES, described, placed
from tasks.messages import Call, Unusable, call_of, checked, shown_task
from tasks.publishers import Publishers
from tasks.queue import ALIVE_TASK, ROUTE_TASK, redis_message

log: Final = structlog.get_logger("tasks.published")

#: Looks without an end after which the message is to blame.
POISON_FROM: Final = 6
#: Bytes of the events of one call: what is said once for all of them, each has.
_MOST_OF_A_CALL: Final = 4 * 1024 * 1024
_MOST_NAMES: Final = 1000

#: What ledger/publish.lua takes for one thing that it has to keep.
Item = Sequence[Any]


def _nobody() -> Iterable[str]:
    return ()


@dataclasses.dataclass(frozen=True)
class Reader:
    """Reads messages for those who keep the door."""

    publishers: Publishers
    result_ttl_s: int
    counted: Callable[[], Iterable[str]] = _nobody  #: the names that events were counted under
    others: Container[str] = ()  #: tasks beside the contract's that a team has given its workers; Celery runs them
    names: set[str] = dataclasses.field(default_factory=set)  #: publishers that were heard of

    def items(self, raw: bytes, owner: str | None, tries: int) -> Iterator[Item]:
        if tries >= POISON_FROM:
            yield kept(raw, "poison", f"{tries - 1} looks at it came to no end", "message", owner)
            return
        try:
            call = call_of(checked(raw))
        except Unusable as unusable:
            yield kept(raw, unusable.reason, str(unusable), "message", owner)
        except Exception as error:  # noqa: BLE001 - see _failed
            yield _failed(raw, error, "message", owner)
        else:
            yield from self.of_call(call, owner, raw)

    def of_call(self, call: Call, owner: str | None, raw: bytes) -> Iterator[Item]:
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
        source = owner or (claimed if claimed not in self.publishers.reserved and self._admits(claimed) else None)
        if call.task not in TASKS:
            near = contract.nearest(call.task)
            hint = f"; did you mean {near}?" if near else ""
            yield from self._unusable(
                call, kept(raw, "unknown_task", f"there is no task {label!r}{hint}", label, source)
            )
            return
        try:
            yield from self._of_events(call, self._published(call, owner))
        except Unusable as unusable:
            yield from self._unusable(call, kept(raw, unusable.reason, str(unusable), label, source))
        except Exception as error:  # noqa: BLE001 - see _failed
            yield from self._unusable(call, _failed(raw, error, label, source))

    def _published(self, call: Call, owner: str | None) -> Published:
        """The events of a call of the contract. Raises Unusable when nothing can be made of it."""
        if call.wrong:
            raise Unusable("invalid", call.wrong)
        found = contract.published(call, owner, datetime.now(UTC), self.publishers.reserved)
        if not self._admits(found.source):
            raise Unusable("invalid", f"publisher: {_MOST_NAMES} names are in use; name it in publishers.yaml")
        return found

    def _unusable(self, call: Call, item: Item) -> Iterator[Item]:
        """A call that becomes no event, and the answer, where its publisher waits for one."""
        if True in (call.headers.get("reply"), call.kwargs.get("reply")):
            _, _, _, reason, error, _, _ = item
            yield "reply", call.id, self.result_ttl_s
            yield "answer", call.id, f"{reason}: {error}"
            yield "whole", call.id
        yield item

    def _admits(self, name: str | None) -> bool:
        """Whether something may be counted under the name: each has rows of its own in every report."""
        if name is None or name in self.publishers.known:
            return True
        if name not in self.names and len(self.names) < _MOST_NAMES:
            self.names.update([*self.counted(), name])
        return name in self.names

    def _of_events(self, call: Call, found: Published) -> Iterator[Item]:
        task = call.id if found.reply else ""
        size = sum(len(each.encoded) for each in found.events if isinstance(each, Envelope))
        if size > _MOST_OF_A_CALL:
            raise Unusable("invalid", f"the events of one call are larger than {_MOST_OF_A_CALL} bytes together")
        due = str(int(call.due_at.timestamp() * 1_000_000)) if call.due_at else ""
        if task:
            yield "reply", task, self.result_ttl_s
        for each in found.events:
            yield self._event(each, due, task) if isinstance(each, Envelope) else _dead(each, task)
        if task:
            yield "whole", task

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


def _failed(raw: bytes, error: Exception, label: str, source: str | None) -> Item:
    """Our own fault, and no reason to read the message again and again."""
    log.error("message.failed", task=label, error=type(error).__name__)
    place = traceback.extract_tb(error.__traceback__)[-1]
    return kept(raw, "bug", f"{type(error).__name__} at {place.filename}:{place.lineno}", label, source)


def kept(raw: bytes, reason: str, error: str, label: str, source: str | None, id_: str = "") -> Item:
    return "keep", id_ or str(uuid.uuid4()), raw, reason, error, label, source or MESSAGES
