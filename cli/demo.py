"""event-router demo: one event of every kind through the whole router, then the equation."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import requests

from cli.connection import Connection, open_connection
from cli.ledger import equation, shown
from cli.stack import Stack, running
from cli.table import table
from tasks import routing
from tasks.ledger import StoredEvent

SAMPLES = Path(__file__).with_name("samples")
_MOST_S = 30.0
_DONE = {"delivered", "filtered", "dead"}


@click.command()
@click.pass_obj
def demo(environ: dict[str, str]) -> None:
    """Send one event of every kind that Encharge's Activity Stream has, and show what became of each.

    Ends with status 0 only when every event is accounted for.
    """
    begun = time.monotonic()
    with running(environ, Path("var/demo"), {}) as stack:
        click.echo(f"web      {stack.web_url}\nEncharge {stack.sandbox_url or 'the account of ENCHARGE_WRITE_KEY'}\n")
        connection = open_connection(dict(stack.environ))
        samples = json.loads((SAMPLES / "encharge.json").read_text())
        ids = _post(stack, samples)
        events = _wait(connection, ids)
        click.echo(_outcome(connection, samples, events))
        rows = equation(connection.ledger)
        click.echo(f"\n{shown(rows)}")
        settled = sum(event is not None and event.state in _DONE for event in events)
        held = all(row["holds"] for row in rows)
        delivered = sum(event is not None and event.state == "delivered" for event in events)
    click.echo(
        f"\n{len(ids)} events posted, {delivered} delivered, {len(ids) - settled} waiting, "
        f"the equation {'holds' if held else 'DOES NOT HOLD'}, {time.monotonic() - begun:.1f} s"
    )
    if settled != len(ids) or not held:
        raise SystemExit(1)


def _post(stack: Stack, samples: Sequence[dict[str, Any]]) -> list[str]:
    # Fresh times make fresh events: the same content would be a duplicate of the last run's.
    now = int(time.time() * 1000)
    ids = []
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {stack.secret}"
        for index, sample in enumerate(samples):
            answer = session.post(
                f"{stack.web_url}/webhooks/encharge", json={**sample, "timestamp": now + index}, timeout=10
            )
            if not answer.ok:
                raise click.ClickException(f"{sample['event']}: {answer.status_code} {answer.text}")
            ids += answer.json()["ids"]
    return ids


def _wait(connection: Connection, ids: Sequence[str]) -> list[StoredEvent | None]:
    deadline = time.monotonic() + _MOST_S
    while True:
        events = connection.ledger.events(ids)
        if time.monotonic() > deadline or all(event is not None and event.state in _DONE for event in events):
            return events
        time.sleep(0.05)


def _outcome(connection: Connection, samples: Sequence[dict[str, Any]], events: Sequence[StoredEvent | None]) -> str:
    routes = routing.load(connection.settings.routes_file)
    rows: list[tuple[object, ...]] = []
    for sample, event in zip(samples, events, strict=True):
        if event is None:
            rows.append((sample["event"], "", "", "not in the ledger", ""))
            continue
        took = f"{(event.ended_at - event.accepted_at) / 1000:.0f}" if event.ended_at else ""
        for name, delivery in event.deliveries.items():
            route = routes.get(name)
            attempts = delivery.record.get("attempts") or [{}]
            status = attempts[-1].get("status")
            answer = f"{delivery.state}{f' ({status})' if status else ''}"
            rows.append((sample["event"], name, route.does if route else "", answer, took))
        if not event.deliveries:
            rows.append((sample["event"], "", "", event.state, took))
    return table(("event", "route", "action", "answer", "ms"), rows)
