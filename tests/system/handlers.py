"""Handlers of a team's own, as routes name them; how they behave depends on a file, so that a cause can go away."""

import os
import signal
from pathlib import Path

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


def kills(envelope: Envelope) -> list[Request]:
    """Kills its own process while the file is there."""
    if BROKEN.exists():
        os.kill(os.getpid(), signal.SIGKILL)
    return _track(envelope, "survived")
