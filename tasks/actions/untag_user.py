"""Take tags from a person.

REST API, RemoveTag (DELETE with a JSON body); the Ingest API cannot remove tags: https://docs.encharge.io/
"""

from typing import Final

from tasks.action import Action, Field, Fields, Request, person
from tasks.actions import segment


def requests(fields: Fields) -> tuple[Request, ...]:
    ids = person(fields, "email", "userId", "id", "segmentAnonymousId", otherwise=segment.NOBODY)
    body = {"tag": fields["tag"], **ids}
    return (Request("encharge_api", "DELETE", "/tags", body),)


ACTION: Final = Action(
    "untag_user",
    "users.untag",
    "Remove one or more tags from a person.",
    segment.merged(
        "untag_user",
        {
            "tag": Field("Tags, separated by commas.", required=True),
            "email": Field("The person's e-mail address."),
            "userId": Field("The person's id in your product."),
            "id": Field("The person's id in Encharge."),
        },
    ),
    requests,
)
