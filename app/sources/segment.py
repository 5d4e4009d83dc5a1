"""Segment: the calls of its HTTP Tracking API, as its client libraries make them, and its Webhooks destination.

Formats and rules: https://segment.com/docs/connections/sources/catalog/libraries/server/http-api/ and
https://segment.com/docs/connections/spec/common/. An event that is invalid by its content is answered like any other
and kept as a dead letter, with the code by which Segment's own interface names the discard.
"""

import dataclasses
import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any, Final

from app.source import Refusal
from app.sources import encharge
from tasks.envelope import RESERVED, Envelope, Rejected, id_without_address, rfc3339, utc

FORMAT: Final = "segment"

#: Last part of the path → type of the event; the short forms are what analytics.js posts to.
CALLS: Final[Mapping[str, str]] = {
    **{name: name for name in ("track", "identify", "page", "screen", "group", "alias")},
    "t": "track",
    "i": "identify",
    "p": "page",
    "s": "screen",
    "g": "group",
    "a": "alias",
}
BATCHES: Final = frozenset({"batch", "import", "b"})
TYPES: Final = frozenset(CALLS.values())

MOST_OF_AN_EVENT: Final = 32 * 1024
MOST_EVENTS: Final = 2500
#: What a batch says for all its items, times the items: each event carries a copy of it.
MOST_COPIED: Final = 4 * 1024 * 1024
_MOST_OF_A_MESSAGE_ID: Final = 100
_MOST_OF_A_TEXT: Final = 500

Json = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Call:
    """What all events of one request share."""

    source: str
    received_at: datetime
    ip: str = ""
    sent_at: Any = None
    context: Any = None
    integrations: Any = None


def unwrap_event(call: Call, type_: str, event: Json) -> Envelope | Rejected:
    """One event of a request → its envelope; `type_` is what the path says, or the item itself in a batch."""
    if _is_activity_stream(event):
        return encharge.stream_event(call.source, event, call.received_at)
    normal = _normal(call, type_, event)
    code = next((code for code, wrong in _CHECKS if wrong(normal)), None)
    envelope = _envelope(call, normal)
    return _discarded(envelope, code) if code else envelope


def unwrap_batch(call: Call, items: Sequence[Any]) -> list[Envelope | Rejected]:
    """The items of a batch. What is no object, or has no type, is invalid on its own; the others go on.

    A batch beyond 2,500 events becomes one dead letter that says how many it had, as Segment rejects it whole.
    """
    if len(items) > MOST_EVENTS:
        return [_rejected(call, {"events": len(items)}, "too_many_events")]
    if (call.context or call.integrations) and _shared_size(call) * len(items) > MOST_COPIED:
        alone = dataclasses.replace(call, context=None, integrations=None)
        return [_rejected(alone, {"events": len(items)}, "payload_too_large")]
    return [_item(call, item) for item in items] or [_rejected(call, {}, "empty_batch")]


def unwrap_posted(
    source: str, body: Any, call_name: str | None, received_at: datetime, _delivery: str | None = None
) -> list[Envelope | Rejected]:
    """The body of one call, for those who look at events without receiving them; `call_name` as in the path.

    Raises Refusal(400) when it is no call at all.
    """
    if not isinstance(body, dict):
        raise Refusal(400, "bad_request", "the body must be a JSON object")
    if isinstance(body.get("batch"), list):
        call = Call(source, received_at, "", body.get("sentAt"), body.get("context"), body.get("integrations"))
        return unwrap_batch(call, body["batch"])
    type_ = CALLS.get(call_name or "") or str(body.get("type") or "")
    return [unwrap_event(Call(source, received_at, "", body.get("sentAt")), type_, body)]


def unwrap_webhook(
    source: str, body: Any, _path_name: str | None, received_at: datetime, delivery: str | None = None
) -> list[Envelope]:
    """What Segment's Webhooks, Kinesis or Firehose destination sends: events as its mapping made them, one or a list.

    Times are Segment's already. Raises Refusal(400) when the body is neither.
    """
    items = body if isinstance(body, list) else [body]
    if not items or not all(isinstance(item, dict) for item in items):
        raise Refusal(400, "invalid_event", "the body must be one JSON object, or a list of objects")
    if len(items) > MOST_EVENTS:
        raise Refusal(413, "too_many_events", f"one request carries more than {MOST_EVENTS} events")
    call = Call(source, received_at)
    return [_envelope(call, _forwarded(item, received_at, delivery)) for item in items]


def corrected(timestamp: datetime, sent_at: datetime | None, received_at: datetime) -> datetime:
    """The event's time on our clock: receivedAt - (sentAt - timestamp); without sentAt as the client says."""
    return timestamp if sent_at is None else received_at - (sent_at - timestamp)


def _shared_size(call: Call) -> int:
    return len(json.dumps([call.context, call.integrations]))


def _item(call: Call, item: Any) -> Envelope | Rejected:
    if not isinstance(item, dict):
        return _rejected(call, {"item": item}, "bad_request")
    type_ = item.get("type")
    return unwrap_event(call, type_ if isinstance(type_, str) else "", item)


def _discarded(envelope: Envelope, code: str) -> Rejected:
    """An event that is invalid by its content, with the code by which Segment's own interface names the discard."""
    return Rejected(envelope, f"Segment discards such an event as {code}", code=code)


def _rejected(call: Call, event: Json, code: str) -> Rejected:
    return _discarded(_envelope(call, _normal(call, "batch", event)), code)


def _is_activity_stream(event: Json) -> bool:
    """Encharge can deliver its Activity Stream to a Segment source: its own envelope, times in milliseconds."""
    return isinstance(event.get("timestamp"), int) and isinstance(event.get("user"), dict) and bool(event.get("event"))


