"""event-router eval: one trigger or one mapping, asked about one event."""

import json
from pathlib import Path
from typing import Any, BinaryIO

import click

from cli.incoming_events import Unusable, looked_at, one_object
from config.yaml_file import read
from tasks import mapping as mappings
from tasks import trigger as triggers
from tasks.errors import MappingFailed, MappingRefused, TriggerRefused

_event = click.option(
    "--event", "file", type=click.File("rb"), required=True, help="File with one event or envelope (- = stdin)."
)


@click.group("eval")
def evaluate() -> None:
    """Try a trigger or a mapping on an event, which is looked at as it is; of an envelope, what routes see."""


@evaluate.command()
@click.argument("text")
@_event
def trigger(text: str, file: BinaryIO) -> None:
    """Print true or false. Ends with status 2 and the reason when the trigger is refused."""
    try:
        asked = triggers.parse(text)
    except TriggerRefused as refused:
        raise Unusable(str(refused)) from None
    click.echo("true" if asked.matches(looked_at(one_object(file))) else "false")


@evaluate.command()
@click.argument("path", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@_event
def mapping(path: Path, file: BinaryIO) -> None:
    """Print what the mapping in FILE (JSON or YAML) makes of the event, as JSON; nothing when there is no value.

    Ends with status 2 and every problem when the mapping is refused, with 1 when it fails on this event.
    """
    try:
        asked = mappings.compile(_written(path))
    except MappingRefused as refused:
        raise Unusable("\n".join(refused.problems)) from None
    try:
        found = asked.resolve(looked_at(one_object(file)))
    except MappingFailed as failed:
        raise click.ClickException(str(failed)) from None
    if found is not mappings.UNDEFINED:
        click.echo(json.dumps(found))


def _written(path: Path) -> Any:
    """JSON first: not all of it is YAML. Raises ConfigurationRefused when it is neither."""
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return read(path).data
