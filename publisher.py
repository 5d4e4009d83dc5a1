"""Publishes events and tasks to the event router. One file to copy; it needs Celery and nothing else.

    publisher = Publisher("redis://billing:…@redis:6379/0", "billing")
    publisher.tag(email="someone@example.com", tag="customer", event_id="invoice-4711")
    publisher.publish({"total": 12.5}, type="invoice-paid", person={"userId": "17"}, countdown=60)

Arguments are checked here, with a ValueError that names the field; the router checks them again. What may be published,
and what becomes of it: docs/publishing.md of the router.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, time, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict, Union
from uuid import UUID

from celery import Celery
from celery.result import AsyncResult

if TYPE_CHECKING:
    from typing import Unpack  # typing_extensions before Python 3.11

QUEUE: Final = "events"
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


class Options(TypedDict, total=False):
    """What every method takes beside its own arguments."""

    event_id: str
    """Your id of the event: published again within the router's dedupe window, it is a duplicate."""
    occurred_at: Union[datetime, str]
    """When it happened, with a zone; now if not given."""
    subject: str | None
    """What has the same subject stays in order; made of the person if not given, None = no order."""
    personal: Sequence[str]
    """Keys of your own that are about a person: the router shows their values to nobody."""
    reply: bool
    """Whether the router writes what became of the event as the task's result: `.get()` waits for it."""
    countdown: float
    """Seconds to wait before it is worked on."""
    eta: datetime
    """When it is to be worked on, at the earliest; with a zone."""
    expires: Union[datetime, float]
    """When, with a zone, or in how many seconds, it is to be given up if it has not begun."""
    priority: int
    """0, which is read first, to 9."""
    task_id: str
    """Id of the task; a new one if not given."""


_OF_CELERY: Final = ("countdown", "eta", "expires", "priority", "task_id")
_PRIORITIES: Final = range(10)
#: Of a message, whose body is in base64; and of values within values.
_MOST_BYTES: Final = 1024 * 1024
_MOST_DEPTH: Final = 200
_PLAIN_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


def _json(place: str, value: Any, depth: int = 0) -> Any:
    """A value as JSON has it: times, decimals and UUIDs are texts. Raises ValueError, which names the place."""
    if depth > _MOST_DEPTH:
        raise ValueError(f"{place}: is nested too deeply")
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise ValueError(f"{place}: has a key that is no text")
        return {key: _json(_below(place, key), item, depth + 1) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray, memoryview)):
        return [_json(f"{place}[{index}]", item, depth + 1) for index, item in enumerate(value)]
    return _scalar(place, value)


def _scalar(place: str, value: Any) -> Any:
    if isinstance(value, datetime):
        return _utc(place, value)
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, (Decimal, UUID)):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{place}: must be a finite number")
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    raise ValueError(f"{place}: holds something that JSON has no word for ({type(value).__name__})")


def _below(place: str, key: str) -> str:
    """Where a key of an object is; a key that is no plain name may be what must not be told."""
    key = key if _PLAIN_NAME.fullmatch(key) else "…"
    return f"{place}.{key}" if place else key


def _utc(place: str, moment: Any) -> str:
    """A time with a zone → RFC 3339 in UTC. One without is refused: it may be anybody's clock."""
    try:
        # Before 3.11 Python did not know the Z.
        found = datetime.fromisoformat(re.sub("[zZ]$", "+00:00", moment)) if isinstance(moment, str) else moment
    except ValueError:
        found = None
    if not isinstance(found, datetime):
        raise ValueError(f"{place}: must be a time in ISO 8601")  # noqa: TRY004 - always ValueError
    if found.tzinfo is None:
        raise ValueError(f"{place}: must have a zone")
    return found.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


_KINDS: Final[dict[str, tuple[tuple[type, ...], str]]] = {
    "string": ((str,), "a text"),
    "object": ((dict,), "a mapping"),
    "boolean": ((bool,), "True or False"),
    "array": ((list,), "a list"),
    "number": ((int, float), "a number"),
    "integer": ((int,), "a whole number"),
    "null": ((type(None),), "None"),
}


def _is(value: Any, kind: str) -> bool:
    return isinstance(value, _KINDS[kind][0]) and (kind == "boolean" or not isinstance(value, bool))


def _wrong(schema: Mapping[str, Any], value: Any, place: str = "") -> Iterator[str]:
    """What is wrong with a value by the router's JSON Schema, as far as one is used there; never the value itself."""
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(_is(value, kind) for kind in kinds):
        yield f"{place}: must be {' or '.join(_KINDS[kind][1] for kind in kinds if kind != 'null')}"
    elif value not in schema.get("enum", [value]) or value != schema.get("const", value):
        yield f"{place}: must be {' or '.join(str(each) for each in schema.get('enum', ()) if each is not None)}"
    elif isinstance(value, str):
        yield from _wrong_text(schema, value, place)
    elif isinstance(value, list):
        if len(value) > schema.get("maxItems", len(value)):
            yield f"{place}: must have at most {schema['maxItems']} items"
        for index, item in enumerate(value):
            yield from _wrong(schema.get("items", {}), item, f"{place}[{index}]")
    elif isinstance(value, dict):
        yield from _wrong_object(schema, value, place)


def _wrong_text(schema: Mapping[str, Any], value: str, place: str) -> Iterator[str]:
    least, most = schema.get("minLength", 0), schema.get("maxLength")
    if len(value) < least or (most is not None and len(value) > most):
        yield f"{place}: must be a text of {least} {f'to {most}' if most else 'or more'} characters"
    elif "pattern" in schema and not re.search(schema["pattern"], value):
        yield f"{place}: {_PATTERNS[schema['pattern']]}"
    elif schema.get("format") == "date-time":
        try:
            _utc(place, value)
        except ValueError as error:
            yield str(error)


