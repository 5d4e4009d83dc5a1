"""Say that a person did something.

Ingest API: https://docs.encharge.io/getting-started/connecting-your-app-to-encharge/ingest-api
"""

from typing import Final

from tasks.action import Action, Field, Fields, Request, in_segments_form, person, present
from tasks.actions import segment


def requests(fields: Fields) -> tuple[Request, ...]:
    if in_segments_form(fields, ACTION.fields):
        return segment.event_request("track_event", fields["event"], fields, "userFields")
    ids = person(fields, "email", "userId")
    body = present(
        name=fields["event"],
        user={**ids, **fields.get("userFields", {})},
        properties=fields.get("properties"),
        sourceIp=fields.get("ip"),
    )
    return (Request("encharge_ingest", "POST", "", body),)


ACTION: Final = Action(
    "track_event",
    "events.track",
    "Record an event of a person; the person is created when unknown.",
    segment.merged(
        "track_event",
        {
            "event": Field("Name of the event.", required=True),
            "email": Field("The person's e-mail address."),
            "userId": Field("The person's id in your product."),
            "properties": Field("What is known about the event.", "object"),
            "userFields": Field("Fields of the person to write along.", "object"),
            "ip": Field("The person's address, for country and time zone."),
        },
    ),
    requests,
)
