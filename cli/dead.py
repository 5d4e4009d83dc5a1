"""event-router dead: look at dead letters, put them back, throw them away."""

import dataclasses
import json
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any

import click

from cli.connection import Connection, open_connection
from cli.reveal import Cover, reveal_option
from cli.table import table
from config.settings import STALE
from tasks.dead_letter import DeadLetter, Filter, moment
from tasks.envelope import RESERVED
from tasks.errors import REASONS, QueueUnavailable
from tasks.replay import Replay, plan

_MOST_SHOWN = 20


def _time(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    try:
        return value and moment(value).isoformat()
    except ValueError:
        raise click.BadParameter("not a time; write 2026-01-31 or 2026-01-31T12:00:00Z") from None


def _filters(command: Callable[..., Any]) -> Callable[..., Any]:
    options = (
        click.option("--reason", type=click.Choice(sorted(REASONS)), help="Why it died."),
        click.option("--source", help="Name of the source."),
        click.option("--route", help="Name of the route."),
        click.option("--type", help="Type of the event."),
        click.option("--since", callback=_time, help="Died at this time or later (RFC 3339, UTC)."),
        click.option("--until", callback=_time, help="Died at this time or earlier (RFC 3339, UTC)."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.group()
def dead() -> None:
    """Deliveries that were given up, with everything needed to understand and replay them."""


@dead.command("list")
@_filters
@click.option("--limit", default=100, show_default=True, help="Show at most so many.")
@click.option("--json", "as_json", is_flag=True, help="For programs: one object a line.")
@reveal_option
@click.pass_obj
def list_(environ: dict[str, str], /, limit: int, as_json: bool, reveal: bool, **filters: str | None) -> None:
    """List them, oldest first."""
    connection = open_connection(environ)
    letters = list(islice(connection.letters.find(Filter(**filters)), limit))
    if not reveal:
        letters = list(map(Cover(connection.settings).letter, letters))
    if as_json:
        for letter in letters:
            click.echo(json.dumps(_summary(letter)))
        return
    rows = [
        (
            letter.died_at[:19],
            letter.reason,
            letter.source,
            letter.type,
            letter.route,
            len(letter.attempts),
            letter.id,
        )
        for letter in letters
    ]
    click.echo(table(("died at", "reason", "source", "type", "route", "attempts", "id"), rows))


@dead.command()
@click.argument("id")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@reveal_option
@click.pass_obj
def show(environ: dict[str, str], id: str, as_json: bool, reveal: bool) -> None:  # noqa: A002 - the argument's name
    """Show one whole: envelope, attempts, request, response; people's data only with --reveal."""
    connection = open_connection(environ)
    letter = connection.letters.get(id)
    if letter is None:
        raise click.ClickException(_none(connection, [id]))
    letter = letter if reveal else Cover(connection.settings).letter(letter)
    click.echo(json.dumps(dataclasses.asdict(letter), indent=None if as_json else 2, ensure_ascii=False))
    if not as_json:
        click.echo(f"\n{letter.reason}: {REASONS.get(letter.reason, '')}", err=True)


@dead.command()
@click.argument("ids", nargs=-1)
@_filters
@click.option("--all", "everything", is_flag=True, help="All there are.")
@click.option("--yes", is_flag=True, help="Do it; without this only the plan is shown.")
@click.option(
    "--stale",
    type=click.Choice(STALE),
    help="What to do with letters that would write old data over newer: replay or skip them (default: REPLAY_STALE).",
)
@click.option(
    "--repaired", type=click.File("rb"), help="Put this back instead of what came; for one quarantined message."
)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_obj
def replay(
    environ: dict[str, str],
    /,
    ids: tuple[str, ...],
    everything: bool,
    yes: bool,
    stale: str | None,
    repaired: Any,
    as_json: bool,
    **filters: str | None,
) -> None:
    """Put dead letters back: only the route that failed, never one that succeeded."""
    connection = open_connection(environ)
    if repaired is not None and not (len(ids) == 1 and ids[0].startswith(RESERVED)):
        raise click.UsageError("--repaired goes with one id of a quarantined message")
    planned = plan(connection.ledger, _chosen(connection, ids, filters, everything=everything))
    skipped = planned.stale if (stale or connection.settings.replay_stale) == "skip" else ()
    chosen = [id_ for id_ in planned.ids if id_ not in skipped]
    done = None
    if yes:
        replaying = Replay(connection.ledger, connection.letters, connection.queue)
        try:
            done = replaying.run(chosen, repaired.read() if repaired else None)
        except QueueUnavailable as error:
            raise click.ClickException(str(error)) from error
    if as_json:
        counts = [{"reason": r, "route": route, "type": t, "count": n} for (r, route, t), n in planned.counts.items()]
        told = {"planned": len(chosen), "counts": counts, "stale": planned.stale, "skipped": len(skipped)}
        told["never"] = planned.never
        click.echo(json.dumps({**told, "replayed": done}))
        return
    click.echo(table(("reason", "route", "type", "count"), [(*key, count) for key, count in planned.counts.items()]))
    if planned.stale:
        fate = "they are skipped" if skipped else "leave them out with --stale skip"
        click.echo(f"\n{len(planned.stale)} would write old data over what was delivered since; {fate}:")
        click.echo("".join(f"  {id_}\n" for id_ in planned.stale[:_MOST_SHOWN]), nl=False)
    if planned.never:
        click.echo(
            f"\n{len(planned.never)} were published and are not valid; they are not put back. Their publisher sends "
            "them again, mended (event-router publish), and you discard these:"
        )
        click.echo("".join(f"  {id_}\n" for id_ in planned.never[:_MOST_SHOWN]), nl=False)
    click.echo(f"\n{done} put back" if yes else f"\n{len(chosen)} would be put back; do it with --yes")


@dead.command()
@click.argument("ids", nargs=-1)
@_filters
@click.option("--all", "everything", is_flag=True, help="All there are.")
@click.option("--yes", is_flag=True, help="Do it; without this only the number is shown.")
@click.pass_obj
def discard(
    environ: dict[str, str],
    /,
    ids: tuple[str, ...],
    everything: bool,
    yes: bool,
    **filters: str | None,
) -> None:
    """Throw dead letters away for good. They stay counted as dead."""
    connection = open_connection(environ)
    chosen = [letter.id for letter in _chosen(connection, ids, filters, everything=everything)]
    if not yes:
        click.echo(f"{len(chosen)} would be thrown away; do it with --yes")
        return
    click.echo(f"{sum(connection.letters.discard(id_) for id_ in chosen)} thrown away")


def _chosen(
    connection: Connection, ids: Iterable[str], filters: dict[str, str | None], *, everything: bool
) -> list[DeadLetter]:
    wanted = Filter(**filters)
    if ids:
        found = [(id_, connection.letters.get(id_)) for id_ in ids]
        missing = [id_ for id_, letter in found if letter is None]
        if missing:
            raise click.ClickException(_none(connection, missing))
        return [letter for _, letter in found if letter is not None and wanted.takes(letter)]
    if wanted == Filter() and not everything:
        raise click.UsageError("name ids, a filter, or --all")
    return list(connection.letters.find(wanted))


def _none(connection: Connection, ids: Sequence[str]) -> str:
    """That there are no such letters, and which there are: Flower and `events show` know ids of events."""
    events = [event for event in connection.ledger.events(list(ids)) if event is not None]
    ends = [(event.id, route, each.state) for event in events for route, each in event.deliveries.items()]
    near = [f"{id_}:{route}" for id_, route, state in ends if state == "dead"]
    near += [f"{RESERVED}{id_}" for id_ in ids if connection.letters.get(f"{RESERVED}{id_}")]
    return f"there is no dead letter {', '.join(ids)}" + (f"; did you mean {', '.join(near)}?" if near else "")


def _summary(letter: DeadLetter) -> dict[str, Any]:
    whole = dataclasses.asdict(letter)
    return {key: whole[key] for key in ("id", "reason", "error", "source", "route", "type", "died_at", "attempts")}