def _wrong_object(schema: Mapping[str, Any], value: dict[str, Any], place: str) -> Iterator[str]:
    known = schema.get("properties", {})
    names = schema.get("propertyNames", {}).get("enum", value)
    before = f"{place}: " if place else ""
    if len(value) < schema.get("minProperties", 0):
        yield f"{before}must not be empty"
    yield from (f"{_below(place, name)}: is missing" for name in schema.get("required", ()) if name not in value)
    for name, item in value.items():
        if name not in names:
            yield f"{_below(place, name)}: is no key of it; there are: {', '.join(names)}"
        else:
            yield from _wrong(known.get(name, schema.get("additionalProperties", {})), item, _below(place, name))
    ways = schema.get("anyOf", ())
    if ways and all(any(_wrong(way, value)) for way in ways):
        yield f"{before}needs {', or '.join(' with '.join(way['required']) for way in ways)}"
    for rule in schema.get("allOf", ()):
        if not any(_wrong(rule["if"], value)):
            missing = [name for name in rule["then"]["required"] if name not in value]
            asking = [name for way in rule["if"].get("anyOf", [rule["if"]]) for name in way["required"]]
            asking = [name for name in asking if name in value]
            if missing:
                yield f"{before}{', '.join(asking)}: needs {', '.join(missing)} too"


def _check(task: str, arguments: dict[str, Any]) -> None:
    """Raises ValueError, which names the fields and never their values."""
    schema = _TASKS[task]
    problems = list(_wrong({**schema, "properties": {**_COMMON, **schema["properties"]}}, arguments))
    shown = [name for name in ("event_id", "subject") if _is_no_utf8(arguments.get(name))]
    problems += [f"{name}: must be text that UTF-8 can carry" for name in shown]
    if not problems and len(json.dumps(arguments)) * 4 // 3 + _MOST_BYTES // 256 > _MOST_BYTES:
        problems.append(f"makes a message of more than {_MOST_BYTES} bytes")
    if problems:
        raise ValueError(f"{task}: {'; '.join(problems)}")


def _is_no_utf8(value: Any) -> bool:
    try:
        return isinstance(value, str) and value.encode() is None
    except UnicodeEncodeError:
        return True


def _common(options: Options) -> dict[str, Any]:
    """Those options that are arguments."""
    unknown = options.keys() - Options.__annotations__.keys()
    if unknown:
        raise ValueError(f"{min(unknown)}: is no option; there are: {', '.join(Options.__annotations__)}")
    found = {
        name: value
        for name, value in options.items()
        if name not in _OF_CELERY and (value is not None or name == "subject")
    }
    if "occurred_at" in found:
        found["occurred_at"] = _utc("occurred_at", found["occurred_at"])
    found = {name: _json(name, value) for name, value in found.items()}
    if found.get("reply") is False:
        del found["reply"]
    if found.get("personal") == []:
        del found["personal"]
    return found


def _of_celery(options: Options) -> dict[str, Any]:
    """Those options that Celery takes, checked: it would fail elsewhere, or read a time without a zone as UTC."""
    given: dict[str, Any] = dict(options)
    found = {name: value for name, value in given.items() if name in _OF_CELERY and value is not None}
    for name, value in found.items():
        if name in {"eta", "expires"} and isinstance(value, datetime):
            _utc(name, value)
        elif name == "eta":
            raise ValueError("eta: must be a time")
        elif name in {"countdown", "expires"}:
            if not _is(value, "number") or not math.isfinite(value):
                raise ValueError(f"{name}: must be a number of seconds{' or a time' if name == 'expires' else ''}")
        elif name == "priority" and (not _is(value, "integer") or value not in _PRIORITIES):
            raise ValueError("priority: must be a whole number from 0 to 9")
        elif name == "task_id" and (not isinstance(value, str) or not value or _is_no_utf8(value)):
            raise ValueError("task_id: must be a text")
    return found


class _Uncompressed:
    """A producer of Celery's that heeds no `task_compression`: Celery has no other way to say so of one message."""

    def __init__(self, producer: Any) -> None:
        self._producer = producer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._producer, name)

    def publish(self, *args: Any, **options: Any) -> Any:
        return self._producer.publish(*args, **{**options, "compression": ""})


