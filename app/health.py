"""Is it alive, is it ready, and what does it count: /livez, /readyz, /metrics."""

import hmac
import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import structlog
from flask import Flask, Response, request
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app.kinesis.watch import watch
from app.pressure import Pressure
from app.spool import Spool
from config.metrics import METRICS
from tasks.gates import gates
from tasks.heartbeat import Heartbeats
from tasks.ledger import Ledger

log = structlog.get_logger("app.health")

_THIS_MACHINE: Final = frozenset({"127.0.0.1", "::1", "::ffff:127.0.0.1"})


def add(
    app: Flask,
    ledger: Ledger,
    spool: Spool | None,
    pressure: Pressure,
    metrics_token: str = "",
    streamed: Sequence[str] = (),
) -> None:
    """Register the three addresses; without a token, /metrics is for this machine only.

    `streamed` = names of the sources that are read from a stream.
    """
    registry = CollectorRegistry()
    registry.register(RouterCollector(ledger, spool, pressure, streamed))

    def livez() -> Response:
        return Response('{"code": "alive"}', mimetype="application/json")

    def readyz() -> Response:
        status, data = readiness(ledger, spool, pressure)
        return Response(json.dumps(data), status, mimetype="application/json")

    def metrics() -> Response:
        if not _may_read_metrics(metrics_token):
            return Response('{"code": "unauthorized"}', 401, {"WWW-Authenticate": "Bearer"}, "application/json")
        return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)

    app.add_url_rule("/livez", "livez", livez)
    app.add_url_rule("/readyz", "readyz", readyz)
    app.add_url_rule("/metrics", "metrics", metrics)


def readiness(ledger: Ledger, spool: Spool | None, pressure: Pressure) -> tuple[int, Mapping[str, object]]:
    """Whether an event sent now would be taken: status and answer."""
    reachable = ledger.ping()
    if spool is None or (reachable and not pressure.high and not spool.holding()):
        return (200, {"code": "ready"}) if reachable else (503, {"code": "redis_unreachable"})
    if spool.takes():
        return 200, {"code": "spooling", "spooled": spool.size().events}
    return 503, {"code": "spool_full" if reachable or spool.holding() else "redis_unreachable"}


def _may_read_metrics(token: str) -> bool:
    if token:
        given = request.headers.get("Authorization", "").partition(" ")
        known = hmac.compare_digest(given[2].strip().encode("utf-8", "replace"), token.encode())
        return known and given[0].lower() == "bearer"
    # Behind a proxy on this machine everybody seems to be local; proxies say for whom they ask.
    forwarded = any(name in request.headers for name in ("X-Forwarded-For", "X-Forwarded-Proto", "Forwarded"))
    return not forwarded and request.remote_addr in _THIS_MACHINE


class RouterCollector(Collector):
    """Reads every number from the ledger and the spool when asked, so any process can answer for all."""

    def __init__(self, ledger: Ledger, spool: Spool | None, pressure: Pressure, streamed: Sequence[str] = ()) -> None:
        self._ledger = ledger
        self._streamed = streamed
        self._spool = spool
        self._pressure = pressure
        self._heartbeats = Heartbeats(ledger.client)

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterable[Metric]:
        families = {
            name: (CounterMetricFamily if kind == "counter" else GaugeMetricFamily)(name, doc, labels=labels)
            for name, (kind, labels, doc) in METRICS.items()
        }
        for name, size in {**self._redis(families), **self._disk()}.items():
            families[f"event_router_{name}"].add_metric([], size)
        return families.values()

    def _redis(self, families: Mapping[str, CounterMetricFamily | GaugeMetricFamily]) -> Mapping[str, float]:
        """The ledger's rows into their families; gives its sizes. Little when Redis does not answer."""
        try:
            rows, sizes, shut = self._ledger.counts(), self._ledger.sizes(), gates(self._ledger)
            streams = watch(self._ledger.client, self._streamed)
        except Exception as error:  # noqa: BLE001 - what the disk holds must be told whatever Redis does
            log.warning("metrics.without_redis", error=type(error).__name__)
            return {"redis_up": 0}
        nouns = {"source": "events", "route": "deliveries"}
        for (kind, name), states in rows.items():
            for state, number in states.items():
                if state == "waiting":
                    families[f"event_router_{kind}_waiting"].add_metric([name], number)
                else:
                    families[f"event_router_{kind}_{nouns[kind]}_total"].add_metric([name, state], number)
        for gate in shut:
            families["event_router_gate_shut"].add_metric([gate.name, gate.mode], float(gate.mode != "flowing"))
            families["event_router_gate_parked"].add_metric([gate.name], gate.parked)
            families["event_router_gate_oldest_seconds"].add_metric([gate.name], gate.oldest_parked_s)
        for stream in streams:
            told = {
                "lag_seconds": stream.lag_s,
                "checkpoint_age_seconds": stream.checkpoint_age_s,
                "consumers": float(stream.consumers),
                "records_total": float(stream.records),
                "rejected_total": float(stream.rejected),
            }
            for name, value in told.items():
                if value is not None:
                    families[f"event_router_kinesis_{name}"].add_metric([stream.source], value)
        share = {} if self._pressure.share is None else {"redis_memory_share": self._pressure.share}
        return {**sizes, **self._workers(), "redis_up": 1, **share}

    def _workers(self) -> dict[str, float]:
        known = self._heartbeats.workers()
        return {
            "workers": sum(worker.alive for worker in known),
            "worker_silent_seconds": max((worker.silent_s for worker in known), default=0.0),
        }

    def _disk(self) -> Mapping[str, float]:
        if self._spool is None:
            return {}
        try:
            size = self._spool.size()
        except sqlite3.Error as error:
            log.warning("metrics.without_spool", error=type(error).__name__)
            return {}
        return {"spooled": size.events, "spooled_bytes": size.bytes, "spooled_oldest_seconds": size.oldest_s}
