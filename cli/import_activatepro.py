"""event-router import activatepro: the events of ActivatePro's feeds, straight into the queue."""

import contextlib
import dataclasses
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from time import sleep
from typing import Any, Final

import click

from app.feed import Feed, NoFeed, measured
from app.feeding import MOST_AT_ONCE, Bad, Counts, Importer, pieces
from app.source import Source
from app.sources import activatepro as activatepro_source
from cli.connection import connection_to
from cli.import_report import Report
from cli.incoming_events import Unusable
from config.settings import Settings, load
from config.yaml_file import read
from tasks.import_progress import ImportProgress, Progress

_KIND: Final = "activatepro"
#: How much of MAX_WAITING a feed may fill: what senders post meanwhile must find room beside it.
_SHARE: Final = 0.5
#: How far below REDIS_HIGH_WATER an import waits: from that mark on, events of senders are spooled.
_BELOW_HIGH_WATER: Final = 0.9

#: (why, seconds); as Importer has it.
Waits = Callable[[str, float], None]
#: As sources.yaml wants it.
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--source", "source_name", help="The source that says so; default: the first of this kind.")
@click.option("--dry-run", is_flag=True, help="Only read, and say what would be taken.")
@click.option("--again", is_flag=True, help="Take a file from its first row on, whatever was imported of it before.")
@click.option(
    "--report",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where bad rows are listed, as JSON lines; default: FILE.rejected.jsonl.",
)
@click.option("--json", "as_json", is_flag=True, help="For programs: a line for each file.")
@click.pass_obj
def activatepro(
    environ: dict[str, str],
    files: Sequence[Path],
    source_name: str | None,
    dry_run: bool,
    again: bool,
    report: Path | None,
    as_json: bool,
) -> None:
    """Import ActivatePro's event feeds: event_history_*.json, also zipped, or a row a line.

    Each row becomes an event, once: an import that was ended in the middle goes on when it is started again, and a
    file that was imported adds nothing. Bad rows are reported, the others taken. Ends with status 1 when there were
    some, with 2 when a file could not be read.
    """
    settings = load(environ)
    source = _source(settings, source_name)
    importer = None if dry_run else _importer(settings, source)
    status = 0
    for path in files:
        try:
            found = _imported(path, source, importer, again, report)
        except NoFeed as error:
            click.echo(f"{path}: {error}", err=True)
            status = 2
            continue
        status = max(status, int(found["bad"] > 0))
        click.echo(json.dumps(found) if as_json else _told(found))
    sys.exit(status)


def _source(settings: Settings, name: str | None) -> Source:
    """The source of the feeds, as far as sources.yaml says something of it; its secrets need not be set."""
    data = read(settings.sources_file).data
    declared = data.get("sources") if isinstance(data, dict) else None
    entries = {key: entry for key, entry in (declared or {}).items() if isinstance(entry, dict)}
    if name is None:
        name = next((key for key, entry in entries.items() if entry.get("kind") == _KIND), _KIND)
    entry: dict[str, Any] = entries.get(name, {"kind": _KIND})
    if entry.get("kind") != _KIND:
        raise Unusable(f"the source {name} is not of kind {_KIND}")
    if not _NAME.fullmatch(name):
        raise Unusable("a source's name has only a-z, 0-9, _ and -, at most 64")
    return Source(name, activatepro_source.unwrap, order=entry.get("order") is not False)


def _importer(settings: Settings, source: Source) -> Importer:
    most = max(int(settings.max_waiting * _SHARE), 1)
    connection = connection_to(dataclasses.replace(settings, max_waiting=most))
    client = connection.ledger.client
    return Importer(
        source,
        connection.queue,
        ImportProgress(client),
        client,
        settings.redis_high_water * _BELOW_HIGH_WATER,
        lambda _why, seconds: sleep(seconds),
        min(most, MOST_AT_ONCE),
    )


def _imported(
    path: Path, source: Source, importer: Importer | None, again: bool, report: Path | None
) -> dict[str, Any]:
    """What became of one file. Raises NoFeed."""
    feed = measured(path)
    before = Progress() if importer is None or again else importer.before(feed)
    found = {"file": str(path), "source": source.name, "dry_run": importer is None, "before": vars(before)}
    counts = Counts()
    to = Report(report or Path(f"{path}.rejected.jsonl"), path, resumed=before.begun)
    if not before.done:
        with _progress(feed) as (chunks, waits):
            if importer is None:
                counts = _looked_at(source, feed, chunks, to.add if report else lambda _: None)
            else:
                counts = dataclasses.replace(importer, waits=waits).run(feed, chunks, before.rows, to.add)
    return {**found, **vars(counts), "report": str(to.path) if to.used else None}


def _looked_at(source: Source, feed: Feed, chunks: Iterator[bytes], report: Callable[[Sequence[Bad]], None]) -> Counts:
    counts = Counts()
    for piece in pieces(source, feed.sha256, chunks, 0, MOST_AT_ONCE):
        counts.rows = piece.last
        counts.taken += len(piece.events)
        counts.bad += len(piece.bad)
        report(piece.bad)
    return counts


@contextlib.contextmanager
def _progress(feed: Feed) -> Iterator[tuple[Iterator[bytes], Waits]]:
    """The chunks of a feed, shown as they go by, where standard error is a terminal; and how to wait visibly."""
    name, terminal = feed.path.name, sys.stderr.isatty()
    told = ""
    with click.progressbar(length=feed.size, label=name, file=sys.stderr, hidden=not terminal) as bar:

        def chunks() -> Iterator[bytes]:
            for chunk in feed.chunks():
                yield chunk
                bar.label = name
                bar.update(len(chunk))

        def waits(why: str, seconds: float) -> None:
            nonlocal told
            bar.label = f"{name} waits: {why}"
            if terminal:
                bar.render_progress()
            elif told != why:
                click.echo(bar.label, err=True)
            told = why
            sleep(seconds)

        yield chunks(), waits


def _told(found: dict[str, Any]) -> str:
    """For people."""
    name, before = found["file"], found["before"]
    if before["done"]:
        return f"{name}: imported already at {before['at']}, {before['rows']} rows; --again takes it once more"
    counts = {
        f"behind row {before['rows']}": before["rows"],
        f"{found['rows']} rows": True,
        f"{found['taken']} {'could be taken' if found['dry_run'] else 'taken'}": True,
        f"{found['duplicates']} seen before": found["duplicates"],
        f"{found['bad']} bad" + (f", see {found['report']}" if found["report"] else ""): found["bad"],
    }
    return f"{name}: {', '.join(text for text, counts_ in counts.items() if counts_)}"
