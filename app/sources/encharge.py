"""Encharge: the Activity Stream, and the REST API's webhooks.

Formats: https://docs.encharge.io/advanced/activity-stream (one event a request), and /event-subscriptions of the REST
API, whose body names neither event nor time, so that each subscription needs an address of its own.
"""

import json
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final

from app.source import Refusal
from tasks.envelope import Envelope, rfc3339

FORMAT: Final = "encharge"

#: Event names that carry a value: what stands before it. The value may contain dashes and colons of its own.
PREFIXES: Final = (
    "added-tag-",
    "removed-tag-",
    "performed-step:",
    "errored-step:",
    "newObject-",
    "updatedObject-",
    "deletedObject-",
    "newAssociation-",
    "deletedAssociation-",
    "native-form-submitted-",
)
#: And those that carry none.
NAMES: Final = frozenset({
    "newUser", "updatedUser", "unsubscribedUser", "page-visited", "form-submitted", "sms-sent", "sms-failed",
    "email-delivered", "email-open", "email-click", "email-reply", "email-blocked", "email-bounce", "email-dropped",
    "email-spamreport",
})  # fmt: skip
_MOST_OF_A_TYPE: Final = 100
_MOST_OF_A_NAME: Final = 500
#: Each person of a webhook becomes an event with a copy of the payload.
_MOST_PEOPLE: Final = 100
#: Of those copies together.
_MOST_COPIED: Final = 4 * 1024 * 1024


def event_type(name: str) -> str:
    """The kind of an event out of its name: "added-tag-my-vip" → "added-tag".

    Unknown names are their own kind.
    """
    if name in NAMES:
        return name
    prefix = next((prefix for prefix in PREFIXES if name.startswith(prefix)), None)
    return prefix.rstrip("-:") if prefix else name[:_MOST_OF_A_TYPE]


def unwrap(
    source: str, body: Any, path_name: str | None, received_at: datetime, delivery: str | None = None
) -> Sequence[Envelope]:
    """An Activity Stream event, or a REST webhook at /webhooks/<source>/<event-name> → envelopes.

    Raises Refusal(400) when it is neither.
    """
    if not isinstance(body, dict):
        raise Refusal(400, "invalid_event", "the body must be one JSON object")
    if "endUserData" in body or "eventPayload" in body:
        return _webhook(source, body, path_name, received_at, delivery)
    if "event" in body:
        return [stream_event(source, body, received_at, delivery)]
    raise Refusal(
        400,
        "invalid_event",
        "neither an Activity Stream event (key event) nor a webhook (endUserData, eventPayload)",
    )


def stream_event(source: str, event: dict[str, Any], received_at: datetime, delivery: str | None = None) -> Envelope:
    """One Activity Stream event → its envelope. Raises Refusal(400)."""
    name = event["event"]
    if not isinstance(name, str) or not 0 < len(name) <= _MOST_OF_A_NAME:
        raise Refusal(400, "invalid_event", f"event must be a text of 1 to {_MOST_OF_A_NAME} characters")
    user = _object(event, "user")
    _object(event, "properties")
    occurred_at = _milliseconds(event.get("timestamp"))
    # All of it: two events that differ anywhere are two. Without a time, the same content later is another event.
    content = [event] if occurred_at else [event, delivery or time.time_ns()]
    return _envelope(source, name, event, _subject(user), received_at, occurred_at, content, None)


def _webhook(
    source: str, body: dict[str, Any], name: str | None, received_at: datetime, delivery: str | None
) -> list[Envelope]:
    if not name:
        text = "a webhook's body names no event: subscribe it at /webhooks/<source>/<event-name>"
        raise Refusal(400, "event_name_missing", text)
    if len(name) > _MOST_OF_A_NAME:
        raise Refusal(400, "invalid_event", f"the event name is longer than {_MOST_OF_A_NAME} characters")
    people = body.get("endUserData") or [None]
    payload = body.get("eventPayload")
    payload = {} if payload is None else payload
    if not isinstance(people, list) or not isinstance(payload, dict):
        raise Refusal(400, "invalid_event", "endUserData must be a list, eventPayload an object")
    if len(people) > _MOST_PEOPLE:
        raise Refusal(413, "too_many_people", f"one webhook names more than {_MOST_PEOPLE} people")
    if len(people) > 1 and len(json.dumps(body)) * len(people) > _MOST_COPIED:
        raise Refusal(413, "too_large", "too large a payload for so many people")
    # Everything that `event` has no place for.
    rest = {key: value for key, value in body.items() if key not in {"endUserData", "eventPayload"}} or None
    envelopes = []
    for user in people:
        if user is not None and not isinstance(user, dict):
            raise Refusal(400, "invalid_event", "endUserData must be a list of objects")
        event: dict[str, Any] = {"event": name, "properties": payload}
        if user is not None:
            event["user"] = user
        event["type"] = event_type(name)
        # The body has no time of its own: the same content later is another event; losing one is worse than a double.
        content = [name, user, payload, delivery or time.time_ns()]
        envelopes.append(_envelope(source, name, event, _subject(user or {}), received_at, None, content, rest))
    return envelopes


def _envelope(
    source: str,
    name: str,
    event: dict[str, Any],
    subject: str | None,
    received_at: datetime,
    occurred_at: datetime | None,
    content: list[Any],
    raw: Any,
) -> Envelope:
    # The sender gives no id: the same content is the same event.
    digest = sha256(json.dumps([source, *content], sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    return Envelope(
        id=f"enc-{digest[:40]}",
        source=source,
        format=FORMAT,
        type=event_type(name),
        name=name,
        subject=subject,
        received_at=rfc3339(received_at),
        occurred_at=rfc3339(occurred_at or received_at),
        event=event,
        raw=raw,
        person=_person(event.get("user")),
    )


def _object(event: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = event.get(key)
    if value is not None and not isinstance(value, dict):
        raise Refusal(400, "invalid_event", f"{key} must be an object")
    return value or {}


def _subject(user: Mapping[str, Any]) -> str | None:
    """`id` is Encharge's own, in every event of a person; the e-mail address may change."""
    value = user.get("id") or user.get("email")
    return f"encharge:{value}"[:_MOST_OF_A_NAME] if value else None


def _person(user: Any) -> dict[str, str] | None:
    """What others know the person by; `id` is Encharge's own."""
    if not isinstance(user, dict):
        return None
    named = ((key, user.get(key)) for key in ("email", "userId"))
    return {key: value for key, value in named if isinstance(value, str) and 0 < len(value) <= _MOST_OF_A_NAME} or None


def _milliseconds(value: Any) -> datetime | None:
    """Unix time in milliseconds; anything else is kept in the event and not understood."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return datetime.fromtimestamp(value / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return None
