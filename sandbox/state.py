"""The account in memory: people, objects and events behind one lock, and the counters of the page."""

import uuid
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from threading import RLock
from typing import TypeVar

from sandbox.objects import Objects
from sandbox.people import People
from sandbox.records import Call, Change, Event, Journal, Json, Person, rfc3339

_Kept = TypeVar("_Kept")

KEPT_EVENTS = 50_000
SHOWN_EVENTS = 200
#: They carry whole bodies; who wants all reads them as they come.
KEPT_CALLS = 10_000


def _utc_now() -> datetime:
    return datetime.now(UTC)


def _uuid() -> str:
    return str(uuid.uuid4())


class State:
    """One account.

    Every change happens inside `with state.changing() as journal`, so a request changes all or is seen not at
    all, and `on_change` hears of the changes in the order in which they happened.
    """

    def __init__(
        self,
        *,
        now: Callable[[], datetime] = _utc_now,
        new_id: Callable[[], str] = _uuid,
        on_change: Callable[[Change], None] = lambda _: None,
        kept_events: int = KEPT_EVENTS,
    ) -> None:
        self._now = now
        self._new_id = new_id
        self._on_change = on_change
        #: Held while reading `people` and `objects`; to change them, use `changing`.
        self.lock = RLock()
        self._kept_events = kept_events
        self.clear()

    def clear(self) -> None:
        """Forget everything; event numbers start again at 1."""
        with self.lock:
            self._journal = Journal(self._now)
            self.people = People(self._journal, self._new_id)
            self.objects = Objects(self._journal)
            self._events: deque[Event] = deque(maxlen=self._kept_events)
            self._recorded = 0
            self._calls: deque[Call] = deque(maxlen=KEPT_CALLS)
            self._called = 0
            self._counts = dict.fromkeys(("requests", "accepted", "refused", "faulted"), 0)

    @contextmanager
    def changing(self) -> Iterator[Journal]:
        """Hold the account still, collect what changes, and tell the listener at the end."""
        with self.lock:
            self._journal.clear()
            try:
                yield self._journal
            finally:
                for change in self._journal.changes:
                    self._on_change(change)

    def record(self, name: str, person: Person | None, body: Json) -> Event:
        """Keep an accepted ingest call, with what the current `changing` block did."""
        self._recorded += 1
        at = rfc3339(self._now())
        effects = self._journal.effects()
        event = Event(self._recorded, at, name, person.id if person else None, effects, body)
        self._events.append(event)
        return event

    def record_call(self, method: str, path: str, body: bytes, status: int, answered_after_s: float | None) -> None:
        """Keep a request that an API has worked on."""
        with self.lock:
            self._called += 1
            at = rfc3339(self._now())
            self._calls.append(Call(self._called, at, method, path, body, status, answered_after_s))

    def calls_since(self, seq: int) -> tuple[list[Call], int]:
        """The kept calls from number `seq` on, and how many there ever were."""
        with self.lock:
            return _since(self._calls, self._called, seq), self._called

    def count(self, counter: str) -> None:
        """Add one to "requests", "accepted", "refused" or "faulted"."""
        with self.lock:
            self._counts[counter] += 1

    def events_since(self, seq: int) -> tuple[list[Event], int]:
        """The kept events from number `seq` on, and how many there ever were."""
        with self.lock:
            return _since(self._events, self._recorded, seq), self._recorded

    def counts(self) -> dict[str, int]:
        """requests, accepted, refused, faulted; and how many people, objects and events there are."""
        with self.lock:
            sizes = {"people": len(self.people), "objects": len(self.objects), "events": self._recorded}
            return self._counts | sizes

    def as_json(self, limit: int | None = None) -> Json:
        """{"people", "objects", "events", "counts"}, the newest first except events, which are in order."""
        with self.lock:
            people = list(islice(self.people.newest_first(), limit))
            items = list(islice(self.objects.newest_first(), limit))
            lines = self.objects.associations()
            events, _ = self.events_since(self._recorded - SHOWN_EVENTS + 1)
            counts = self.counts()
        # The records are frozen: they can be written out without the lock.
        tied: dict[tuple[str, str], list[Json]] = {}
        for line in lines:
            tied.setdefault((line.from_object, line.from_id), []).append(_end(line.to_object, line.to_id))
            tied.setdefault((line.to_object, line.to_id), []).append(_end(line.from_object, line.from_id))
        return {
            "people": [one.as_json() | {"associated": tied.get(("person", one.id), [])} for one in people],
            "objects": [one.as_json() | {"associated": tied.get((one.object_name, str(one.id)), [])} for one in items],
            "events": [event.as_json() for event in events],
            "counts": counts,
        }


def _since(kept: deque[_Kept], total: int, seq: int) -> list[_Kept]:
    """Those from number `seq` on, of the kept ones, the last of which has the number `total`."""
    first = total - len(kept) + 1
    return list(islice(kept, max(0, seq - first), None))


def _end(name: str, item_id: str) -> Json:
    return {"object": name, "id": item_id}
