"""Give a person tags.

Ingest API, `user.tags`, which adds to the tags there are:
https://docs.encharge.io/getting-started/connecting-your-app-to-encharge/ingest-api
Or REST API, AddTag, as Segment's Encharge destination does: https://docs.encharge.io/
"""

from typing import Final

from tasks.action import Action, Field, Fields, Request, person
from tasks.actions import segment


def requests(fields: Fields) -> tuple[Request, ...]:
    ids = person(fields, "email", "userId", "segmentAnonymousId", otherwise=segment.NOBODY)
    if fields.get("via") == "api":
        return (Request("encharge_api", "POST", "/tags", {"tag": fields["tag"], **ids}),)
    user = {**ids, "tags": fields["tag"]}
    return (Request("encharge_ingest", "POST", "", {"name": "identify", "user": user}),)


ACTION: Final = Action(
    "tag_user",
    "users.tag",
    "Add one or more tags to a person; the person is created when unknown.",
    segment.merged(
        "tag_user",
        {
            "tag": Field("Tags, separated by commas.", required=True),
            "email": Field("The person's e-mail address."),
            "userId": Field("The person's id in your product."),
            "via": Field("api = REST, as Segment does; ingest if not given.", choices=("ingest", "api")),
        },
    ),
    requests,
)
