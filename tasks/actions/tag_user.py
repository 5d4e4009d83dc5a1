"""Give a person tags.

Ingest API, `user.tags`, which adds to the tags there are:
https://docs.encharge.io/getting-started/connecting-your-app-to-encharge/ingest-api
"""

from typing import Final

from tasks.action import Action, Field, Fields, Request, person


def requests(fields: Fields) -> tuple[Request, ...]:
    user = {**person(fields, "email", "userId"), "tags": fields["tag"]}
    return (Request("encharge_ingest", "POST", "", {"name": "identify", "user": user}),)


ACTION: Final = Action(
    "tag_user",
    "users.tag",
    "Add one or more tags to a person; the person is created when unknown.",
    {
        "tag": Field("Tags, separated by commas.", required=True),
        "email": Field("The person's e-mail address."),
        "userId": Field("The person's id in your product."),
    },
    requests,
)
