"""A marker in every field that is about a person, of every kind of source: nobody is told one who does not ask.

A new kind of source is one row of EXAMPLES; which of its fields are about a person, its own table says.
"""

import base64
import hmac
import itertools
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import redis
from builders import envelope_data
from celery import Celery
from click.testing import CliRunner
from conftest import Router, wait

from app.sources import KINDS
from cli import redis_server, stack
from cli.main import main
from config import personal
from tasks.envelope import RESERVED, id_without_address
from tasks.personal import IDENTIFYING, plain, plain_all

SECRET = "person-test-secret"
AT = "2026-01-02T03:04:05.678Z"
#: Kind → an event of it, and where in it a sender may say whatever else it likes.
EXAMPLES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "encharge": (
        {
            "event": "updatedUser",
            "type": "updatedUser",
            "properties": {"changedFields": {"plan": {"newValue": "", "oldValue": ""}}},
            "user": {"id": "", "email": ""},
        },
        ("properties",),
    ),
    "segment": ({"type": "track", "event": "Paid", "userId": "", "properties": {}, "context": {}}, ("properties",)),
    "segment_webhook": ({"type": "identify", "userId": "", "traits": {}, "context": {}}, ("context",)),
    "segment_stream": ({"type": "group", "userId": "", "groupId": "g", "traits": {}}, ("context",)),
    "activity_sync": (
        {"version": "1.0", "tenantId": "t", "kind": "outbound-email", "timestamp": AT, "customContext": {}, "data": {}},
        ("data",),
    ),
    "activatepro": ({"id": "", "event": "Message Viewed", "timestamp": AT, "properties": {}}, ("properties",)),
}
SOURCES = "version: 1\nsources:\n" + "".join(
    f"  {kind.replace('_', '-')}: {{kind: {kind}, personal: [hobby], "
    f"{'write_keys: {all: SOURCE_SECRET}' if kind == 'segment' else 'secrets: [SOURCE_SECRET]'}}}\n"
    for kind in EXAMPLES
)
ROUTES = """
version: 1
routes:
  - {name: repeating, trigger: 'envelope.name != "envelope"', handler: "handlers:repeats"}
  - {name: quoting, trigger: 'envelope.name != "envelope"', handler: "handlers:quotes"}
  - {name: mapped, trigger: 'envelope.name != "envelope"', action: track_event,
     mapping: {event: {"@template": "did {{envelope.name}}"}, email: {"@path": $.envelope.person.email},
       userId: {"@path": $.envelope.subject}, properties: {"@path": $.}}}
  - {name: unmappable, trigger: 'envelope.name != "envelope"', action: tag_user,
     mapping: {tag: {"@path": $.properties}}}
"""


class Markers:
    """Words that are nowhere else."""

    def __init__(self) -> None:
        self.made: dict[str, str] = {}  #: word → where it was put
        self._numbers = itertools.count(1001)

    def new(self, place: str, key: str = "") -> str:
        """A value for a key, with a word of its own in it."""
        word = f"Mk{next(self._numbers)}x"
        self.made[word] = f"{place}: {key}"
        return f"{word}@example.com" if plain(key) in IDENTIFYING and "id" not in plain(key) else word

    def in_(self, text: str) -> set[str]:
        """Those that a text tells, in whatever letters."""
        found = {each.lower() for each in re.findall(r"mk\d{4}x", text, re.IGNORECASE)}
        return {word for word in self.made if word.lower() in found}


def planted(kind: str, markers: Markers, number: int) -> dict[str, Any]:
    """The example of a kind, with a marker for every personal key that there is, and in each field below one."""
    event, place = json.loads(json.dumps(EXAMPLES[kind][0])), EXAMPLES[kind][1]
    keys = (*personal.EVERYWHERE, *KINDS[kind].personal)
    anywhere = event
    for key in place:
        anywhere = anywhere.setdefault(key, {})
    there = plain_all(_keys(event))
    anywhere |= {key: "" for key in (*keys, "hobby", "shoeSize") if plain(key) not in there}
    event = _filled(event, plain_all((*keys, "hobby", "shoeSize")), f"{kind} {number}", markers)
    name = next((key for key in ("event", "kind") if key in event), None)
    if name and number % 2:
        # Encharge's tags and Segment's events are named by people, and may say whom they are for; others' by mistake.
        first = next(word for word in sorted(markers.made) if markers.made[word] == f"{kind} {number}: firstName")
        event[name] = f"added-tag-{first}" if kind == "encharge" else f"{first} did it"
    if kind == "encharge":
        event["timestamp"] = 1_767_000_000_000 + number
    return {**event, "pii": ["shoeSize"], "number": number}


