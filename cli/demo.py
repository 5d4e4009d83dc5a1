"""event-router demo: one event of every kind through the whole router, then the equation."""

import json
import secrets
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import requests

from cli.connection import Connection, open_connection
from cli.incoming_events import kinds_of
from cli.ledger import equation, shown
from cli.stack import Stack, running
from cli.table import table
from tasks import routing
from tasks.ledger import StoredEvent

SAMPLES = Path(__file__).with_name("samples")
_MOST_S = 30.0
#: An event that names nobody waits for one that says whom it is about; here that one is a moment away, or not to come.
_CORRELATION_WAIT_S = "2"
_DONE = {"delivered", "filtered", "dead"}


@click.command()
@click.pass_obj
def demo(environ: dict[str, str]) -> None:
    """Send one event of every kind that Encharge, Activity Sync and ActivatePro have, and show what became of each.

    Ends with status 0 only when every event is accounted for.
    """
    begun = time.monotonic()
    environ = _environ(environ)
    with running(environ, Path("var/demo"), {}) as stack:
        click.echo(f"web      {stack.web_url}\nEncharge {stack.sandbox_url or 'the account of ENCHARGE_WRITE_KEY'}\n")
        connection = open_connection(dict(stack.environ))
        ids = _post(stack)
        events = _wait(connection, ids)
        click.echo(_outcome(connection, events))
        rows = equation(connection.ledger)
        click.echo(f"\n{shown(rows)}")
        settled = sum(event is not None and event.state in _DONE for event in events)
        held = all(row["holds"] for row in rows)
        delivered, filtered = (
            sum(event is not None and event.state == state for event in events) for state in ("delivered", "filtered")
        )
    click.echo(
        f"\n{len(ids)} events posted, {delivered} delivered, {filtered} filtered, {len(ids) - settled} waiting, "
        f"the equation {'holds' if held else 'DOES NOT HOLD'}, {time.monotonic() - begun:.1f} s"
    )
    if settled != len(ids) or not held:
        raise SystemExit(1)


def _environ(environ: dict[str, str]) -> dict[str, str]:
    """The environment with the demo's own sources, which all have one secret."""
    secret = environ.get("ENCHARGE_WEBHOOK_SECRET") or secrets.token_urlsafe(24)
    names = ("ENCHARGE_WEBHOOK_SECRET", "ACTIVITY_SYNC_SECRET", "ACTIVATEPRO_SECRET")
    own = {"SOURCES_FILE": str(SAMPLES / "sources.yaml"), "CORRELATION_WAIT_S": _CORRELATION_WAIT_S}
    return {**environ, **dict.fromkeys(names, secret), **own}


def _samples() -> Iterator[tuple[str, dict[str, Any]]]:
    """Source and event, for each sample."""
    for source, kind in kinds_of(SAMPLES / "sources.yaml").items():
        for sample in json.loads((SAMPLES / f"{kind}.json").read_text()):
            yield source, sample


def _fresh(sample: dict[str, Any], milliseconds: int) -> dict[str, Any]:
    """The event as if it had happened then: the same content would be a duplicate of the last run's."""
    when: Any = milliseconds
    if not isinstance(sample.get("timestamp"), int):
        when = datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")
    inner = {"events": [{**each, "timestamp": when} for each in sample["events"]]} if "events" in sample else {}
    return {**sample, **inner, **({"timestamp": when} if "timestamp" in sample else {})}


def _post(stack: Stack) -> list[str]:
    now = int(time.time() * 1000)
    ids = []
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {stack.secret}"
        for index, (source, sample) in enumerate(_samples()):
            answer = session.post(f"{stack.web_url}/webhooks/{source}", json=_fresh(sample, now + index), timeout=10)
            if not answer.ok:
                raise click.ClickException(f"{source}, event {index}: {answer.status_code} {answer.text}")
            ids += answer.json()["ids"]
    return ids


def _wait(connection: Connection, ids: Sequence[str]) -> list[StoredEvent | None]:
    deadline = time.monotonic() + _MOST_S
    while True:
        events = connection.ledger.events(ids)
        if time.monotonic() > deadline or all(event is not None and event.state in _DONE for event in events):
            return events
        time.sleep(0.05)


def _outcome(connection: Connection, events: Sequence[StoredEvent | None]) -> str:
    routes = routing.load(connection.settings.routes_file)
    rows: list[tuple[object, ...]] = []
    for event in events:
        if event is None:
            rows.append(("", "", "", "not in the ledger", ""))
            continue
        took = f"{(event.ended_at - event.accepted_at) / 1000:.0f}" if event.ended_at else ""
        for name, delivery in event.deliveries.items():
            route = routes.get(name)
            attempts = delivery.record.get("attempts") or [{}]
            status = attempts[-1].get("status")
            answer = f"{delivery.state}{f' ({status})' if status else ''}"
            rows.append((event.label, name, route.does if route else "", answer, took))
        if not event.deliveries:
            rows.append((event.label, "", "", event.state, took))
    return table(("event", "route", "action", "answer", "ms"), rows)
