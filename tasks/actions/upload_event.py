"""Tell ActivatePro that a person did something.

Events API of Spotler ActivatePro: https://activatepro.spotler.help/hc/en-gb/articles/28288201296402
"""

from typing import Final

from tasks.action import Action, Field, Fields, Request, in_utc, person, present


def requests(fields: Fields) -> tuple[Request, ...]:
    ids = person(fields, "id", "userId", "email")
    id_ = ids.get("id", ids.get("userId"))
    # The address only stands in for an id; beside one it could name somebody else.
    email = None if id_ else ids["email"]
    identity = present(id=id_, email=email, businessUnit=fields.get("businessUnit"))
    event = present(
        event=fields["event"],
        timestamp=in_utc("timestamp", fields["timestamp"]) if "timestamp" in fields else None,
        properties=fields.get("properties"),
    )
    return (Request("activatepro", "POST", "/events", {**identity, "events": [event]}),)


ACTION: Final = Action(
    "upload_event",
    "events.upload",
    "Record an event of a user in ActivatePro. Events of one user that wait together go in one request, up to 50.",
    {
        "event": Field("Name of the event; ActivatePro must know it (a class of events).", required=True),
        "id": Field("The user's id in ActivatePro."),
        "userId": Field("Another name for id."),
        "email": Field("The user's e-mail address, where there is no id."),
        "businessUnit": Field("Which of several shops the user is one of."),
        "timestamp": Field("When it happened, with a zone; the event's own time if not given."),
        "properties": Field("What is known about the event.", "object"),
    },
    requests,
    system="activatepro",
    given={"timestamp": "occurred_at"},
)
