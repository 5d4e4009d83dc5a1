"""Commands that Redis, or the machine, refuses: one line for people, and no traceback."""

import socket
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

import pytest
from builders import envelope
from click.testing import CliRunner, Result

from cli import redis_server
from cli.main import main
from tasks.dead_letter import quarantine
from tasks.envelope import Rejected
from tasks.ledger import MESSAGES, QUARANTINE, Ledger, connect

EVENT = '{"type": "invoice-paid", "event": {}}'
#: The commands whose texts these are, each by another way to Redis.
COMMANDS = (["dead", "discard", "e1", "--yes"], ["events", "show", "e1"], ["publish"], ["check"])
#: Without these `check` has more to say.
KEYS = dict.fromkeys(("ENCHARGE_WEBHOOK_SECRET", "ENCHARGE_WRITE_KEY", "ENCHARGE_API_KEY"), "a key of sixteen or more")


@pytest.fixture
def ledger(server: redis_server.Server) -> Iterator[Ledger]:
    client = connect(server.url, timeout_s=5)
    client.flushall()
    rights = ("+ping", "+info", "+zrange", "%R~router:*")
    client.execute_command("ACL", "SETUSER", "reader", "on", ">reader-secret", "resetkeys", "-@all", *rights)
    yield Ledger(client, max_waiting=10_000, dedupe_window_s=3600, lease_s=10)
    client.execute_command("ACL", "DELUSER", "reader")


def run(command: Sequence[str], url: str) -> Result:
    return CliRunner().invoke(main, command, env={**KEYS, "REDIS_URL": url}, input=EVENT)


def refused(command: Sequence[str], url: str) -> str:
    done = run(command, url)
    assert (done.exit_code, type(done.exception)) == (1, SystemExit), done.exception
    assert "-secret" not in done.stderr
    return done.stderr


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_three_texts(command: list[str], ledger: Ledger, server: redis_server.Server) -> None:
    """No connection, a wrong password, and a user without the right are told apart."""
    at = f"127.0.0.1:{urlsplit(server.url).port}"
    closed = redis_server.free_port()

    assert f"no connection to Redis at 127.0.0.1:{closed} (" in refused(command, f"redis://127.0.0.1:{closed}/0")
    wrong = refused(command, f"redis://reader:wrong-secret@{at}/0")
    assert f"Redis at {at} refuses the user (reader) or the password" in wrong
    rights = refused(command, f"redis://reader:reader-secret@{at}/0")
    assert 'the Redis user reader may not do this; docs/security.md, "Redis with users"' in rights
    assert ledger.ping()


def test_an_events_id_finds_its_dead_letters(ledger: Ledger, server: redis_server.Server) -> None:
    """Flower shows the id of an event, or of what lies in quarantine: the letter's is named."""
    ledger.reject([Rejected(envelope(id="e1"), "invalid")])
    quarantine(ledger.client, b"raw", "undecodable", "no JSON", "message", MESSAGES, "events")
    (kept,) = [id_.decode() for id_ in ledger.client.zrange(QUARANTINE, 0, -1)]

    for id_, letter in (("e1", "e1:-"), (kept, f"quarantine:{kept}")):
        for command in ("show", "discard"):
            assert f"there is no dead letter {id_}; did you mean {letter}?" in refused(
                ["dead", command, id_], server.url
            )
        assert run(["dead", "show", letter], server.url).exit_code == 0
    assert refused(["dead", "show", "e2"], server.url) == "Error: there is no dead letter e2\n"


def test_flowers_port_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = CliRunner().invoke(main, ["flower", "--port", str(port)], env={"FLOWER_ADDRESS": ""})
    assert (done.exit_code, done.stderr) == (1, f"Error: 127.0.0.1:{port} is taken; --port\n")
