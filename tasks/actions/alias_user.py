"""Give a person new identifiers.

Ingest API, special event "alias": https://docs.encharge.io/getting-started/connecting-your-app-to-encharge/ingest-api
"""

from typing import Final

from tasks.action import Action, Field, Fields, Request, person, present


def requests(fields: Fields) -> tuple[Request, ...]:
    previous = person(fields, "previousUserId", "previousEmail")
    body = present(name="alias", type="alias", **previous, user=person(fields, "userId", "email"))
    return (Request("encharge_ingest", "POST", "", body),)


ACTION: Final = Action(
    "alias_user",
    "users.alias",
    "Change the user id or e-mail address by which a person is known.",
    {
        "userId": Field("The new id in your product."),
        "email": Field("The new e-mail address."),
        "previousUserId": Field("The id until now."),
        "previousEmail": Field("The e-mail address until now."),
    },
    requests,
)
