"""POST /webhooks/<source>[/<event name>]: answered 2xx only once Redis, or the disk, has the event."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final

from app import body as bodies
from app import records
from app.doors import Answer, not_taken
from app.incoming import Incoming
from app.intake import Intake, in_one_piece
from app.source import Refusal, Source
from tasks.envelope import Envelope, Rejected
from tasks.errors import QueueFull, QueueUnavailable

PREFIX: Final = "/webhooks/"
#: Segment's Webhooks destination can be set to each of them.
_SIGNED_METHODS: Final = frozenset({"POST", "PUT", "PATCH"})


class Webhooks:
    """The door for senders that post to an address of their own."""

    def __init__(self, sources: Mapping[str, Source], intake: Intake) -> None:
        self._sources = sources
        self._intake = intake

    def __call__(self, incoming: Incoming, path: str) -> Answer:
        """Verify, unwrap, accept. Raises Refusal."""
        name, _, event_name = path.partition("/")
        source = self._sources.get(name)
        if source is None or source.unwrap is None:
            raise Refusal(404, "unknown_source", "there is no source of this name")
        incoming.source = name
        return self._receive(source, incoming, event_name)

    def _receive(self, source: Source, incoming: Incoming, event_name: str) -> Answer:
        if incoming.method not in (_SIGNED_METHODS if source.signed else {"POST"}):
            raise Refusal(405, "method_not_allowed", "events are posted", {"Allow": "POST"})
        if not source.signed:
            source.verify(incoming.header, incoming.parameter)
        raw = bodies.read(incoming, source.max_body_bytes, lines=source.several)
        if source.signed:
            source.verify_signature(incoming.header("X_SIGNATURE"), raw)
        received_at = datetime.now(UTC)
        events = _unwrapped(source, raw, event_name or None, received_at)
        # An event of several people, as Encharge posts it, is bounded, and goes in one call.
        whole = not source.several
        if len(events) > 1 and not whole and not in_one_piece(events):
            # A part of them may be taken, and then all of it come again: what has no id or time of its own is known by
            # the body. Of fewer events, the same body again is other events.
            events = _unwrapped(source, raw, event_name or None, received_at, f"body:{sha256(raw).hexdigest()}")
        try:
            fresh = self._intake.take(source, events, whole=whole)
        except (QueueFull, QueueUnavailable) as error:
            raise not_taken(error, full=503) from None
        ids = [(event.envelope if isinstance(event, Rejected) else event).id for event in events]
        answer: dict[str, Any] = {"code": "accepted" if any(fresh) else "duplicate", "ids": ids}
        if rejected := [event.envelope.id for event in events if isinstance(event, Rejected)]:
            answer["rejected"] = rejected
        return Answer(200, answer)


def _unwrapped(
    source: Source, raw: bytes, event_name: str | None, received_at: datetime, delivery: str | None = None
) -> Sequence[Envelope | Rejected]:
    """The events of a body: one value is the source's to judge; of several, each is taken or becomes a dead letter.

    Raises Refusal, also where none of several can be read.
    """
    assert source.unwrap is not None  # noqa: S101 - the caller has looked
    try:
        body = bodies.parse(raw, source.max_depth)
    except Refusal:
        events = records.events(raw, source, received_at, delivery) if source.several else ()
        if all(isinstance(event, Rejected) and event.reason == records.UNDECODABLE for event in events):
            raise
        return events
    if not source.several:
        return source.unwrap(source.name, body, event_name, received_at, delivery)
    if not isinstance(body, list):
        return records.unwrapped(body, source, received_at, delivery)
    if not 0 < len(body) <= records.MOST_VALUES:
        raise Refusal(400, "invalid_event", f"a list must hold 1 to {records.MOST_VALUES} events")
    return records.events_of(body, source, received_at, delivery)
