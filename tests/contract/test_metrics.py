"""What /metrics tells: counted where it happens, once, under names that stay."""

import json
import time
import urllib.error
import urllib.request
from typing import Any

import pytest
import redis
from bench import Bench, answered, api, route, sends
from builders import accept, back, claim, envelope, fake_ledger, settled
from prometheus_client.parser import text_string_to_metric_families

from app import create_app
from app.source import Source
from app.sources import encharge
from cli import redis_server
from config.metrics import METRICS, PREFIX
from tasks.dead_letter import DeadLetters
from tasks.envelope import Rejected
from tasks.errors import DestinationUnavailable, QueueFull
from tasks.ledger import RETRYING, Ledger, Result, Verdict
from tasks.measures import Measures
from tasks.metrics import Exporter, LedgerPart
from tasks.metrics_page import Page, serve
from tasks.publishers import Publisher, Publishers
from tasks.queue import RedisQueue
from tasks.replay import Replay

NOBODY = Publishers()
Told = dict[tuple[str, ...], float]


def page(ledger: Ledger, publishers: Publishers = NOBODY) -> Page:
    return Page(Exporter((LedgerPart(ledger, ["encharge"], publishers),), web=False), "")


def read(text: str) -> Told:
    """(name without prefix, label values …) → value, as a Prometheus would read it."""
    found: Told = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            metric = (
                METRICS.get(family.name.removeprefix(PREFIX)) or METRICS[f"{family.name.removeprefix(PREFIX)}_total"]
            )
            labels = [sample.labels[label] for label in (*metric.labels, "le") if label in sample.labels]
            key = (sample.name.removeprefix(PREFIX), *labels)
            assert key not in found
            found[key] = sample.value
    return found


def told(ledger: Ledger) -> Told:
    body = page(ledger)({"PATH_INFO": "/metrics", "REQUEST_METHOD": "GET", "REMOTE_ADDR": "127.0.0.1"}, lambda *_: None)
    return read(b"".join(body).decode())


def measured(ledger: Ledger) -> dict[str, int]:
    return {name.decode(): int(number) for name, number in ledger.client.hgetall("router:metrics").items()}


def test_a_delivery_is_counted_by_route_destination_and_reason() -> None:
    """Retried twice and delivered; the time from acceptance in its bucket; what it said of the destination."""
    bench = Bench(route("a", sends("hello")))
    api(bench).answers = [answered(DestinationUnavailable("503"), 503), DestinationUnavailable("reset")]
    accept(bench.ledger, "e1")
    bench.work()
    for _ in range(2):
        bench.later()
        bench.ledger.wake_due(["e1"])
        bench.work()
    found = told(bench.ledger)
    assert found["retried_attempts_total", "a", "api", "unavailable"] == 2
    assert found["destination_verdicts_total", "api", "failed"] == 2
    assert found["destination_verdicts_total", "api", "ok"] == 1
    assert found["delivery_seconds_count", "a", "api"] == 1
    assert found["delivery_seconds_bucket", "a", "api", "300.0"] == 1
    assert 0 < found["delivery_seconds_sum", "a", "api"] < 300
    assert found["source_events_total", "encharge", "delivered"] == 1


def test_each_bucket_takes_what_is_at_most_its_bound() -> None:
    """An event that was accepted 7 s ago: above 5 s, below 10."""
    ledger = fake_ledger()
    accept(ledger, "e1")
    ledger.client.hincrby("router:event:e1", "at", -7_000_000)
    settled(ledger, "e1", Result("a", "delivered", {}, destination="api"))
    found = told(ledger)
    assert (
        found["delivery_seconds_bucket", "a", "api", "5.0"],
        found["delivery_seconds_bucket", "a", "api", "10.0"],
    ) == (
        0,
        1,
    )
    assert found["delivery_seconds_sum", "a", "api"] == pytest.approx(7, abs=2)


