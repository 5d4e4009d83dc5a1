"""HTTP in: verify, wrap, enqueue, answer. Knows no handler."""

import json
from collections.abc import Mapping

from flask import Flask, Response
from werkzeug.exceptions import HTTPException

from app import activatepro, firehose, health, tracking, webhooks
from app.activatepro import Events
from app.doors import Door, Doors
from app.firehose import Firehose
from app.intake import Intake
from app.metrics import spool_part, streams_part
from app.pressure import Pressure
from app.source import Source
from app.spool import Spool
from app.tracking import Tracking
from app.webhooks import Webhooks
from tasks.ledger import Ledger
from tasks.measures import Measures
from tasks.metrics import Exporter, LedgerPart
from tasks.metrics_page import Page
from tasks.publishers import Publishers
from tasks.queue import Queue


def create_app(
    sources: Mapping[str, Source],
    queue: Queue,
    ledger: Ledger,
    spool: Spool | None = None,
    pressure: Pressure | None = None,
    metrics_token: str = "",
    measures: Measures | None = None,
    publishers: Publishers | None = None,
) -> Flask:
    """The web application; everything it needs is handed in. Without a spool, what Redis does not take is refused.

    What it measures is told once somebody has started `measures`.
    """
    app = Flask("event-router", static_folder=None)
    pressure = pressure or Pressure()
    refusing = [source.name for source in sources.values() if source.when_full == "refuse"]
    intake = Intake(queue, ledger, spool, pressure, refusing)
    streamed = [source.name for source in sources.values() if source.kinesis is not None]
    told = (
        LedgerPart(ledger, sources, publishers or Publishers()),
        streams_part(ledger.client, streamed),
        spool_part(spool),
    )
    health.add(app, ledger, spool, pressure, Page(Exporter(told, web=True), metrics_token))
    app.register_error_handler(HTTPException, _error)
    streams = Firehose(sources, intake)
    doors: dict[str, Door] = {
        webhooks.PREFIX: Webhooks(sources, intake),
        tracking.PREFIX: Tracking(sources, intake),
        firehose.PREFIX: streams,
        firehose.PREFIX.rstrip("/"): streams,  # an address without its end is refused in Firehose's form, too
        activatepro.PREFIX: Events(sources, intake),
    }
    app.wsgi_app = Doors(doors, app.wsgi_app, measures or Measures(ledger))  # type: ignore[method-assign]
    return app


def _error(error: HTTPException) -> Response:
    """Every error as JSON `{code, message}`, with the headers that belong to it (Allow, …)."""
    data = {"code": error.name.lower().replace(" ", "_"), "message": error.name}
    ours = Response(json.dumps(data), error.code or 500, mimetype="application/json")
    ours.headers.extend([pair for pair in error.get_response().headers if pair[0] not in ours.headers])
    return ours
