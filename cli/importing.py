"""event-router import: routes, or events, out of what another system has."""

import json
import sys
from pathlib import Path
from typing import BinaryIO

import click

from cli.import_activatepro import activatepro
from cli.incoming_events import Unusable
from cli.table import table
from tasks.importing import Imported, NoExport, imported, routes_file, subscriptions


@click.group("import")
def importing() -> None:
    """Take over what another system has: its routes, its events."""


importing.add_command(activatepro)


@importing.command()
@click.argument("file", type=click.File("rb"))
@click.option("--source", help="The source whose events the routes take; all sources if not given.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="A new file; default: print it.")
def segment(file: BinaryIO, source: str | None, output: Path | None) -> None:
    """Turn the mappings of a Segment destination Encharge (Actions) into routes.

    FILE (- = standard input) is what Segment's Public API lists: a JSON list of subscriptions, bare or in
    {"data": {"subscriptions": [...]}}. Ends with status 1 when some need a hand: they are commented out.
    """
    try:
        found = imported(subscriptions(json.load(file)), source)
        text = routes_file(found)
    except NoExport as error:
        raise Unusable(str(error)) from None
    except (ValueError, RecursionError) as error:
        raise Unusable(f"not JSON that can be read: {error}") from None
    if output is None:
        click.echo(text, nl=False)
    elif output.exists() and output.stat().st_size:
        raise Unusable(f"{output} is there already, and might be somebody's work; name a new file")
    else:
        output.write_text(text, encoding="utf-8")
    click.echo(_report(found, source), err=True)
    sys.exit(1 if any(each.problems for each in found) else 0)


def _report(found: list[Imported], source: str | None) -> str:
    rows = [
        (each.route["name"], each.title, each.route["action"] or "-", "needs a hand" if each.problems else "imported")
        for each in found
    ]
    wrong = [each for each in found if each.problems]
    lines = [table(("route", "at Segment", "action", ""), rows), ""]
    for each in wrong:
        lines += [f"{each.route['name']}: {problem}" for problem in each.problems]
    lines.append(f"{len(found) - len(wrong)} imported, {len(wrong)} need a hand")
    if not source:
        lines.append("the routes take the events of every source; --source NAME would say which")
    return "\n".join(lines)