def test_a_dead_letter_is_counted_by_its_last_reason() -> None:
    """Not by that of an attempt before; with the destination that failed it, and per source."""
    bench = Bench(route("a", sends("hello")), route("b", lambda _: 1 / 0))  # type: ignore[arg-type,return-value]
    api(bench).answers = [answered(DestinationUnavailable("503"), 503)] * 3
    accept(bench.ledger, "e1")
    bench.work()
    for _ in range(2):
        bench.later()
        bench.ledger.wake_due(["e1"])
        bench.work()
    found = told(bench.ledger)
    assert found["route_dead_letters_total", "a", "api", "exhausted"] == 1
    assert found["route_dead_letters_total", "b", "-", "bug"] == 1
    assert found["source_dead_letters_total", "encharge", "exhausted"] == 1
    assert found["source_dead_letters_total", "encharge", "bug"] == 1
    assert "delivery_seconds_count" not in {key[0] for key in found}


def test_bug_a_publisher_was_told_the_first_attempts_reason() -> None:
    """Who asked what became of an event hears why it was given up, not how it began."""
    bench = Bench(route("a", sends("hello")))
    client = bench.ledger.client
    api(bench).answers = [answered(DestinationUnavailable("503"), 503)] * 3
    accept(bench.ledger, "e1")
    client.hset("router:event:e1", "q:t1", "1")
    client.hset("router:reply:t1", mapping={"open": 1, "ttl": 60, "e:e1": ""})
    bench.work()
    for _ in range(2):
        bench.later()
        bench.ledger.wake_due(["e1"])
        bench.work()
    assert json.loads(client.get("celery-task-meta-t1"))["result"]["exc_message"] == ["e1: exhausted"]


def test_what_was_not_attempted_is_no_retry() -> None:
    """Parked at a gate that is shut, and let go again: one attempt."""
    bench = Bench(route("a", sends("hello")))
    bench.ledger.pause("api", "someone")
    accept(bench.ledger, "e1")
    bench.work()
    bench.ledger.resume("api")
    bench.work()
    found = told(bench.ledger)
    assert found["delivery_seconds_count", "a", "api"] == 1
    assert {key[0] for key in found}.isdisjoint({"retried_attempts_total", "route_dead_letters_total"})


def test_counters_only_grow() -> None:
    """A replay takes dead letters back in the ledger; Prometheus would take that for a restart."""
    ledger = fake_ledger()
    letters = DeadLetters(ledger)
    accept(ledger, "e1", "e2")
    settled(ledger, "e1", Result("a", "dead", {"reason": "rejected"}, reason="rejected"), Result("b", "delivered", {}))
    settled(ledger, "e2", Result("-", "dead", {"reason": "bug"}, reason="bug"))
    letters.quarantine(b"raw", "undecodable", "no JSON")
    before = told(ledger)

    replay = Replay(ledger, letters, RedisQueue(ledger))
    assert replay.run(["e1:a", "e2:-"]) == 2
    (kept,) = [letter.id for letter in letters.find() if letter.id.startswith("quarantine:")]
    assert letters.release(kept.removeprefix("quarantine:"))
    after = told(ledger)

    counters = {key: value for key, value in before.items() if key[0] in METRICS and METRICS[key[0]].kind == "counter"}
    assert counters
    assert {key: (value, after.get(key)) for key, value in counters.items() if after.get(key, -1) < value} == {}
    assert after["source_events_total", "encharge", "dead"] == 2
    assert after["source_replayed_total", "encharge"] == 2
    assert after["source_waiting", "encharge"] == 2
    assert after["route_deliveries_total", "-", "accepted"] == 1
    assert after["source_events_total", "queue", "dead"] == 1
    assert after["quarantine_released_total", "queue"] == 1
    assert after["quarantined_total", "undecodable"] == 1
    assert ledger.counts()["source", "encharge"]["dead"] == 0


def test_a_replay_is_measured_from_the_replay() -> None:
    """Last week's dead letters that are replayed today look like no week's delay."""
    ledger = fake_ledger()
    accept(ledger, "e1")
    settled(ledger, "e1", Result("a", "dead", {"reason": "rejected"}, reason="rejected"))
    ledger.client.hincrby("router:event:e1", "at", -7 * 86_400_000_000)
    assert ledger.replay("e1", "a", {})
    settled(ledger, "e1", Result("a", "delivered", {}, destination="api"))
    assert told(ledger)["delivery_seconds_sum", "a", "api"] < 60


