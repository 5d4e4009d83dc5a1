"""ActivatePro (formerly CrossEngage): events as its API and its event feeds have them.

Formats: https://activatepro.spotler.help (Outbound Events, Data Management) and https://docs.crossengage.io. Of one
user, {"id", "events": [{"event", "timestamp", "properties"}]}; or flat, {"id", "event", "timestamp", "channel", …}, one
or a list of them. The user is named by an id, or by an e-mail address and, where there are several, a business unit.

Events are kept in one form, the API's with one event: {"id" | "email" (, "businessUnit"), "event", "timestamp",
"properties"}, in one spelling; what came in another form stays beside it, in `raw`.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any, Final

from app.source import Refusal
from tasks.envelope import Envelope, Rejected, rfc3339, utc

FORMAT: Final = "activatepro"
#: What is wrong with a field, in the words of ActivatePro's answers.
MISSING: Final = "NOT_NULL"
MALFORMED: Final = "WRONG_FORMAT"

#: Most events that the API takes in a request.
MOST_OF_ONE_USER: Final = 50
#: Most events of a request elsewhere.
MOST_EVENTS: Final = 2500

_IDS: Final = ("id", "userId", "User_id")
_USER: Final = (*_IDS, "email", "businessUnit")
_OWN_PLACE: Final = frozenset({"event", "timestamp", "properties", "email", "businessUnit"})
#: Older pages of ActivatePro → newer ones.
_SPELLINGS: Final = {"campaign_id": "campaignId", "message_id": "messageId"}
#: The kind of an event is its name, as names are of event classes that are declared beforehand.
_MOST_OF_A_TYPE: Final = 100
_MOST_OF_A_TEXT: Final = 500
#: What a request says for all its events, times the events: each carries a copy of it.
_MOST_COPIED: Final = 4 * 1024 * 1024

Json = dict[str, Any]


def unwrap(
    source: str, body: Any, _path_name: str | None, received_at: datetime, delivery: str | None = None
) -> Sequence[Envelope | Rejected]:
    """Any of the forms above, or a list of them → one for each event; what is no event is rejected on its own.

    Raises Refusal: 400 when the body is neither object nor list, 413 when it has too many events.
    """
    items = body if isinstance(body, list) else [body]
    if not items or not isinstance(body, list | dict):
        raise Refusal(400, "invalid_event", "the body must be one JSON object, or a list of objects")
    rows = [row for item in items for row in rows_of(item)]
    if len(rows) > MOST_EVENTS:
        raise Refusal(413, "too_many_events", f"one request carries more than {MOST_EVENTS} events")
    return [
        unwrap_row(source, row, received_at, f"{delivery}:{number}" if delivery else None)
        for number, row in enumerate(rows)
    ]


def rows_of(item: Any) -> list[Any]:
    """An object with the events of one user → an object for each event, the user in all of them; others as they are.

    Raises Refusal(413) when what they share is too much for so many.
    """
    events = item.get("events") if isinstance(item, dict) else None
    if not isinstance(events, list) or not events or "event" in item:
        return [item]
    shared = {key: value for key, value in item.items() if key != "events"}
    if len(events) > 1 and len(json.dumps(shared)) * len(events) > _MOST_COPIED:
        raise Refusal(413, "too_large", "too much is said for so many events")
    user = {key: shared[key] for key in _USER if _given(shared, key)}
    return [{**shared, **_of(user, event), **user} if isinstance(event, dict) else event for event in events]


def _of(user: Json, event: Json) -> Json:
    """An event as one of its user's: when they are named, what is an id in it is its own, and one of its properties."""
    if not user.keys() - {"businessUnit"}:
        return event
    ids = {key: event[key] for key in _IDS if _given(event, key)}
    own = {key: value for key, value in ids.items() if _text(value) != _text(_id(user))}
    properties = event.get("properties") or {}
    if not isinstance(properties, dict):
        return event
    rest = {key: value for key, value in event.items() if key not in ids}
    return {**rest, "properties": {**own, **properties}} if own else rest


def unwrap_row(source: str, row: Any, received_at: datetime, delivery: str | None = None) -> Envelope | Rejected:
    """One event with its user → its envelope. `delivery` is the id of an event without a time, where it has one."""
    if not isinstance(row, dict):
        return _rejected(source, {"item": row}, received_at, f"event:{MALFORMED}")
    code = next((code for code, wrong in _CHECKS if wrong(row)), None)
    return _rejected(source, row, received_at, code) if code else _envelope(source, row, received_at, delivery)


