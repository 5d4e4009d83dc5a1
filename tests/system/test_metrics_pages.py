"""Web and worker tell of real traffic: all that is declared, nothing else, and the same."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests
from conftest import Router, numbered, wait
from prometheus_client.parser import text_string_to_metric_families

from cli import redis_server
from config.metrics import METRICS, PREFIX
from tasks.queue import redis_message

ROUTES = """
version: 1
routes:
  - {name: step, trigger: 'match(event, "performed-step:*")', action: track_event,
     mapping: {event: Step, email: {"@path": $.user.email}, properties: {"@path": $.properties}}}
  - {name: raising, trigger: 'event = "sms-sent"', handler: "handlers:raises"}
"""
#: What no traffic here brings about.
NOT_SEEN = {name for name in METRICS if name.startswith("kinesis_")}
#: The time of asking is in these.
MOVES = {name for name, metric in METRICS.items() if metric.kind == "gauge" and name.endswith("_seconds")}


def scraped(url: str) -> dict[tuple[str, ...], float]:
    """(name, labels …) → value; what is told otherwise than declared fails."""
    answer = requests.get(url, headers={"Authorization": "Bearer t0ken"}, timeout=5)
    assert answer.status_code == 200, answer.text
    found: dict[tuple[str, ...], float] = {}
    for family in text_string_to_metric_families(answer.text):
        short = family.name.removeprefix(PREFIX)
        name = short if short in METRICS else f"{short}_total"
        metric = METRICS[name]
        assert (family.type, family.documentation) == (metric.kind, metric.doc)
        for sample in family.samples:
            labels = {key: value for key, value in sample.labels.items() if key != "le"}
            assert sorted(labels) == sorted(metric.labels), sample
            key = (name, sample.name, *(labels[label] for label in metric.labels), sample.labels.get("le", ""))
            assert key not in found, key
            found[key] = sample.value
        _assert_histograms(family)
    return found


def _assert_histograms(family: Any) -> None:
    """Buckets rise to the number of all."""
    if family.type != "histogram":
        return
    rows: dict[tuple[str, ...], list[float]] = {}
    for sample in family.samples:
        rest = tuple(sorted(value for key, value in sample.labels.items() if key != "le"))
        if sample.name.endswith("_bucket"):
            rows.setdefault(rest, []).append(sample.value)
        elif sample.name.endswith("_count"):
            assert rows[rest] == sorted(rows[rest])
            assert rows[rest][-1] == sample.value > 0


def test_web_and_worker_tell_all_that_is_declared(make_router: Callable[..., Router], tmp_path: Path) -> None:
    """Accepted, refused, retried, dead, replayed, quarantined, published, parked: each shows, at web and at worker."""
    routes, broken, port = tmp_path / "routes.yaml", tmp_path / "broken", redis_server.free_port()
    routes.write_text(ROUTES)
    broken.touch()
    router = make_router(
        ROUTES_FILE=str(routes),
        HANDLERS_BROKEN_FILE=str(broken),
        METRICS_TOKEN="t0ken",
        WORKER_METRICS_PORT=str(port),
        RETRY_BASE_S="0.1",
    )
    workers = {name: router.start_worker(name, ready=False) for name in ("one", "other")}
    router.start_sandbox()
    router.start_web()
    worker, web = f"http://127.0.0.1:{port}/metrics", f"{router.web_url}/metrics"
    ledger, client = router.connection.ledger, router.connection.ledger.client
    router.faults({"kind": "status", "status": 503, "count": 2})
    ids = router.post_many(numbered(20))
    ids += router.post_many(numbered(2, "sms-sent"))
    assert router.session.post(f"{router.web_url}/webhooks/encharge", json={}, timeout=5).status_code == 401
    client.lpush("events", b"\xff no message", b"\xff nor this")
    nobody = redis_message("users.tag", [], {"publisher": "billing"}, shadow=None, argsrepr="()")
    client.lpush("events", nobody)
    router.settled(ids, 20)
    wait(lambda: len(router.command("dead", "list", "--json").splitlines()) == 5, 10, "the broken messages are kept")
    broken.unlink()
    letters = router.command("dead", "list", "--json", "--reason", "undecodable")
    kept = letters.partition('"quarantine:')[2].partition('"')[0]
    router.command("dead", "replay", "--reason", "bug", "--yes")
    router.command("dead", "replay", f"quarantine:{kept}", "--yes")
    router.settled(ids, 10)
    wait(lambda: len(router.command("dead", "list", "--json").splitlines()) == 3, 10, "it is kept again")
    ledger.pause("encharge_ingest", "someone")
    router.post_many(numbered(1))
    wait(lambda: ledger.sizes()["held"] == 1, 5, "one waits at the gate")

    def all_flushed() -> bool:
        found = scraped(web)
        accepted = _sum(found, "accept_seconds_count", "encharge")
        requests_made = _sum(found, "request_seconds_count", "encharge_ingest")
        return (accepted, requests_made) == (23, 24)  # two of the requests after the replay

    wait(all_flushed, 5, "what processes measured themselves is there")
    at_web, at_worker = scraped(web), scraped(worker)
    assert {key[0] for key in at_web} == METRICS.keys() - NOT_SEEN
    assert {key[0] for key in at_worker} == {name for name, metric in METRICS.items() if not metric.web} - NOT_SEEN
    still = {key: value for key, value in at_web.items() if key[0] not in MOVES and key in at_worker}
    assert {key: at_worker[key] for key in still if key[0] != "redis_memory_share"} == {
        key: value for key, value in still.items() if key[0] != "redis_memory_share"
    }
    assert _sum(at_web, "delivery_seconds_count", "step") == 20
    assert _sum(at_web, "retried_attempts_total", "step", "encharge_ingest", "unavailable") == 2
    assert _sum(at_web, "destination_verdicts_total", "encharge_ingest", "failed") == 2
    assert _sum(at_web, "source_dead_letters_total", "encharge", "bug") == 2
    assert _sum(at_web, "source_dead_letters_total", "billing", "invalid") == 1
    assert _sum(at_web, "refused_requests_total", "webhooks", "encharge", "401") == 1
    assert _sum(at_web, "quarantined_total", "undecodable") == 3

    logs = {name: (router.folder / f"{name}.log").read_text() for name in ("web", *workers)}
    assert [name for name, log in logs.items() if "measures.wait" in log] == []
    assert sum("metrics.served" in log for log in logs.values()) == 1
    assert sum("metrics.not_served" in log for log in logs.values()) == 1, "there is one port for two"
    assert [process.poll() for process in workers.values()] == [None, None], "and both live"
    router.kill("web")
    router.start_web()
    again = scraped(web)
    counters = {key: value for key, value in at_web.items() if METRICS[key[0]].kind != "gauge"}
    assert {key: (value, again.get(key)) for key, value in counters.items() if again.get(key, 0) < value} == {}


def _sum(found: dict[tuple[str, ...], float], name: str, *labels: str) -> float:
    return sum(value for key, value in found.items() if key[1] == PREFIX + name and key[2 : 2 + len(labels)] == labels)
