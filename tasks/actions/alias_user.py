"""Give a person new identifiers.

Ingest API, special event "alias": https://docs.encharge.io/getting-started/connecting-your-app-to-encharge/ingest-api
"""

from typing import Final

from tasks.action import Action, Field, Fields, Request, in_segments_form, person, present
from tasks.actions import segment


def requests(fields: Fields) -> tuple[Request, ...]:
    previous = person(fields, "previousUserId", "previousEmail")
    body = present(name="alias", type="alias", **previous, user=person(fields, "userId", "email"))
    if in_segments_form(fields, ACTION.fields):
        # Segment gives the new id beside the old one, where the Ingest API wants it inside `user`.
        beside = {name: fields[name] for name in segment.DEFINITIONS["alias_user"].fields if name in fields}
        body = {**body, **beside}
    return (Request("encharge_ingest", "POST", "", body),)


ACTION: Final = Action(
    "alias_user",
    "users.alias",
    "Change the user id or e-mail address by which a person is known.",
    segment.merged(
        "alias_user",
        {
            "userId": Field("The new id in your product."),
            "email": Field("The new e-mail address."),
            "previousUserId": Field("The id until now."),
            "previousEmail": Field("The e-mail address until now."),
        },
    ),
    requests,
)