def _envelope(source: str, row: Json, received_at: datetime, delivery: str | None) -> Envelope:
    id_, email = _text(_id(row)), row.get("email") or None
    name, said_at = row["event"], row.get("timestamp")
    occurred_at = utc(said_at) if said_at else None
    event: Json = {"id": id_} if id_ else {}
    event |= {key: row[key] for key in ("email", "businessUnit") if _given(row, key)}
    event["event"] = name
    if said_at:
        event["timestamp"] = said_at
    event["properties"] = _properties(row)
    # There is no id. Two events of a user at one moment are the same when they say the same; ActivatePro's own pages
    # name fewer keys, but a feed has several products of one order at one time. Without a time, the same content later
    # is another event: losing one is worse than a double.
    user = id_ or [email, _text(row.get("businessUnit"))]
    content = [source, user, name, event["properties"], occurred_at.isoformat() if occurred_at else _once(delivery)]
    digest = sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    return Envelope(
        id=f"ap-{digest[:40]}",
        source=source,
        format=FORMAT,
        type=name[:_MOST_OF_A_TYPE],
        name=name,
        subject=f"activatepro:{id_ or email}"[:_MOST_OF_A_TEXT],
        received_at=rfc3339(received_at),
        occurred_at=rfc3339(occurred_at or received_at),
        event=event,
        raw=None if event == row else row,
        person={key: value for key, value in (("userId", id_), ("email", email)) if value},
    )


def _once(delivery: str | None) -> Any:
    return delivery or time.time_ns()


def _properties(row: Json) -> Json:
    """What is said of an event, in one spelling: its properties, and what stands beside them."""
    own = {key for key in _IDS if not _given(row, key)} | {_id_key(row)} | _OWN_PLACE
    beside = {key: value for key, value in row.items() if key not in own}
    properties = {**beside, **(row.get("properties") or {})}
    return {
        new if (new := _SPELLINGS.get(key, key)) == key or new not in properties else key: value
        for key, value in properties.items()
    }


def _given(row: Mapping[str, Any], key: str) -> bool:
    return row.get(key) is not None and row[key] != ""


def _id_key(row: Mapping[str, Any]) -> str | None:
    return next((key for key in _IDS if _given(row, key)), None)


def _id(row: Json) -> Any:
    """The user's id, as it is; the tables of ActivatePro's pages count it among the properties."""
    if key := _id_key(row):
        return row[key]
    properties = row.get("properties")
    if isinstance(properties, dict) and not _given(row, "email"):
        return next((properties[key] for key in ("userId", "User_id") if _given(properties, key)), None)
    return None


def _text(value: Any) -> str:
    """An id, which may be a number, as text."""
    return "" if value is None else str(value)


def _no_id(value: Any) -> bool:
    """Neither text nor whole number, or too long for an id."""
    return isinstance(value, bool) or not isinstance(value, str | int) or len(str(value)) > _MOST_OF_A_TEXT


def _no_address(value: Any) -> bool:
    return not isinstance(value, str) or len(value) > _MOST_OF_A_TEXT or "@" not in value


def _no_time(value: Any) -> bool:
    return utc(value) is None


#: What is wrong, as the field and the type of mistake in ActivatePro's answers → whether it is; looked for in order.
_CHECKS: Final[tuple[tuple[str, Callable[[Json], bool]], ...]] = (
    (f"event:{MISSING}", lambda row: not _given(row, "event")),
    (f"event:{MALFORMED}", lambda row: not isinstance(row["event"], str) or len(row["event"]) > _MOST_OF_A_TEXT),
    (f"properties:{MALFORMED}", lambda row: not isinstance(row.get("properties") or {}, dict)),
    (f"id:{MISSING}", lambda row: _id(row) is None and not _given(row, "email")),
    (f"id:{MALFORMED}", lambda row: _id(row) is not None and _no_id(_id(row))),
    (f"email:{MALFORMED}", lambda row: _given(row, "email") and _no_address(row["email"])),
    (f"businessUnit:{MALFORMED}", lambda row: _given(row, "businessUnit") and _no_id(row["businessUnit"])),
    (f"timestamp:{MALFORMED}", lambda row: _given(row, "timestamp") and _no_time(row["timestamp"])),
)
_MEANINGS: Final = {MISSING: "is missing", MALFORMED: "is not what it should be"}


def _rejected(source: str, event: Json, received_at: datetime, code: str) -> Rejected:
    """An event that is none, with what ActivatePro would answer for it."""
    field, _, mistake = code.partition(":")
    said = event.get("event")
    name = said[:_MOST_OF_A_TEXT] if isinstance(said, str) and said else "unknown"
    content = json.dumps([source, event], sort_keys=True, separators=(",", ":")).encode()
    envelope = Envelope(
        id=f"ap-{sha256(content).hexdigest()[:40]}",
        source=source,
        format=FORMAT,
        type=name[:_MOST_OF_A_TYPE],
        name=name,
        subject=None,
        received_at=rfc3339(received_at),
        occurred_at=rfc3339(received_at),
        event=event,
    )
    return Rejected(envelope, f"{field} {_MEANINGS[mistake]}: ActivatePro answers {mistake}", code=code)
