"""event-router ledger: the equation, per source and per route; and the walk that says which events it is about."""

import json
import sqlite3
from collections.abc import Mapping
from typing import Any

import click

from app.spool import spooled
from cli.connection import Connection, open_connection
from cli.table import table
from tasks import verify as verifying
from tasks.ledger import Ledger

_STATES = ("accepted", "delivered", "filtered", "duplicate", "dead", "waiting")
_MOST_SHOWN = 50


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_context
def ledger(context: click.Context, as_json: bool) -> None:
    """Show that accepted = delivered + filtered + duplicate + dead + waiting, per source and route.

    Ends with status 1 when it does not hold, and says which events do not fit and where each was last seen.
    """
    if context.invoked_subcommand is not None:
        return
    connection = open_connection(context.obj)
    found = equation(connection.ledger)
    sizes = connection.ledger.sizes()
    holds = all(row["holds"] for row in found)
    findings = [] if holds else sorted(verifying.verify(connection.ledger).findings)
    if as_json:
        click.echo(json.dumps({"rows": found, "sizes": sizes, "findings": [_plain(each) for each in findings]}))
    else:
        click.echo(shown(found))
        click.echo(
            "  ".join(f"{name} {number:g}" for name, number in {**sizes, "spooled": len(_spooled(connection))}.items())
        )
        _show(findings)
    if not holds:
        raise SystemExit(1)


@ledger.command()
@click.option("--repair", is_flag=True, help="Put events that nobody would ever work on again back to the queue.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_obj
def verify(environ: dict[str, str], repair: bool, as_json: bool) -> None:
    """Walk all of Redis: every event, line, lane, gate, ticket and dead letter, and whether they fit each other.

    Ends with status 1 when something does not.
    """
    connection = open_connection(environ)
    walk = verifying.verify(connection.ledger)
    findings = sorted(walk.findings)
    adopted = verifying.adopt(connection.ledger, findings) if repair else []
    if as_json:
        told = {"events": walk.events, "places": walk.places, "findings": [_plain(each) for each in findings]}
        click.echo(json.dumps({**told, "spooled": _spooled(connection), "adopted": adopted}))
    else:
        click.echo(f"{walk.events} events; entries in " + ", ".join(f"{k} {n}" for k, n in sorted(walk.places.items())))
        _show(findings)
        for id_ in _spooled(connection)[:_MOST_SHOWN]:
            click.echo(f"spooled on this machine, not in Redis yet: {id_}")
        click.echo("everything fits" if not findings else f"{len(findings)} findings; {len(adopted)} events put back")
    if findings:
        raise SystemExit(1)


def _spooled(connection: Connection) -> list[str]:
    """The ids of the events that wait on this machine's disk; they are counted once Redis has them."""
    try:
        return [row.envelope.id for row in spooled(connection.settings.spool_folder)]
    except (sqlite3.Error, OSError):
        return []


def _plain(finding: verifying.Finding) -> dict[str, Any]:
    return {"event_id": finding.event_id, "what": finding.what, "last_seen": list(finding.last_seen)}


def _show(findings: list[verifying.Finding]) -> None:
    if findings:
        rows = [(each.event_id, each.what, ", ".join(each.last_seen)) for each in findings[:_MOST_SHOWN]]
        click.echo("\n" + table(("event", "what", "last seen in"), rows))
    if len(findings) > _MOST_SHOWN:
        click.echo(f"… and {len(findings) - _MOST_SHOWN} more; all of them with --json")


def equation(of: Ledger) -> list[dict[str, Any]]:
    """One row for each source and route: its counts, and whether they add up."""
    rows = []
    for (kind, name), counts in of.counts().items():
        row = {state: counts.get(state, 0) for state in _STATES}
        holds = row["accepted"] == sum(row[state] for state in _STATES[1:]) and min(row.values()) >= 0
        rows.append({"kind": kind, "name": name, **row, "discarded": counts.get("discarded", 0), "holds": holds})
    return rows


def shown(rows: list[dict[str, Any]]) -> str:
    """The rows as a table, and below it the sum over all sources as an equation."""
    header = ("", "name", *_STATES, "holds")
    cells = [
        (row["kind"], row["name"], *(row[state] for state in _STATES), "yes" if row["holds"] else "NO") for row in rows
    ]
    totals: Mapping[str, int] = {state: sum(row[state] for row in rows if row["kind"] == "source") for state in _STATES}
    sums = " + ".join(f"{state} {totals[state]}" for state in _STATES[1:])
    return f"{table(header, cells)}\n\naccepted {totals['accepted']} = {sums}"
