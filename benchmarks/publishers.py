"""Publishers in Python, in Node, and with nothing but Redis send tasks of every kind, and broken ones among them.

All must be in the ledger under their publisher's name when it is over: the good ones delivered, once each, and each
broken one a dead letter that names its field. Node is left out, and said to be, where npm cannot install celery-node.
"""

import argparse
import collections
import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from celery import Celery

from torture.parts import REPOSITORY, Parts, wait

HERE = Path(__file__).parent
ROUTES = """
version: 1
routes:
  - {name: paid, trigger: 'envelope.type = "invoice-paid"', action: track_event,
     mapping: {event: Paid, email: {"@path": $.user.email}, properties: {number: {"@path": $.number}}}}
"""
#: Arguments that are wrong, by task, and the field that the dead letter must name.
BROKEN: list[tuple[str, dict[str, Any], str]] = [
    ("users.tag", {"email": "a@example.com"}, "tag"),
    ("users.tag", {"tag": 5, "email": "a@example.com"}, "tag"),
    ("users.untag", {"tag": "vip", "emial": "a@example.com"}, "emial"),
    ("users.identify", {"email": "a@example.com", "user": "pro"}, "user"),
    ("users.alias", {"userId": "1"}, "previousUserId"),
    ("objects.upsert", {"externalId": "1"}, "objectType"),
    ("events.track", {"event": ["Paid"], "email": "a@example.com"}, "event"),
    ("events.page", {"properties": 5, "userId": "1"}, "properties"),
    ("events.forward", {"name": "Paid"}, "user"),
    ("events.publish", {"type": "", "event": {}}, "type"),
]
Task = tuple[str, dict[str, Any], str]


def good(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Tasks about one person after the other."""
    for number in itertools.count():
        email = f"{name}-{number}@example.com"
        who = {"email": email}
        yield "users.identify", {**who, "userId": f"{name}-{number}", "user": {"plan": "pro"}}
        yield "users.tag", {**who, "tag": "vip"}
        yield "users.untag", {**who, "tag": "vip"}
        yield "objects.upsert", {"objectType": "company", "externalId": f"{name}-{number}", "objectData": {"size": 5}}
        yield "events.track", {**who, "event": "Paid", "properties": {"total": 5}}
        yield "events.page", {**who, "name": "Prices"}
        yield "events.forward", {"name": "Paid", "user": who}
        yield "events.publish", {"type": "invoice-paid", "event": {"user": who, "number": number}}
        yield "users.alias", {"email": f"new-{email}", "previousEmail": email, "subject": f"person:{email}"}


def tasks(name: str, given: argparse.Namespace) -> tuple[list[Task], dict[str, str]]:
    """What one publisher sends, and which field is wrong with which task."""
    made: list[tuple[str, dict[str, Any], str]] = []
    for number, (task, named) in enumerate(itertools.islice(good(name), given.tasks)):
        made.append((task, {**named, "publisher": name}, f"{name}-good-{number}"))
    fields = {}
    rng = random.Random(given.seed)
    for number, (task, named, field) in enumerate(itertools.islice(itertools.cycle(BROKEN), given.broken)):
        id_ = f"{name}-bad-{number}"
        fields[id_] = field
        made.insert(rng.randrange(len(made) + 1), (task, {**named, "publisher": name}, id_))
    return made, fields


def by_celery(parts: Parts, made: list[Task], _: Path) -> None:
    """Stock Celery, by name, in an object, protocol 2 and 1 in turn."""
    for protocol in (2, 1):
        app = Celery(broker=parts.redis.url, set_as_current=False)
        app.conf.task_protocol = protocol
        half = made[: len(made) // 2] if protocol == 2 else made[len(made) // 2 :]
        for number, (task, named, id_) in enumerate(half):
            args, kwargs = ([named], {}) if number % 2 else ([], named)
            app.send_task(task, args, kwargs, task_id=id_, queue="events", argsrepr="…", kwargsrepr="…")
        app.close()


def by_node(parts: Parts, made: list[Task], folder: Path) -> None:
    shutil.copy(HERE / "publishers.js", folder)
    (folder / "tasks").write_text("\n".join(map(json.dumps, made)))
    subprocess.run(["node", "publishers.js", parts.redis.url, "tasks"], cwd=folder, check=True, timeout=60)


def by_redis(parts: Parts, made: list[Task], _: Path) -> None:
    """The least that a message needs."""
    for task, named, id_ in made:
        message = {
            "body": json.dumps([[], named, {}]),
            "content-type": "application/json",
            "headers": {"task": task, "id": id_},
            "properties": {"delivery_tag": id_, "delivery_info": {"exchange": "", "routing_key": "events"}},
        }
        parts.connection.ledger.client.lpush("events", json.dumps(message))


PUBLISHERS: dict[str, Callable[[Parts, list[Task], Path], None]] = {
    "python": by_celery,
    "node": by_node,
    "redis": by_redis,
}


def has_node(folder: Path) -> bool:
    if shutil.which("npm") is None or shutil.which("node") is None:
        return False
    install = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder), "celery-node@0.5.9"]
    return subprocess.run(install, cwd=folder, capture_output=True, check=False, timeout=120).returncode == 0


def check(parts: Parts, name: str, fields: dict[str, str], given: argparse.Namespace) -> list[str]:
    """What is not as it must be."""
    counts = collections.Counter(parts.connection.ledger.counts()["source", name])
    found = {state: counts[state] for state in ("accepted", "delivered", "dead", "duplicate", "filtered", "waiting")}
    print(f"{name:7} {found}", flush=True)
    problems = []
    wanted = {"accepted": given.tasks + given.broken, "delivered": given.tasks, "dead": given.broken}
    problems += [f"{name}: {state} is {found[state]}, not {n}" for state, n in wanted.items() if found[state] != n]
    letters = {each.id.rpartition(":")[0]: each for each in parts.connection.letters.find() if each.source == name}
    for id_, field in fields.items():
        letter = letters.get(id_)
        if letter is None or letter.reason != "invalid" or field not in letter.error:
            problems.append(f"{id_}: {letter and (letter.reason, letter.error)} does not name {field}")
    return problems


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=1000, help="good ones of each publisher")
    parser.add_argument("--broken", type=int, default=50, help="broken ones of each publisher")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        (folder / "routes.yaml").write_text(ROUTES)
        publishers = dict(PUBLISHERS)
        if not has_node(folder):
            del publishers["node"]
            print("no Node, or npm cannot install: celery-node was not tried")
        parts = Parts(folder, os.environ, "bench-key")
        parts.environ |= {
            "ROUTES_FILE": str(folder / "routes.yaml"),
            "LOG_LEVEL": "ERROR",
            "PYTHONPATH": str(REPOSITORY),
        }
        try:
            parts.start_sandbox()
            parts.start_worker()
            sent = {name: tasks(name, given) for name in publishers}
            begun = time.monotonic()
            for name, publish in publishers.items():
                publish(parts, sent[name][0], folder)
            ledger = parts.connection.ledger
            wait(lambda: ledger.client.llen("events") == 0, 60, "the door has taken all")
            wait(lambda: not any(row.get("waiting") for row in ledger.counts().values()), 120, "all have ended")
            print(f"{len(publishers) * (given.tasks + given.broken)} tasks in {time.monotonic() - begun:.1f} s")
            problems = [text for name in publishers for text in check(parts, name, sent[name][1], given)]
        finally:
            parts.close()
    if problems:
        sys.exit("\n".join(problems[:20]))


if __name__ == "__main__":
    main()