def test_what_was_scheduled_is_measured_from_its_time() -> None:
    """Two hours that the publisher asked for are no delay; the two seconds since are."""
    ledger = fake_ledger()
    accept(ledger, "e1", subject=None)
    ledger.client.zrem("router:accepted", "e1")
    ledger.client.hset("router:event:e1", mapping={"state": "scheduled", "to": "", "said": "", "keys": ""})
    ledger.client.hincrby("router:event:e1", "at", -7_200_000_000)
    ledger.client.zadd("router:scheduled", {"e1": (time.time() - 2) * 1e6})
    assert told(ledger)["scheduled_due_seconds",] == pytest.approx(-2, abs=1)
    assert ledger.wake_scheduled() == ["e1"]
    settled(ledger, "e1", Result("a", "delivered", {}, destination="api"))
    assert told(ledger)["delivery_seconds_sum", "a", "api"] == pytest.approx(2, abs=1)


def test_an_event_that_is_broken_at_the_door_is_dead_by_reason() -> None:
    """Rejected by its content: counted with its source, on no route."""
    ledger = fake_ledger()
    bad = Rejected(envelope(), reason="undecodable", error='no "reason": "bug" here', code="x")
    assert ledger.reject([bad, bad]) == [True, False]
    found = told(ledger)
    assert found["source_dead_letters_total", "encharge", "undecodable"] == 1
    assert found["route_dead_letters_total", "-", "-", "undecodable"] == 1


def test_publishers_beyond_the_first_hundred_are_others() -> None:
    """Who has a name keeps it, though others come before it in the alphabet; what a file names always has one."""
    ledger = fake_ledger(max_waiting=10_000)
    for number in range(100, 220):
        accept(ledger, f"a{number}", source=f"p{number}")
    first = {key[1] for key in told(ledger) if key[0] == "source_waiting"}
    assert len(first) == 101
    for number in range(100):
        accept(ledger, f"b{number}", source=f"a{number}")
    accept(ledger, "c1", source="encharge")
    settled(ledger, "a219", Result("a", "dead", {}, reason="rejected"))

    found = told(ledger)
    waiting = {key[1]: value for key, value in found.items() if key[0] == "source_waiting"}
    assert set(waiting) == first | {"encharge"}
    assert waiting["other"] == 119
    assert found["source_dead_letters_total", "other", "rejected"] == 1
    assert sum(waiting.values()) == 220


def test_the_oldest_of_what_waits() -> None:
    """Retries by when their events were accepted and by when they are due; the others by since when they wait."""
    ledger = fake_ledger()
    accept(ledger, "e1", "e2")
    ledger.client.hincrby("router:event:e2", "at", -500_000_000)
    for id_, delay_s in (("e1", 60), ("e2", 90)):
        settled(ledger, id_, Result("a", "retrying", {}, delay_s, reason="unavailable", destination="api"))
    found = told(ledger)
    assert found["retrying",] == 2
    assert 50 < found["retrying_due_seconds",] <= 60
    assert found["retrying_oldest_seconds",] == pytest.approx(500, abs=10)

    back(ledger, RETRYING, "e2", 100)
    assert told(ledger)["retrying_due_seconds",] < 0
    ledger.wake_due(["e2"])
    assert told(ledger)["retrying_oldest_seconds",] < 10
    ledger.client.zadd("router:retrying:at", {"gone": 1})
    assert told(ledger)["retrying_oldest_seconds",] < 10, "what is there no more is not the oldest"

    for id_ in ("e4", "e5"):
        accept(ledger, id_, subject="one")
    back(ledger, "router:lined", "e5", 30)
    settled(ledger, "e4", Result("a", "dead", {}, reason="rejected"))
    back(ledger, "router:dead", "e4:a", 40)
    accept(ledger, "e6", subject="one")
    found = told(ledger)
    assert found["dead_letters_oldest_seconds",] == pytest.approx(40, abs=10)


