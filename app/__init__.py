"""HTTP in: verify, wrap, enqueue, answer. Knows no handler."""

from collections.abc import Mapping

from flask import Flask

from app import health, webhooks
from app.source import Source
from tasks.ledger import Ledger
from tasks.queue import Queue


def create_app(sources: Mapping[str, Source], queue: Queue, ledger: Ledger) -> Flask:
    """The web application; everything it needs is handed in."""
    app = Flask("event-router", static_folder=None)
    webhooks.add(app, sources, queue)
    health.add(app, queue, ledger)
    return app
