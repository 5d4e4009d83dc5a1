"""event-router destination and event-router route: what is shut, why, and what waits there; shut and open by hand."""

import dataclasses
import json
from typing import Any

import click

from cli.connection import Connection, open_connection
from cli.table import table
from config.problems import ConfigurationRefused
from tasks import gates, routing
from tasks.destinations import DESTINATIONS
from tasks.gates import ROUTE, Gate
from tasks.routing import Routes
from tasks.webhooks import PREFIX

_HEADER = ("", "state", "since", "until", "parked", "oldest", "in flight", "requests/s", "concurrency", "")


def _file(connection: Connection) -> Routes:
    """The routes file; without anything where it cannot be read: gates are opened and shut all the same."""
    try:
        return routing.load(connection.settings.routes_file)
    except ConfigurationRefused:
        return Routes(())


def _destinations(connection: Connection) -> list[str]:
    return [*DESTINATIONS, *(f"{PREFIX}{name}" for name in _file(connection).webhooks)]


def _routes(connection: Connection) -> list[str]:
    return [f"{ROUTE}{route.name}" for route in _file(connection).routes]


def _group(kind: str, prefix: str, names: Any) -> click.Group:
    """The same three commands for both kinds of gates."""

    @click.group(
        kind, help=f"Look at {kind}s, pause and resume them. What comes meanwhile is parked, and nothing is lost."
    )
    def group() -> None: ...

    def known(connection: Connection, name: str) -> str:
        gate = prefix + name
        all_names = {each.name for each in _found(connection)} | set(names(connection))
        if gate not in all_names:
            there = ", ".join(sorted(each.removeprefix(prefix) for each in all_names)) or "none"
            raise click.ClickException(f"there is no {kind} {name}; there are: {there}")
        return gate

    def _found(connection: Connection) -> list[Gate]:
        found = gates.gates(connection.ledger, names(connection))
        return [gate for gate in found if gate.name.startswith(ROUTE) == bool(prefix)]

    @group.command()
    @click.argument("name", required=False)
    @click.option("--json", "as_json", is_flag=True, help="For programs.")
    @click.pass_obj
    def show(environ: dict[str, str], name: str | None, as_json: bool) -> None:
        """Show one, or all: state, what is parked, limits."""
        connection = open_connection(environ)
        wanted = known(connection, name) if name else None
        found = [gate for gate in _found(connection) if wanted in {None, gate.name}]
        if as_json:
            rows = [{**dataclasses.asdict(gate), "name": gate.name.removeprefix(prefix)} for gate in found]
            click.echo(json.dumps(rows))
            return
        click.echo(table(_HEADER, [_row(gate, prefix) for gate in found]))

    @group.command()
    @click.argument("name")
    @click.option("--by", default="operator", show_default=True, help="Who pauses it, for others to see.")
    @click.pass_obj
    def pause(environ: dict[str, str], name: str, by: str) -> None:
        """Deliveries are parked from now on; requests under way end."""
        connection = open_connection(environ)
        new = connection.ledger.pause(known(connection, name), by)
        click.echo(f"{name} is paused" if new else f"{name} was paused already")

    @group.command()
    @click.argument("name")
    @click.pass_obj
    def resume(environ: dict[str, str], name: str) -> None:
        """What is parked is let go, in order of acceptance, whatever had shut it: one first, then more and more."""
        connection = open_connection(environ)
        was_shut = connection.ledger.resume(known(connection, name))
        click.echo(f"{name} is resumed" if was_shut else f"{name} was open already")

    return group


def _row(gate: Gate, prefix: str) -> tuple[object, ...]:
    return (
        gate.name.removeprefix(prefix),
        gate.mode,
        gates.moment(gate.since),
        gates.moment(gate.until),
        gate.parked,
        f"{gate.oldest_parked_s:.0f} s" if gate.parked else "",
        gate.in_flight,
        gate.requests_per_s or "",
        gate.concurrency or "",
        f"by {gate.paused_by}" if gate.paused_by else "",
    )


destination = _group("destination", "", _destinations)
route = _group("route", ROUTE, _routes)
