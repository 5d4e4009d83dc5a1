"""The seven actions of Segment's destination "Encharge (Actions)": their fields, what they need, and their defaults.

Source: github.com/segmentio/action-destinations, packages/destination-actions/src/destinations/encharge. A mapping
that was made there works here as it is; what it makes is sent with every key and value that Segment sends.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

from tasks.action import Field, Fields, Request, person


@dataclasses.dataclass(frozen=True)
class Definition:
    """One of Segment's actions, as it stands in Segment's catalogue."""

    slug: str
    title: str
    trigger: str | None  #: of Segment's preset; None = Segment has none for this action
    fields: Mapping[str, Field]  #: in the order in which Segment sends them
    constants: Mapping[str, str]  #: fields of ours that make an action do as Segment does


def _at(path: str) -> dict[str, str]:
    return {"@path": f"$.{path}"}


def _first(path: str, other: str) -> dict[str, Any]:
    return {"@if": {"exists": _at(path), "then": _at(path), "else": _at(other)}}


def _text(default: Any = None, *, required: bool = False) -> Field:
    return Field("", default=default, required_in_segment=required)


def _object(path: str) -> Field:
    return Field("", "object", default=_at(path))


def _only(doc: str, default: Any, *, required: bool = False, format: str = "") -> Field:  # noqa: A002 - JSON Schema's word
    return Field(doc, default=default, required_in_segment=required, format=format, only_in_segment=True)


def _keys(doc: str, path: str, *keys: str) -> Field:
    default = {key: _at(f"{path}.{key}") for key in keys}
    return Field(doc, "object", default=default, keys=keys, only_in_segment=True)


_ANONYMOUS: Final = _only("The person's anonymous id at Segment.", _at("anonymousId"))
_TIMESTAMP: Final = _only("When it happened.", _at("timestamp"), format="date-time")
_MESSAGE: Final = _only("Segment's id of the message.", _at("messageId"))
_EMAIL: Final = _text(_first("context.traits.email", "properties.email"))
_USER_ID: Final = _text(_at("userId"))

_COMMON: Final[dict[str, Field]] = {
    "type": _only("Type of the Segment call.", _at("type"), required=True),
    "email": _EMAIL,
    "segmentAnonymousId": _ANONYMOUS,
    "userId": _USER_ID,
    "groupId": _only("Id of the person's group.", _at("context.groupId")),
    "timestamp": _TIMESTAMP,
    "messageId": _MESSAGE,
    "ip": _text(_at("context.ip")),
    "userAgent": _only("The person's browser.", _at("context.userAgent")),
    "campaign": _keys("Where the person came from.", "context.campaign", "name", "source", "medium", "term", "content"),
    "page": _keys("Page on which it happened.", "context.page", "url", "title", "referrer", "path", "search"),
    "location": _keys("Where the person is.", "context.location", "city", "region", "country"),
}
_EVENT: Final = {"properties": _object("properties"), "userFields": _object("context.traits"), **_COMMON}
_IDENTIFY: Final = {
    "user": _object("traits"),
    "email": _text(_first("traits.email", "context.traits.email")),
    **{name: field for name, field in _COMMON.items() if name != "email"},
}
_ALIAS: Final = {
    "userId": _text(_at("userId"), required=True),
    "previousUserId": _text(_at("previousId"), required=True),
    "timestamp": _TIMESTAMP,
    "messageId": _MESSAGE,
}
_OBJECT: Final = {
    "objectType": _text("company", required=True),
    "externalId": _text(_at("groupId")),
    "id": _text(),
    "objectData": _object("traits"),
    "userId": _USER_ID,
    "email": _text(_at("email")),
}
_TAG: Final = {
    "tag": _text(_at("traits.tag"), required=True),
    "email": _EMAIL,
    "userId": _USER_ID,
    "segmentAnonymousId": _ANONYMOUS,
}
_FORM: Final = {"form": "segment"}

#: Our action → Segment's.
DEFINITIONS: Final[Mapping[str, Definition]] = {
    "track_event": Definition(
        "trackEvent", "Track Event", 'type = "track"', {"event": _text(_at("event"), required=True), **_EVENT}, _FORM
    ),
    "identify_user": Definition("identifyUser", "Identify User", 'type = "identify"', _IDENTIFY, _FORM),
    "track_page": Definition("trackPageView", "Track Page View", 'type = "page"', _EVENT, _FORM),
    "alias_user": Definition("aliasUser", "Alias User", 'type = "alias"', _ALIAS, _FORM),
    "upsert_object": Definition("createUpdateObject", "Create or Update Object", 'type = "group"', _OBJECT, _FORM),
    "tag_user": Definition("addTag", "Tag User", None, _TAG, {"via": "api"}),
    "untag_user": Definition("removeTag", "Untag User", None, _TAG, {}),
}
#: Segment's words for a call on a tag that names nobody.
NOBODY: Final = "No user ID, email, or anonymous ID provided."

_FORM_FIELD: Final = Field(
    '"segment" sends what Segment\'s Encharge destination sends; the rule when a field is given that only Segment has.',
    choices=("segment",),
)
#: In this order inside `context`, and not beside it.
_CONTEXT: Final = ("ip", "userAgent", "campaign", "page", "location", "groupId")
_IDS: Final = ("email", "userId", "segmentAnonymousId")


def merged(action: str, own: Mapping[str, Field]) -> dict[str, Field]:
    """The fields of our action with Segment's definitions of them, and then those that only Segment has."""
    definition = DEFINITIONS[action]
    fields = {**own, **{name: field for name, field in definition.fields.items() if name not in own}}
    for name in own.keys() & definition.fields.keys():
        theirs = definition.fields[name]
        fields[name] = dataclasses.replace(
            own[name], default=theirs.default, required_in_segment=theirs.required_in_segment
        )
    return {**fields, "form": _FORM_FIELD} if "form" in definition.constants else fields


def defaults(action: str) -> dict[str, Any]:
    """The mapping that Segment's action has when nobody changes it."""
    definition = DEFINITIONS[action]
    given = {name: field.default for name, field in definition.fields.items() if field.default is not None}
    return {**definition.constants, **given}


def event_request(action: str, name: str, fields: Fields, person_fields: str) -> tuple[Request, ...]:
    """What Segment sends for track, page and identify, with the name that the Ingest API asks for."""
    known = DEFINITIONS[action].fields
    sent = {key: fields[key] for key in known if key in fields and key not in _CONTEXT and key != "user"}
    context = {key: fields[key] for key in _CONTEXT if key in fields}
    user = {**{key: fields[key] for key in _IDS if key in fields}, **fields.get(person_fields, {})}
    person({key: value for key, value in user.items() if value not in (None, "")}, *_IDS)
    return (Request("encharge_ingest", "POST", "", {"name": name, **sent, "context": context, "user": user}),)
