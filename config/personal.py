"""Which keys of an event are about a person, for each kind of source; sources.yaml (`personal`) adds to them.

A key counts at any depth, with all that is below it. How keys are written does not matter: `firstName`, `first_name`
and `First Name` are one. What is not here stays readable, since somebody has to find out what went wrong: names of
events, tags, flows, e-mails and objects, ids of messages, addresses of pages, times, outcomes.
"""

from typing import Final

#: Those that say who a person is. Shown as a keyed hash: two events are seen to be about one person, not about whom.
IDENTIFYING: Final = (
    "email",
    "emailAddress",
    "phone",
    "phoneNumber",
    "mobile",
    "mobilePhone",
    "userId",
    "anonymousId",
    "previousId",
    "endUserId",
    "personId",
    "recipient",
    "sender",
)
#: Those that are about a person whoever says so: in every event, and in what destinations answer.
EVERYWHERE: Final = (
    *IDENTIFYING,
    "firstName",
    "middleName",
    "lastName",
    "fullName",
    "username",
    "birthday",
    "birthDate",
    "dateOfBirth",
    "gender",
    "address",
    "street",
    "postalCode",
    "zipCode",
    "location",
    "latitude",
    "longitude",
    "ip",
    "ipAddress",
    "sourceIp",
    "userAgent",
    "avatar",
    "password",
)

#: Kind of source → what its events have beside those. Each kind's documentation is named in app/sources/.
KINDS: Final[dict[str, tuple[str, ...]]] = {
    # `newValue` and `oldValue` are the fields of a person that changed; `message` is the text of an SMS.
    "encharge": ("user", "endUserData", "form", "message", "newValue", "oldValue"),
    # `item` is what stands in a batch and is no event at all.
    "segment": ("traits", "externalIds", "device", "search", "item"),
    "activity_sync": (
        *("to", "cc", "bcc", "from", "replyTo", "subject", "body", "plainTextBody", "attachments", "detail"),
        *("outcomeReason", "errors", "matchedIntentKey", "matchedPart", "customContext"),
    ),
    # Its `id` is the user's.
    "activatepro": ("id",),
}
KINDS.update(dict.fromkeys(("segment_webhook", "segment_stream"), KINDS["segment"]))
#: Keys of what was kept in place of an event, since it was none: nobody knows what of it is about a person.
NO_EVENT: Final = frozenset({"item", "value", "record", "encoding"})
#: The format of records of which no source could make an event.
NO_FORMAT: Final = "record"
#: For events whose source is not known here: what any of them has.
ANY: Final = tuple(dict.fromkeys(key for keys in KINDS.values() for key in keys))
#: What a destination may say with the same words, and not of a person.
ANSWERS: Final = frozenset({"id", "message", "detail", "errors", "subject", "body", "from", "to", "form", "search"})
