"""The event plus what we add to it: what travels through the router, and the contract of teams that publish tasks.

JSON Schema: docs/envelope.schema.json, generated from EnvelopeSchema.
"""

import dataclasses
import functools
import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final

from marshmallow import EXCLUDE, Schema, ValidationError, fields, validate

from tasks.errors import InvalidEnvelope
from tasks.hiding import AT, AT_SIGNS, SPELLED_AT, without
from tasks.vocabulary import message_of

VERSION: Final = 1
#: The format of events that are tasks: `type` is the task's name, `event` its arguments.
TASK: Final = "task"
#: What can name a person.
PERSON_IDS: Final = ("email", "phone", "userId")
#: What ids of quarantined messages begin with; no event's id may.
RESERVED: Final = "quarantine:"

_to_json: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
_MOST_OF_A_NAME: Final = 80
#: Looked for only where a word begins: from each of its letters, a long word without @ would take its square.
_ADDRESS: Final = re.compile(rf"(?<![^\s{AT_SIGNS}:=/-]){SPELLED_AT}*+(?:(?!{AT})[^\s:=/-])++{AT}[^\s{AT_SIGNS}]+")
#: In a value nothing but blanks is certain not to belong to an address.
_ADDRESS_IN_VALUE: Final = re.compile(rf"(?<!\S)\S+{AT}\S+")
_AT: Final = re.compile(AT)
#: RFC 3339 in UTC, with a fraction of up to six digits.
_UTC_TIME: Final = validate.Regexp(
    r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|\+00:00)$(?!\n)", error="Not a RFC 3339 time in UTC."
)
_NAME: Final = validate.Regexp(r"^[a-z0-9][a-z0-9_-]{0,63}$(?!\n)", error="Only a-z, 0-9, _ and -, at most 64.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Envelope:
    """One event on its way. Never changed after it was accepted."""

    id: str  #: the sender's id of the event, or a hash of its content; what "the same event" means
    source: str  #: name of the source in sources.yaml
    format: str  #: whose words `event` speaks: "encharge", "segment", …
    type: str  #: kind of event, of few values, by which routes go: "added-tag", "email-open", "track"
    name: str  #: the event's full name: "added-tag-vip", "Order Completed"
    subject: str | None  #: the person or object it is about: the key of ordering
    received_at: str  #: RFC 3339 UTC
    occurred_at: str  #: RFC 3339 UTC; received_at when the sender gives no time
    event: dict[str, Any]  #: what happened, as the source said it; never edited
    raw: Any = None  #: the body as it came, where `event` had to be built out of it
    person: Mapping[str, str] | None = None  #: what names the person: email, phone, userId; as far as known
    #: Keys that the events about one person share ("message:…", "experience:…"): by them an event whose `person` is
    #: unknown learns it from those that know it. Only ids, never an address.
    correlation: Sequence[str] = ()
    personal: Sequence[str] = ()  #: keys about a person that sources.yaml adds to those that are known anyway
    expires_at: str | None = None  #: RFC 3339 UTC; not begun by then, it is given up
    version: int = VERSION

    @functools.cached_property
    def value(self) -> str | None:
        """What a name carries behind its type: "company" of "newObject-company"."""
        rest = self.name.removeprefix(self.type)
        return rest[1:] if rest != self.name and rest[:1] in {"-", ":"} else None

    @functools.cached_property
    def shown(self) -> str:
        """What Flower and logs call it: `encharge · added-tag-vip`."""
        name = self.name
        if self.value:
            name = name[: -len(self.value)] + _ADDRESS_IN_VALUE.sub("…", self.value)
        return _shown(self.source, without_people(name, self.event, self.personal))

    @functools.cached_property
    def encoded(self) -> bytes:
        """As JSON, compact, ASCII; what is optional only where it is there. Measured and then sent: made once."""
        data = {name: getattr(self, name) for name in _FIELDS}
        for name in _OPTIONAL:
            if data[name] is None or data[name] == ():
                del data[name]
        return _to_json(data).encode("ascii")

    @functools.cached_property
    def view(self) -> dict[str, Any]:
        """What routes see: the event's own fields; `message`, what became of which; and `envelope` with our fields.

        Both are ours: no event can claim what became of a message.
        """
        return {
            **self.event,
            "message": message_of(self.format, self.type, self.name, self.event, self.occurred_at),
            "envelope": {
                "id": self.id,
                "source": self.source,
                "format": self.format,
                "type": self.type,
                "name": self.name,
                "value": self.value,
                "subject": self.subject,
                "person": self.person,
                "received_at": self.received_at,
                "occurred_at": self.occurred_at,
            },
        }


@dataclasses.dataclass(frozen=True)
class Rejected:
    """An event that becomes a dead letter at once: its envelope as far as it goes, and what is wrong with it."""

    envelope: Envelope
    error: str  #: for people: names fields, never values
    reason: str = InvalidEnvelope.reason  #: or "undecodable"
    code: str = ""  #: what the sender's own protocol calls it
    task: str = ""  #: the published task that asked for it; then there is nothing to try again: it was never valid

    @property
    def record(self) -> str:
        """What the ledger keeps of it as a dead letter, as JSON."""
        said = {"attempts": [], "reason": self.reason, "error": self.error}
        return json.dumps({**said, "task": self.task} if self.task else said)


def rfc3339(moment: datetime) -> str:
    """A time in UTC as the envelope has it, to the millisecond."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def utc(value: Any) -> datetime | None:
    """ISO 8601, with or without a zone (then UTC) → the time in UTC; None for anything else."""
    if not isinstance(value, str):
        return None
    try:
        found = datetime.fromisoformat(value)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def without_addresses(text: str) -> str:
    """A text for logs and Flower, with anything like an e-mail address left out."""
    return _ADDRESS.sub("…", text)


def without_people(name: str, event: Mapping[str, Any], personal: Sequence[str] = ()) -> str:
    """A name or type for logs, Flower and tables; what goes by it, goes by the name itself."""
    return without(without_addresses(name), event, personal)


def id_without_address(id_: str) -> str:
    """An id that a sender chose, as it may be shown: one with an address in it becomes its hash, always the same."""
    return f"id-{sha256(id_.encode()).hexdigest()[:40]}" if _AT.search(id_) else id_


def shown(source: str, what: str) -> str:
    """A task's name for people."""
    return _shown(source, without_addresses(what))


def _shown(source: str, what: str) -> str:
    return f"{source} · {what[:_MOST_OF_A_NAME]}"


def _plain_id(value: str) -> None:
    if value.startswith(RESERVED):
        raise ValidationError(f"Must not begin with {RESERVED}.")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValidationError("Not text that UTF-8 can carry.") from None


def _real_time(value: str) -> None:
    try:
        datetime.fromisoformat(value)
    except ValueError:
        raise ValidationError("Not a RFC 3339 time in UTC.") from None


class EnvelopeSchema(Schema):
    """The envelope as JSON. Keys we do not know are dropped, so that newer publishers may add some."""

    class Meta:
        unknown = EXCLUDE

    version = fields.Integer(
        required=True,
        strict=True,
        validate=validate.OneOf([VERSION], error="Version {input} is not read here; send version 1."),
        metadata={"description": "Version of this format."},
    )
    id = fields.String(
        required=True,
        validate=[validate.Length(1, 200), _plain_id],
        metadata={"description": "The sender's id of the event; an id seen within the dedupe window is a duplicate."},
    )
    source = fields.String(required=True, validate=_NAME, metadata={"description": "Who says so."})
    format = fields.String(
        required=True,
        validate=_NAME,
        metadata={"description": "Whose words `event` speaks: encharge, segment, …"},
    )
    type = fields.String(
        required=True,
        validate=validate.Length(1, 100),
        metadata={"description": "Kind of event, of few values: routes, metrics and filters go by it."},
    )
    name = fields.String(
        required=True, validate=validate.Length(1, 500), metadata={"description": "The event's full name."}
    )
    subject = fields.String(
        required=True,
        allow_none=True,
        validate=validate.Length(1, 500),
        metadata={"description": "The person or object the event is about: the key of ordering; null = no ordering."},
    )
    received_at = fields.String(
        required=True, validate=[_UTC_TIME, _real_time], metadata={"description": "When it was taken; RFC 3339, UTC."}
    )
    occurred_at = fields.String(
        required=True, validate=[_UTC_TIME, _real_time], metadata={"description": "When it happened; RFC 3339, UTC."}
    )
    event = fields.Dict(
        keys=fields.String(), required=True, metadata={"description": "What happened, as the source said it."}
    )
    raw = fields.Raw(
        allow_none=True,
        metadata={"description": "The body as it came, where `event` had to be built out of it."},
    )
    person = fields.Dict(
        keys=fields.String(validate=validate.OneOf(PERSON_IDS)),
        values=fields.String(validate=validate.Length(1, 500)),
        allow_none=True,
        validate=validate.Length(1),
        metadata={"description": "What names the person (email, phone, userId), as far as the event's sender says it."},
    )
    correlation = fields.List(
        fields.String(validate=validate.Length(1, 200)),
        validate=validate.Length(max=10),
        metadata={
            "description": "Keys that the events about one person share: by them an event whose person is unknown "
            "learns it from those that know it. Ids only, never an address."
        },
    )
    personal = fields.List(
        fields.String(validate=validate.Length(1, 100)),
        validate=validate.Length(max=100),
        metadata={
            "description": "Keys of `event`, at any depth, whose values are about a person, beside those that every "
            "router knows: shown to nobody who does not ask for it."
        },
    )
    expires_at = fields.String(
        allow_none=True,
        validate=[_UTC_TIME, _real_time],
        metadata={"description": "Not begun by then, it becomes a dead letter `expired`; RFC 3339, UTC."},
    )


_SCHEMA: Final = EnvelopeSchema()
_OPTIONAL: Final = ("raw", "person", "correlation", "personal", "expires_at")
_FIELDS: Final = tuple(field.name for field in dataclasses.fields(Envelope))


def encode(envelope: Envelope) -> bytes:
    """Envelope → JSON, compact, ASCII; what is optional only where it is there."""
    return envelope.encoded


def encode_part(fields: Mapping[str, Any]) -> str:
    """Some of an envelope's fields as they stand within its JSON."""
    return _to_json(dict(fields))[1:-1]


def load(data: object) -> Envelope:
    """A decoded JSON value → Envelope.

    Raises InvalidEnvelope, which names each field and what was expected of it, never its value.
    """
    if not isinstance(data, dict):
        raise InvalidEnvelope("an envelope is a JSON object")
    try:
        envelope = Envelope(**_SCHEMA.load(data))
        encode(envelope)
    except ValidationError as error:
        raise InvalidEnvelope(_listed(error.normalized_messages())) from None
    except (ValueError, TypeError, RecursionError):
        raise InvalidEnvelope("event: holds a number or value that JSON has not, or is nested too deeply") from None
    return envelope


def decode(text: bytes) -> Envelope:
    """JSON → Envelope. Raises InvalidEnvelope."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidEnvelope("the envelope is not JSON") from None
    return load(data)


def _listed(messages: dict[str, Any]) -> str:
    return "; ".join(f"{field}: {_first(found)}" for field, found in sorted(messages.items()))


def _first(found: Any) -> str:
    while isinstance(found, dict | list) and found:
        found = next(iter(found.values())) if isinstance(found, dict) else found[0]
    return str(found)
