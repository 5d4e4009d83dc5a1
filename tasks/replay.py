"""Put dead letters back: the same route only, by id or by filter, first as a plan."""

import collections
import dataclasses
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from tasks.dead_letter import DeadLetter, DeadLetters
from tasks.envelope import RESERVED
from tasks.errors import QueueUnavailable
from tasks.gates import ROUTE
from tasks.ledger import Ledger, StoredEvent
from tasks.queue import Queue

_PAGE: Final = 200


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a replay would do: which letters, and how many of each (reason, route, type)."""

    ids: tuple[str, ...]
    counts: Mapping[tuple[str, str, str], int]
    stale: tuple[str, ...]  #: those of the ids that would write old data over newer
    never: tuple[str, ...] = ()  #: letters beside the ids that nothing can be done about here: published, and not valid


def plan(ledger: Ledger, letters: Iterable[DeadLetter]) -> Plan:
    """Count the letters, and compare them with what was delivered since; nothing is changed."""
    every = list(letters)
    found, never = ([letter for letter in every if bool(letter.task) == asked] for asked in (False, True))
    counts = collections.Counter((letter.reason, letter.route, letter.shown_type) for letter in found)
    ids = tuple(letter.id for letter in found)
    return Plan(
        ids,
        dict(sorted(counts.items())),
        tuple(id_ for id_, event in _events(ledger, ids) if _stale(ledger, id_, event)),
        tuple(letter.id for letter in never),
    )


def _events(ledger: Ledger, ids: Sequence[str]) -> list[tuple[str, StoredEvent | None]]:
    found: list[StoredEvent | None] = []
    for first in range(0, len(ids), _PAGE):
        found += ledger.events([id_.rpartition(":")[0] for id_ in ids[first : first + _PAGE]])
    return list(zip(ids, found, strict=True))


def _stale(ledger: Ledger, id_: str, event: StoredEvent | None) -> bool:
    route = id_.rpartition(":")[2]
    if event is None or route not in event.deliveries:
        return False
    # What died before its requests were known is compared by its route.
    return ledger.newer(event, event.deliveries[route].record.get("writes", [f"{ROUTE}{route}"]))


@dataclasses.dataclass(frozen=True)
class Replay:
    """Carries a plan out."""

    ledger: Ledger
    letters: DeadLetters
    queue: Queue

    def run(self, ids: Sequence[str], repaired: bytes | None = None) -> int:
        """Put these dead letters back, in the order in which their events were accepted.

        Gives how many there were; those gone in the meantime are passed over. `repaired` goes back in place of the
        message that was quarantined.
        """
        order = {id_: event.accepted_at if event else 0 for id_, event in _events(self.ledger, ids)}
        return sum(self._one(id_, repaired) for id_ in sorted(ids, key=order.__getitem__))

    def _one(self, id_: str, repaired: bytes | None) -> bool:
        if id_.startswith(RESERVED):
            if not self.queue.key:
                raise QueueUnavailable("a quarantined message can only go back over Redis; publish it again")
            return self.letters.release(id_.removeprefix(RESERVED), repaired)
        event_id, _, route = id_.rpartition(":")
        event = self.ledger.event(event_id)
        if event is None or route not in event.deliveries:
            return False
        record = _second_life(event.deliveries[route].record)
        return self.ledger.replay(event_id, route, record)


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
