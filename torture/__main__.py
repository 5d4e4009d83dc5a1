"""`python -m torture`: kill, cut, fill and slow a whole router, then check what it promises, event by event.

Ends with status 1 when anything was lost, reordered, delivered twice without a reason, or did not recover.
"""

import os
import random
import shutil
import signal
import sys
from pathlib import Path
from types import FrameType

import click

from torture import report
from torture.faults import clock_possible
from torture.parts import NotInTime
from torture.run import Options, run

_LONGEST_SEED = 1_000_000
_WIDTH = 118
_SAID_EVERY_S = 10


@click.command(help=__doc__, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--seconds", default=75.0, show_default=True, help="Of the whole run, start and settlement included.")
@click.option("--seed", type=int, help="Of all chance: events, faults, their times. Default: a new one, printed.")
@click.option("--events", type=click.IntRange(min=1), help="Default: 25 for each second of faults.")
@click.option("--subjects", type=click.IntRange(min=1), default=40, show_default=True, help="Whom events are about.")
@click.option("--report", "file", type=click.Path(path_type=Path), help="Default: var/torture/report-<seed>.json.")
@click.option("--keep", is_flag=True, help="Keep logs and Redis' file also when all is well.")
def main(seconds: float, seed: int | None, events: int | None, subjects: int, file: Path | None, keep: bool) -> None:
    """Run, show, write down."""
    seed = random.randrange(_LONGEST_SEED) if seed is None else seed  # noqa: S311 - faults, not secrets
    click.echo(f"seed {seed}")
    if not clock_possible():
        click.echo("clock: not possible here (no libfaketime)")
    folder = Path("var/torture").resolve() / f"seed-{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    signal.signal(signal.SIGTERM, _stop)
    try:
        outcome = run(Options(seconds, seed, events, subjects), folder, os.environ, _say)
    except NotInTime as error:
        raise click.ClickException(f"{error}\nlogs: {folder}") from None
    failed = report.failed(outcome)
    file = file or Path(f"var/torture/report-{seed}.json")
    report.write(outcome, file, folder if failed or keep else None)
    click.echo(f"\n{report.text(outcome)}\nreport: {file}, {file.with_suffix('.txt')}")
    if failed or keep:
        click.echo(f"logs: {folder}")
    else:
        shutil.rmtree(folder)
    sys.exit(failed)


def _say(second: int, line: str) -> None:
    """Progress: a line that is written over on a terminal, one from time to time elsewhere."""
    if sys.stderr.isatty():
        click.echo("\r" + line[:_WIDTH].ljust(_WIDTH), err=True, nl=False)
    elif second % _SAID_EVERY_S == 0:
        click.echo(line, err=True)


def _stop(*_: int | FrameType | None) -> None:
    """TERM unwinds as any error does, so that nothing is left behind; a second one disturbs nothing."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(128 + signal.SIGTERM)


main()
