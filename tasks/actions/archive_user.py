"""Archive a person, or erase one.

REST API, ArchivePeople (`force=true` erases): https://docs.encharge.io/
"""

from typing import Final

from tasks.action import Action, Field, Fields, Request, person


def requests(fields: Fields) -> tuple[Request, ...]:
    ((name, value),) = tuple(person(fields, "email", "userId", "id").items())[:1]
    force = (("force", "true"),) if fields.get("erase") else ()
    return (Request("encharge_api", "DELETE", "/people", query=((f"people[0][{name}]", value), *force)),)


ACTION: Final = Action(
    "archive_user",
    "users.archive",
    "Archive a person; with erase, delete the person for good.",
    {
        "email": Field("The person's e-mail address."),
        "userId": Field("The person's id in your product."),
        "id": Field("The person's id in Encharge."),
        "erase": Field("true deletes for good (GDPR).", "boolean"),
    },
    requests,
)
