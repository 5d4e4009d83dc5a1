"""What the sandbox remembers, as frozen data: replaced, never edited, so no reader sees half a change."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody in the account.

    The field names of the JSON forms are those of `EndUser` in Encharge's OpenAPI document
    (server https://api.encharge.io/v1).
    """

    #: a UUID given by the sandbox, as Encharge gives one; not the customer's userId
    id: str
    user_id: str | None
    email: str | None
    fields: Mapping[str, Any]
    tags: tuple[str, ...]
    unsubscribed: bool
    archived: bool
    created_at: str
    updated_at: str

    def as_json(self) -> Json:
        """The whole person, for the page and for tests."""
        return {
            "id": self.id,
            "userId": self.user_id,
            "email": self.email,
            "fields": dict(self.fields),
            "tags": list(self.tags),
            "unsubscribed": self.unsubscribed,
            "archived": self.archived,
            "createdAt": self.created_at,
            "updatedAt": self.updated_at,
        }

    def as_end_user(self) -> Json:
        """{"id", "email", "userId", …fields}: one flat object, as the REST API answers."""
        flat: Json = {**self.fields, "id": self.id, "userId": self.user_id, "email": self.email}
        return flat | {
            "tags": ",".join(self.tags),
            "unsubscribed": self.unsubscribed,
            "createdAt": self.created_at,
            "updatedAt": self.updated_at,
        }


@dataclass(frozen=True, slots=True)
class Item:
    """One custom object, for instance one company."""

    object_name: str
    id: int | str
    external_id: str | None
    fields: Mapping[str, Any]
    created_at: str
    updated_at: str

    def as_json(self) -> Json:
        """The whole object, for the page and for tests."""
        return {
            "object": self.object_name,
            "id": self.id,
            "externalId": self.external_id,
            "fields": dict(self.fields),
            "createdAt": self.created_at,
            "updatedAt": self.updated_at,
        }

    def as_object(self) -> Json:
        """{"id", "externalId", …fields}: one flat object, as the REST API answers."""
        return {**self.fields, "id": self.id, "externalId": self.external_id}


@dataclass(frozen=True, slots=True)
class Change:
    """Something that really changed, in the words of the Activity Stream.

    Names: https://docs.encharge.io/advanced/activity-stream
    """

    #: "newUser", "added-tag-vip", "updatedObject-company", …
    name: str
    #: "newUser", "updatedUser", "unsubscribedUser", "tag", "object", "association"
    type: str
    properties: Json
    at: datetime
    person: Person | None = None
    item: Item | None = None

    def __str__(self) -> str:
        changed = ", ".join(self.properties.get("changedFields", ()))
        return f"{self.name}: {changed}" if changed else self.name


@dataclass(frozen=True, slots=True)
class Event:
    """One accepted ingest call and what it did."""

    seq: int
    at: str
    name: str
    person_id: str | None
    effects: tuple[str, ...]
    body: Json

    def as_json(self) -> Json:
        """{"seq", "at", "name", "personId", "effects", "body"}."""
        return {
            "seq": self.seq,
            "at": self.at,
            "name": self.name,
            "personId": self.person_id,
            "effects": list(self.effects),
            "body": self.body,
        }


@dataclass(frozen=True, slots=True)
class Call:
    """One request that an API took and did its work for, in the order in which they came."""

    seq: int
    at: str
    method: str
    path: str
    body: bytes
    status: int
    #: seconds from the work to the answer, 0 without a fault; None = the caller was not told what was done
    answered_after_s: float | None

    def as_json(self) -> Json:
        """{"seq", "at", "method", "path", "body" (text), "status", "answeredAfterS"}."""
        return {
            "seq": self.seq,
            "at": self.at,
            "method": self.method,
            "path": self.path,
            "body": self.body.decode(errors="replace"),
            "status": self.status,
            "answeredAfterS": self.answered_after_s,
        }


@dataclass(slots=True)
class Journal:
    """What one request changes, in order; and remarks on what it asked for and did not get."""

    now: Callable[[], datetime]
    changes: list[Change] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def changed(
        self, name: str, kind: str, properties: Json, person: Person | None = None, item: Item | None = None
    ) -> None:
        """Note one change."""
        self.changes.append(Change(name, kind, properties, self.now(), person, item))

    def remark(self, text: str) -> None:
        """Note something a reader of the page would otherwise wonder about."""
        self.remarks.append(text)

    def stamp(self) -> str:
        """The time as RFC 3339."""
        return rfc3339(self.now())

    def effects(self) -> tuple[str, ...]:
        """Everything noted so far, as text."""
        return (*map(str, self.changes), *self.remarks)

    def clear(self) -> None:
        """Start the next request."""
        self.changes = []
        self.remarks = []


def rfc3339(at: datetime) -> str:
    """'2026-01-02T03:04:05.678Z'."""
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def changed_fields(old: Mapping[str, Any], new: Mapping[str, Any]) -> Json:
    """{field: {"newValue", "oldValue"}} of the values that really differ.

    Equal values of another type differ too: Python calls True and 1 equal, Encharge's users would not.
    """
    return {
        name: {"newValue": value, "oldValue": old.get(name)}
        for name, value in new.items()
        if (type(value), value) != (type(old.get(name)), old.get(name))
    }
