"""What several tests build: envelopes, a ledger without a server, and the hands of its clock."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import fakeredis

from tasks import ledger as ledgers
from tasks.envelope import Envelope
from tasks.ledger import GatePolicy, Ledger, Result, StoredEvent
from tasks.queue import RedisQueue

REPOSITORY = Path(__file__).resolve().parents[1]
SAMPLES: list[dict[str, Any]] = json.loads((REPOSITORY / "cli/samples/encharge.json").read_text())
EMAIL = "someone@example.com"
GATES = GatePolicy()
_OPTIONAL = {"raw", "person", "correlation", "personal", "expires_at"}


def default_routes() -> dict[str, set[str]]:
    """Event (with … for anything) → routes, as docs/default-routes.md has them."""
    found = {}
    for line in (REPOSITORY / "docs/default-routes.md").read_text().splitlines():
        cells = line.strip("| ").split(" | ")
        if line.startswith("| `"):
            for event in re.findall("`([^`]+)`", cells[0]):
                found[event] = set(re.findall("`([^`]+)`", cells[1]))
    return found


def envelope(**changes: Any) -> Envelope:
    """An envelope of a new person, with changes."""
    values: dict[str, Any] = {
        "id": "e1",
        "source": "encharge",
        "format": "encharge",
        "type": "newUser",
        "name": "newUser",
        "subject": "encharge:" + str(changes.get("id", "e1")).removeprefix("e"),
        "received_at": "2026-01-02T03:04:05.678Z",
        "occurred_at": "2026-01-02T03:04:05.000Z",
        "event": {"event": "newUser", "user": {"id": "1", "email": EMAIL}, "properties": {}},
    }
    return Envelope(**{**values, **changes})


def envelope_data(**changes: Any) -> dict[str, Any]:
    """The same as the JSON value that other teams publish."""
    data = {**vars(envelope()), **changes}
    return {key: value for key, value in data.items() if key not in _OPTIONAL or value}


class Fake(fakeredis.FakeRedis):
    """Knows scripts, but not their flags."""

    def register_script(self, script: bytes | str) -> Any:
        return super().register_script(_plain(script))

    def eval(self, script: bytes | str, *args: Any) -> Any:
        return super().eval(_plain(script), *args)


def _plain(script: bytes | str) -> bytes:
    return (script.encode() if isinstance(script, str) else script).removeprefix(ledgers.ALLOW_OOM)


def fake_ledger(
    *, max_waiting: int = 1000, lease_s: float = 10, archive_events: int = 0, gates: GatePolicy = GATES
) -> Ledger:
    """A ledger of its own, in memory."""
    return Ledger(
        Fake(server=fakeredis.FakeServer()),
        max_waiting=max_waiting,
        dedupe_window_s=3600,
        lease_s=lease_s,
        archive_events=archive_events,
        gates=gates,
    )


def accept(ledger: Ledger, *ids: str, **changes: Any) -> list[bool]:
    """Accept events of these ids, as the endpoint would."""
    return RedisQueue(ledger).accept([envelope(id=id_, **changes) for id_ in ids])


def claim(ledger: Ledger, id_: str = "e1", owner: str = "worker") -> StoredEvent:
    """Claim one event that has to be free."""
    (event,) = ledger.claim([id_], owner)
    return event


def settled(ledger: Ledger, id_: str, *results: Result) -> str:
    """Claim and settle one event."""
    return ledger.settle(claim(ledger, id_), results).state


def back(ledger: Ledger, key: str, id_: str, seconds: float) -> None:
    """Move an event's time in a sorted set back, as if that much time had passed for it."""
    ledger.client.zincrby(key, -seconds * 1_000_000, id_)


def lease_out(ledger: Ledger, id_: str) -> None:
    """Let the lease on an event run out."""
    back(ledger, ledgers.RUNNING, id_, 3600)


def state_of(ledger: Ledger, id_: str = "e1") -> str:
    """An event's state."""
    event = ledger.event(id_)
    assert event is not None
    return event.state


def counts(ledger: Ledger, kind: str = "source", name: str = "encharge") -> dict[str, int]:
    """A row of the counts, without zeros."""
    return {state: number for state, number in ledger.counts().get((kind, name), {}).items() if number}


def balanced(ledger: Ledger, names: Iterable[tuple[str, str]] | None = None) -> bool:
    """Whether accepted = delivered + filtered + duplicate + dead + waiting in every row."""
    table = ledger.counts()
    ends = ("delivered", "filtered", "duplicate", "dead", "waiting")
    return all(
        table[row].get("accepted", 0) == sum(table[row].get(state, 0) for state in ends) for row in names or table
    )
