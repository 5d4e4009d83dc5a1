"""Publishes events and tasks to the event router. One file to copy; it needs Celery and nothing else.

    publisher = Publisher("redis://billing:…@redis:6379/0", "billing")
    publisher.tag(email="someone@example.com", tag="customer", event_id="invoice-4711")
    publisher.publish({"total": 12.5}, type="invoice-paid", person={"userId": "17"}, countdown=60)

Arguments are checked here, with a ValueError that names the field; the router checks them again. What may be published,
and what becomes of it: docs/publishing.md of the router.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict, Union

from celery import Celery
from celery.result import AsyncResult

if TYPE_CHECKING:
    from typing import Unpack  # typing_extensions before Python 3.11

QUEUE: Final = "events"
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_MOST_OF_AN_ID: Final = 200


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
    """When it is to be worked on, at the earliest."""
    expires: Union[datetime, float]
    """When, or in how many seconds, it is to be given up if it has not begun."""
    priority: int
    """0, which is read first, to 9."""
    task_id: str
    """Id of the task; a new one if not given."""


#: An argument's type, whether it is required, and the only values there are; () = any.
_Field = tuple[type, bool, tuple[str, ...]]
_OF_CELERY: Final = ("countdown", "eta", "expires", "priority", "task_id")


def _check(task: str, arguments: Mapping[str, Any]) -> None:
    """Raises ValueError, which names the fields and never their values."""
    fields, needs = _TASKS[task]
    problems = [
        f"{name}: is missing" for name, field in fields.items() if field[1] and arguments.get(name) in (None, "")
    ]
    for name, value in arguments.items():
        kind, _, choices = fields[name]
        if not isinstance(value, kind):
            problems.append(f"{name}: must be {_KINDS[kind]}")
        elif choices and value not in choices:
            problems.append(f"{name}: must be {' or '.join(choices)}")
    if not problems and needs and not any(all(arguments.get(name) for name in names) for names in needs):
        problems.append(f"needs {', or '.join(' with '.join(names) for names in needs)}")
    if problems:
        raise ValueError(f"{task}: {'; '.join(problems)}")


def _common(options: Options) -> dict[str, Any]:
    """Those options that are arguments."""
    unknown = options.keys() - Options.__annotations__.keys()
    if unknown:
        raise ValueError(f"{min(unknown)}: is no option; there are: {', '.join(Options.__annotations__)}")
    found: dict[str, Any] = {}
    event_id = options.get("event_id")
    if event_id is not None:
        if not isinstance(event_id, str) or not 0 < len(event_id) <= _MOST_OF_AN_ID:
            raise ValueError(f"event_id: must be a text of 1 to {_MOST_OF_AN_ID} characters")
        found["event_id"] = event_id
    occurred_at = options.get("occurred_at")
    if occurred_at is not None:
        found["occurred_at"] = _utc(occurred_at)
    if "subject" in options:
        found["subject"] = options["subject"]
    if options.get("personal"):
        found["personal"] = list(options["personal"])
    if options.get("reply"):
        found["reply"] = True
    return found


def _utc(moment: datetime | str) -> str:
    try:
        # Before 3.11 Python did not know the Z.
        found = datetime.fromisoformat(re.sub("[zZ]$", "+00:00", moment)) if isinstance(moment, str) else moment
    except ValueError:
        raise ValueError("occurred_at: must be a time in ISO 8601") from None
    if found.tzinfo is None:
        raise ValueError("occurred_at: must have a zone")
    return found.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


_KINDS: Final[dict[type, str]] = {str: "a text", Mapping: "a mapping", bool: "True or False", Sequence: "a list"}


class Publisher:
    """Publishes under a name, which the router shows wherever it shows the events."""

    def __init__(self, celery: Celery | str, name: str, *, prefix: str = "") -> None:
        """`celery`: your application, or the address of the router's Redis; `prefix`: what your user's keys begin with.

        Nothing is connected before the first task. Raises ValueError for a name that the router would refuse.
        """
        if not _NAME.fullmatch(name):
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
        arguments = {
            name: dict(value) if isinstance(value, Mapping) else value
            for name, value in fields.items()
            if value is not None
        }
        _check(task, arguments)
        arguments |= _common(options)
        arguments["publisher"] = self.name
        of_celery = {name: value for name, value in options.items() if name in _OF_CELERY}
        return self._celery.send_task(
            task,
            kwargs=arguments,
            queue=QUEUE,
            # Celery puts them into a header that people see.
            argsrepr="…",
            kwargsrepr="…",
            ignore_result=not options.get("reply", False),
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


#: Task → its arguments, and of which sets of them it needs one.
_TASKS: Final[dict[str, tuple[dict[str, _Field], tuple[tuple[str, ...], ...]]]] = {
    "events.publish": (
        {
            "format": (str, False, ()),
            "type": (str, True, ()),
            "name": (str, False, ()),
            "event": (Mapping, True, ()),
            "raw": (object, False, ()),
            "person": (Mapping, False, ()),
            "correlation": (Sequence, False, ()),
        },
        (),
    ),
    "events.forward": (
        {
            "name": (str, True, ()),
            "user": (Mapping, True, ()),
            "properties": (Mapping, False, ()),
            "type": (str, False, ()),
            "sourceIp": (str, False, ()),
        },
        (),
    ),
    "events.page": (
        {
            "name": (str, False, ()),
            "email": (str, False, ()),
            "userId": (str, False, ()),
            "properties": (Mapping, False, ()),
            "userFields": (Mapping, False, ()),
            "ip": (str, False, ()),
            "type": (str, False, ()),
            "segmentAnonymousId": (str, False, ()),
            "groupId": (str, False, ()),
            "timestamp": (str, False, ()),
            "messageId": (str, False, ()),
            "userAgent": (str, False, ()),
            "campaign": (Mapping, False, ()),
            "page": (Mapping, False, ()),
            "location": (Mapping, False, ()),
            "form": (str, False, ("segment",)),
        },
        (
            ("email",),
            ("userId",),
            ("userFields", "type"),
            ("type", "segmentAnonymousId"),
        ),
    ),
    "events.segment": (
        {
            "type": (str, True, ("track", "identify", "page", "screen", "group", "alias")),
            "userId": (str, False, ()),
            "anonymousId": (str, False, ()),
            "event": (str, False, ()),
            "properties": (Mapping, False, ()),
            "traits": (Mapping, False, ()),
            "name": (str, False, ()),
            "category": (str, False, ()),
            "groupId": (str, False, ()),
            "previousId": (str, False, ()),
            "context": (Mapping, False, ()),
            "integrations": (Mapping, False, ()),
            "timestamp": (str, False, ()),
            "messageId": (str, False, ()),
        },
        (
            ("userId",),
            ("anonymousId",),
        ),
    ),
    "events.track": (
        {
            "event": (str, True, ()),
            "email": (str, False, ()),
            "userId": (str, False, ()),
            "properties": (Mapping, False, ()),
            "userFields": (Mapping, False, ()),
            "ip": (str, False, ()),
            "type": (str, False, ()),
            "segmentAnonymousId": (str, False, ()),
            "groupId": (str, False, ()),
            "timestamp": (str, False, ()),
            "messageId": (str, False, ()),
            "userAgent": (str, False, ()),
            "campaign": (Mapping, False, ()),
            "page": (Mapping, False, ()),
            "location": (Mapping, False, ()),
            "form": (str, False, ("segment",)),
        },
        (
            ("email",),
            ("userId",),
            ("userFields", "type"),
            ("type", "segmentAnonymousId"),
        ),
    ),
    "events.upload": (
        {
            "event": (str, True, ()),
            "id": (str, False, ()),
            "userId": (str, False, ()),
            "email": (str, False, ()),
            "businessUnit": (str, False, ()),
            "timestamp": (str, False, ()),
            "properties": (Mapping, False, ()),
        },
        (
            ("id",),
            ("userId",),
            ("email",),
        ),
    ),
    "events.webhook": (
        {
            "to": (str, True, ()),
            "type": (str, True, ()),
            "data": (Mapping, True, ()),
            "timestamp": (str, False, ()),
            "id": (str, False, ()),
        },
        (),
    ),
    "objects.upsert": (
        {
            "objectType": (str, True, ()),
            "externalId": (str, False, ()),
            "id": (str, False, ()),
            "objectData": (Mapping, False, ()),
            "email": (str, False, ()),
            "userId": (str, False, ()),
            "form": (str, False, ("segment",)),
        },
        (),
    ),
    "users.alias": (
        {
            "userId": (str, False, ()),
            "email": (str, False, ()),
            "previousUserId": (str, False, ()),
            "previousEmail": (str, False, ()),
            "timestamp": (str, False, ()),
            "messageId": (str, False, ()),
            "form": (str, False, ("segment",)),
        },
        (
            ("userId", "previousUserId"),
            ("userId", "previousEmail"),
            ("email", "previousUserId"),
            ("email", "previousEmail"),
        ),
    ),
    "users.archive": (
        {
            "email": (str, False, ()),
            "userId": (str, False, ()),
            "id": (str, False, ()),
            "erase": (bool, False, ()),
        },
        (
            ("email",),
            ("userId",),
            ("id",),
        ),
    ),
    "users.identify": (
        {
            "email": (str, False, ()),
            "userId": (str, False, ()),
            "user": (Mapping, False, ()),
            "ip": (str, False, ()),
            "type": (str, False, ()),
            "segmentAnonymousId": (str, False, ()),
            "groupId": (str, False, ()),
            "timestamp": (str, False, ()),
            "messageId": (str, False, ()),
            "userAgent": (str, False, ()),
            "campaign": (Mapping, False, ()),
            "page": (Mapping, False, ()),
            "location": (Mapping, False, ()),
            "form": (str, False, ("segment",)),
        },
        (
            ("email",),
            ("userId",),
            ("user", "type"),
            ("type", "segmentAnonymousId"),
        ),
    ),
    "users.tag": (
        {
            "tag": (str, True, ()),
            "email": (str, False, ()),
            "userId": (str, False, ()),
            "via": (str, False, ("ingest", "api")),
            "segmentAnonymousId": (str, False, ()),
        },
        (
            ("email",),
            ("userId",),
            ("segmentAnonymousId",),
        ),
    ),
    "users.unsubscribe": (
        {
            "email": (str, False, ()),
            "userId": (str, False, ()),
            "id": (str, False, ()),
        },
        (
            ("email",),
            ("userId",),
            ("id",),
        ),
    ),
    "users.untag": (
        {
            "tag": (str, True, ()),
            "email": (str, False, ()),
            "userId": (str, False, ()),
            "id": (str, False, ()),
            "segmentAnonymousId": (str, False, ()),
        },
        (
            ("email",),
            ("userId",),
            ("id",),
            ("segmentAnonymousId",),
        ),
    ),
}
