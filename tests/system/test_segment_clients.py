"""Segment's real client libraries send to a running router by changing one host name."""

import gzip
import json
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import HERE, Router

CALLS = 1000
KEY = "a-write-key"
CLIENTS = HERE / "clients"
SOURCES = "version: 1\nsources:\n  website: {kind: segment, write_keys: {server: WRITE_KEY}}\n"
ROUTES = """
version: 1
routes:
  - {name: track, trigger: 'type = "track"', action: track_event,
     mapping: {event: {"@path": $.event}, userId: {"@path": $.userId}, properties: {"@path": $.properties}}}
  - {name: identify, trigger: 'type = "identify"', action: identify_user,
     mapping: {userId: {"@path": $.userId}, user: {"@path": $.traits}}}
  - {name: page, trigger: 'type = "page" or type = "screen"', action: track_page,
     mapping: {name: {"@path": $.name}, userId: {"@path": $.userId}, properties: {"@path": $.properties}}}
  - {name: group, trigger: 'type = "group"', action: upsert_object,
     mapping: {objectType: company, externalId: {"@path": $.groupId}, objectData: {"@path": $.traits},
               userId: {"@path": $.userId}}}
  - {name: alias, trigger: 'type = "alias"', action: alias_user,
     mapping: {userId: {"@path": $.userId}, previousUserId: {"@path": $.previousId}}}
"""


@pytest.fixture
def router(make_router: Callable[..., Router], tmp_path: Path) -> Router:
    (tmp_path / "sources.yaml").write_text(SOURCES)
    (tmp_path / "routes.yaml").write_text(ROUTES)
    files = {"SOURCES_FILE": str(tmp_path / "sources.yaml"), "ROUTES_FILE": str(tmp_path / "routes.yaml")}
    made = make_router(WRITE_KEY=KEY, **files)
    made.start_all()
    return made


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The Node client with its library, out of the npm registry."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("no Node on this machine: Segment's Node library was not tried")
    folder = tmp_path_factory.mktemp("node")
    shutil.copy(CLIENTS / "segment_client.mjs", folder)
    install = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder), "@segment/analytics-node@3.1.0"]
    done = subprocess.run(install, capture_output=True, text=True, check=False, timeout=120, cwd=folder)
    if done.returncode != 0:
        pytest.skip(f"npm cannot install here: Segment's Node library was not tried ({done.stderr[-200:]})")
    return ["node", str(folder / "segment_client.mjs")]


def number_of(body: dict[str, Any]) -> str:
    """Which call a request at Encharge came from."""
    return str((body.get("properties") or {}).get("number") or body["user"].get("number") or body["user"]["userId"])


def send(router: Router, command: list[str], prefix: str, *more: str, restart: bool = False) -> None:
    """Run a client, restart the router's endpoint in the middle when asked to, and compare what arrived."""
    args = [*command, router.web_url, KEY, str(CALLS), prefix, *more]
    client = subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if restart:
        time.sleep(1.5)
        router.kill("web")
        time.sleep(0.5)
        router.start_web()
    output, complaints = client.communicate(timeout=120)
    assert client.returncode == 0, complaints
    assert json.loads(output.splitlines()[-1]) == {"errors": []}
    ledger = router.connection.ledger
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and router.counts("source", "website").get("waiting") != 0:
        time.sleep(0.1)
    assert ledger.sizes()["dead_letters"] == 0
    arrived = Counter(
        number_of(event["body"])
        for event in router.session.get(f"{router.sandbox_url}/_sandbox/events?since=0", timeout=30).json()["events"]
        if number_of(event["body"]).startswith(prefix)
    )
    assert arrived == Counter(f"{prefix}{index}" for index in range(CALLS))


@pytest.mark.parametrize("packed", ["plain", "gzip"])
def test_the_python_library(router: Router, packed: str) -> None:
    """1,000 calls of all kinds, and again with the endpoint killed and restarted: none lost, doubled, in error."""
    command = [sys.executable, str(CLIENTS / "segment_client.py")]
    send(router, command, "py-", packed)
    send(router, command, "again-", packed, restart=True)
    router.assert_equation()


def test_the_node_library(router: Router, node: list[str]) -> None:
    """1,000 calls of all kinds, and again with the endpoint killed and restarted: none lost, doubled, in error."""
    send(router, node, "node-")
    send(router, node, "again-", restart=True)
    router.assert_equation()


def test_a_large_batch(router: Router) -> None:
    """2,500 events in one request of nearly 500 KB: all delivered, once."""
    batch = [
        {
            "type": "track",
            "event": "E",
            "userId": f"u{number}",
            "messageId": f"m{number}",
            "properties": {"number": number, "padding": "x" * 83},
        }
        for number in range(2500)
    ]
    body = json.dumps({"batch": batch, "writeKey": KEY}).encode()
    assert 490_000 < len(body) <= 500 * 1024
    answer = router.session.post(f"{router.web_url}/v1/batch", data=body, timeout=10)
    assert (answer.status_code, answer.json()) == (200, {"success": True})
    router.settled([event["messageId"] for event in batch], 60)
    assert router.counts("source", "website")["delivered"] == 2500
    assert all(len(times) == 1 for times in router.arrivals().values())
    router.assert_equation()


def test_abuse_is_answered_and_costs_no_memory(router: Router) -> None:
    """Too many, too large, broken, packed and nested: the answers of Segment's documentation, and memory stays flat."""
    track = {"type": "track", "event": "E", "userId": "u"}
    many = json.dumps({"writeKey": KEY, "batch": [{"type": "page", "userId": "u"}] * 2501}).encode()
    cases: list[tuple[str, bytes, dict[str, str], int]] = [
        ("batch", many, {}, 200),
        ("track", json.dumps({**track, "writeKey": KEY, "x": "y" * 33_000}).encode(), {}, 400),
        ("batch", json.dumps({"writeKey": KEY, "batch": [{**track, "x": "y" * 33_000}]}).encode(), {}, 200),
        ("batch", gzip.compress(many)[:-20], {"Content-Encoding": "gzip"}, 400),
        ("batch", gzip.compress(b" " * 50_000_000), {"Content-Encoding": "gzip"}, 400),
        ("batch", b'{"a":' * 10_000, {}, 400),
        ("track", b'{"event": "\xff\xfe"}', {}, 400),
        ("track", json.dumps({**track, "writeKey": "wrong"}).encode(), {}, 401),
        ("m", b'{"series": []}', {}, 200),
    ]

    def round_of_all() -> None:
        for path, body, headers, status in cases:
            answer = router.session.post(f"{router.web_url}/v1/{path}", data=body, headers=headers, timeout=10)
            assert (answer.status_code, answer.headers["Content-Type"]) == (status, "application/json"), path

    for _ in range(3):
        round_of_all()
    before = memory_kib(router.processes["web"].pid)
    for _ in range(20):
        round_of_all()
    grown = memory_kib(router.processes["web"].pid) - before
    assert grown < 20 * 1024, f"{grown} KiB"
    good = router.session.post(f"{router.web_url}/v1/track", json={**track, "writeKey": KEY}, timeout=10)
    assert good.status_code == 200
    reasons = {letter.error.rpartition(" ")[2] for letter in router.connection.letters.find()}
    assert reasons == {"too_many_events", "payload_too_large"}
    router.assert_equation()


def memory_kib(group: int) -> int:
    """Resident memory of a process and its children."""
    listed = subprocess.run(["ps", "-eo", "pgid=,rss="], capture_output=True, text=True, check=True).stdout
    return sum(int(rss) for pgid, rss in (line.split() for line in listed.splitlines()) if int(pgid) == group)
