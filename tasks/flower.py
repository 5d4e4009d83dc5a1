"""Composition root of Flower: `celery -A tasks.flower flower`; its options are in config/flower.py.

Flower shows what it hears, and anybody who may publish may tell it something: it hears through tasks/rows.py.
"""

from typing import Any

import flower.events

from tasks import rows
from tasks.celery import app

__all__ = ["app"]


class Receiver(flower.events.EventReceiver):
    """Takes Celery's events, from whomever."""

    def _receive(self, body: Any, message: Any, **_: Any) -> None:  # noqa: ARG002 - Celery's signature
        for event in body if isinstance(body, list) else [body]:
            if (told := rows.heard(event)) is not None:
                self.process(*self.event_from_message(told))


class Metrics(flower.events.PrometheusMetrics):
    """What Flower's own /metrics tells, to anybody: of workers only.

    Stock 2.2 makes some 26 series for each name of a task and worker, and forgets none; names of ours are of events.
    """

    def observe_task(self, worker: str, event: Any, task: Any) -> None:
        """Nothing."""


flower.events.EventReceiver = Receiver
flower.events.PrometheusMetrics = Metrics
