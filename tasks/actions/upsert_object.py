"""Create or update a custom object, such as a company.

Ingest API, special event "group": https://docs.encharge.io/getting-started/connecting-your-app-to-encharge/ingest-api
"""

from typing import Final

from tasks.action import Action, Field, Fields, Request, present


def requests(fields: Fields) -> tuple[Request, ...]:
    # The ids are given last: the object's own data must not overwrite what says which object it is.
    ids = present(externalId=fields.get("externalId"), id=fields.get("id"))
    user = present(email=fields.get("email"), userId=fields.get("userId"))
    body = present(
        name="group",
        type="group",
        objectType=fields["objectType"],
        properties={**fields.get("objectData", {}), **ids},
        user=user or None,
    )
    return (Request("encharge_ingest", "POST", "", body),)


ACTION: Final = Action(
    "upsert_object",
    "objects.upsert",
    "Create or update an object, and associate a person with it. Fields unknown to the object's schema are ignored.",
    {
        "objectType": Field("Name of the object's schema, such as company.", required=True),
        "externalId": Field("The object's id in your product."),
        "id": Field("The object's id in Encharge."),
        "objectData": Field("Fields of the object.", "object"),
        "email": Field("E-mail address of a person to associate."),
        "userId": Field("Id, in your product, of a person to associate."),
    },
    requests,
)
