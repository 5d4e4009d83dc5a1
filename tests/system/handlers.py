"""Handlers of a team's own, as routes name them; how they behave depends on a file, so that a cause can go away."""

import json
import os
import signal
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tasks.action import Request
from tasks.envelope import Envelope

BROKEN = Path(os.environ.get("HANDLERS_BROKEN_FILE", "/nowhere"))


def _track(envelope: Envelope, name: str) -> list[Request]:
    body = {
        "name": name,
        "user": {"email": envelope.event["user"]["email"]},
        "properties": envelope.event["properties"],
    }
    return [Request("encharge_ingest", "POST", "", body)]


def raises(envelope: Envelope) -> list[Request]:
    """Raises while the file is there."""
    if BROKEN.exists():
        raise KeyError(envelope.event["user"]["email"])
    return _track(envelope, "handled")


def quotes(envelope: Envelope) -> list[Request]:
    """Raises, and says of what: the event as JSON, as Python has it, and each word of it in an address."""
    raise ValueError(f"{json.dumps(envelope.event)} {envelope.event!r} {urlencode(_leaves(envelope.event))}")


def repeats(envelope: Envelope) -> list[Request]:
    """Sends all that the event says, in the body and in the query."""
    body = {"name": "repeated", "user": {"userId": envelope.subject or "nobody"}, "properties": envelope.event}
    return [Request("encharge_ingest", "POST", "", body, tuple(_leaves(envelope.event))[:20])]


def _leaves(value: Any) -> list[tuple[str, str]]:
    if isinstance(value, dict | list):
        return [leaf for item in (value.values() if isinstance(value, dict) else value) for leaf in _leaves(item)]
    return [("said", str(value))]


def kills(envelope: Envelope) -> list[Request]:
    """Kills its own process while the file is there."""
    if BROKEN.exists():
        os.kill(os.getpid(), signal.SIGKILL)
    return _track(envelope, "survived")
