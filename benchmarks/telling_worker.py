"""The worker as it is, as it would be with Celery's own events of tickets, or without any: TOLD says which."""

import os
from typing import Any

from celery import signals

from tasks.queue import ROUTE_TASK
from tasks.telling import Telling
from tasks.worker import build

TOLD = os.environ["TOLD"]

if TOLD != "events":
    Telling.start = lambda *_: None  # type: ignore[method-assign]
app = build(os.environ)
app.conf.worker_send_task_events = TOLD != "nothing"


def set_up(instance: Any, **_: Any) -> None:
    instance.app.tasks[ROUTE_TASK].send_events = TOLD == "tickets"


if TOLD != "events":
    signals.celeryd_after_setup.connect(set_up)
