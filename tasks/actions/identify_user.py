"""Create or update a person.

Ingest API, "identify": https://docs.encharge.io/getting-started/connecting-your-app-to-encharge/ingest-api
"""

from typing import Final

from tasks.action import Action, Field, Fields, Request, in_segments_form, person, present
from tasks.actions import segment


def requests(fields: Fields) -> tuple[Request, ...]:
    if in_segments_form(fields, ACTION.fields):
        return segment.event_request("identify_user", "identify", fields, "user")
    ids = person(fields, "email", "userId")
    user = {**ids, **fields.get("user", {})}
    body = present(name="identify", user=user, sourceIp=fields.get("ip"))
    return (Request("encharge_ingest", "POST", "", body),)


ACTION: Final = Action(
    "identify_user",
    "users.identify",
    "Create a person, or update the person's fields. Fields unknown to Encharge are created.",
    segment.merged(
        "identify_user",
        {
            "email": Field("The person's e-mail address."),
            "userId": Field("The person's id in your product."),
            "user": Field("Fields to write; they win over email and userId above.", "object"),
            "ip": Field("The person's address, for country and time zone."),
        },
    ),
    requests,
)
