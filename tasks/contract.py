"""What other teams may publish: the tasks, their arguments, and the events that these become."""

import dataclasses
import difflib
from collections.abc import Sequence
from datetime import datetime

from tasks.envelope import Envelope, Rejected, load
from tasks.errors import InvalidEnvelope
from tasks.messages import Call, Unusable
from tasks.publishers import NAMELESS
from tasks.queue import PUBLISH_TASK

#: The names of all tasks that may be published.
TASKS: frozenset[str] = frozenset({PUBLISH_TASK})


@dataclasses.dataclass(frozen=True)
class Published:
    """What a call becomes."""

    source: str  #: the publisher's name
    events: Sequence[Envelope | Rejected]
    reply: bool = False  #: whether the publisher wants to know what became of them


def published(call: Call, publisher: str | None, now: datetime) -> Published:  # noqa: ARG001
    """A call of one of TASKS → its events, in their order.

    `publisher` is whose list the message lay in; None = the list of all. Raises Unusable when not even a list of events
    can be made of it.
    """
    try:
        events = [load(item) for each in call.args for item in (each if isinstance(each, list) else [each])]
    except InvalidEnvelope as error:
        raise Unusable("invalid", str(error)) from None
    return Published(publisher or (events[0].source if events else NAMELESS), events)


def publisher_of(call: Call) -> str | None:
    """Who published it, as far as it says so; None when it does not, or not in a way that a name can be."""
    said = call.headers.get("publisher")
    return said if isinstance(said, str) else None


def nearest(name: str) -> str | None:
    """The task that was perhaps meant."""
    found = difflib.get_close_matches(name, sorted(TASKS), n=1, cutoff=0)
    return found[0] if found else None
