"""What other teams may publish: the tasks, and the events that calls of them become.

The arguments of each task: tasks/arguments.py. Nothing of a call is lost: what is not valid becomes a dead letter with
all that came, and its error names each field.
"""

import dataclasses
import json
from collections.abc import Container, Iterator, Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any, Final

from tasks import arguments
from tasks.arguments import Arguments, Problems
from tasks.envelope import PERSON_IDS, RESERVED, TASK, Envelope, Rejected, encode, id_without_address, rfc3339, utc
from tasks.messages import Call, Unusable
from tasks.publishers import NAMELESS
from tasks.queue import PUBLISH_TASK
from tasks.typed_json import plain

#: The names of all tasks that may be published.
TASKS: Final = frozenset(arguments.SCHEMAS)
#: The format of events for the routes that name no other.
EVENT_FORMAT: Final = "published"
#: Events of one call: 1 MiB holds a third of a million of {}, and Redis serves nobody else while it takes them.
MOST_EVENTS: Final = 1000

_MOST_OF_AN_ID: Final = 200
_MOST_OF_A_SUBJECT: Final = 500
_MOST_OF_A_NUMBER: Final = 10**20
#: What names a person, the best first.
_PERSON: Final = ("userId", "email", "phone", "anonymousId", "segmentAnonymousId")
#: All that an envelope had to have when nothing in it had a default; what else stood in one was ignored.
_WHOLE: Final = frozenset(
    {"version", "id", "source", "format", "type", "name", "subject", "received_at", "occurred_at", "event"}
)
#: Behind the id of an event that was refused, with a digest of all that came.
_OF_REJECTED: Final = ":invalid-{}"
_DIGITS: Final = 12
_NO_EVENT: Final = {"": "An event is an object."}


@dataclasses.dataclass(frozen=True)
class Published:
    """What a call becomes."""

    source: str  #: the publisher's name
    events: Sequence[Envelope | Rejected]
    reply: bool = False  #: whether the publisher wants to know what became of them


@dataclasses.dataclass(frozen=True)
class _Frame:
    """What goes for all events of a call."""

    call: Call
    owner: str | None  #: whose list it came by
    now: str
    headers: Arguments  #: those of ours that are valid
    problems: Problems  #: with the others
    reserved: Container[str]  #: names that nobody may go by who does not prove it


@dataclasses.dataclass(frozen=True)
class _Event:
    """What a call says of one event."""

    given: Arguments
    problems: Problems  #: that there are with how it was given
    index: int | None = None  #: in its call; None = the only one of it
    event_id: Any = None  #: with the index behind it, the id of an event that has none of its own


def nearest(task: str) -> str | None:
    """The task of TASKS that somebody may have meant by a name that is not there."""
    return arguments.nearest(task)


def publisher_of(call: Call) -> str | None:
    """Who published it, as far as it says so; None when it does not, or not in a way that a name can be."""
    by_name, by_header = (arguments.of_headers(places)[0].get("publisher") for places in (call.kwargs, call.headers))
    return by_name or by_header


def ignored(argument: Mapping[str, Any]) -> Sequence[str]:
    """The keys of an `events.publish` argument's events that are none of ours, and so are dropped."""
    events = argument.get("events") if isinstance(argument.get("events"), list | dict) else argument
    found = [event for event in (events if isinstance(events, list) else [events]) if isinstance(event, dict)]
    return sorted({key for event in found for key in event if key in arguments.unknown(event)})


def published(call: Call, publisher: str | None, now: datetime, reserved: Container[str] = frozenset()) -> Published:
    """A call of one of TASKS → its events, in their order.

    `publisher` is whose list the message lay in; None = the list of all, where nobody may go by a name of `reserved`.
    Raises Unusable when not even a list of events can be made of it.
    """
    # Where Celery itself read the message, there may be objects of Python's in it.
    call = dataclasses.replace(call, args=plain(call.args), kwargs=plain(call.kwargs), headers=plain(call.headers))
    frame = _Frame(call, publisher, rfc3339(now), *arguments.of_headers(call.headers), reserved)
    found = list(_of_publish(call) if call.task == PUBLISH_TASK else _of_action(call))
    events = [_made(frame, each) for each in found]
    reply = frame.headers.get("reply") is True or any(each.given.get("reply") is True for each in found)
    if not events:
        return Published(publisher or publisher_of(call) or NAMELESS, [], reply)
    first = events[0]
    return Published((first.envelope if isinstance(first, Rejected) else first).source, events, reply)


def _of_action(call: Call) -> Iterator[_Event]:
    yield _Event(*arguments.by_name(call.task, call.args, call.kwargs))


