"""Is it alive, is it ready, and what does it count: /livez, /readyz, /metrics."""

import json
from collections.abc import Iterable

from flask import Flask, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from config.metrics import METRICS
from tasks.gates import gates
from tasks.ledger import Ledger


def add(app: Flask, ledger: Ledger) -> None:
    """Register the three addresses."""
    registry = CollectorRegistry()
    registry.register(LedgerCollector(ledger))

    def livez() -> Response:
        return Response('{"code": "alive"}', mimetype="application/json")

    def readyz() -> Response:
        ready = ledger.ping()
        code = "ready" if ready else "redis_unreachable"
        return Response(json.dumps({"code": code}), 200 if ready else 503, mimetype="application/json")

    def metrics() -> Response:
        return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)

    app.add_url_rule("/livez", "livez", livez)
    app.add_url_rule("/readyz", "readyz", readyz)
    app.add_url_rule("/metrics", "metrics", metrics)


class LedgerCollector(Collector):
    """Reads every number from the ledger when asked, so any process can answer for all."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

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
        for what, size in self._ledger.sizes().items():
            families[f"event_router_{what}"].add_metric([], size)
        for gate in gates(self._ledger):
            families["event_router_gate_shut"].add_metric([gate.name, gate.mode], float(gate.mode != "flowing"))
            families["event_router_gate_parked"].add_metric([gate.name], gate.parked)
            families["event_router_gate_oldest_seconds"].add_metric([gate.name], gate.oldest_parked_s)
        return families.values()
