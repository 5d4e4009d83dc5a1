"""event-router kinesis: reads Kinesis streams into the queue, and shows how far that has come."""

import dataclasses
import json
import signal
import sys
import threading

import click

from app.kinesis import process
from app.kinesis.watch import Watched, watch
from cli.connection import connection_to
from cli.table import table


@click.command()
@click.option("--source", "names", multiple=True, help="Only this source; may be given several times.")
@click.option("--show", is_flag=True, help="Show shards, who reads them, how far they are, and end.")
@click.option("--json", "as_json", is_flag=True, help="With --show: for programs.")
@click.pass_obj
def kinesis(environ: dict[str, str], names: tuple[str, ...], show: bool, as_json: bool) -> None:
    """Read the streams of all sources with a kinesis block, until told to stop; several processes share the shards.

    With --show it ends with status 1 when a stream has nobody who reads it.
    """
    settings, streamed = process.sources(environ, names)
    if not show:
        stop = threading.Event()
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, lambda *_: stop.set())
        sys.exit(process.run(settings, streamed, stop))
    found = watch(connection_to(settings).ledger.client, [source.name for source in streamed])
    click.echo(json.dumps([_shown(each) for each in found]) if as_json else _table(found))
    if any(not each.consumers for each in found):
        sys.exit(1)


def _shown(each: Watched) -> dict[str, object]:
    return {**dataclasses.asdict(each), "lag_s": each.lag_s, "checkpoint_age_s": each.checkpoint_age_s}


def _table(found: list[Watched]) -> str:
    rows = [
        (each.source, row.shard, row.owner or "NOBODY", row.checkpoint or "", _s(row.checkpoint_age_s), _s(row.lag_s))
        for each in found
        for row in each.shards
    ]
    lines = [table(("source", "shard", "read by", "checkpoint", "age s", "lag s"), rows)]
    for each in found:
        stream = each.stream or "never read"
        lines.append(f"{each.source}: {stream}, {each.consumers} processes, {each.records} records")
    return "\n".join(lines)


def _s(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.1f}"