def _of_publish(call: Call) -> Iterator[_Event]:
    """Events come by position or as `events`, one or a list each; other names are of one event, or of all of them."""
    args, named, problems = arguments.in_one_object(call.args, call.kwargs)
    parts = [*args, *(named.pop(name) for name in list(named) if _holds_events(name, named))]
    items = [item for part in parts for item in (part if isinstance(part, list) else [part])]
    if not items and parts and "event" not in named:
        raise Unusable("invalid", "events: the list is empty")
    if not items and not named.keys() - set(arguments.OF_THE_CALL):
        raise Unusable("invalid", "no event: events.publish takes one, several or a list, or the names of one")
    if len(items) > MOST_EVENTS:
        raise Unusable("invalid", f"one call publishes at most {MOST_EVENTS} events")
    if not named.keys() >= _WHOLE:
        problems = {**arguments.unknown(named), **problems}
    if not items:
        yield _Event(named, problems)
        return
    if len(items) == 1:
        yield _event(items[0], named, problems)
        return
    event_id = named.pop("event_id", None)
    for index, item in enumerate(items):
        yield _event(item, named, problems, index, event_id)


def _holds_events(name: str, named: Mapping[str, Any]) -> bool:
    """Whether a name does not belong to an event but holds some: any did, once, when it held whole envelopes."""
    value = named[name]
    items = value if isinstance(value, list) else [value]
    whole = bool(items) and all(isinstance(item, dict) and item.keys() >= _WHOLE for item in items)
    return name == "events" or (whole and "type" not in named)


def _event(item: Any, for_all: Arguments, problems: Problems, index: int | None = None, event_id: Any = None) -> _Event:
    if not isinstance(item, dict):
        return _Event({**for_all, "raw": item}, {**problems, **_NO_EVENT}, index, event_id)
    if item.keys() >= _WHOLE:
        item = {name: value for name, value in item.items() if name not in arguments.OF_THE_CALL}
    given, twice = arguments.joined(arguments.given(item), for_all)
    return _Event(given, {**problems, **twice}, index, event_id)


def _made(frame: _Frame, said: _Event) -> Envelope | Rejected:
    task = frame.call.task
    valid, problems = arguments.read(task, said.given)
    # Of what is no event there is nothing to say of each field.
    problems = {**({} if said.problems.items() >= _NO_EVENT.items() else problems), **frame.problems, **said.problems}
    # An action's `id` is not the event's, but somebody's.
    named = valid if task == PUBLISH_TASK else {name: valid.get(name) for name in arguments.OF_THE_CALL}
    source = _agreed(
        "publisher",
        {
            "the list that it came by": frame.owner,
            "the argument publisher": named.get("publisher"),
            "the header publisher": frame.headers.get("publisher"),
            "source": named.get("source"),
        },
        problems,
    )
    if frame.owner is None and source in frame.reserved:
        problems["publisher"] = (
            "A source, or a publisher with a list of its own, has this name; nobody else may go by it."
        )
        source = None
    values = _values_of_event(valid) if task == PUBLISH_TASK else _values_of_action(task, valid)
    values["source"] = source or NAMELESS
    id_ = _own_id(frame, said, named, problems)
    values["id"] = id_without_address(id_) if id_ else _id_of_task(frame.call.id, said.index)
    values.setdefault("received_at", frame.now)
    values.setdefault("occurred_at", values["received_at"])
    if frame.call.expires_at is not None:
        # Its publisher has given it up by then: Celery would not run the task.
        own = utc(values.get("expires_at"))
        values["expires_at"] = rfc3339(min(own or frame.call.expires_at, frame.call.expires_at))
    if not problems:
        envelope = Envelope(**values)
        if _can_be_kept(envelope):
            return envelope
        problems[""] = "Holds a number or value that JSON has not, or is nested too deeply."
    return _rejected(task, values, said.given, problems, own_id=id_ is not None)


def _rejected(task: str, values: Arguments, given: Arguments, problems: Problems, *, own_id: bool) -> Rejected:
    """What of an event is valid, with all that was given, as a dead letter."""
    kept = _plain(given)
    if task == PUBLISH_TASK:
        values["raw"] = kept
        if not _can_be_kept(Envelope(**{**values, "raw": None})):
            # Without its event nobody knows what in its name is about a person.
            values |= {"event": {}, "type": task, "name": task}
    else:
        values["event"] = kept
    if own_id:
        # The event's own id stays free: sent again, with its mistakes mended, it is no duplicate.
        digest = sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:_DIGITS]
        values["id"] = _short(values["id"], _OF_REJECTED.format(digest))
    return Rejected(Envelope(**values), arguments.listed(problems), task=task)


