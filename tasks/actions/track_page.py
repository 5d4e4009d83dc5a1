"""Say that a person saw a page.

Ingest API, with the type that Segment's Encharge destination gives page views:
https://docs.encharge.io/getting-started/connecting-your-app-to-encharge/ingest-api
"""

from typing import Final

from tasks.action import Action, Field, Fields, Request, in_segments_form, person, present
from tasks.actions import segment


def requests(fields: Fields) -> tuple[Request, ...]:
    name = fields.get("name", "Page View")
    if in_segments_form(fields, ACTION.fields):
        return segment.event_request("track_page", name, fields, "userFields")
    ids = person(fields, "email", "userId")
    body = present(
        name=name,
        type="page",
        user={**ids, **fields.get("userFields", {})},
        properties=fields.get("properties"),
        sourceIp=fields.get("ip"),
    )
    return (Request("encharge_ingest", "POST", "", body),)


ACTION: Final = Action(
    "track_page",
    "events.page",
    "Record a page view of a person.",
    segment.merged(
        "track_page",
        {
            "name": Field('Name of the event; "Page View" if not given.'),
            "email": Field("The person's e-mail address."),
            "userId": Field("The person's id in your product."),
            "properties": Field("url, title, referrer and whatever else is known.", "object"),
            "userFields": Field("Fields of the person to write along.", "object"),
            "ip": Field("The person's address, for country and time zone."),
        },
    ),
    requests,
)
