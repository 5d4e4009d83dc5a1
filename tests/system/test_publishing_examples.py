"""Every example of docs/publishing.md, as it stands there, against a real worker."""

import base64
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import HERE, Router, wait
from jsonschema import Draft7Validator
from yaml import safe_load

DOCS = HERE.parents[1] / "docs"
PAGE = (DOCS / "publishing.md").read_text()
ADDRESS = "redis://127.0.0.1:6379/0"
ROUTES = """
version: 1
routes:
  - name: paid
    trigger: 'envelope.type = "invoice-paid"'
    action: track_event
    mapping: {event: Paid, userId: someone, properties: {number: {"@path": $.envelope.id}}}
"""
PACKAGES = ("celery-node@0.5.9", "@asyncapi/specs@6.11.1")
#: Who says so, what, under which id.
EXPECTED = {
    "python": [("billing", "users.tag", "invoice-4711-tag"), ("billing", "invoice-paid", "invoice-4711-paid")],
    "publisher": [("billing", "users.untag", "invoice-4711-untag"), ("billing", "invoice-paid", "invoice-4712-paid")],
    "node": [("shop", "users.identify", "customer-17-pro"), ("shop", "invoice-paid", "order-4711-paid")],
    "bytes": [("crm", "objects.upsert", "company-17")],
    "redis": [("script", "events.track", "call-4711")],
    "command": [("script", "invoice-paid", "invoice-4713-paid")],
}


def examples(heading: str, kind: str) -> list[str]:
    """The blocks of a kind below a heading, without the blanks of a list that they stand in."""
    section = re.split(r"^##+ ", PAGE.partition(f"## {heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    found = re.findall(rf"^( *)```{kind}\n(.*?)^ *```$", section, flags=re.MULTILINE | re.DOTALL)
    assert found, (heading, kind)
    return [re.sub(rf"^{blanks}", "", text, flags=re.MULTILINE) for blanks, text in found]


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where npm has put what the Node example needs, and AsyncAPI's own schema."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("no Node on this machine: the example in Node was not tried, nor AsyncAPI's own schema")
    folder = tmp_path_factory.mktemp("node")
    install = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder), *PACKAGES]
    done = subprocess.run(install, capture_output=True, text=True, check=False, timeout=120, cwd=folder)
    if done.returncode != 0:
        pytest.skip(f"npm cannot install here: the example in Node was not tried ({done.stderr[-200:]})")
    return folder


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Router]:
    """One for all examples: they have ids of their own."""
    folder = tmp_path_factory.mktemp("router")
    (folder / "routes.yaml").write_text(ROUTES)
    made = Router(folder, {"ROUTES_FILE": str(folder / "routes.yaml")})
    try:
        made.start_sandbox()
        made.start_worker()
        yield made
    finally:
        made.close()


def run(router: Router, command: list[str], folder: Path) -> str:
    """A program of another team's: it knows nothing of ours but the address."""
    environ = {**router.environ, "PYTHONPATH": str(HERE.parents[1]) if command[0] == sys.executable else ""}
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout


def at(router: Router, text: str) -> str:
    return text.replace(ADDRESS, router.redis.url)


def arrived(router: Router, example: str) -> None:
    """All that the example publishes has been delivered, once each, in its publisher's name."""
    ids = [id_ for _, _, id_ in EXPECTED[example]]
    wait(lambda: None not in router.some(ids), 10, f"{ids} are in the ledger")
    events = router.settled(ids, 20)
    found = [(event.source, event.type, event.id) for event in events]
    assert found == EXPECTED[example]
    assert {event.state for event in events} == {"delivered"}


def test_python_with_celery_alone(router: Router, tmp_path: Path) -> None:
    (text,) = examples("Python", "python")
    (tmp_path / "example.py").write_text(at(router, text))

    run(router, [sys.executable, "-I", "example.py"], tmp_path)

    arrived(router, "python")


def test_python_with_our_file(router: Router, tmp_path: Path) -> None:
    """Copied beside the program; the reply is what the page says."""
    (text,) = examples("Python, with our file", "python")
    (tmp_path / "example.py").write_text(at(router, text))
    shutil.copy(HERE.parents[1] / "publisher.py", tmp_path)

    told = run(router, [sys.executable, "example.py"], tmp_path)

    assert told.strip() == text.rpartition("# ")[2].strip()
    arrived(router, "publisher")


