"""Deliveries that we stopped trying, and messages that are not even an envelope: one list, one look."""

import dataclasses
import itertools
import json
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import structlog

from config.celery_settings import QUEUE
from tasks.envelope import RESERVED, without_people
from tasks.ledger import DEAD, MESSAGES, NO_ROUTE, QUARANTINE, Delivery, Ledger, Result, StoredEvent, script

log: Final = structlog.get_logger("tasks.dead_letter")

_PAGE: Final = 200
_KEEP: Final = script("quarantine")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeadLetter:
    """One of them. `id` is what every command takes: `<event id>:<route>`, or `quarantine:<id>`."""

    id: str
    reason: str
    error: str
    source: str
    route: str
    type: str
    died_at: str
    attempts: tuple[Mapping[str, Any], ...] = ()
    envelope: Any = None
    request: Mapping[str, Any] | None = None
    response: Mapping[str, Any] | None = None
    traceback: str | None = None
    task: str | None = None  #: the published task that it was asked for by, where that was not valid
    raw: str | None = None  #: a quarantined message, undecodable bytes escaped

    @property
    def shown_type(self) -> str:
        """The type for tables: without what stands in it of the event's person."""
        envelope = self.envelope if isinstance(self.envelope, dict) else {}
        event = envelope.get("event")
        return without_people(self.type, event if isinstance(event, dict) else {}, envelope.get("personal") or ())


@dataclasses.dataclass(frozen=True)
class Filter:
    """Which dead letters; None = any. Times are RFC 3339 in UTC."""

    reason: str | None = None
    source: str | None = None
    route: str | None = None
    type: str | None = None
    since: str | None = None
    until: str | None = None

    def takes(self, letter: DeadLetter) -> bool:
        """Whether the letter is one of them."""
        same = all(
            wanted is None or wanted == getattr(letter, name)
            for name, wanted in dataclasses.asdict(self).items()
            if name not in {"since", "until"}
        )
        died_at = moment(letter.died_at)
        return (
            same
            and (self.since is None or moment(self.since) <= died_at)
            and (self.until is None or died_at <= moment(self.until))
        )


class DeadLetters:
    """Reads, adds to and takes from the dead letters."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._client = ledger.client

    def find(self, wanted: Filter | None = None) -> Iterator[DeadLetter]:
        """Those that the filter takes, oldest first: deliveries, then quarantined messages."""
        wanted = wanted or Filter()
        for letter in itertools.chain(self._deliveries(), self._quarantined()):
            if wanted.takes(letter):
                yield letter

    def get(self, id_: str) -> DeadLetter | None:
        """One by its id."""
        if id_.startswith(RESERVED):
            return self._message(id_.removeprefix(RESERVED))
        event_id, _, route = id_.rpartition(":")
        event = self._ledger.event(event_id)
        if event is None or route not in event.deliveries or event.deliveries[route].state != "dead":
            return None
        died_at = self._client.zscore(DEAD, id_)
        return _letter(event, route, int(died_at or 0))

    def discard(self, id_: str) -> bool:
        """Throw one away for good; False when there is none of that id."""
        if id_.startswith(RESERVED):
            return self._ledger.release(id_.removeprefix(RESERVED), back=False)
        event_id, _, route = id_.rpartition(":")
        return self._ledger.discard(event_id, route)

    def quarantine(self, raw: bytes, reason: str, error: str, label: str = "") -> None:
        """Keep a message, byte for byte, that cannot become an event."""
        quarantine(self._client, raw, reason, error, label, MESSAGES, QUEUE)

    def release(self, id_: str, repaired: bytes | None = None) -> bool:
        """Put a quarantined message back onto the queue, as it came or repaired; False when there is none."""
        return self._ledger.release(id_, back=True, message=repaired or b"")

    def _deliveries(self) -> Iterator[DeadLetter]:
        page: list[tuple[str, str, int]] = []
        for row in self._ledger.dead(_PAGE):
            page.append(row)
            if len(page) == _PAGE:
                yield from self._letters(page)
                page = []
        yield from self._letters(page)

    def _letters(self, page: list[tuple[str, str, int]]) -> Iterator[DeadLetter]:
        events = self._ledger.events([id_ for id_, _, _ in page])
        for event, (_, route, died_at) in zip(events, page, strict=True):
            if event is not None and route in event.deliveries:
                yield _letter(event, route, died_at)

    def _quarantined(self) -> Iterator[DeadLetter]:
        for id_ in self._client.zrange(QUARANTINE, 0, -1):
            letter = self._message(id_.decode())
            if letter is not None:
                yield letter

    def _message(self, id_: str) -> DeadLetter | None:
        hash_ = self._client.hgetall(f"{QUARANTINE}:{id_}")
        if not hash_:
            return None
        return DeadLetter(
            id=f"{RESERVED}{id_}",
            reason=hash_[b"reason"].decode(),
            error=hash_[b"error"].decode(),
            source=hash_.get(b"source", MESSAGES.encode()).decode(),
            route=NO_ROUTE,
            type=hash_[b"label"].decode(),
            died_at=_rfc3339(int(self._client.zscore(QUARANTINE, id_) or 0)),
            raw=hash_[b"raw"].decode("utf-8", "backslashreplace"),
        )


def bury(ledger: Ledger, event: StoredEvent, waiting: Mapping[str, Delivery], failure: Mapping[str, Any]) -> None:
    """Settle these deliveries of a claimed event as dead, or, when it has none, the event itself.

    `failure` is what the dead letters say beside what is known of each delivery: reason, error, …
    """
    results = [
        Result(name, "dead", {**delivery.record, **failure}, order=delivery.order) for name, delivery in waiting.items()
    ]
    results = results or [Result(NO_ROUTE, "dead", {"attempts": [], **failure})]
    ledger.settle(event, results)
    for result in results:
        log_put(event, result)


def log_put(event: StoredEvent, result: Result) -> None:
    """One line for each dead letter."""
    log.warning(
        "dead_letter.put",
        event_id=event.id,
        source=event.source,
        route=result.route,
        reason=result.record["reason"],
    )


def quarantine(client: Any, raw: bytes, reason: str, error: str, label: str, source: str, queue: str) -> None:
    """Keep a queue's message, byte for byte, that cannot become an event, through any client of the ledger's Redis."""
    client.eval(_KEEP, 0, "", str(uuid.uuid4()), raw, reason, error, label, source, queue)


def _letter(event: StoredEvent, route: str, died_at: int) -> DeadLetter:
    record = event.deliveries[route].record
    try:
        envelope = json.loads(event.envelope or b"null")
    except ValueError:
        envelope = (event.envelope or b"").decode("utf-8", "backslashreplace")
    return DeadLetter(
        id=f"{event.id}:{route}",
        reason=record.get("reason", "bug"),
        error=record.get("error", ""),
        source=event.source,
        route=route,
        type=event.type,
        died_at=_rfc3339(died_at),
        attempts=tuple(record.get("attempts", ())),
        envelope=envelope,
        request=record.get("request"),
        response=record.get("response"),
        traceback=record.get("traceback"),
        task=record.get("task"),
    )


def moment(text: str) -> datetime:
    """A time as RFC 3339, or as much of it as a person types; UTC unless it says otherwise. Raises ValueError."""
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _rfc3339(micros: int) -> str:
    return datetime.fromtimestamp(micros / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
