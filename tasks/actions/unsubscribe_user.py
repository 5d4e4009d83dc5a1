"""Stop all e-mail to a person.

REST API, UnsubscribePerson; the Ingest API has no such event: https://docs.encharge.io/
"""

from typing import Final

from tasks.action import Action, Field, Fields, Request, person


def requests(fields: Fields) -> tuple[Request, ...]:
    ids = person(fields, "email", "userId", "id")
    return (Request("encharge_api", "POST", "/people/unsubscribe", query=tuple(ids.items())[:1]),)


ACTION: Final = Action(
    "unsubscribe_user",
    "users.unsubscribe",
    "Unsubscribe a person from all e-mail.",
    {
        "email": Field("The person's e-mail address."),
        "userId": Field("The person's id in your product."),
        "id": Field("The person's id in Encharge."),
    },
    requests,
)
