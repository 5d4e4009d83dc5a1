"""The command event-router: thin, one file for each group of commands."""

import importlib
import os
import sys
from typing import Any, Final

import click

from config.problems import ConfigurationRefused
from config.settings import load

#: Command → the file of this package that has it, and its name there. Loaded when asked for: most need but a part of
#: all that is there, and importing all of it takes longer than most commands.
COMMANDS: Final = {
    "check": ("check", "check"),
    "dead": ("dead", "dead"),
    "demo": ("demo", "demo"),
    "destination": ("gates", "destination"),
    "eval": ("evaluate", "evaluate"),
    "events": ("events", "events"),
    "explain": ("explain", "explain"),
    "flower": ("flower", "flower"),
    "import": ("importing", "importing"),
    "kinesis": ("kinesis", "kinesis"),
    "ledger": ("ledger", "ledger"),
    "publish": ("publish", "publish"),
    "route": ("gates", "route"),
    "sandbox": ("sandbox", "sandbox"),
    "send": ("send", "send"),
    "up": ("up", "up"),
    "workers": ("workers", "workers"),
}


class Group(click.Group):
    """Loads the command that is asked for; people are told of problems with settings and Redis, without a traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """All names."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - as above
        """The command of that name."""
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(f"cli.{module}"), name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; a refused configuration ends with status 2, a Redis that does not do it with 1."""
        try:
            return super().invoke(ctx)
        except ConfigurationRefused as refused:
            click.echo(str(refused), err=True)
            sys.exit(2)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            # Loaded only now, as the commands are.
            told = importlib.import_module("cli.redis_errors").told(error, load(os.environ).redis_url)
            if told is None:
                raise
            raise click.ClickException(told) from error


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="event-router")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Carry events to the systems that must act on them, and know what became of each."""
    ctx.obj = dict(os.environ)