def test_what_is_published_and_not_taken() -> None:
    """How many over all priorities, and for how long the next one has been next: not while they move."""
    ledger = fake_ledger()
    client = ledger.client
    look = page(ledger, Publishers({"billing": Publisher("billing", "billing:")}))

    def seen(name: str) -> tuple[float, float]:
        text = b"".join(
            look({"PATH_INFO": "/metrics", "REQUEST_METHOD": "GET", "REMOTE_ADDR": "127.0.0.1"}, lambda *_: None)
        ).decode()
        found = read(text)
        return found["published_messages", name], found["published_stuck_seconds", name]

    def minutes_pass() -> None:
        for key in client.scan_iter("router:metrics:next:*"):
            mark, since = client.get(key).split()
            client.set(key, b"%b %.6f" % (mark, float(since) - 300))

    assert seen("events") == (0, 0)
    client.lpush("events", "one", "two")
    client.lpush("events\x06\x169", "three")
    assert seen("events") == (3, 0)
    minutes_pass()
    assert seen("events") == (3, pytest.approx(300, abs=5))
    client.rpop("events")
    client.rpop("events\x06\x169")
    assert seen("events") == (1, 0)
    assert seen("billing:events") == (0, 0)


def test_a_batch_that_is_sent_again_counts_once() -> None:
    """Its answer was lost on the way; what came meanwhile is not lost either."""
    ledger = fake_ledger()
    measures = Measures(ledger)
    run, fails = ledger.run, [True]

    def losing(script: str, *args: Any) -> Any:
        answer = run(script, *args)
        if fails:
            raise redis.TimeoutError(str(fails.pop()))
        return answer

    ledger.run = losing  # type: ignore[method-assign]
    measures.took("request_seconds", 0.02, "api")
    with pytest.raises(redis.TimeoutError):
        measures.flush()
    measures.took("request_seconds", 0.3, "api")
    for _ in range(3):
        measures.flush()
    assert measured(ledger) == {
        "request_seconds/api/0.025": 1,
        "request_seconds/api/0.5": 1,
        "request_seconds/api/sum": 320_000,
    }


def test_processes_add_up() -> None:
    """Each counts its own batches; all go into one sum."""
    ledger = fake_ledger()
    for each in (Measures(ledger), Measures(ledger)):
        each.happened("refused_requests_total", "v1", "-", "401")
        each.flush()
    assert told(ledger)["refused_requests_total", "v1", "-", "401"] == 2


@pytest.mark.parametrize(
    ("name", "labels", "error"),
    [("of_my_own", (), KeyError), ("refused_requests_total", ("v1",), ValueError)],
)
def test_what_is_not_declared_is_not_measured(name: str, labels: tuple[str, ...], error: type[Exception]) -> None:
    """Whoever measures it hears of it when it is added up."""
    measures = Measures(fake_ledger())
    measures.happened(name, *labels)
    with pytest.raises(error):
        measures.flush()


class Full:
    """A queue that takes nothing."""

    key = "events"

    def accept(self, _: Any) -> list[bool]:
        raise QueueFull("full")


def test_doors_measure_what_they_answer() -> None:
    """Accepted by source; refused by door, source and status. What a sender makes up becomes no label."""
    ledger = fake_ledger()
    measures = Measures(ledger)
    sources = {"encharge": Source("encharge", encharge.unwrap, ("s3cret",), max_body_bytes=1000)}

    def client(queue: Any) -> Any:
        return create_app(sources, queue, ledger, measures=measures).test_client()

    taking, full = client(RedisQueue(ledger)), client(Full())
    right = {"Authorization": "Bearer s3cret"}
    good = {"event": "newUser", "type": "user", "user": {"email": "someone@example.com"}, "properties": {}}
    for _ in range(2):
        assert taking.post("/webhooks/encharge", json=good, headers=right).status_code == 200
    taking.post("/webhooks/encharge", json=good)
    taking.post("/webhooks/encharge", data="{", headers=right, content_type="application/json")
    taking.post("/webhooks/encharge", data="x" * 1001, headers=right, content_type="application/json")
    taking.post("/webhooks/anna@example.com", json=good, headers=right)
    taking.post("/v1/nothing/of/the/kind")
    taking.post("/firehose/made-up", json={})
    full.post("/webhooks/encharge", json=good, headers=right)
    measures.flush()

    found = told(ledger)
    assert found["accept_seconds_count", "encharge"] == 2
    assert 0 < found["accept_seconds_sum", "encharge"] < 5
    refused = {key[1:]: value for key, value in found.items() if key[0] == "refused_requests_total"}
    assert refused == {
        ("webhooks", "encharge", "401"): 1,
        ("webhooks", "encharge", "400"): 1,
        ("webhooks", "encharge", "413"): 1,
        ("webhooks", "-", "404"): 1,
        ("v1", "-", "404"): 1,
        ("firehose", "-", "404"): 1,
        ("webhooks", "encharge", "503"): 1,
    }
    assert "anna" not in json.dumps(list(measured(ledger)))


