"""Activity Sync (for Kinesis): what became of experiences, and of the messages in them, as Pendula streams it.

Format 1.0: https://help-enterprise.pendula.com/hc/en-us/articles/12862157881487; `version` and `pii` are missing in
some of its own samples. It comes at least once, without an id, and most of its events name nobody.
"""

import json
import time
from collections.abc import Mapping
from datetime import datetime
from email.utils import getaddresses
from hashlib import sha256
from typing import Any, Final

from app.source import Refusal
from app.sources import activity_sync_v0
from tasks.envelope import Envelope, Rejected, rfc3339, utc

FORMAT: Final = "activity_sync"

_MOST_EVENTS: Final = 2500
_MOST_OF_A_KIND: Final = 100
_MOST_OF_AN_ID: Final = 80
_MOST_OF_AN_ADDRESS: Final = 320
_OBJECTS: Final = ("workflowContext", "customContext", "data", "metadata")
#: What customContext calls a person, as `_spelled` has it; its keys are each flow's own choice. The first that is there
#: wins. An `id` alone is as likely an order's.
_SPELLINGS: Final = {
    "userId": ("userid",),
    "email": ("email", "emailaddress"),
    "phone": ("phone", "phonenumber", "mobile", "mobilenumber"),
}
_PHONE_DIGITS: Final = range(6, 16)  # E.164 has at most 15

Json = Mapping[str, Any]


def looks_like(event: Json) -> bool:
    """Whether an event is of this format: no other has a kind beside what its two versions have."""
    return "kind" in event and (
        bool(event.keys() & {"tenantId", "data", "workflowContext"}) or activity_sync_v0.is_v0(event)
    )


def unwrap(
    source: str, body: Any, _path_name: str | None, received_at: datetime, delivery: str | None = None
) -> list[Envelope | Rejected]:
    """One event, or a list of them → for each its envelope, or why it has none.

    Raises Refusal(400) when the body is neither an object nor a list, Refusal(413) for more than 2,500 events.
    """
    if not isinstance(body, dict | list) or body == []:
        raise Refusal(400, "invalid_event", "the body must be one JSON object, or a list of objects")
    items = body if isinstance(body, list) else [body]
    if len(items) > _MOST_EVENTS:
        raise Refusal(413, "too_many_events", f"one request carries more than {_MOST_EVENTS} events")
    return [
        _unwrapped(source, item, received_at, delivery and f"{delivery}:{index}" if index else delivery)
        for index, item in enumerate(items)
    ]


def _unwrapped(source: str, item: Any, received_at: datetime, delivery: str | None) -> Envelope | Rejected:
    if not isinstance(item, dict):
        return _rejected(source, {"value": item}, received_at, "an event is a JSON object")
    try:
        event = _as_v1(item)
        _check(event)
    except ValueError as error:
        return _rejected(source, item, received_at, str(error))
    return _envelope(source, event, None if event is item else item, received_at, delivery)


def _as_v1(event: dict[str, Any]) -> dict[str, Any]:
    """The event itself when it is of 1.0, or in that form. Raises ValueError, which names version and kind."""
    version = event.get("version")
    if version is None and not event.keys() & {"tenantId", "data"} and activity_sync_v0.is_v0(event):
        version = "0.0"
    major = str(1 if version is None else version).partition(".")[0]
    if major == "1" and not isinstance(version, bool):
        return event
    if major != "0" or isinstance(version, bool):
        raise ValueError(f"version {_told(version)} is not known, of kind {_told(event.get('kind'))}")
    try:
        return activity_sync_v0.converted(event)
    except activity_sync_v0.NotConvertible as error:
        raise ValueError(f"version 0.0, kind {_told(event.get('kind'))}: {error}") from None


def _told(value: Any) -> str:
    """A version or kind for a message: only if it is short and of plain letters, or it might be anything."""
    text = str(value)
    plain = text.isascii() and text.replace("-", "").replace(".", "").replace("_", "").isalnum()
    return text if plain and len(text) <= _MOST_OF_A_KIND else "(unreadable)"


def _check(event: Json) -> None:
    """Raises ValueError when an event of 1.0 has not its shape. Kinds that we do not know pass: there will be more."""
    kind = event.get("kind")
    if not isinstance(kind, str) or not 0 < len(kind) <= _MOST_OF_A_KIND or not kind.isprintable():
        raise ValueError(f"kind must be a text of 1 to {_MOST_OF_A_KIND} characters")
    for key in _OBJECTS:
        if event.get(key) is not None and not isinstance(event[key], dict):
            raise ValueError(f"version 1.0, kind {_told(kind)}: {key} must be an object")
    pii = event.get("pii")
    if pii is not None and not (isinstance(pii, list) and all(isinstance(key, str) for key in pii)):
        raise ValueError(f"version 1.0, kind {_told(kind)}: pii must be a list of texts")
    if not event.keys() & {"tenantId", "data", "workflowContext"}:
        raise ValueError(f"neither version 1.0 nor 0.0: kind {_told(kind)} has no tenantId, data or workflowContext")


def _rejected(source: str, event: dict[str, Any], received_at: datetime, error: str) -> Rejected:
    """What comes again is known by its content: there is no more to it than that it was kept."""
    kind = event.get("kind")
    kind = kind if isinstance(kind, str) and kind.isprintable() and kind else "unknown"
    envelope = Envelope(
        id=_hashed(source, [event]),
        source=source,
        format=FORMAT,
        type=kind[:_MOST_OF_A_KIND],
        name=kind[:_MOST_OF_A_KIND],
        subject=None,
        received_at=rfc3339(received_at),
        occurred_at=rfc3339(utc(event.get("timestamp")) or received_at),
        event=event,
    )
    return Rejected(envelope, error)


