"""Send an event to a receiver of webhooks.

The body is that of Standard Webhooks:
https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from typing import Final

from tasks.action import Action, Field, Fields, Request, in_utc, present
from tasks.webhooks import PREFIX


def requests(fields: Fields) -> tuple[Request, ...]:
    timestamp = in_utc("timestamp", fields["timestamp"]) if "timestamp" in fields else None
    body = present(type=fields["type"], timestamp=timestamp, data=fields["data"])
    return (Request(f"{PREFIX}{fields['to']}", "POST", "", body, id=fields.get("id", "")),)


ACTION: Final = Action(
    "send_webhook",
    "events.webhook",
    "Send an event to a receiver that `webhooks` declares, signed as Standard Webhooks.",
    {
        "to": Field("Name of the webhook; the same for every event.", required=True),
        "type": Field("Kind of event as the receiver knows it, such as user.created.", required=True),
        "data": Field("What is told.", "object", required=True),
        "timestamp": Field("When it happened, with a zone; the event's own time if not given."),
        "id": Field("By which the receiver knows it when it comes again; the delivery's own if not given."),
    },
    requests,
    system="webhook",
    given={"timestamp": "occurred_at", "id": "delivery"},
)