class Publisher:
    """Publishes under a name, which the router shows wherever it shows the events."""

    def __init__(self, celery: Celery | str, name: str, *, prefix: str = "") -> None:
        """`celery`: your application, or the address of the router's Redis; `prefix`: what your user's keys begin with.

        Nothing is connected before the first task. Raises ValueError for a name that the router would refuse.
        """
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ValueError("name: only a-z, 0-9, _ and -, at most 64")
        self.name: Final = name
        if isinstance(celery, str):
            url = celery
            celery = Celery(broker=url, backend=url, set_as_current=False)
            if url.startswith("redis"):
                # A server that is silent is not waited for.
                silence = {"socket_timeout": 5, "socket_connect_timeout": 5}
                celery.conf.broker_transport_options = {**silence, **({"global_keyprefix": prefix} if prefix else {})}
        self._celery: Final = celery

    def publish(
        self,
        event: Mapping[str, Any],
        *,
        type: str,
        name: str | None = None,
        format: str | None = None,
        person: Mapping[str, str] | None = None,
        correlation: Sequence[str] | None = None,
        raw: Any = None,
        **options: Unpack[Options],
    ) -> AsyncResult:
        """Publish an event, which goes along the routes that match it.

        event: What happened.
        type: Kind of event, of few values: routes, metrics and filters go by it.
        name: The event's full name; its type if not given.
        format: Whose words the event speaks: encharge, segment, …; "published" if not given.
        person: What names the person: email, phone, userId; found in the event if not given.
        correlation: Keys that the events about one person share.
        raw: What the event was made of.
        """
        fields = {
            "event": event,
            "type": type,
            "name": name,
            "format": format,
            "person": person,
            "correlation": correlation,
            "raw": raw,
        }
        return self._send("events.publish", fields, options)

    def _send(self, task: str, fields: dict[str, Any], options: Options) -> AsyncResult:
        # Of an action "" is as if not given.
        nothing: tuple[Any, ...] = (None,) if task == "events.publish" else (None, "")
        arguments = {
            name: _json(name, value)
            for name, value in fields.items()
            if not any(value is each or value == each for each in nothing)
        }
        arguments |= _common(options)
        arguments["publisher"] = self.name
        _check(task, arguments)
        of_celery = _of_celery(options)
        with self._celery.producer_or_acquire() as producer:
            return self._celery.send_task(
                task,
                kwargs=arguments,
                queue=QUEUE,
                # Whatever else the application does: the router reads nothing else.
                serializer="json",
                producer=_Uncompressed(producer),
                # Celery puts them into a header that people see.
                argsrepr="…",
                kwargsrepr="…",
                ignore_result=not arguments.get("reply", False),
                # The list is there: a publisher pushes, and does nothing else.
                declare=[],
                **of_celery,
            )

    # --- what follows is generated by `make docs` ---

    def forward(
        self,
        *,
        name: str,
        user: Mapping[str, Any],
        properties: Mapping[str, Any] | None = None,
        type: str | None = None,
        sourceIp: str | None = None,
        **options: Unpack[Options],
    ) -> AsyncResult:
        """Send a whole event, in the form of Encharge's Ingest API.

        name: Name of the event.
        user: The person, with email or userId.
        properties: What is known about the event.
        type: Type, where the event is a special one.
        sourceIp: The person's address, for country and time zone.
        """
        fields = {
            "name": name,
            "user": user,
            "properties": properties,
            "type": type,
            "sourceIp": sourceIp,
        }
        return self._send("events.forward", fields, options)

    def page(
        self,
        *,
        name: str | None = None,
        email: str | None = None,
        userId: str | None = None,
        properties: Mapping[str, Any] | None = None,
        userFields: Mapping[str, Any] | None = None,
        ip: str | None = None,
        type: str | None = None,
        segmentAnonymousId: str | None = None,
        groupId: str | None = None,
        timestamp: str | None = None,
        messageId: str | None = None,
        userAgent: str | None = None,
        campaign: Mapping[str, Any] | None = None,
        page: Mapping[str, Any] | None = None,
        location: Mapping[str, Any] | None = None,
        form: Literal["segment"] | None = None,
        **options: Unpack[Options],
    ) -> AsyncResult:
        """Record a page view of a person.

        name: Name of the event; "Page View" if not given.
        email: The person's e-mail address.
        userId: The person's id in your product.
        properties: url, title, referrer and whatever else is known.
        userFields: Fields of the person to write along.
        ip: The person's address, for country and time zone.
        type: Type of the Segment call.
        segmentAnonymousId: The person's anonymous id at Segment.
        groupId: Id of the person's group.
        timestamp: When it happened.
        messageId: Segment's id of the message.
        userAgent: The person's browser.
        campaign: Where the person came from.
        page: Page on which it happened.
        location: Where the person is.
        form: "segment" sends what Segment's Encharge destination sends; the rule when a field is given that only
        Segment has.
        """
        fields = {
            "name": name,
            "email": email,
            "userId": userId,
            "properties": properties,
            "userFields": userFields,
            "ip": ip,
            "type": type,
            "segmentAnonymousId": segmentAnonymousId,
            "groupId": groupId,
            "timestamp": timestamp,
            "messageId": messageId,
            "userAgent": userAgent,
            "campaign": campaign,
            "page": page,
            "location": location,
            "form": form,
        }
        return self._send("events.page", fields, options)

    def segment(
        self,
        *,
        type: Literal["track", "identify", "page", "screen", "group", "alias"],
        userId: str | None = None,
        anonymousId: str | None = None,
        event: str | None = None,
        properties: Mapping[str, Any] | None = None,
        traits: Mapping[str, Any] | None = None,
        name: str | None = None,
        category: str | None = None,
        groupId: str | None = None,
        previousId: str | None = None,
        context: Mapping[str, Any] | None = None,
        integrations: Mapping[str, Any] | None = None,
        timestamp: str | None = None,
        messageId: str | None = None,
        **options: Unpack[Options],
    ) -> AsyncResult:
        """Send an event to a source of Segment's. Events of several people go in one request while others are under
        way.

        type: Kind of call.
        userId: The person's id in your product.
        anonymousId: The person's id before it is known who it is.
        event: Name of the event; track needs it.
        properties: What is known about the event.
        traits: What is known about the person or group.
        name: Name of the page or screen.
        category: Category of the page or screen.
        groupId: Id of the group; group needs it.
        previousId: The person's id until now; alias needs it.
        context: Where and how it happened.
        integrations: Whom Segment is to send it on to.
        timestamp: When it happened, with a zone; the event's own time if not given.
        messageId: By which Segment knows it when it comes again; the delivery's own id if not given.
        """
        fields = {
            "type": type,
            "userId": userId,
            "anonymousId": anonymousId,
            "event": event,
            "properties": properties,
            "traits": traits,
            "name": name,
            "category": category,
            "groupId": groupId,
            "previousId": previousId,
            "context": context,
            "integrations": integrations,
            "timestamp": timestamp,
            "messageId": messageId,
        }
        return self._send("events.segment", fields, options)

    def track(
        self,
        *,
        event: str,
        email: str | None = None,
        userId: str | None = None,
        properties: Mapping[str, Any] | None = None,
        userFields: Mapping[str, Any] | None = None,
        ip: str | None = None,
        type: str | None = None,
        segmentAnonymousId: str | None = None,
        groupId: str | None = None,
        timestamp: str | None = None,
        messageId: str | None = None,
        userAgent: str | None = None,
        campaign: Mapping[str, Any] | None = None,
        page: Mapping[str, Any] | None = None,
        location: Mapping[str, Any] | None = None,
        form: Literal["segment"] | None = None,
        **options: Unpack[Options],
    ) -> AsyncResult:
        """Record an event of a person; the person is created when unknown.

        event: Name of the event.
        email: The person's e-mail address.
        userId: The person's id in your product.
        properties: What is known about the event.
        userFields: Fields of the person to write along.
        ip: The person's address, for country and time zone.
        type: Type of the Segment call.
        segmentAnonymousId: The person's anonymous id at Segment.
        groupId: Id of the person's group.
        timestamp: When it happened.
        messageId: Segment's id of the message.
        userAgent: The person's browser.
        campaign: Where the person came from.
        page: Page on which it happened.
        location: Where the person is.
        form: "segment" sends what Segment's Encharge destination sends; the rule when a field is given that only
        Segment has.
        """
        fields = {
            "event": event,
            "email": email,
            "userId": userId,
            "properties": properties,
            "userFields": userFields,
            "ip": ip,
            "type": type,
            "segmentAnonymousId": segmentAnonymousId,
            "groupId": groupId,
            "timestamp": timestamp,
            "messageId": messageId,
            "userAgent": userAgent,
            "campaign": campaign,
            "page": page,
            "location": location,
            "form": form,
        }
        return self._send("events.track", fields, options)

    def upload(
        self,
        *,
        event: str,
        id: str | None = None,
        userId: str | None = None,
        email: str | None = None,
        businessUnit: str | None = None,
        timestamp: str | None = None,
        properties: Mapping[str, Any] | None = None,
        **options: Unpack[Options],
    ) -> AsyncResult:
        """Record an event of a user in ActivatePro. Events of one user that wait together go in one request, up to 50.

        event: Name of the event; ActivatePro must know it (a class of events).
        id: The user's id in ActivatePro.
        userId: Another name for id.
        email: The user's e-mail address, where there is no id.
        businessUnit: Which of several shops the user is one of.
        timestamp: When it happened, with a zone; the event's own time if not given.
        properties: What is known about the event.
        """
        fields = {
            "event": event,
            "id": id,
            "userId": userId,
            "email": email,
            "businessUnit": businessUnit,
            "timestamp": timestamp,
            "properties": properties,
        }
        return self._send("events.upload", fields, options)

    def webhook(
        self,
        *,
        to: str,
        type: str,
        data: Mapping[str, Any],
        timestamp: str | None = None,
        id: str | None = None,
        **options: Unpack[Options],
    ) -> AsyncResult:
        """Send an event to a receiver that `webhooks` declares, signed as Standard Webhooks.

        to: Name of the webhook; the same for every event.
        type: Kind of event as the receiver knows it, such as user.created.
        data: What is told.
        timestamp: When it happened, with a zone; the event's own time if not given.
        id: By which the receiver knows it when it comes again; the delivery's own if not given.
        """
        fields = {
            "to": to,
            "type": type,
            "data": data,
            "timestamp": timestamp,
            "id": id,
        }
        return self._send("events.webhook", fields, options)

    def upsert(
        self,
        *,
        objectType: str,
        externalId: str | None = None,
        id: str | None = None,
        objectData: Mapping[str, Any] | None = None,
        email: str | None = None,
        userId: str | None = None,
        form: Literal["segment"] | None = None,
        **options: Unpack[Options],
    ) -> AsyncResult:
        """Create or update an object, and associate a person with it. Fields unknown to the object's schema are
        ignored.

        objectType: Name of the object's schema, such as company.
        externalId: The object's id in your product.
        id: The object's id in Encharge.
        objectData: Fields of the object.
        email: E-mail address of a person to associate.
        userId: Id, in your product, of a person to associate.
        form: "segment" sends what Segment's Encharge destination sends; the rule when a field is given that only
        Segment has.
        """
        fields = {
            "objectType": objectType,
            "externalId": externalId,
            "id": id,
            "objectData": objectData,
            "email": email,
            "userId": userId,
            "form": form,
        }
        return self._send("objects.upsert", fields, options)

    def alias(
        self,
        *,
        userId: str | None = None,
        email: str | None = None,
        previousUserId: str | None = None,
        previousEmail: str | None = None,
        timestamp: str | None = None,
        messageId: str | None = None,
        form: Literal["segment"] | None = None,
        **options: Unpack[Options],
    ) -> AsyncResult:
        """Change the user id or e-mail address by which a person is known.

        userId: The new id in your product.
        email: The new e-mail address.
        previousUserId: The id until now.
        previousEmail: The e-mail address until now.
        timestamp: When it happened.
        messageId: Segment's id of the message.
        form: "segment" sends what Segment's Encharge destination sends; the rule when a field is given that only
        Segment has.
        """
        fields = {
            "userId": userId,
            "email": email,
            "previousUserId": previousUserId,
            "previousEmail": previousEmail,
            "timestamp": timestamp,
            "messageId": messageId,
            "form": form,
        }
        return self._send("users.alias", fields, options)

    def archive(
        self,
        *,
        email: str | None = None,
        userId: str | None = None,
        id: str | None = None,
        erase: bool | None = None,
        **options: Unpack[Options],
    ) -> AsyncResult:
        """Archive a person; with erase, delete the person for good.

        email: The person's e-mail address.
        userId: The person's id in your product.
        id: The person's id in Encharge.
        erase: true deletes for good (GDPR).
        """
        fields = {
            "email": email,
            "userId": userId,
            "id": id,
            "erase": erase,
        }
        return self._send("users.archive", fields, options)

    def identify(
        self,
        *,
        email: str | None = None,
        userId: str | None = None,
        user: Mapping[str, Any] | None = None,
        ip: str | None = None,
        type: str | None = None,
        segmentAnonymousId: str | None = None,
        groupId: str | None = None,
        timestamp: str | None = None,
        messageId: str | None = None,
        userAgent: str | None = None,
        campaign: Mapping[str, Any] | None = None,
        page: Mapping[str, Any] | None = None,
        location: Mapping[str, Any] | None = None,
        form: Literal["segment"] | None = None,
        **options: Unpack[Options],
    ) -> AsyncResult:
        """Create a person, or update the person's fields. Fields unknown to Encharge are created.

        email: The person's e-mail address.
        userId: The person's id in your product.
        user: Fields to write; they win over email and userId above.
        ip: The person's address, for country and time zone.
        type: Type of the Segment call.
        segmentAnonymousId: The person's anonymous id at Segment.
        groupId: Id of the person's group.
        timestamp: When it happened.
        messageId: Segment's id of the message.
        userAgent: The person's browser.
        campaign: Where the person came from.
        page: Page on which it happened.
        location: Where the person is.
        form: "segment" sends what Segment's Encharge destination sends; the rule when a field is given that only
        Segment has.
        """
        fields = {
            "email": email,
            "userId": userId,
            "user": user,
            "ip": ip,
            "type": type,
            "segmentAnonymousId": segmentAnonymousId,
            "groupId": groupId,
            "timestamp": timestamp,
            "messageId": messageId,
            "userAgent": userAgent,
            "campaign": campaign,
            "page": page,
            "location": location,
            "form": form,
        }
        return self._send("users.identify", fields, options)

    def tag(
        self,
        *,
        tag: str,
        email: str | None = None,
        userId: str | None = None,
        via: Literal["ingest", "api"] | None = None,
        segmentAnonymousId: str | None = None,
        **options: Unpack[Options],
    ) -> AsyncResult:
        """Add one or more tags to a person; the person is created when unknown.

        tag: Tags, separated by commas.
        email: The person's e-mail address.
        userId: The person's id in your product.
        via: api = REST, as Segment does; ingest if not given.
        segmentAnonymousId: The person's anonymous id at Segment.
        """
        fields = {
            "tag": tag,
            "email": email,
            "userId": userId,
            "via": via,
            "segmentAnonymousId": segmentAnonymousId,
        }
        return self._send("users.tag", fields, options)

    def unsubscribe(
        self,
        *,
        email: str | None = None,
        userId: str | None = None,
        id: str | None = None,
        **options: Unpack[Options],
    ) -> AsyncResult:
        """Unsubscribe a person from all e-mail.

        email: The person's e-mail address.
        userId: The person's id in your product.
        id: The person's id in Encharge.
        """
        fields = {
            "email": email,
            "userId": userId,
            "id": id,
        }
        return self._send("users.unsubscribe", fields, options)

    def untag(
        self,
        *,
        tag: str,
        email: str | None = None,
        userId: str | None = None,
        id: str | None = None,
        segmentAnonymousId: str | None = None,
        **options: Unpack[Options],
    ) -> AsyncResult:
        """Remove one or more tags from a person.

        tag: Tags, separated by commas.
        email: The person's e-mail address.
        userId: The person's id in your product.
        id: The person's id in Encharge.
        segmentAnonymousId: The person's anonymous id at Segment.
        """
        fields = {
            "tag": tag,
            "email": email,
            "userId": userId,
            "id": id,
            "segmentAnonymousId": segmentAnonymousId,
        }
        return self._send("users.untag", fields, options)


