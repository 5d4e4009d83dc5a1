"""Create or update a custom object, such as a company.

Ingest API, special event "group": https://docs.encharge.io/getting-started/connecting-your-app-to-encharge/ingest-api
"""

from typing import Final

from tasks.action import Action, Field, Fields, Request, in_segments_form, present
from tasks.actions import segment


def requests(fields: Fields) -> tuple[Request, ...]:
    # The ids are given last: the object's own data must not overwrite what says which object it is.
    ids = present(externalId=fields.get("externalId"), id=fields.get("id"))
    user = present(email=fields.get("email"), userId=fields.get("userId"))
    data = fields.get("objectData", {})
    segments = in_segments_form(fields, ACTION.fields)
    if segments:
        # As Segment does: a group's own `id` is the sender's, which Encharge would take for one of its own.
        data = {key: value for key, value in data.items() if key in ids or key not in {"externalId", "id"}}
    body = present(
        name="group",
        type="group",
        objectType=fields["objectType"],
        properties={**data, **ids},
        user=user if user or segments else None,
    )
    return (Request("encharge_ingest", "POST", "", body),)


ACTION: Final = Action(
    "upsert_object",
    "objects.upsert",
    "Create or update an object, and associate a person with it. Fields unknown to the object's schema are ignored.",
    segment.merged(
        "upsert_object",
        {
            "objectType": Field("Name of the object's schema, such as company.", required=True),
            "externalId": Field("The object's id in your product."),
            "id": Field("The object's id in Encharge."),
            "objectData": Field("Fields of the object.", "object"),
            "email": Field("E-mail address of a person to associate."),
            "userId": Field("Id, in your product, of a person to associate."),
        },
    ),
    requests,
)