def test_node(router: Router, modules: Path) -> None:
    (text,) = examples("Node", "javascript")
    (modules / "example.js").write_text(at(router, text))

    run(router, ["node", "example.js"], modules)

    arrived(router, "node")


def test_the_bytes(router: Router) -> None:
    """The steps hang together, and the message as it stands is taken."""
    heading = "PHP, Go, or any other"
    (body, message), (packed,) = examples(heading, "json"), examples(heading, "text")
    assert base64.b64decode(packed) == body.strip().encode()
    assert json.loads(message)["body"] == packed.strip()

    router.connection.ledger.client.lpush("events", message)

    arrived(router, "bytes")


def test_redis_alone(router: Router) -> None:
    """What the shell would hand to redis-cli."""
    text, _ = examples("A shell, with Redis alone", "sh")
    program, _, _, command, queue, message = shlex.split(at(router, text))
    assert (program, command) == ("redis-cli", "LPUSH")

    router.connection.ledger.client.execute_command(command, queue, message)

    arrived(router, "redis")


def test_the_command(router: Router, tmp_path: Path) -> None:
    """First the dry run, which sends nothing."""
    _, text = examples("A shell, with Redis alone", "sh")
    router.environ["PATH"] = f"{Path(sys.executable).parent}:{router.environ['PATH']}"

    told = run(router, ["sh", "-e", "-c", text], tmp_path).splitlines()

    assert told == [
        "0: invoice-4713-paid  script · invoice-paid  → paid",
        "0: invoice-4713-paid  script · invoice-paid",
    ]
    arrived(router, "command")
    assert router.counts("source", "script").get("duplicate", 0) == 0


def test_the_command_sends_nothing_when_something_is_wrong(router: Router, tmp_path: Path) -> None:
    """Of two with one mistake neither; names the field, ends with status 1."""
    (tmp_path / "two.json").write_text('[{"type": "a", "event": {}, "event_id": "good-1"}, {"type": 5}]')

    told = router.command("publish", str(tmp_path / "two.json"), "--json", status=1)

    assert json.loads(told) == {
        "number": 1,
        "error": "event: Missing data for required field.; type: Not a valid string.",
    }
    assert router.some(["good-1"]) == [None]
    assert router.connection.ledger.client.llen("events") == 0


def test_the_command_says_what_it_ignores(router: Router, tmp_path: Path) -> None:
    """All events in one object; a slip among an event's keys is told by the dry run, one beside them is wrong."""
    path = tmp_path / "some.json"
    path.write_text('{"events": [{"type": "a", "event": {}, "event_di": "x"}, {"type": "b", "event": {}}]}')
    told = router.command("publish", str(path), "--publisher", "script", "--dry-run", "--json")
    assert json.loads(told.splitlines()[0]) == {"number": 0, "ignored": ["event_di"]}
    assert len(told.splitlines()) == 3

    path.write_text('{"events": [{"type": "a", "event": {}}], "event_di": "x"}')
    told = router.command("publish", str(path), "--json", status=1)
    assert json.loads(told)["error"] == "event_di: No such argument; the nearest is event_id."


def test_all_of_it_adds_up(router: Router) -> None:
    router.assert_equation()


def test_the_asyncapi_document_is_one(modules: Path) -> None:
    """By AsyncAPI's own JSON Schema of its version 3.0."""
    path = modules / "node_modules/@asyncapi/specs/schemas/3.0.0.json"
    schema: dict[str, Any] = json.loads(path.read_text())
    document = safe_load((DOCS / "contract/asyncapi.yaml").read_text())

    errors = list(Draft7Validator(schema).iter_errors(document))

    assert [f"{'/'.join(map(str, error.absolute_path))}: {error.message[:200]}" for error in errors] == []
    broken = {**document, "operations": {"users.tag": {"action": "eat"}}}
    assert list(Draft7Validator(schema).iter_errors(broken)), "the schema refuses what is none"
