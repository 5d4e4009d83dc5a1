"""What cannot be worked on ends as a dead letter with its reason, and its neighbours never notice."""

import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from celery import Celery
from conftest import Router, numbered, wait

from tasks.queue import PUBLISH_TASK, redis_message

ROUTES = """
version: 1
routes:
  - {name: good, trigger: 'match(event, "performed-step:*")', action: track_event,
     mapping: {event: Step, email: {"@path": $.user.email}, properties: {"@path": $.properties}}}
  - {name: raising, trigger: 'event = "sms-sent"', handler: "handlers:raises"}
  - {name: killing, trigger: 'event = "sms-failed"', handler: "handlers:kills"}
"""


def keep_running(router: Router, stop: threading.Event) -> None:
    """What a supervisor does: start the worker again when it died."""
    while not stop.wait(0.1):
        if router.processes["worker"].poll() is not None:
            router.start_worker(ready=False)


def dead_letters(router: Router, *filters: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in router.command("dead", "list", "--json", *filters).splitlines()]


def test_everything_unusable_ends_as_a_dead_letter_and_can_be_replayed(
    make_router: Callable[..., Router], tmp_path: Path
) -> None:
    """Undecodable, unknown task, invalid envelope, raising and killing handlers, among 300 good events."""
    routes, broken, trace = tmp_path / "routes.yaml", tmp_path / "broken", tmp_path / "trace"
    routes.write_text(ROUTES)
    broken.touch()
    router = make_router(
        ROUTES_FILE=str(routes), HANDLERS_BROKEN_FILE=str(broken), LEASE_S="1", TICKET_GRACE_S="1", CRASH_LIMIT="3"
    )
    router.start_all()
    stop = threading.Event()
    supervisor = threading.Thread(target=keep_running, args=(router, stop))
    supervisor.start()
    client = router.connection.ledger.client
    publisher = Celery(broker=router.redis.url, set_as_current=False)
    publisher.conf.task_default_queue = "events"

    good = numbered(300)
    ids = router.post_many(good[:100])
    client.lpush("events", b"\xff\xfe this is no message")
    publisher.send_task("billing.invoice", [7, str(trace)])
    publisher.send_task("events.publish", [{"version": 1, "id": "p-1", "event": {}}])
    raising = router.post_many(numbered(1, "sms-sent"))
    killing = router.post_many(numbered(1, "sms-failed"))
    ids += router.post_many(good[100:])
    dead = router.settled(raising + killing, 60)
    settled = router.settled(ids, 60)

    assert {event.state for event in settled} == {"delivered"}
    assert {event.state for event in dead} == {"dead"}
    wait(lambda: len(list(router.connection.letters.find())) == 5, 10, "five dead letters")
    letters = {letter["reason"]: letter for letter in dead_letters(router)}
    assert set(letters) == {"undecodable", "unknown_task", "invalid", "bug", "poison"}
    assert "type: Missing data for required field." in letters["invalid"]["error"]
    assert letters["bug"]["route"] == "raising"
    assert letters["poison"]["route"] == "killing"
    shown = json.loads(router.command("dead", "show", letters["bug"]["id"], "--reveal", "--json"))
    assert "handlers.py" in shown["traceback"]
    assert shown["envelope"]["event"]["event"] == "sms-sent"
    undecodable = json.loads(router.command("dead", "show", letters["undecodable"]["id"], "--reveal", "--json"))
    assert undecodable["raw"] == "\\xff\\xfe this is no message"
    router.assert_equation()

    # The causes go away: handlers mended, the task known to a newer worker, the messages repaired by hand; what was
    # invalid is published again, under its own id.
    stop.set()
    supervisor.join()
    broken.unlink()
    router.kill("worker")
    newer = [sys.executable, "-m", "celery", "-A", "worker_with_more_tasks", "worker", "--without-gossip", "-l", "INFO"]
    router.start_worker(command=newer)
    for reason in ("bug", "poison", "unknown_task"):
        plan = json.loads(router.command("dead", "replay", "--reason", reason, "--json"))
        assert (plan["planned"], plan["replayed"]) == (1, None)
        done = json.loads(router.command("dead", "replay", "--reason", reason, "--yes", "--json"))
        assert done["replayed"] == 1
    repaired = tmp_path / "repaired.json"
    envelope = {
        "version": 1,
        "id": "p-1",
        "source": "billing",
        "format": "encharge",
        "type": "performed-step",
        "name": "performed-step:1",
        "subject": None,
        "received_at": "2026-01-01T00:00:00Z",
        "occurred_at": "2026-01-01T00:00:00Z",
        "event": {**good[0], "properties": {"number": "published"}},
    }
    shown = json.loads(router.command("dead", "show", letters["invalid"]["id"], "--reveal", "--json"))
    assert shown["envelope"]["raw"] == {"version": 1, "id": "p-1", "event": {}}
    repaired.write_text(json.dumps({**envelope, **shown["envelope"]["raw"], "event": envelope["event"]}))
    router.command("publish", str(repaired))
    router.command("dead", "discard", letters["invalid"]["id"], "--yes")
    repaired.write_bytes(redis_message(PUBLISH_TASK, [envelope], shadow=None, argsrepr="…"))
    router.command("dead", "replay", letters["undecodable"]["id"], "--repaired", str(repaired), "--yes")
    assert {event.state for event in router.settled(raising + killing, 30)} == {"delivered"}
    wait(lambda: router.connection.ledger.event("p-1") is not None, 10, "the repaired message is taken")
    assert router.settled(["p-1"], 10)[0].state == "delivered"
    wait(trace.exists, 10, "the task has run")
    wait(lambda: not list(router.connection.letters.find()), 10, "no dead letters are left")
    time.sleep(0.5)
    assert trace.read_text() == "7\n"
    # Published twice with one id: one delivery, one duplicate.
    assert len(router.arrivals()["published"]) == 1
    assert router.counts("source", "billing")["duplicate"] == 1
    router.assert_equation()
