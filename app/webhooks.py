"""POST /webhooks/<source>[/<event name>]: answered 2xx only once Redis, or the disk, has the event."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from app import body as bodies
from app.doors import Answer, not_taken
from app.incoming import Incoming
from app.intake import Intake
from app.source import Refusal, Source
from tasks.envelope import Rejected
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
        try:
            return self._receive(source, incoming, event_name)
        except Refusal as refusal:
            refusal.source = name
            raise

    def _receive(self, source: Source, incoming: Incoming, event_name: str) -> Answer:
        if incoming.method not in (_SIGNED_METHODS if source.signed else {"POST"}):
            raise Refusal(405, "method_not_allowed", "events are posted", {"Allow": "POST"})
        if not source.signed:
            source.verify(incoming.header, incoming.parameter)
        raw = bodies.read(incoming, source.max_body_bytes)
        if source.signed:
            source.verify_signature(incoming.header("X_SIGNATURE"), raw)
        assert source.unwrap is not None  # noqa: S101 - the caller has looked
        body = bodies.parse(raw, source.max_depth)
        events = source.unwrap(source.name, body, event_name or None, datetime.now(UTC), None)
        try:
            fresh = self._intake.take(source, events)
        except (QueueFull, QueueUnavailable) as error:
            raise not_taken(error, full=503) from None
        ids = [(event.envelope if isinstance(event, Rejected) else event).id for event in events]
        return Answer(200, {"code": "accepted" if any(fresh) else "duplicate", "ids": ids})