#: What every task takes, what each takes beside it, and what a pattern asks for.
_COMMON: Final[dict[str, Any]] = json.loads(r"""{
"version": {"type": ["integer", "null"], "enum": [1, null]},
"publisher": {"type": ["string", "null"], "pattern": "^[a-z0-9][a-z0-9_-]{0,63}$(?!\\n)"},
"event_id": {"type": ["string", "null"], "minLength": 1, "maxLength": 200, "pattern":
  "^(?!quarantine:)[^\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029\\u202a-\\u202e\\u2066-\\u2069]*$(?!\\n)"},
"reply": {"type": ["boolean", "null"]},
"occurred_at": {"type": ["string", "null"], "pattern":
  "^\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d(\\.\\d{1,6})?(Z|\\+00:00)$(?!\\n)", "format": "date-time"},
"subject": {"type": ["string", "null"], "minLength": 1, "maxLength": 500},
"personal": {"type": ["array", "null"], "maxItems": 100, "items": {"type": "string", "minLength": 1, "maxLength":
  100}}
}""")
_TASKS: Final[dict[str, Any]] = json.loads(r"""{
"events.publish": {"type": "object", "properties": {"format": {"type": ["string", "null"], "pattern":
  "^[a-z0-9][a-z0-9_-]{0,63}$(?!\\n)"}, "type": {"type": "string", "minLength": 1, "maxLength": 100, "pattern":
  "^[^\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029\\u202a-\\u202e\\u2066-\\u2069]*$(?!\\n)"}, "name": {"type": ["string",
  "null"], "minLength": 1, "maxLength": 500, "pattern":
  "^[^\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029\\u202a-\\u202e\\u2066-\\u2069]*$(?!\\n)"}, "event": {"type": "object"},
  "raw": {"description": "The body as it came, where `event` had to be built out of it."}, "person": {"type":
  ["object", "null"], "additionalProperties": {"type": "string", "minLength": 1, "maxLength": 500}, "minProperties":
  1, "propertyNames": {"enum": ["email", "phone", "userId"]}}, "correlation": {"type": ["array", "null"], "maxItems":
  10, "items": {"type": "string", "minLength": 1, "maxLength": 200}}}, "required": ["event", "type"]},
"users.alias": {"type": "object", "properties": {"userId": {"type": ["string", "null"]}, "email": {"type": ["string",
  "null"]}, "previousUserId": {"type": ["string", "null"]}, "previousEmail": {"type": ["string", "null"]},
  "timestamp": {"type": ["string", "null"], "format": "date-time"}, "messageId": {"type": ["string", "null"]}, "form":
  {"type": ["string", "null"], "enum": ["segment", null]}}, "anyOf": [{"required": ["userId", "previousUserId"]},
  {"required": ["userId", "previousEmail"]}, {"required": ["email", "previousUserId"]}, {"required": ["email",
  "previousEmail"]}], "allOf": [{"if": {"anyOf": [{"required": ["timestamp"]}, {"required": ["messageId"]},
  {"required": ["form"]}]}, "then": {"required": ["userId", "previousUserId"]}}]},
"users.archive": {"type": "object", "properties": {"email": {"type": ["string", "null"]}, "userId": {"type":
  ["string", "null"]}, "id": {"type": ["string", "null"]}, "erase": {"type": ["boolean", "null"]}}, "anyOf":
  [{"required": ["email"]}, {"required": ["userId"]}, {"required": ["id"]}]},
"events.forward": {"type": "object", "properties": {"name": {"type": "string", "minLength": 1}, "user": {"type":
  "object", "anyOf": [{"required": ["email"]}, {"required": ["userId"]}]}, "properties": {"type": ["object", "null"]},
  "type": {"type": ["string", "null"]}, "sourceIp": {"type": ["string", "null"]}}, "required": ["name", "user"]},
"users.identify": {"type": "object", "properties": {"email": {"type": ["string", "null"]}, "userId": {"type":
  ["string", "null"]}, "user": {"type": ["object", "null"]}, "ip": {"type": ["string", "null"]}, "type": {"type":
  ["string", "null"]}, "segmentAnonymousId": {"type": ["string", "null"]}, "groupId": {"type": ["string", "null"]},
  "timestamp": {"type": ["string", "null"], "format": "date-time"}, "messageId": {"type": ["string", "null"]},
  "userAgent": {"type": ["string", "null"]}, "campaign": {"type": ["object", "null"], "properties": {"name": {"type":
  ["string", "number", "boolean", "null", "array"], "items": {"type": ["string", "number", "boolean"]}, "minItems": 1,
  "maxItems": 1}, "source": {"type": ["string", "number", "boolean", "null", "array"], "items": {"type": ["string",
  "number", "boolean"]}, "minItems": 1, "maxItems": 1}, "medium": {"type": ["string", "number", "boolean", "null",
  "array"], "items": {"type": ["string", "number", "boolean"]}, "minItems": 1, "maxItems": 1}, "term": {"type":
  ["string", "number", "boolean", "null", "array"], "items": {"type": ["string", "number", "boolean"]}, "minItems": 1,
  "maxItems": 1}, "content": {"type": ["string", "number", "boolean", "null", "array"], "items": {"type": ["string",
  "number", "boolean"]}, "minItems": 1, "maxItems": 1}}}, "page": {"type": ["object", "null"], "properties": {"url":
  {"type": ["string", "number", "boolean", "null", "array"], "items": {"type": ["string", "number", "boolean"]},
  "minItems": 1, "maxItems": 1}, "title": {"type": ["string", "number", "boolean", "null", "array"], "items": {"type":
  ["string", "number", "boolean"]}, "minItems": 1, "maxItems": 1}, "referrer": {"type": ["string", "number",
  "boolean", "null", "array"], "items": {"type": ["string", "number", "boolean"]}, "minItems": 1, "maxItems": 1},
  "path": {"type": ["string", "number", "boolean", "null", "array"], "items": {"type": ["string", "number",
  "boolean"]}, "minItems": 1, "maxItems": 1}, "search": {"type": ["string", "number", "boolean", "null", "array"],
  "items": {"type": ["string", "number", "boolean"]}, "minItems": 1, "maxItems": 1}}}, "location": {"type": ["object",
  "null"], "properties": {"city": {"type": ["string", "number", "boolean", "null", "array"], "items": {"type":
  ["string", "number", "boolean"]}, "minItems": 1, "maxItems": 1}, "region": {"type": ["string", "number", "boolean",
  "null", "array"], "items": {"type": ["string", "number", "boolean"]}, "minItems": 1, "maxItems": 1}, "country":
  {"type": ["string", "number", "boolean", "null", "array"], "items": {"type": ["string", "number", "boolean"]},
  "minItems": 1, "maxItems": 1}}}, "form": {"type": ["string", "null"], "enum": ["segment", null]}}, "anyOf":
  [{"required": ["email"]}, {"required": ["userId"]}, {"required": ["user", "type"], "properties": {"user": {"type":
  "object", "anyOf": [{"required": ["email"]}, {"required": ["userId"]}, {"required": ["segmentAnonymousId"]}]}}},
  {"required": ["type", "segmentAnonymousId"]}], "allOf": [{"if": {"anyOf": [{"required": ["type"]}, {"required":
  ["segmentAnonymousId"]}, {"required": ["groupId"]}, {"required": ["timestamp"]}, {"required": ["messageId"]},
  {"required": ["userAgent"]}, {"required": ["campaign"]}, {"required": ["page"]}, {"required": ["location"]},
  {"required": ["form"]}]}, "then": {"required": ["type"]}}]},
"events.segment": {"type": "object", "properties": {"type": {"type": "string", "enum": ["track", "identify", "page",
  "screen", "group", "alias"]}, "userId": {"type": ["string", "null"]}, "anonymousId": {"type": ["string", "null"]},
  "event": {"type": ["string", "null"]}, "properties": {"type": ["object", "null"]}, "traits": {"type": ["object",
  "null"]}, "name": {"type": ["string", "null"]}, "category": {"type": ["string", "null"]}, "groupId": {"type":
  ["string", "null"]}, "previousId": {"type": ["string", "null"]}, "context": {"type": ["object", "null"]},
  "integrations": {"type": ["object", "null"]}, "timestamp": {"type": ["string", "null"], "format": "date-time"},
  "messageId": {"type": ["string", "null"]}}, "required": ["type"], "anyOf": [{"required": ["userId"]}, {"required":
  ["anonymousId"]}], "allOf": [{"if": {"required": ["type"], "properties": {"type": {"const": "track"}}}, "then":
  {"required": ["event"]}}, {"if": {"required": ["type"], "properties": {"type": {"const": "group"}}}, "then":
  {"required": ["groupId"]}}, {"if": {"required": ["type"], "properties": {"type": {"const": "alias"}}}, "then":
  {"required": ["userId", "previousId"]}}]},
"events.webhook": {"type": "object", "properties": {"to": {"type": "string", "minLength": 1}, "type": {"type":
  "string", "minLength": 1}, "data": {"type": "object"}, "timestamp": {"type": ["string", "null"], "format":
  "date-time"}, "id": {"type": ["string", "null"]}}, "required": ["data", "to", "type"]},
"users.tag": {"type": "object", "properties": {"tag": {"type": "string", "minLength": 1}, "email": {"type": ["string",
  "null"]}, "userId": {"type": ["string", "null"]}, "via": {"type": ["string", "null"], "enum": ["ingest", "api",
  null]}, "segmentAnonymousId": {"type": ["string", "null"]}}, "required": ["tag"], "anyOf": [{"required": ["email"]},
  {"required": ["userId"]}, {"required": ["segmentAnonymousId"]}]},
"events.track": {"type": "object", "properties": {"event": {"type": "string", "minLength": 1}, "email": {"type":
  ["string", "null"]}, "userId": {"type": ["string", "null"]}, "properties": {"type": ["object", "null"]},
  "userFields": {"type": ["object", "null"]}, "ip": {"type": ["string", "null"]}, "type": {"type": ["string",
  "null"]}, "segmentAnonymousId": {"type": ["string", "null"]}, "groupId": {"type": ["string", "null"]}, "timestamp":
  {"type": ["string", "null"], "format": "date-time"}, "messageId": {"type": ["string", "null"]}, "userAgent":
  {"type": ["string", "null"]}, "campaign": {"type": ["object", "null"], "properties": {"name": {"type": ["string",
  "number", "boolean", "null", "array"], "items": {"type": ["string", "number", "boolean"]}, "minItems": 1,
  "maxItems": 1}, "source": {"type": ["string", "number", "boolean", "null", "array"], "items": {"type": ["string",
  "number", "boolean"]}, "minItems": 1, "maxItems": 1}, "medium": {"type": ["string", "number", "boolean", "null",
  "array"], "items": {"type": ["string", "number", "boolean"]}, "minItems": 1, "maxItems": 1}, "term": {"type":
  ["string", "number", "boolean", "null", "array"], "items": {"type": ["string", "number", "boolean"]}, "minItems": 1,
  "maxItems": 1}, "content": {"type": ["string", "number", "boolean", "null", "array"], "items": {"type": ["string",
  "number", "boolean"]}, "minItems": 1, "maxItems": 1}}}, "page": {"type": ["object", "null"], "properties": {"url":
  {"type": ["string", "number", "boolean", "null", "array"], "items": {"type": ["string", "number", "boolean"]},
  "minItems": 1, "maxItems": 1}, "title": {"type": ["string", "number", "boolean", "null", "array"], "items": {"type":
  ["string", "number", "boolean"]}, "minItems": 1, "maxItems": 1}, "referrer": {"type": ["string", "number",
  "boolean", "null", "array"], "items": {"type": ["string", "number", "boolean"]}, "minItems": 1, "maxItems": 1},
  "path": {"type": ["string", "number", "boolean", "null", "array"], "items": {"type": ["string", "number",
  "boolean"]}, "minItems": 1, "maxItems": 1}, "search": {"type": ["string", "number", "boolean", "null", "array"],
  "items": {"type": ["string", "number", "boolean"]}, "minItems": 1, "maxItems": 1}}}, "location": {"type": ["object",
  "null"], "properties": {"city": {"type": ["string", "number", "boolean", "null", "array"], "items": {"type":
  ["string", "number", "boolean"]}, "minItems": 1, "maxItems": 1}, "region": {"type": ["string", "number", "boolean",
  "null", "array"], "items": {"type": ["string", "number", "boolean"]}, "minItems": 1, "maxItems": 1}, "country":
  {"type": ["string", "number", "boolean", "null", "array"], "items": {"type": ["string", "number", "boolean"]},
  "minItems": 1, "maxItems": 1}}}, "form": {"type": ["string", "null"], "enum": ["segment", null]}}, "required":
  ["event"], "anyOf": [{"required": ["email"]}, {"required": ["userId"]}, {"required": ["userFields", "type"],
  "properties": {"userFields": {"type": "object", "anyOf": [{"required": ["email"]}, {"required": ["userId"]},
  {"required": ["segmentAnonymousId"]}]}}}, {"required": ["type", "segmentAnonymousId"]}], "allOf": [{"if": {"anyOf":
  [{"required": ["type"]}, {"required": ["segmentAnonymousId"]}, {"required": ["groupId"]}, {"required":
  ["timestamp"]}, {"required": ["messageId"]}, {"required": ["userAgent"]}, {"required": ["campaign"]}, {"required":
  ["page"]}, {"required": ["location"]}, {"required": ["form"]}]}, "then": {"required": ["type"]}}]},
"events.page": {"type": "object", "properties": {"name": {"type": ["string", "null"]}, "email": {"type": ["string",
  "null"]}, "userId": {"type": ["string", "null"]}, "properties": {"type": ["object", "null"]}, "userFields": {"type":
  ["object", "null"]}, "ip": {"type": ["string", "null"]}, "type": {"type": ["string", "null"]}, "segmentAnonymousId":
  {"type": ["string", "null"]}, "groupId": {"type": ["string", "null"]}, "timestamp": {"type": ["string", "null"],
  "format": "date-time"}, "messageId": {"type": ["string", "null"]}, "userAgent": {"type": ["string", "null"]},
  "campaign": {"type": ["object", "null"], "properties": {"name": {"type": ["string", "number", "boolean", "null",
  "array"], "items": {"type": ["string", "number", "boolean"]}, "minItems": 1, "maxItems": 1}, "source": {"type":
  ["string", "number", "boolean", "null", "array"], "items": {"type": ["string", "number", "boolean"]}, "minItems": 1,
  "maxItems": 1}, "medium": {"type": ["string", "number", "boolean", "null", "array"], "items": {"type": ["string",
  "number", "boolean"]}, "minItems": 1, "maxItems": 1}, "term": {"type": ["string", "number", "boolean", "null",
  "array"], "items": {"type": ["string", "number", "boolean"]}, "minItems": 1, "maxItems": 1}, "content": {"type":
  ["string", "number", "boolean", "null", "array"], "items": {"type": ["string", "number", "boolean"]}, "minItems": 1,
  "maxItems": 1}}}, "page": {"type": ["object", "null"], "properties": {"url": {"type": ["string", "number",
  "boolean", "null", "array"], "items": {"type": ["string", "number", "boolean"]}, "minItems": 1, "maxItems": 1},
  "title": {"type": ["string", "number", "boolean", "null", "array"], "items": {"type": ["string", "number",
  "boolean"]}, "minItems": 1, "maxItems": 1}, "referrer": {"type": ["string", "number", "boolean", "null", "array"],
  "items": {"type": ["string", "number", "boolean"]}, "minItems": 1, "maxItems": 1}, "path": {"type": ["string",
  "number", "boolean", "null", "array"], "items": {"type": ["string", "number", "boolean"]}, "minItems": 1,
  "maxItems": 1}, "search": {"type": ["string", "number", "boolean", "null", "array"], "items": {"type": ["string",
  "number", "boolean"]}, "minItems": 1, "maxItems": 1}}}, "location": {"type": ["object", "null"], "properties":
  {"city": {"type": ["string", "number", "boolean", "null", "array"], "items": {"type": ["string", "number",
  "boolean"]}, "minItems": 1, "maxItems": 1}, "region": {"type": ["string", "number", "boolean", "null", "array"],
  "items": {"type": ["string", "number", "boolean"]}, "minItems": 1, "maxItems": 1}, "country": {"type": ["string",
  "number", "boolean", "null", "array"], "items": {"type": ["string", "number", "boolean"]}, "minItems": 1,
  "maxItems": 1}}}, "form": {"type": ["string", "null"], "enum": ["segment", null]}}, "anyOf": [{"required":
  ["email"]}, {"required": ["userId"]}, {"required": ["userFields", "type"], "properties": {"userFields": {"type":
  "object", "anyOf": [{"required": ["email"]}, {"required": ["userId"]}, {"required": ["segmentAnonymousId"]}]}}},
  {"required": ["type", "segmentAnonymousId"]}], "allOf": [{"if": {"anyOf": [{"required": ["type"]}, {"required":
  ["segmentAnonymousId"]}, {"required": ["groupId"]}, {"required": ["timestamp"]}, {"required": ["messageId"]},
  {"required": ["userAgent"]}, {"required": ["campaign"]}, {"required": ["page"]}, {"required": ["location"]},
  {"required": ["form"]}]}, "then": {"required": ["type"]}}]},
"users.unsubscribe": {"type": "object", "properties": {"email": {"type": ["string", "null"]}, "userId": {"type":
  ["string", "null"]}, "id": {"type": ["string", "null"]}}, "anyOf": [{"required": ["email"]}, {"required":
  ["userId"]}, {"required": ["id"]}]},
"users.untag": {"type": "object", "properties": {"tag": {"type": "string", "minLength": 1}, "email": {"type":
  ["string", "null"]}, "userId": {"type": ["string", "null"]}, "id": {"type": ["string", "null"]},
  "segmentAnonymousId": {"type": ["string", "null"]}}, "required": ["tag"], "anyOf": [{"required": ["email"]},
  {"required": ["userId"]}, {"required": ["id"]}, {"required": ["segmentAnonymousId"]}]},
"events.upload": {"type": "object", "properties": {"event": {"type": "string", "minLength": 1}, "id": {"type":
  ["string", "null"]}, "userId": {"type": ["string", "null"]}, "email": {"type": ["string", "null"]}, "businessUnit":
  {"type": ["string", "null"]}, "timestamp": {"type": ["string", "null"], "format": "date-time"}, "properties":
  {"type": ["object", "null"]}}, "required": ["event"], "anyOf": [{"required": ["id"]}, {"required": ["userId"]},
  {"required": ["email"]}]},
"objects.upsert": {"type": "object", "properties": {"objectType": {"type": "string", "minLength": 1}, "externalId":
  {"type": ["string", "null"]}, "id": {"type": ["string", "null"]}, "objectData": {"type": ["object", "null"]},
  "email": {"type": ["string", "null"]}, "userId": {"type": ["string", "null"]}, "form": {"type": ["string", "null"],
  "enum": ["segment", null]}}, "required": ["objectType"]}
}""")
_PATTERNS: Final[dict[str, Any]] = json.loads(r"""{
"^(?!quarantine:)[^\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029\\u202a-\\u202e\\u2066-\\u2069]*$(?!\\n)":
  "Must not begin with quarantine: nor hold control characters.",
"^[a-z0-9][a-z0-9_-]{0,63}$(?!\\n)":
  "Only a-z, 0-9, _ and -, at most 64.",
"^[^\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029\\u202a-\\u202e\\u2066-\\u2069]*$(?!\\n)":
  "Must not hold control characters.",
"^\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d(\\.\\d{1,6})?(Z|\\+00:00)$(?!\\n)":
  "Not a RFC 3339 time in UTC."
}""")