def _keys(value: Any) -> list[str]:
    if isinstance(value, list):
        return [key for item in value for key in _keys(item)]
    return [*value, *(key for item in value.values() for key in _keys(item))] if isinstance(value, dict) else []


def _filled(value: Any, keys: frozenset[str], place: str, markers: Markers, under: str = "") -> Any:
    """With markers under each of the keys; an object there gets a field, and a key, that nobody else has."""
    if isinstance(value, dict):
        own = {markers.new(place, f"key in {under}"): markers.new(place, f"{under}.?")} if under else {}
        return own | {
            key: _filled(item, keys, place, markers, key if under or plain(key) in keys else "")
            for key, item in value.items()
        }
    return markers.new(place, under) if under else value


def post(router: Router, kind: str, events: Sequence[Any]) -> list[str]:
    """Through the door of that kind."""
    name, headers = kind.replace("_", "-"), {"Authorization": f"Bearer {SECRET}", "Content-Type": "application/json"}
    path, body = f"webhooks/{name}", [*events] if kind.startswith("segment") else events[0]
    if kind == "segment":
        path, body = (
            "v1/batch",
            {"batch": [{**e, "messageId": f"seg-{e['number']}"} for e in events], "writeKey": SECRET},
        )
    raw = json.dumps(body).encode()
    if kind == "segment_webhook":
        headers["X-Signature"] = hmac.new(SECRET.encode(), json.dumps(events[0]).encode(), "sha1").hexdigest()
    answer = router.session.post(f"{router.web_url}/{path}", raw, headers=headers, timeout=10)
    assert answer.ok, answer.text
    return [f"seg-{event['number']}" for event in events] if kind == "segment" else answer.json()["ids"]


def publish(router: Router, markers: Markers) -> list[str]:
    """What other teams push: envelopes of a source that nobody knows, one of them for later; and what is none."""
    publisher = Celery(broker=router.redis.url, set_as_current=False)
    publisher.conf.task_default_queue = "events"
    ids = []
    for options in ({}, {"countdown": 3600}):
        event = {
            key: markers.new("published", key) for key in (*personal.EVERYWHERE, *personal.ANY, "shoeSize", "hobby")
        }
        told = next(iter(event.values()))
        data = envelope_data(
            id=f"published-{told}", source="billing", format="billing", type=told, name=f"paid by {told}",
            event={**event, "pii": ["shoeSize"]}, subject=f"billing:{event['userId']}",
            person={"email": event["email"]}, personal=["hobby"],
        )  # fmt: skip
        publisher.send_task("events.publish", [data], **options)
        ids.append(id_without_address(f"published-{told}"))
    publisher.send_task("events.publish", [{"id": 7, "event": {"email": markers.new("malformed", "email")}}])
    publisher.send_task("events.publish", [], {"event": {"firstName": markers.new("malformed", "firstName")}})
    publisher.send_task("billing.paid", [{"email": markers.new("unknown task", "email")}])
    # Tells everybody what it sends; and what somebody else's worker tells of its tasks.
    teller = Celery(broker=router.redis.url, set_as_current=False)
    teller.conf.update(task_default_queue="events", task_send_sent_event=True)
    teller.send_task("users.tag", [], {"email": markers.new("published", "email"), "tag": "told"})
    with teller.connection_for_write() as connection, teller.events.Dispatcher(connection, hostname="theirs") as way:
        for kind in ("received", "started", "failed"):
            way.send(
                f"task-{kind}",
                uuid=markers.new("published", "email"),
                **{
                    key: markers.new("published", key) for key in ("args", "kwargs", "result", "exception", "traceback")
                },
                name=f"pay {markers.new('published', 'email')}".replace("@", "%40"),
            )
    telling = (
        ("users.tag", [], {"email": markers.new("published", "email"), "tag": "vip"}),
        ("users.tag", [{"email": markers.new("published", "email")}], {}),  # invalid: no tag
        ("users.tag", [], {"tag": "vip", f"{markers.new('published', 'email')}": 1}),  # no field of this name
        ("events.publish", [envelope_data(id=markers.new("published", "email"), source="billing")], {}),
        ("events.publish", [[7, {"type": "paid", "event": markers.new("published", "email")}]], {}),
        (f"pay.{markers.new('published', 'email')}", [], {}),
    )
    for name, args, named in telling:
        publisher.send_task(
            name, args, named,
            task_id=markers.new("published", "email"),
            shadow=f"for {markers.new('published', 'email')}",
            argsrepr=markers.new("published", "argsrepr"),
            kwargsrepr=markers.new("published", "kwargsrepr"),
            headers={"publisher": markers.new("published", "email"), "customer": markers.new("published", "header")},
        )  # fmt: skip
    redis.Redis.from_url(router.redis.url).lpush("events", markers.new("no message").encode())
    return ids[:1]


