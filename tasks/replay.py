"""Put dead letters back: the same route only, by id or by filter, first as a plan."""

import collections
import dataclasses
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tasks.dead_letter import DeadLetter, DeadLetters
from tasks.envelope import RESERVED, shown
from tasks.errors import QueueUnavailable
from tasks.ledger import Ledger
from tasks.queue import Queue


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a replay would do: which letters, and how many of each (reason, route, type)."""

    ids: tuple[str, ...]
    counts: Mapping[tuple[str, str, str], int]


def plan(letters: Iterable[DeadLetter]) -> Plan:
    """Count the letters; nothing is changed."""
    found = list(letters)
    counts = collections.Counter((letter.reason, letter.route, letter.type) for letter in found)
    return Plan(tuple(letter.id for letter in found), dict(sorted(counts.items())))


@dataclasses.dataclass(frozen=True)
class Replay:
    """Carries a plan out."""

    ledger: Ledger
    letters: DeadLetters
    queue: Queue

    def run(self, ids: Sequence[str], repaired: bytes | None = None) -> int:
        """Put these dead letters back. Gives how many there were; those gone in the meantime are passed over.

        `repaired` goes back in place of the message that was quarantined.
        """
        return sum(self._one(id_, repaired) for id_ in ids)

    def _one(self, id_: str, repaired: bytes | None) -> bool:
        if id_.startswith(RESERVED):
            if not self.queue.key:
                raise QueueUnavailable("a quarantined message can only go back over Redis; publish it again")
            return self.letters.release(id_.removeprefix(RESERVED), self.queue.key, repaired)
        event_id, _, route = id_.rpartition(":")
        event = self.ledger.event(event_id)
        if event is None or route not in event.deliveries:
            return False
        record = _second_life(event.deliveries[route].record)
        label = event.label or shown(event.source, event.type)
        done = self.ledger.replay(event_id, route, record, self.queue.key, self.queue.ticket(event_id, label))
        if done:
            self.queue.publish([event_id])
        return done


def _second_life(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a delivery that starts anew: its history stays, its budget of attempts and time is fresh.

    Requests that had succeeded are not sent again (`sent`).
    """
    return {
        "attempts": list(record.get("attempts", ())),
        "made": record.get("made", 0),
        "tried": 0,
        "since": time.time(),
        "sent": record.get("sent", 0),
    }
