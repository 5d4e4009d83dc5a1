"""Send an event to Segment, or to whatever else takes Segment's calls.

HTTP Tracking API: https://segment.com/docs/connections/sources/catalog/libraries/server/http-api/
"""

import hashlib
from collections.abc import Mapping
from typing import Any, Final

from tasks.action import Action, Field, Fields, Request, in_utc, in_utf8, person
from tasks.errors import MappingFailed

#: Type of call → what it needs besides whose it is.
_NEEDS: Final[Mapping[str, tuple[str, ...]]] = {
    "track": ("event",),
    "identify": (),
    "page": (),
    "screen": (),
    "group": ("groupId",),
    "alias": ("previousId", "userId"),
}
#: Segment takes no larger event, and no longer id of a message.
_MOST_BYTES: Final = 32 * 1024
_MOST_ID: Final = 100


def requests(fields: Fields) -> tuple[Request, ...]:
    kind = fields["type"]
    missing = [name for name in _NEEDS[kind] if name not in fields]
    if missing:
        raise MappingFailed(f"send_to_segment: {kind} needs {', '.join(missing)}")
    person(fields, "userId", "anonymousId")
    event: dict[str, Any] = dict(fields)
    if "timestamp" in event:
        event["timestamp"] = in_utc("timestamp", event["timestamp"])
    if "messageId" in event:
        event["messageId"] = message_id(event["messageId"])
    if len(in_utf8(event)) > _MOST_BYTES:
        raise MappingFailed("send_to_segment: the event is larger than the 32 KiB that Segment takes")
    return (Request("segment", "POST", "", event),)


def message_id(text: str) -> str:
    """An id by which Segment knows the event when it comes again: itself, or a hash of one that is too long."""
    if len(text) <= _MOST_ID:
        return text
    return "router-" + hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:40]


ACTION: Final = Action(
    "send_to_segment",
    "events.segment",
    "Send an event to a source of Segment's. Events of several people go in one request while others are under way.",
    {
        "type": Field("Kind of call.", required=True, choices=tuple(_NEEDS)),
        "userId": Field("The person's id in your product."),
        "anonymousId": Field("The person's id before it is known who it is."),
        "event": Field("Name of the event; track needs it."),
        "properties": Field("What is known about the event.", "object"),
        "traits": Field("What is known about the person or group.", "object"),
        "name": Field("Name of the page or screen."),
        "category": Field("Category of the page or screen."),
        "groupId": Field("Id of the group; group needs it."),
        "previousId": Field("The person's id until now; alias needs it."),
        "context": Field("Where and how it happened.", "object"),
        "integrations": Field("Whom Segment is to send it on to.", "object"),
        "timestamp": Field("When it happened, with a zone; the event's own time if not given."),
        "messageId": Field("By which Segment knows it when it comes again; the delivery's own id if not given."),
    },
    requests,
    system="segment",
    given={"timestamp": "occurred_at", "messageId": "delivery"},
)
