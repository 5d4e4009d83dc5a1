"""Send an event on as it is.

Ingest API: https://docs.encharge.io/getting-started/connecting-your-app-to-encharge/ingest-api
"""

from typing import Final

from tasks.action import Action, Field, Fields, Request, person, present


def requests(fields: Fields) -> tuple[Request, ...]:
    person(fields["user"], "email", "userId")
    body = present(
        name=fields["name"],
        type=fields.get("type"),
        user=fields["user"],
        properties=fields.get("properties"),
        sourceIp=fields.get("sourceIp"),
    )
    return (Request("encharge_ingest", "POST", "", body),)


ACTION: Final = Action(
    "forward_event",
    "events.forward",
    "Send a whole event, in the form of Encharge's Ingest API.",
    {
        "name": Field("Name of the event.", required=True),
        "user": Field("The person, with email or userId.", "object", required=True),
        "properties": Field("What is known about the event.", "object"),
        "type": Field("Type, where the event is a special one."),
        "sourceIp": Field("The person's address, for country and time zone."),
    },
    requests,
)
