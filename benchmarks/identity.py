"""Who an event is about: outbound messages and what became of them, shuffled, through real processes.

For each of `--messages` an outbound-email event names a recipient, and `--each` later events name only the message;
some outbound events never come. All are shuffled and posted. Every event whose outbound event came has to be delivered
with its recipient, the others without, after CORRELATION_WAIT_S; those that wait cost no worker, and delay nobody.
"""

import argparse
import collections
import os
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import requests

from cli import redis_server
from cli.connection import Connection
from torture.parts import Parts, wait

HERE = Path(__file__).parent
SECRET = "bench-secret"
KINDS = ("message-sent", "message-delivered", "message-opened", "message-link-clicked")
SOURCES = """version: 1
sources:
  pendula: {kind: activity_sync, secrets: [BENCH_SECRET]}
  encharge: {kind: encharge, secrets: [BENCH_SECRET]}
"""
ROUTES = """version: 1
routes:
- name: known
  source: pendula
  trigger: envelope.person.email != null
  action: track_event
  mapping:
    event: Known
    email: {"@path": $.envelope.person.email}
    properties: {number: {"@template": "{{envelope.person.email}} {{kind}} {{data.messageId}}"}}
- name: unknown
  source: pendula
  trigger: envelope.person.email = null
  action: track_event
  mapping:
    event: Unknown
    email: nobody@example.com
    properties: {number: {"@template": "nobody {{kind}} {{data.messageId}}"}}
- name: canary
  source: encharge
  action: track_event
  mapping:
    event: Canary
    email: canary@example.com
    properties: {number: {"@template": "canary {{properties.sent}}"}}
"""


def event(kind: str, message: int, data: dict[str, Any]) -> dict[str, Any]:
    """One event of Activity Sync."""
    return {
        "version": "1.0",
        "timestamp": "2026-01-02T03:04:05.678Z",
        "tenantId": "bench",
        "workflowContext": {"experienceContext": {"experienceId": f"experience-{message}"}},
        "customContext": {},
        "kind": kind,
        "data": {"messageId": f"message-{message}", **data},
    }


def events(given: argparse.Namespace, dice: random.Random) -> tuple[list[dict[str, Any]], set[int]]:
    """All events, shuffled, and the messages whose outbound event never comes."""
    missing = set(dice.sample(range(given.messages), int(given.messages * given.missing)))
    found = []
    for message in range(given.messages):
        if message not in missing:
            found.append(event("outbound-email", message, {"to": f"person-{message}@example.com"}))
        found += [event(kind, message, {"detail": ""}) for kind in KINDS[: given.each]]
    dice.shuffle(found)
    return found, missing


def expected(sent: list[dict[str, Any]], missing: set[int]) -> collections.Counter[str]:
    """What has to arrive, each once."""
    texts = []
    for each in sent:
        message = each["data"]["messageId"].removeprefix("message-")
        who = "nobody" if int(message) in missing else f"person-{message}@example.com"
        texts.append(f"{who} {each['kind']} message-{message}")
    return collections.Counter(texts)


def run(given: argparse.Namespace, folder: Path) -> list[str]:
    """Post everything, wait for the end, compare. Gives what is wrong."""
    dice = random.Random(given.seed)
    parts = Parts(folder, os.environ, "bench-key")
    receiver = f"http://127.0.0.1:{redis_server.free_port()}"
    web = redis_server.free_port()
    (folder / "routes.yaml").write_text(ROUTES)
    (folder / "sources.yaml").write_text(SOURCES)
    parts.environ |= {
        "ROUTES_FILE": str(folder / "routes.yaml"),
        "SOURCES_FILE": str(folder / "sources.yaml"),
        "ENCHARGE_INGEST_URL": f"{receiver}/",
        "BENCH_SECRET": SECRET,
        "SPOOL_FOLDER": str(folder / "spool"),
        "CORRELATION_WAIT_S": str(given.wait),
        "ACCEPT_TIMEOUT_S": "2",
        "LOG_LEVEL": "WARNING",
    }
    try:
        port = receiver.rpartition(":")[2]
        parts.start("receiver", [sys.executable, str(HERE / "receiver.py"), "--port", port])
        parts.start_web_at("web", web)
        parts.start_worker()
        return compare(given, dice, parts, receiver, f"http://127.0.0.1:{web}/webhooks")
    finally:
        parts.close()


