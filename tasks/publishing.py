"""What other teams publish through the task `events.publish`: checked, then accepted like any other event."""

import dataclasses
import itertools
import time
from collections.abc import Iterable
from typing import Any, Final

from tasks.dead_letter import DeadLetters
from tasks.envelope import Envelope, id_without_address, load
from tasks.errors import InvalidEnvelope, QueueUnavailable
from tasks.queue import PUBLISH_TASK, Queue, redis_message

_BETWEEN_TRIES_S: Final = 1.0
#: Events in one call to Redis, which does nothing else meanwhile.
_AT_ONCE: Final = 500


@dataclasses.dataclass(frozen=True)
class Publishing:
    """The door for published events."""

    queue: Queue
    letters: DeadLetters

    def take(self, published: Iterable[Any]) -> None:
        """Accept each envelope (or list of envelopes); one that does not validate becomes a dead letter."""
        good: list[Envelope] = []
        bad: list[tuple[Any, InvalidEnvelope]] = []
        for item in itertools.chain.from_iterable(each if isinstance(each, list) else [each] for each in published):
            try:
                good.append(_with_plain_id(load(item)))
            except InvalidEnvelope as error:
                bad.append((item, error))
        for _, envelopes in itertools.groupby(good, lambda envelope: envelope.source):
            some = list(envelopes)
            for first in range(0, len(some), _AT_ONCE):
                self._accept(some[first : first + _AT_ONCE])
        for item, wrong in bad:
            raw = redis_message(PUBLISH_TASK, [item], shadow=None, argsrepr="(replayed)")
            self.letters.quarantine(raw, wrong.reason, f"InvalidEnvelope: {wrong}", PUBLISH_TASK)

    def _accept(self, envelopes: list[Envelope]) -> None:
        # The message is acknowledged already: as long as Redis is away there is nobody else to remember it.
        while True:
            try:
                self.queue.accept(envelopes)
            except QueueUnavailable:
                time.sleep(_BETWEEN_TRIES_S)
            else:
                return


def _with_plain_id(envelope: Envelope) -> Envelope:
    """The same, with an id that tells no person: logs and Flower show it."""
    plain = id_without_address(envelope.id)
    return envelope if plain == envelope.id else dataclasses.replace(envelope, id=plain)
