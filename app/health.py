"""Is it alive, is it ready, and what does it count: /livez, /readyz, /metrics."""

import json
from collections.abc import Mapping

from flask import Flask, Response, request
from werkzeug.wrappers import Response as WerkzeugResponse

from app.pressure import Pressure
from app.spool import Spool
from tasks.ledger import Ledger
from tasks.metrics_page import PATH, Page


def add(app: Flask, ledger: Ledger, spool: Spool | None, pressure: Pressure, page: Page) -> None:
    """Register the three addresses."""

    def livez() -> Response:
        return Response('{"code": "alive"}', mimetype="application/json")

    def readyz() -> Response:
        status, data = readiness(ledger, spool, pressure)
        return Response(json.dumps(data), status, mimetype="application/json")

    def metrics() -> WerkzeugResponse:
        return Response.from_app(page, request.environ)

    app.add_url_rule("/livez", "livez", livez)
    app.add_url_rule("/readyz", "readyz", readyz)
    app.add_url_rule(PATH, "metrics", metrics)


def readiness(ledger: Ledger, spool: Spool | None, pressure: Pressure) -> tuple[int, Mapping[str, object]]:
    """Whether an event sent now would be taken: status and answer."""
    reachable = ledger.ping()
    if spool is None or (reachable and not pressure.high and not spool.holding()):
        return (200, {"code": "ready"}) if reachable else (503, {"code": "redis_unreachable"})
    if spool.takes():
        return 200, {"code": "spooling", "spooled": spool.size().events}
    return 503, {"code": "spool_full" if reachable or spool.holding() else "redis_unreachable"}