def failing(router: Router, markers: Markers) -> Iterator[str]:
    """Events of each kind: one is refused with itself in the answer, one goes well; and what is no event at all."""
    for number, kind in enumerate(EXAMPLES):
        refused, fine = planted(kind, markers, 2 * number + 1), planted(kind, markers, 2 * number + 2)
        router.faults({"status": 400, "body": {"error": f"not {json.dumps(refused)}", "request": refused}})
        ids = post(router, kind, [refused])
        router.settled(ids, 15)
        router.faults()
        ids += post(router, kind, [fine])
        router.settled(ids, 15)
        yield from ids
    yield from publish(router, markers)
    secret = {"Authorization": f"Bearer {SECRET}"}
    lines = [
        f'{{"kind": 7, "firstName": "{markers.new("rejected")}"}}',
        f'{{"body": "{markers.new("undecodable")}',
        "7",
    ]
    records = [{"data": base64.b64encode(line.encode()).decode()} for line in lines]
    stream = {"X-Amz-Firehose-Access-Key": SECRET, "X-Amz-Firehose-Request-Id": "r-1"}
    for name in ("activity-sync", "encharge"):
        request = {"requestId": "r-1", "timestamp": 1, "records": records}
        broken = router.session.post(f"{router.web_url}/firehose/{name}", json=request, headers=stream, timeout=5)
        assert broken.ok, broken.text
    batch = {
        "batch": [markers.new("no event"), {"type": "x", "email": markers.new("no type", "email")}],
        "writeKey": SECRET,
    }
    assert router.session.post(f"{router.web_url}/v1/batch", json=batch, timeout=5).ok
    for body, status in (  # refused, and kept nowhere
        (f"[{markers.new('refused')!r}", 400),
        (json.dumps({"event": [markers.new("refused")]}), 400),
    ):
        headers = {**secret, "Content-Type": "application/json"}
        answer = router.session.post(f"{router.web_url}/webhooks/encharge", body.encode(), headers=headers, timeout=5)
        assert answer.status_code == status
    wrong = {"Authorization": f"Bearer {markers.new('wrong secret')}"}
    assert router.post({"event": "x"}, markers.new("address"), **wrong).status_code == 404
    assert router.post({"event": "x"}, f"encharge/{markers.new('address')}", **wrong).status_code == 401


def told_by_commands(router: Router, *more: str) -> dict[str, str]:
    """Every command that reads, with and without --json."""
    runner = CliRunner(env={**dict.fromkeys(os.environ), **router.environ})

    def run(*args: str) -> str:
        done = runner.invoke(main, args)
        assert done.exception is None or isinstance(done.exception, SystemExit), (args, done.exception, done.output)
        return done.output

    letters = [json.loads(line)["id"] for line in run("dead", "list", "--json").splitlines()]
    assert len(letters) > 3 * len(EXAMPLES)
    if more:
        # Of an event's letters each has all of it; those of the quarantine are of no event.
        letters = list({id_.removeprefix(RESERVED).partition(":")[0]: id_ for id_ in letters}.values())
    both = [("dead", "list", *more), ("dead", "show", letters[0], *more), ("explain", "--last", "100", *more)]
    both += [("explain", "--last", "100", "--diff", "config/routes.yaml", *more)]
    if not more:
        both += [("ledger",), ("ledger", "verify"), ("workers",), ("destination", "show"), ("route", "show")]
        both += [("check",), ("dead", "replay", "--all"), ("events", "list")]
        dead = {id_.rpartition(":")[0] for id_ in letters if not id_.startswith(RESERVED)}
        both += [("events", "show", id_) for id_ in dead]
    texts = {" ".join(args): run(*args) for args in (*both, *(("dead", "show", id_, *more) for id_ in letters))}
    return texts | {f"{' '.join(args)} --json": run(*args, "--json") for args in both}


