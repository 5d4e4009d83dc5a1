"""What a flow with every kind of failure leaves behind: no secret, and no person but where people's data belongs."""

import json
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import redis
from builders import envelope_data
from celery import Celery
from conftest import Router, numbered, wait

from cli import redis_server, stack

#: Distinctive, so that a text search finds them in whatever form of text.
WEBHOOK, WRITE_KEY, API_KEY, SEGMENT_KEY = "whk-5e77a1c0", "wkey-91bd33f2", "akey-c4d5e6f7", "skey-0badcafe"
WRONG = "wrong-5e77a1c0"
LOGIN, TOKEN = "flower-7a7a7a7a", "metrics-1c1c1c1c"
SECRETS = (WEBHOOK, WRITE_KEY, API_KEY, SEGMENT_KEY, WRONG, LOGIN, TOKEN)
PERSON = "marker.person"
EMAIL = f"{PERSON}@example.com"
NOTE = "marker-note-31337"
SOURCES = """
version: 1
sources:
  encharge: {kind: encharge, secrets: [ENCHARGE_WEBHOOK_SECRET]}
  site: {kind: segment, write_keys: {web: SEGMENT_KEY}}
"""
ROUTES = """
version: 1
routes:
  - {name: good, trigger: 'match(event, "performed-step:*")', action: track_event,
     mapping: {event: Step, email: {"@path": $.user.email}, properties: {"@path": $.properties}}}
  - {name: unmappable, trigger: 'event = "sms-sent"', action: track_event, mapping: {event: {"@path": $.properties}}}
  - {name: api, trigger: 'match(event, "added-tag-*")', action: tag_user,
     mapping: {via: api, email: {"@path": $.user.email}, tag: {"@path": $.properties.note}}}
  - {name: raising, trigger: 'event = "sms-failed"', handler: "handlers:raises"}
"""


def everything_in(client: Any) -> str:
    """All keys and values of a Redis, as one text."""
    reads = {
        b"string": client.get,
        b"hash": client.hgetall,
        b"list": lambda key: client.lrange(key, 0, -1),
        b"set": client.smembers,
        b"zset": lambda key: client.zrange(key, 0, -1, withscores=True),
    }
    return "\n".join(f"{key!r} {reads[client.type(key)](key)!r}" for key in client.scan_iter())


def command_lines(router: Router) -> str:
    """As every user of the machine sees them."""
    groups = ",".join(str(process.pid) for process in router.processes.values())
    listed = subprocess.run(["ps", "-ww", "-o", "command=", "-g", groups], capture_output=True, text=True, check=False)
    assert "granian" in listed.stdout
    return listed.stdout


def test_no_secret_and_no_person_is_told(make_router: Callable[..., Router], tmp_path: Path) -> None:
    """Not in any log, in /metrics, in process lists, in Flower; secrets not in Redis either."""
    (tmp_path / "sources.yaml").write_text(SOURCES)
    (tmp_path / "routes.yaml").write_text(ROUTES)
    (tmp_path / "broken").touch()
    guarded = redis_server.ensure({}, tmp_path / "guarded", guarded=True)
    password = guarded.url.split("@")[0].rpartition(":")[2]
    router = make_router(
        REDIS_URL=guarded.url,
        ENCHARGE_WEBHOOK_SECRET=WEBHOOK,
        SEGMENT_KEY=SEGMENT_KEY,
        ENCHARGE_WRITE_KEY=WRITE_KEY,
        ENCHARGE_API_KEY=API_KEY,
        METRICS_TOKEN=TOKEN,
        SOURCES_FILE=str(tmp_path / "sources.yaml"),
        ROUTES_FILE=str(tmp_path / "routes.yaml"),
        RETRY_MAX_ATTEMPTS="2",
        UNAUTHORIZED_WAIT_S="1",
        RETRY_BASE_S="0.1",
        HANDLERS_BROKEN_FILE=str(tmp_path / "broken"),
        FLOWER_BASIC_AUTH=f"u:{LOGIN}",
        LOG_LEVEL="DEBUG",
        TICKET_GRACE_S="1",
    )
    try:
        router.start_all()
        flower = f"http://127.0.0.1:{redis_server.free_port()}"
        router.start("flower", stack.flower_command(int(flower.rpartition(":")[2])))
        wait(lambda: stack.answers(f"{flower}/healthcheck"), 15, "Flower answers", router.processes["flower"])
        ids = everything_goes_wrong(router)
        router.settled(ids, 30)
        publish_badly(guarded.url)
        wait(lambda: len(router.command("dead", "list", "--json").splitlines()) >= 6, 15, "dead letters")
        stored = everything_in(redis.Redis.from_url(guarded.url))
        told = {"Flower": shown_by_flower(router, flower), "process list": command_lines(router)}
        asked = router.session.get(f"{router.web_url}/metrics", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=5)
        assert asked.ok
        told["/metrics"] = asked.text
        told["check"] = router.command("check", status=1 if "problem" in asked.text else 0)
    finally:
        router.close()
        redis_server.stop(guarded)
    told |= {log.name: log.read_text(errors="replace") for log in router.folder.glob("*.log")}
    told["redis"] = (tmp_path / "guarded/server.log").read_text(errors="replace")

    assert {"web.log", "worker.log", "sandbox.log", "flower.log"} <= told.keys()
    assert EMAIL in stored, "dead letters keep what is needed to understand them; else this test sees nothing"
    for word in (*SECRETS, password):
        assert word not in stored, "a secret is in Redis"
        assert [name for name, text in told.items() if word in text] == []
    for word in (PERSON, NOTE):
        assert [name for name, text in told.items() if word in text] == []


