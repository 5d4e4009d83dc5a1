"""event-router flower: Flower, the operators' window, with our options."""

import os

import click

from cli.stack import flower_command


@click.command()
@click.option("--port", type=int, default=5555, show_default=True, help="Where it listens.")
@click.pass_obj
def flower(environ: dict[str, str], port: int) -> None:
    """Run Flower: what workers do, event by event.

    FLOWER_BASIC_AUTH (user:password) must be set. It listens on FLOWER_ADDRESS (127.0.0.1), and keeps its rows in the
    file FLOWER_DB (var/flower/rows).
    """
    command = flower_command(port)
    os.execve(command[0], command, environ)  # noqa: S606 - it takes this process's place, and its signals
