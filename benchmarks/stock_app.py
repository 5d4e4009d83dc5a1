"""The plain way that accept.py compares with: a minimal Flask app, one `task.delay(event)` of a stock Celery app.

It checks no secret, keeps no ledger, drops no duplicate and never says that it is full.
"""

import os
from typing import Any

from celery import Celery
from flask import Flask, request

celery = Celery("stock", broker=os.environ["REDIS_URL"])
celery.conf.update(task_serializer="json", accept_content=["json"], task_ignore_result=True)
app = Flask("stock", static_folder=None)


@celery.task(name="events.stock")
def work(event: dict[str, Any]) -> None:
    """What a worker would do; the benchmark starts none."""


@app.post("/webhooks/encharge")
def receive() -> dict[str, str]:
    """Enqueue the event."""
    work.delay(request.get_json())
    return {"code": "accepted"}