def held(router: Router, ids: list[str]) -> bool:
    """Whether all of them wait for a gate."""
    return all(event is not None and event.state == "held" for event in router.some(ids))


def everything_goes_wrong(router: Router) -> list[str]:
    """Events that are delivered, refused, unmappable, raise; requests that are refused at the door. Gives ids."""
    user = {"id": "77", "email": EMAIL}
    more = {"user": user, "properties": {"note": NOTE, "phone": NOTE}}
    headers = {"Authorization": f"Bearer {WEBHOOK}"}

    def taken(event: dict[str, Any]) -> str:
        answer = router.post({**event, **more}, **headers)
        assert answer.ok, answer.text
        return str(answer.json()["ids"][0])

    ids = [taken(event) for event in numbered(2)]
    for rule in ({"status": 401}, {"status": 400}, {"status": 503}, {"kind": "reset"}):
        router.faults({"kind": "status", "rate": 1, **rule})
        failing = [taken(numbered(1)[0]), taken(numbered(1, f"added-tag-{EMAIL}")[0])]
        if rule.get("status") == 401:
            # The key is wrong, not the event: it waits until something gets through.
            wait(partial(held, router, failing), 30, "they are parked")
        else:
            router.settled(failing, 30)
        ids += failing
    router.faults()
    ids += [taken(numbered(1, name)[0]) for name in ("sms-sent", "sms-failed", f"{EMAIL} did it")]
    event = {**numbered(1)[0], **more}
    assert router.post(event, Authorization=f"Bearer {WRONG}").status_code == 401
    assert router.post(event, f"encharge?secret={WRONG}", Authorization="").status_code == 401
    assert router.post([event], **headers).status_code == 400
    body = json.dumps(event).encode()[:-1]
    wrong = {**headers, "Content-Type": "application/json"}
    assert router.session.post(f"{router.web_url}/webhooks/encharge", body, headers=wrong, timeout=5).status_code == 400
    webhook = {"endUserData": [user], "eventPayload": {"note": NOTE}}
    assert router.post(webhook, f"encharge/added-tag-{EMAIL}?secret={WEBHOOK}", Authorization="").ok
    call = {"type": "track", "event": f"{EMAIL} paid", "userId": EMAIL, "properties": {"note": NOTE}}
    for key, status in ((SEGMENT_KEY, 200), (WRONG, 401)):
        answer = router.session.post(f"{router.web_url}/v1/track", json={**call, "writeKey": key}, timeout=5)
        assert answer.status_code == status
    bad = router.session.post(f"{router.web_url}/v1/track", json={"event": EMAIL, "writeKey": SEGMENT_KEY}, timeout=5)
    assert bad.ok
    return ids


def publish_badly(url: str) -> None:
    """Messages that a worker cannot take, with a person in each."""
    client, publisher = redis.Redis.from_url(url), Celery(broker=url, set_as_current=False)
    publisher.conf.task_default_queue = "events"
    client.lpush("events", f"{EMAIL} is no message".encode())
    publisher.send_task(f"billing.{EMAIL}", [EMAIL], {"note": NOTE})
    publisher.send_task("events.publish", [{"id": EMAIL, "event": {"note": NOTE}}])
    publisher.send_task("events.route", [[EMAIL], NOTE])
    publisher.send_task(
        "events.publish", [envelope_data(id="p-2", source="billing", name=f"added-tag-{EMAIL}", type="added-tag")]
    )


def shown_by_flower(router: Router, address: str) -> str:
    """What its API says of tasks, workers and queues."""
    login = ("u", LOGIN)
    pages = ("/api/tasks", "/api/workers?refresh=1", "/api/queues/length", "/workers", "/tasks", "/broker", "/metrics")
    texts = [router.session.get(address + page, auth=login, timeout=15).text for page in pages]
    assert router.session.get(f"{address}/api/tasks", timeout=5).status_code == 401
    assert "encharge" in texts[0]
    return "\n".join(texts)