def _envelope(source: str, event: dict[str, Any], raw: Any, received_at: datetime, delivery: str | None) -> Envelope:
    occurred_at = utc(event.get("timestamp"))
    person = person_of(event)
    named = next((person[key] for key in ("userId", "email", "phone") if key in person), None)
    return Envelope(
        id=_hashed(source, _identity(event, occurred_at, delivery)),
        source=source,
        format=FORMAT,
        type=event["kind"],
        name=event["kind"],
        subject=f"{FORMAT}:{named}" if named else None,
        received_at=rfc3339(received_at),
        occurred_at=rfc3339(occurred_at or received_at),
        event=event,
        raw=raw,
        person=person or None,
        correlation=correlation_of(event) or (),
    )


def _identity(event: Json, occurred_at: datetime | None, delivery: str | None) -> list[Any]:
    """What makes it the same event when it comes again.

    Tenant, kind, time, experience and node, and all of data and metadata: there are messageId and actionId, and what
    else tells two events of one millisecond apart. Not what only describes (version, pii, names, customContext), which
    a sender may fill in otherwise when it repeats. Two clicks on one message in one millisecond are one: nothing that
    1.0 says of them differs.
    """
    context = _inner(event, "workflowContext")
    experience, node = _inner(context, "experienceContext"), _inner(context, "nodeContext")
    when = rfc3339(occurred_at) if occurred_at else delivery or time.time_ns()
    return [
        *(event.get("tenantId"), event["kind"], when),
        *(experience.get("experienceId"), node.get("nodeId"), node.get("outputName")),
        *(event.get("data") or {}, event.get("metadata") or {}),
    ]


def _hashed(source: str, content: list[Any]) -> str:
    text = json.dumps([source, *content], sort_keys=True, separators=(",", ":"))
    return f"as-{sha256(text.encode()).hexdigest()[:40]}"


# --- whom it is about ------------------------------------------------------------------------------------------------


def person_of(event: Json) -> dict[str, str]:
    """What names the person, as far as the event itself says: customContext, else whom the message is to or from.

    Never both: a flow that is about one person may write to another, and all its events carry the same customContext.
    More than one recipient name nobody. E-mail addresses in small letters, phone numbers as digits.
    """
    data = _inner(event, "data")
    found = (
        _in_context(_inner(event, "customContext")) or _addressed(data.get("recipient")) or _addressed(data.get("to"))
    )
    if not found and str(event["kind"]).startswith("inbound"):
        found = _addressed(data.get("sender"))
    return found


def _in_context(context: Json) -> dict[str, str]:
    spelled = [(_spelled(key), value) for key, value in context.items()]
    found = {}
    for name, spellings in _SPELLINGS.items():
        read = _READ[name]
        values = (read(value) for spelling in spellings for key, value in spelled if key == spelling)
        value = next(filter(None, values), None)
        if value:
            found[name] = value
    return found


def _spelled(key: str) -> str:
    """A key without what differs from house to house; `email2` is another key than `email`."""
    return "".join(key.split()).translate(_DASHES).lower()


_DASHES: Final = str.maketrans("", "", "_-")


def _addressed(value: Any) -> dict[str, str]:
    """The one address in a text or list of texts, as what it is; {} when there is none, several, or one unreadable."""
    texts = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    if not all(isinstance(text, str) and len(text) <= _MOST_OF_AN_ADDRESS for text in texts):
        return {}
    if len(texts) == 1:
        if email := _email(texts[0]):
            return {"email": email}
        if phone := _phone(texts[0]):
            return {"phone": phone}
    try:
        addresses = {_email(address) for _, address in getaddresses(texts)}
    except RecursionError:  # comments within comments
        return {}
    only = addresses.pop() if len(addresses) == 1 else None
    return {"email": only} if only else {}


def _email(value: Any) -> str | None:
    if not isinstance(value, str):
        return None
    text = value.strip().lower()
    name, _, host = text.rpartition("@")
    fits = name and "." in host.strip(".") and len(text) <= _MOST_OF_AN_ADDRESS
    return text if fits and text.isprintable() and not set(text) & set(" ,;<>()") else None


def _phone(value: Any) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value.isascii():
        return None
    plus = "+" if value.strip().startswith("+") else ""
    digits = value.strip().removeprefix("+").translate(_SEPARATORS)
    return plus + digits if digits.isdigit() and len(digits) in _PHONE_DIGITS else None


_SEPARATORS: Final = str.maketrans("", "", " ()-./")


def _id(value: Any) -> str | None:
    """An id as a text: of printable characters, not too long to be a part of a key."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value) if value.bit_length() <= _MOST_OF_AN_ID else ""
    if not isinstance(value, str) or not value.isprintable():
        return None
    return value.strip() if 0 < len(value.strip()) <= _MOST_OF_AN_ID else None


_READ: Final = {"userId": _id, "email": _email, "phone": _phone}


def correlation_of(event: Json) -> list[str]:
    """Keys that events of one person share, the most specific first."""
    context = _inner(_inner(event, "workflowContext"), "experienceContext")
    message = _id(_inner(event, "data").get("messageId")) or _id(_inner(event, "metadata").get("messageId"))
    ids = (("message", message), ("experience", _id(context.get("experienceId"))))
    tenant = _id(event.get("tenantId")) or ""
    # Its length says where the tenant ends, which may have colons of its own.
    return [f"{what}:{len(tenant)}:{tenant}:{id_}" for what, id_ in ids if id_]


def _inner(event: Json, key: str) -> Json:
    value = event.get(key)
    return value if isinstance(value, dict) else {}
