"""event-router ledger: the equation, per source and per route."""

import json
from collections.abc import Mapping
from typing import Any

import click

from cli.connection import open_connection
from cli.table import table
from tasks.ledger import Ledger

_STATES = ("accepted", "delivered", "filtered", "duplicate", "dead", "waiting")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_obj
def ledger(environ: dict[str, str], as_json: bool) -> None:
    """Show that accepted = delivered + filtered + duplicate + dead + waiting, per source and route.

    Ends with status 1 when it does not hold.
    """
    connection = open_connection(environ)
    found = equation(connection.ledger)
    sizes = connection.ledger.sizes(connection.queue.key)
    if as_json:
        click.echo(json.dumps({"rows": found, "sizes": sizes}))
    else:
        click.echo(shown(found))
        click.echo("  ".join(f"{name} {number:g}" for name, number in sizes.items()))
    if not all(row["holds"] for row in found):
        raise SystemExit(1)


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