def told_by_pages(router: Router, flower: str) -> dict[str, str]:
    """What Flower, the sandbox and the web process answer to whoever looks."""
    worker = next(iter(router.session.get(f"{flower}/api/workers?refresh=1", timeout=15).json()))
    tasks = router.session.get(f"{flower}/api/tasks", timeout=15).json()
    assert any("added-tag-…" in (task["name"] or "") for task in tasks.values())
    assert any(task["name"] == "pay …" for task in tasks.values()), "others' tasks are heard of"
    assert {"unknown_task", "undecodable", "invalid"} <= {task["exception"] for task in tasks.values()}
    pages = ["", "workers", "workers?json=1", "tasks", "broker", f"worker/{worker}", "metrics"]
    pages += ["api/tasks", "api/task/types", "api/workers?refresh=1", "api/queues/length"]
    pages += ["tasks/datatable?draw=1&start=0&length=1000&search[value]=&order[0][column]=0&order[0][dir]=asc"]
    pages += [f"{page}/{quote(id_, safe='')}" for id_ in tasks for page in ("task", "api/task/info")]
    pages = [f"{flower}/{page}" for page in pages]
    pages += [
        f"{router.sandbox_url}/{page}"
        for page in ("", *map("_sandbox/{}".format, ("state", "events", "calls", "faults")))
    ]
    pages += [f"{router.web_url}/{page}" for page in ("metrics", "readyz", "livez")]
    answers = {page: router.session.get(page, timeout=15) for page in pages}
    assert {page: answer.status_code for page, answer in answers.items() if not answer.ok} == {}
    return {page: answer.text for page, answer in answers.items()}


def command_lines(router: Router) -> str:
    """As every user of the machine sees them, environments left out."""
    files = (Path(f"/proc/{process.pid}/cmdline") for process in router.processes.values())
    return "\n".join(file.read_text() for file in files if file.exists())


def test_no_person_is_told(make_router: Callable[..., Router], tmp_path: Path) -> None:
    """In no log, page, metric, process list or command's output, unless it is asked with --reveal; there all are."""
    (tmp_path / "sources.yaml").write_text(SOURCES)
    (tmp_path / "routes.yaml").write_text(ROUTES)
    assert EXAMPLES.keys() == KINDS.keys()
    router = make_router(
        SOURCE_SECRET=SECRET,
        SOURCES_FILE=str(tmp_path / "sources.yaml"),
        ROUTES_FILE=str(tmp_path / "routes.yaml"),
        CORRELATION_WAIT_S="1",
        ROUTE_PAUSE_FAILURES="1000",
        FLOWER_UNAUTHENTICATED_API="true",
        LOG_LEVEL="DEBUG",
    )
    markers = Markers()
    flower = f"http://127.0.0.1:{redis_server.free_port()}"
    router.start("flower", stack.flower_command(int(flower.rpartition(":")[2])))
    router.start_sandbox(reveal=False)
    router.start_web()
    router.start_worker()
    wait(lambda: stack.answers(f"{flower}/healthcheck"), 15, "Flower answers", router.processes["flower"])
    ids = list(failing(router, markers))
    wait(lambda: all(router.some(ids)), 10, "all are in the ledger")
    router.settled(ids, 20)
    told = told_by_commands(router) | told_by_pages(router, flower) | {"process list": command_lines(router)}
    revealed = "".join(told_by_commands(router, "--reveal").values())
    router.close()
    told |= {log.name: log.read_text(errors="replace") for log in router.folder.glob("*.log")}

    assert {"web.log", "worker.log", "sandbox.log", "flower.log"} <= told.keys()
    assert "person:" in told["dead list --json"] + "".join(told.values()), "hashes say who is the same"
    leaks = {name: {word: markers.made[word] for word in markers.in_(text)} for name, text in told.items()}
    assert {f"{word} ({place}) in {name}" for name, words in leaks.items() for word, place in words.items()} == set()
    # Messages lie in quarantine as they came, in base64.
    revealed += "".join(
        base64.b64decode(text).decode() for text in re.findall(r'"body\\*": \\*"([\w+/=]{40,})', revealed)
    )
    never_kept = {"refused", "wrong secret", "address", "published"}
    unseen = markers.made.keys() - markers.in_(revealed)
    assert [markers.made[word] for word in unseen if markers.made[word].split(":")[0] not in never_kept] == []