def _normal(call: Call, type_: str, event: Json) -> Json:
    """The event as Segment hands it to destinations: common fields filled in, the client's clock corrected."""
    normal = {key: value for key, value in event.items() if key != "writeKey"}
    context = _merged(call.context, event.get("context"))
    if context.get("direct") is True and not context.get("ip"):
        context["ip"] = call.ip
    sent_at = utc(event.get("sentAt") or call.sent_at)
    said = utc(event.get("timestamp"))
    received_at = rfc3339(call.received_at)
    try:
        timestamp = rfc3339(corrected(said or sent_at or call.received_at, sent_at, call.received_at))
    except OverflowError:
        timestamp = received_at
    normal |= {
        "type": type_,
        "context": context,
        "integrations": _merged(call.integrations, event.get("integrations")),
        "messageId": _message_id(event) or f"router-{uuid.uuid4()}",
        "receivedAt": received_at,
        "timestamp": timestamp,
    }
    if sent_at is not None:
        normal["sentAt"] = rfc3339(sent_at)
    if said is not None:
        normal["originalTimestamp"] = event["timestamp"]
    return normal


def _forwarded(event: Json, received_at: datetime, delivery: str | None) -> Json:
    """An event that Segment has normalised already, and a mapping may have changed: only what we need is filled in."""
    said = utc(event.get("timestamp"))
    # Without an id the same content is the same event: Segment repeats a request that we answer too late. But where a
    # stream has named its record, and the event has no time either, the same content in another record is another.
    named = delivery if said is None else None
    content = json.dumps([named, event] if named else event, sort_keys=True, separators=(",", ":")).encode()
    return {
        **event,
        "type": event["type"] if isinstance(event.get("type"), str) and event["type"] else "webhook",
        "messageId": _message_id(event) or f"hook-{sha256(content).hexdigest()[:40]}",
        "timestamp": rfc3339(said or received_at),
    }


def _message_id(event: Json) -> str | None:
    value = event.get("messageId")
    if not isinstance(value, str) or not 0 < len(value) <= _MOST_OF_A_MESSAGE_ID or value.startswith(RESERVED):
        return None
    try:
        value.encode()
    except UnicodeEncodeError:  # what UTF-8 cannot carry must still be another id than the next such
        return f"id-{sha256(value.encode('utf-8', 'surrogatepass')).hexdigest()[:40]}"
    return value


def _merged(outer: Any, inner: Any) -> Json:
    """What a batch says for all its items, under what the item says itself."""
    return {**(outer if isinstance(outer, dict) else {}), **(inner if isinstance(inner, dict) else {})}


def _no_text(event: Json, key: str) -> bool:
    """Given, but not as a text of one character or more."""
    return event.get(key) is not None and not (isinstance(event[key], str) and event[key])


def _no_object(event: Json, key: str) -> bool:
    return event.get(key) is not None and not isinstance(event[key], dict)


#: Discard code → whether it applies, in the order in which they are looked for.
_CHECKS: Final[tuple[tuple[str, Callable[[Json], bool]], ...]] = (
    ("bad_request", lambda event: event["type"] not in TYPES),
    ("payload_too_large", lambda event: len(json.dumps(event)) > MOST_OF_AN_EVENT),
    ("id_not_string", lambda event: _no_text(event, "userId") or _no_text(event, "anonymousId")),
    ("no_user_anon_id", lambda event: event.get("userId") is None and event.get("anonymousId") is None),
    ("event_not_defined", lambda event: event["type"] == "track" and event.get("event") is None),
    ("event_not_string", lambda event: event["type"] == "track" and _no_text(event, "event")),
    ("id_required", lambda event: event["type"] == "group" and not event.get("groupId")),
    ("id_required", lambda event: event["type"] == "alias" and not (event.get("previousId") and event.get("userId"))),
    ("properties_not_object", lambda event: _no_object(event, "properties")),
    ("traits_not_object", lambda event: _no_object(event, "traits")),
    ("name_not_string", lambda event: event["type"] in {"page", "screen"} and _name_is_no_text(event, "name")),
    ("category_not_string", lambda event: event["type"] in {"page", "screen"} and _name_is_no_text(event, "category")),
)


def _name_is_no_text(event: Json, key: str) -> bool:
    return event.get(key) is not None and not isinstance(event[key], str)


def _envelope(call: Call, event: Json) -> Envelope:
    type_ = event["type"][:100] or "unknown"
    name = event.get("event") if type_ == "track" else None
    person = event.get("userId") or event.get("anonymousId")
    return Envelope(
        id=id_without_address(event["messageId"]),
        source=call.source,
        format=FORMAT,
        type=type_,
        name=name[:_MOST_OF_A_TEXT] if isinstance(name, str) and name else type_,
        subject=f"segment:{person}"[:_MOST_OF_A_TEXT] if isinstance(person, str) and person else None,
        received_at=rfc3339(call.received_at),
        occurred_at=event["timestamp"],
        event=event,
        person=_person(event),
    )


def _person(event: Json) -> dict[str, str] | None:
    """The user's id, and the address among the traits that come with the event; properties may be of anybody."""
    traits, context = event.get("traits"), event.get("context")
    inner = context.get("traits") if isinstance(context, dict) else None
    email = next((each["email"] for each in (traits, inner) if isinstance(each, dict) and each.get("email")), None)
    named = {"userId": event.get("userId"), "email": email}
    return {
        key: value for key, value in named.items() if isinstance(value, str) and 0 < len(value) <= _MOST_OF_A_TEXT
    } or None
