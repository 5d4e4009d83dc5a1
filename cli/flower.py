"""event-router flower: Flower, the operators' window, with our options."""

import errno
import os
import socket

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
    address = environ.get("FLOWER_ADDRESS") or "127.0.0.1"
    if taken(address, port):
        raise click.ClickException(f"{address}:{port} is taken; --port")
    command = flower_command(port)
    os.execve(command[0], command, environ)  # noqa: S606 - it takes this process's place, and its signals


def taken(address: str, port: int) -> bool:
    """Whether somebody listens there; what else may be wrong with an address Flower says itself."""
    try:
        socket.create_server((address, port), family=socket.AF_INET6 if ":" in address else socket.AF_INET).close()
    except OSError as error:
        return error.errno == errno.EADDRINUSE
    return False
