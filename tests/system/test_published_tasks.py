"""What other teams publish with stock Celery, and what happens to it while everything else dies."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from builders import envelope_data
from celery import Celery
from conftest import Router, numbered, wait

HOURS_2 = 7200
ROUTES = """
version: 1
routes:
  - {name: good, trigger: 'match(event, "performed-step:*")', action: track_event,
     mapping: {event: Step, email: {"@path": $.user.email}, properties: {"@path": $.properties}}}
"""


@pytest.fixture
def routes(tmp_path: Path) -> str:
    path = tmp_path / "routes.yaml"
    path.write_text(ROUTES)
    return str(path)


@pytest.fixture
def router(make_router: Callable[..., Router], routes: str) -> Router:
    found = make_router(ROUTES_FILE=routes, LEASE_S="2", TICKET_GRACE_S="1")
    found.start_all()
    return found


def publisher(router: Router) -> Celery:
    found = Celery(broker=router.redis.url, set_as_current=False)
    found.conf.task_default_queue = "events"
    return found


def event(number: int) -> dict[str, Any]:
    return envelope_data(
        id=f"p-{number}", source="billing", type="performed-step", name=f"performed-step:{number}", subject=None,
        event={**numbered(1)[0], "properties": {"number": f"p-{number}"}},
    )  # fmt: skip


def test_a_countdown_of_two_hours_survives_every_process_and_redis(router: Router) -> None:
    """It is in the ledger, not in a worker: due at its time after all of them were killed, and delivered once."""
    publisher(router).send_task("events.publish", [event(1)], countdown=HOURS_2)
    ledger = router.connection.ledger
    wait(lambda: ledger.event("p-1") is not None, 10, "it is accepted")
    due = ledger.client.zscore("router:scheduled", "p-1")
    assert abs(due / 1e6 - time.time() - HOURS_2) < 30
    assert (ledger.client.hlen("unacked"), ledger.client.llen("events")) == (0, 0)

    for name in list(router.processes):
        router.kill(name)
    router.kill_redis()
    router.restart_redis()
    router.start_all()
    time.sleep(1)
    assert ledger.client.zscore("router:scheduled", "p-1") == due
    assert router.arrivals() == {}

    # Two hours later, as far as the ledger knows.
    ledger.client.zadd("router:scheduled", {"p-1": due - HOURS_2 * 1e6})
    (delivered,) = router.settled(["p-1"], 20)
    assert delivered.state == "delivered"
    time.sleep(0.5)
    assert len(router.arrivals()["p-1"]) == 1
    router.assert_equation()


def test_published_while_workers_are_killed(router: Router) -> None:
    """Every message that Redis took is delivered, but the one that nobody wants any more: it is a dead letter."""
    stock, ids = publisher(router), []
    router.kill("worker")
    stock.send_task("events.publish", [event(1000)], expires=0.3)
    time.sleep(0.5)
    router.start_worker()
    for number in range(300):
        stock.send_task("events.publish", [event(number)], priority=number % 10)
        ids.append(f"p-{number}")
        if number % 100 == 50:
            router.kill("worker")
            router.start_worker(ready=False)
    wait(lambda: all(router.some([*ids, "p-1000"])), 30, "all are accepted")
    assert {each.state for each in router.settled(ids, 60)} == {"delivered"}
    (ended,) = router.settled(["p-1000"], 10)
    (letter,) = router.connection.letters.find()
    assert (ended.state, letter.reason, letter.source) == ("dead", "expired", "billing")
    assert router.counts("source", "billing")["accepted"] == 301
    router.assert_equation()


def test_with_the_door_off_celery_takes_what_is_published(make_router: Callable[..., Router], routes: str) -> None:
    """Stock transport: web and worker go on, with Celery's promises; what is published is shown to nobody even so."""
    router = make_router(ROUTES_FILE=routes, HARDENED_DOOR="off")
    router.start_sandbox()
    router.start_web()
    stock = publisher(router)
    stock.send_task("events.publish", [event(2)], expires=0.3)
    time.sleep(0.5)
    router.start_worker()
    stock.send_task("events.publish", [event(1)], priority=5)
    stock.send_task("billing.pay", [{"email": "marked@example.com"}], task_id="marked@example.com")
    stock.send_task(
        "users.tag", [{"email": "marked@example.com"}], countdown=300, task_id="%40marked", shadow="a@marked"
    )
    ids = router.post_many(numbered(20))
    wait(lambda: router.connection.ledger.event("p-1") is not None, 10, "it is accepted")
    assert {each.state for each in router.settled([*ids, "p-1"], 20)} == {"delivered"}
    router.settled(["p-2"], 10)
    wait(lambda: router.connection.ledger.client.zcard("router:workers") == 1, 10, "its heart beats")
    # Stock Celery logs the one with its arguments and drops it, and tells whoever asks of the other what it was given.
    wait(lambda: len(list(router.connection.letters.find())) == 2, 5, "what nobody can use is kept")
    assert {letter.reason for letter in router.connection.letters.find()} == {"expired", "unknown_task"}
    (held,) = next(iter(stock.control.inspect(limit=1).scheduled().values()))
    assert held["request"]["args"] == "(…)"
    assert "marked" not in str(held) + router.log("worker").read_text()
    router.assert_equation()
