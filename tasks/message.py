"""What triggers and mappings see of an event: its own fields, `envelope`, and `message` where it is about one."""

from typing import Any

from tasks.envelope import Envelope
from tasks.vocabulary import message_in, vocabulary


def message(envelope: Envelope) -> dict[str, Any] | None:
    """What became of which message: state, channel, what is known of it, its name in each system; None = no message.

    {"state": "clicked", "channel": "email", "id": "59969", "url": "https://…", "at": "2026-…Z", "words": {"encharge":
    "email-click", "activity_sync": "message-link-clicked", …}}. Keys without a value are not there, but for channel.
    """
    table = vocabulary()
    name = table.formats.get(envelope.format)
    if name is None:
        return None
    word = table.systems[name].words.get(envelope.name)
    # Another call of Segment's may be called as one of its events: an identify has no name, a page has any.
    if word is None or (name == "segment" and envelope.type != "track"):
        return None
    return message_in(table.systems[name], word, envelope.event, envelope.occurred_at)


def view(envelope: Envelope) -> dict[str, Any]:
    """What a route sees of the event. `message` is ours like `envelope`: nobody can claim what became of a message."""
    if "view" not in envelope.notes:
        envelope.notes["view"] = {**envelope.view, "message": message(envelope)}
    seen: dict[str, Any] = envelope.notes["view"]
    return seen
