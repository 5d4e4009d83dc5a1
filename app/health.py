"""Is it alive, is it ready, and what does it count: /livez, /readyz, /metrics."""

import hmac
import json
from collections.abc import Iterable
from typing import Final

from flask import Flask, Response, request
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from config.metrics import METRICS
from tasks.ledger import Ledger
from tasks.queue import Queue

_THIS_MACHINE: Final = frozenset({"127.0.0.1", "::1", "::ffff:127.0.0.1"})


def add(app: Flask, queue: Queue, ledger: Ledger, metrics_token: str = "") -> None:
    """Register the three addresses; without a token, /metrics is for this machine only."""
    registry = CollectorRegistry()
    registry.register(LedgerCollector(ledger, queue.key))

    def livez() -> Response:
        return Response('{"code": "alive"}', mimetype="application/json")

    def readyz() -> Response:
        ready = ledger.ping()
        code = "ready" if ready else "redis_unreachable"
        return Response(json.dumps({"code": code}), 200 if ready else 503, mimetype="application/json")

    def metrics() -> Response:
        if not _may_read_metrics(metrics_token):
            return Response('{"code": "unauthorized"}', 401, {"WWW-Authenticate": "Bearer"}, "application/json")
        return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)

    app.add_url_rule("/livez", "livez", livez)
    app.add_url_rule("/readyz", "readyz", readyz)
    app.add_url_rule("/metrics", "metrics", metrics)


def _may_read_metrics(token: str) -> bool:
    if token:
        given = request.headers.get("Authorization", "").partition(" ")
        known = hmac.compare_digest(given[2].strip().encode("utf-8", "replace"), token.encode())
        return known and given[0].lower() == "bearer"
    # Behind a proxy on this machine everybody seems to be local; proxies say for whom they ask.
    forwarded = any(name in request.headers for name in ("X-Forwarded-For", "X-Forwarded-Proto", "Forwarded"))
    return not forwarded and request.remote_addr in _THIS_MACHINE


class LedgerCollector(Collector):
    """Reads every number from the ledger when asked, so any process can answer for all."""

    def __init__(self, ledger: Ledger, queue_key: str) -> None:
        self._ledger = ledger
        self._queue_key = queue_key

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterable[Metric]:
        families = {
            name: (CounterMetricFamily if kind == "counter" else GaugeMetricFamily)(name, doc, labels=labels)
            for name, (kind, labels, doc) in METRICS.items()
        }
        nouns = {"source": "events", "route": "deliveries"}
        for (kind, name), states in self._ledger.counts().items():
            for state, number in states.items():
                if state == "waiting":
                    families[f"event_router_{kind}_waiting"].add_metric([name], number)
                else:
                    families[f"event_router_{kind}_{nouns[kind]}_total"].add_metric([name, state], number)
        for what, size in self._ledger.sizes(self._queue_key).items():
            families[f"event_router_{what}"].add_metric([], size)
        return families.values()