def compare(given: argparse.Namespace, dice: random.Random, parts: Parts, receiver: str, hooks: str) -> list[str]:
    sent, missing = events(given, dice)
    connection = parts.connection
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {SECRET}"
    most, begun = 0, time.monotonic()
    for first in range(0, len(sent), 100):
        session.post(f"{hooks}/pendula", json=sent[first : first + 100], timeout=10).raise_for_status()
        most = max(most, waiting(connection, "unidentified"))
        canary(session, hooks)
        if given.rate:
            time.sleep(max(0.0, begun + (first + 100) / given.rate - time.monotonic()))
    took = time.monotonic() - begun
    wait(lambda: waiting(connection, "unclaimed", "running", "lined") == 0, 300, "what is known is delivered")
    idle = float(connection.ledger.client.get("router:tickets") or 0)
    left = waiting(connection, "unidentified")
    canary(session, hooks)
    time.sleep(1)
    tickets = float(connection.ledger.client.get("router:tickets") or 0) - idle - 1
    wait(lambda: waiting(connection, "unidentified", "unclaimed", "running", "lined") == 0, 300, "nothing waits")
    arrivals = requests.get(f"{receiver}/arrivals", timeout=60).json()
    came = collections.Counter(text for _, text, _ in arrivals if not text.startswith("canary"))
    late = [at - float(text.split()[1]) for at, text, _ in arrivals if text.startswith("canary")]
    want = expected(sent, missing)
    counts = connection.ledger.counts()["source", "pendula"]
    unknown = sum(number for text, number in want.items() if text.startswith("nobody"))
    print(f"{len(sent)} events of {given.messages} messages posted shuffled in {took:.1f} s, seed {given.seed}")
    print(f"most that waited at a time {most}; at the end {left} waited, for whom {tickets:.0f} tickets were made")
    print(f"identified {len(sent) - unknown} of {len(sent) - unknown}" if came == want else "NOT as expected")
    print(f"went on without subject {counts.get('unidentified', 0)} of {unknown}")
    p50, p99 = (statistics.quantiles(late, n=100)[at] * 1000 for at in (49, 98))
    print(f"other events meanwhile: {len(late)}, accept to arrival p50 {p50:.0f} ms, p99 {p99:.0f} ms")
    wrong = [f"{text}: {came[text]} instead of {want[text]}" for text in want | came if came[text] != want[text]]
    if counts.get("unidentified", 0) != unknown:
        wrong.append("the count of the unidentified is wrong")
    if tickets > 0:
        wrong.append("those that wait cost tickets")
    return wrong


def canary(session: requests.Session, hooks: str) -> None:
    """An event of somebody else, which carries when it was sent."""
    body = {"event": "canary", "user": {"id": f"c{time.time_ns()}"}, "properties": {"sent": f"{time.time():.6f}"}}
    session.post(f"{hooks}/encharge", json=body, timeout=10).raise_for_status()


def waiting(connection: Connection, *states: str) -> int:
    """How many events are in these states."""
    sizes = connection.ledger.sizes()
    return sum(int(sizes[state]) for state in states)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=5000)
    parser.add_argument("--each", type=int, default=3, help="later events of each message, at most 4")
    parser.add_argument(
        "--missing", type=float, default=0.02, help="share of messages whose outbound event never comes"
    )
    parser.add_argument("--wait", type=float, default=60, help="CORRELATION_WAIT_S; longer than the posting takes")
    parser.add_argument("--rate", type=float, default=0, help="events a second; 0 = as fast as they are taken")
    parser.add_argument("--seed", type=int, default=random.randrange(10_000))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        wrong = run(given, Path(name))
    if wrong:
        sys.exit("\n".join(["WRONG:", *wrong[:20]]))


if __name__ == "__main__":
    main()
