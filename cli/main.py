"""The command event-router: thin, one file for each group of commands."""

import os
import sys
from typing import Any

import click

from cli import check, dead, demo, evaluate, explain, gates, importing, kinesis, ledger, sandbox, send, up, workers
from config.problems import ConfigurationRefused


class Group(click.Group):
    """Problems of the configuration are a list for people, not a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; a refused configuration ends with status 2."""
        try:
            return super().invoke(ctx)
        except ConfigurationRefused as refused:
            click.echo(str(refused), err=True)
            sys.exit(2)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="event-router")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Carry events to the systems that must act on them, and know what became of each."""
    ctx.obj = dict(os.environ)


for command in (
    check.check,
    dead.dead,
    demo.demo,
    evaluate.evaluate,
    explain.explain,
    gates.destination,
    gates.route,
    importing.importing,
    kinesis.kinesis,
    ledger.ledger,
    sandbox.sandbox,
    send.send,
    up.up,
    workers.workers,
):
    main.add_command(command)
