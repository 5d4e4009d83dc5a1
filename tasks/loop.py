"""Cuts loops: identify → updatedUser in the Activity Stream → identify → … for ever.

What we write to a person because of an Activity Stream event carries a mark, the field MARK with the event's id. When
Encharge then reports that change, the mark is among the changed fields, and nothing is sent to Encharge for it again.
A tag that Encharge reports is never sent back as the same tag of the same person.
"""

from collections.abc import Mapping
from typing import Any, Final

from tasks.envelope import Envelope

#: Person field that holds the id of the event that made us write.
MARK: Final = "eventRouterId"

#: Action → the field through which it writes to the person; only such writes come back as updatedUser.
_WRITES_PERSON: Final[Mapping[str, str]] = {
    "identify_user": "user",
    "track_event": "userFields",
    "track_page": "userFields",
    "forward_event": "user",
}
#: Action → type of the Activity Stream event that Encharge makes of it.
_TAGS: Final[Mapping[str, str]] = {"tag_user": "added-tag", "untag_user": "removed-tag"}


def marked(envelope: Envelope, action: str, fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """The fields, with our mark where they write to a person because of an Activity Stream event."""
    field = _WRITES_PERSON.get(action)
    if envelope.format != "encharge" or field is None or (field == "userFields" and not fields.get(field)):
        return fields
    return {**fields, field: {**fields.get(field, {}), MARK: envelope.id}}


def is_echo(envelope: Envelope, action: str, fields: Mapping[str, Any]) -> bool:
    """Whether the event only reports what we did, and the action would do it again."""
    if envelope.format != "encharge":
        return False
    properties = envelope.event.get("properties")
    properties = properties if isinstance(properties, dict) else {}
    if envelope.type == "updatedUser":
        changed = properties.get("changedFields")
        return isinstance(changed, dict) and MARK in changed
    user = envelope.event.get("user")
    return (
        _TAGS.get(action) == envelope.type
        and isinstance(user, dict)
        and fields.get("tag") == properties.get("tag")
        and fields.get("email", user.get("email")) == user.get("email")
    )