def _values_of_action(task: str, valid: Arguments) -> Arguments:
    action = arguments.TASK_ACTIONS[task]
    event = {name: valid[name] for name in action.fields if valid.get(name) is not None}
    values = {"format": TASK, "type": task, "name": task, "event": event, "person": _person(event)}
    subject = None
    if "objectType" in event:
        id_ = event.get("externalId") or event.get("id")
        subject = f"object:{event['objectType']}:{id_}" if id_ else None
    elif event.get("id") and "id" not in action.given:  # a person's, and no message's
        subject = f"{action.system}:{event['id']}"
    values["subject"] = (subject or _subject(event) or "")[:_MOST_OF_A_SUBJECT] or None
    return values | {name: valid[name] for name in ("occurred_at", "subject", "personal") if name in valid}


def _values_of_event(valid: Arguments) -> Arguments:
    event = valid.get("event", {})
    values = {"format": EVENT_FORMAT, "type": PUBLISH_TASK, "event": event}
    if "subject" not in valid:
        values["subject"] = _subject({**event, **(valid.get("person") or {})})
    if not valid.keys() >= _WHOLE:
        values["person"] = _person(event)
    values |= {name: value for name, value in valid.items() if name not in arguments.OF_THE_CALL}
    values.setdefault("name", values["type"])
    return values


def _people(event: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Where an event says who it is about: its own fields, and those of its `user`."""
    yield event
    if isinstance(event.get("user"), dict):
        yield event["user"]


def _names(event: Mapping[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for holder in _people(event):
        for name in _PERSON:
            value = _as_text(holder.get(name))
            if name not in found and 0 < len(value) <= _MOST_OF_A_SUBJECT:
                found[name] = value
    return found


def _as_text(value: Any) -> str:
    """An id as text: many a product numbers its people. "" for what names nobody."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < _MOST_OF_A_NUMBER:
        return str(value)
    return value if isinstance(value, str) else ""


def _person(event: Mapping[str, Any]) -> dict[str, str] | None:
    return {name: value for name, value in _names(event).items() if name in PERSON_IDS} or None


def _subject(event: Mapping[str, Any]) -> str | None:
    """The same for all tasks and publishers that name a person in the same way, so their events stay in order."""
    names = _names(event)
    name = next((name for name in _PERSON if name in names), None)
    if name is None:
        return None
    return f"person:{names[name].casefold() if name == 'email' else names[name]}"[:_MOST_OF_A_SUBJECT]


def _own_id(frame: _Frame, said: _Event, named: Arguments, problems: Problems) -> str | None:
    """The id that the publisher gave an event; None = none. Adds to the problems what is wrong with it."""
    header = frame.headers.get("event_id")
    own = {"id": named.get("id"), "the argument event_id": named.get("event_id")}
    if said.index is None:
        return _agreed("event_id", {**own, "the header event_id": header}, problems)
    for_all, wrong = arguments.id_of_all(said.event_id)
    problems.update(wrong)
    for_all = _agreed("event_id", {"the argument event_id": for_all, "the header event_id": header}, problems)
    return _agreed("event_id", own, problems) or (for_all and _short(for_all, f":{said.index}"))


def _agreed(name: str, places: Mapping[str, str | None], problems: Problems) -> str | None:
    """What the first of these places says; all others that say something must say the same."""
    given = {place: value for place, value in places.items() if value is not None}
    if len(set(given.values())) > 1:
        first, *others = given
        other = next(place for place in others if given[place] != given[first])
        problems[name] = f"{first} and {other} differ."
    return next(iter(given.values()), None)


def _id_of_task(id_: str, index: int | None) -> str:
    """A task's id, which may be any text, as the id of an event."""
    text = f"task-{id_}" if id_.startswith(RESERVED) else id_
    text = text.encode("utf-8", "backslashreplace").decode()
    return _short(text if text.isprintable() else _hashed(text), "" if index is None else f":{index}")


def rejected_ids(id_: str) -> str:
    """The id that a publisher gave an event → that of its dead letters `invalid`, up to what came."""
    return _short(id_, _OF_REJECTED.format("?" * _DIGITS)).removesuffix("?" * _DIGITS)


def _hashed(id_: str) -> str:
    return f"id-{sha256(id_.encode()).hexdigest()[:40]}"


def _short(id_: str, behind: str) -> str:
    if len(id_) + len(behind) > _MOST_OF_AN_ID:
        id_ = _hashed(id_)
    return id_without_address(id_) + behind


def _can_be_kept(envelope: Envelope) -> bool:
    try:
        encode(envelope)
    except (ValueError, TypeError, RecursionError):
        return False
    return True


def _plain(value: Any) -> Any:
    """A value as JSON has it: numbers that it has not are texts."""
    try:
        return json.loads(json.dumps(value), parse_constant=str)
    except (ValueError, TypeError, RecursionError):
        return {"value": repr(type(value))}