def get(port: int, path: str = "/metrics", **headers: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(
            urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers), timeout=5
        ) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_a_port_of_its_own() -> None:
    """Served with the token, to nobody without."""
    ledger = fake_ledger()
    part = LedgerPart(ledger, (), NOBODY)
    port = redis_server.free_port()
    stop = serve(Page(Exporter((part,), web=False), "t0ken"), "127.0.0.1", port)
    try:
        assert get(port)[0] == 401
        status, text = get(port, Authorization="Bearer t0ken")
        assert (status, f"{PREFIX}redis_up 1.0" in text) == (200, True)
        assert f"{PREFIX}spooled" not in text
        assert get(port, "/", Authorization="Bearer t0ken")[0] == 404
    finally:
        stop()


def test_bug_a_port_whose_worker_died_was_served_by_nobody() -> None:
    """Who comes second to it waits, and takes it over; an address that is nobody's is no reason to fail."""
    ledger, port = fake_ledger(), redis_server.free_port()
    first = serve(Page(Exporter((), web=False), "t0ken"), "127.0.0.1", port)
    others = [serve(page(ledger), host, port, again_s=0.05) for host in ("127.0.0.1", "192.0.2.1")]
    try:
        assert get(port)[0] == 401
        first()
        waited = time.monotonic() + 5
        while True:
            try:
                assert get(port)[0] == 200
                break
            except urllib.error.URLError:
                assert time.monotonic() < waited
                time.sleep(0.02)
    finally:
        for stop in (first, *others):
            stop()


def test_bug_a_settling_whose_answer_was_lost_counted_twice() -> None:
    """It is sent again while more follows; the next one counts, and so does the next owner's of the same number."""
    ledger = fake_ledger()

    def twin() -> Ledger:
        """One that sends what `ledger` sent, from its first call on."""
        return Ledger(ledger.client, max_waiting=9, dedupe_window_s=9, lease_s=10)

    second = twin()
    accept(ledger, "e1")
    event = claim(ledger, "e1")
    result = Result("a", "retrying", {}, 60, reason="unavailable", destination="api")
    verdict = Verdict("api", "failed")

    def numbers() -> tuple[int, int, bytes]:
        found = measured(ledger)
        verdicts, retries = ("destination_verdicts_total/api/failed", "retried_attempts_total/a/api/unavailable")
        return found[verdicts], found[retries], ledger.client.hget("router:gate:api", "row")

    for each in (ledger, second):
        assert each.settle(event, [result], [verdict], more=True).state == "running"
        assert numbers() == (1, 1, b"1")
    ledger.settle(event, [result], [verdict], more=True)
    assert numbers() == (2, 2, b"2")
    second.settle(event, [result], [verdict], more=True)
    assert numbers() == (2, 2, b"2")
    ledger.settle(event, [], [])
    assert ledger.client.hget("router:event:e1", "call") is None
    assert (ledger.settle(event, [], [verdict]).state, numbers()) == ("stale", (2, 2, b"2"))

    back(ledger, RETRYING, "e1", 3600)
    ledger.wake_due(["e1"])
    ledger.client.hset("router:event:e1", "call", "worker/1")  # of one that was killed
    assert twin().settle(claim(ledger, "e1", "another"), [result], [verdict], more=True).state == "running"
    assert numbers()[:2] == (3, 3)
