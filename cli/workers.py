"""event-router workers: who consumes."""

import dataclasses
import json
import socket

import click

from cli.connection import open_connection
from cli.table import table
from tasks.heartbeat import Heartbeats, Worker


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.option("--here", is_flag=True, help="Only this machine's (or container's); status 0 too while Redis is away.")
@click.pass_obj
def workers(environ: dict[str, str], as_json: bool, here: bool) -> None:
    """Show the workers, and when each last proved that it consumes. Ends with status 1 when none is alive."""
    try:
        found = Heartbeats(open_connection(environ).ledger.client).workers()
    except click.ClickException as error:
        if not here:
            raise
        # Not the worker's fault, and nothing that starting it again would mend.
        click.echo(error.message, err=True)
        return
    host = socket.gethostname()
    found = [worker for worker in found if not here or worker.host == host]
    click.echo(json.dumps([_shown(worker) for worker in found]) if as_json else _table(found))
    if not any(worker.alive for worker in found):
        raise SystemExit(1)


def _shown(worker: Worker) -> dict[str, object]:
    return {**dataclasses.asdict(worker), "alive": worker.alive}


def _table(found: list[Worker]) -> str:
    rows = [(each.name, each.host, each.pid, f"{each.silent_s:.1f}", "yes" if each.alive else "NO") for each in found]
    return table(("worker", "host", "pid", "silent s", "alive"), rows)
