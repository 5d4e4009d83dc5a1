"""A worker whose consumer gets stuck with the first ticket that it takes: connected, and deaf ever after."""

import threading
from typing import Any

from celery import signals

from tasks.celery import app  # noqa: F401 - what `celery -A` looks for


def _stand_still(**_: Any) -> None:
    threading.Event().wait()


# Sent by the loop's own thread, between taking a message off the queue and giving it to a thread.
signals.task_received.connect(_stand_still)
