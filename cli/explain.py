"""event-router explain: what would become of events, without doing it."""

import collections
import json
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO, Final

import click

from cli.connection import connection_to
from cli.incoming_events import Intake, Item, Unusable, items, kinds_of
from cli.reveal import Cover, reveal_option
from config.settings import Settings, load
from tasks import routing
from tasks.destinations import destinations
from tasks.envelope import Envelope
from tasks.explaining import Explainer, Outcome, as_json, changes

_SIGNS: Final = {"added": "+", "removed": "-", "changed": "~"}
_MEANING: Final = {"added": "matches now", "removed": "matches no more", "changed": "does something else"}

_dumped: Final = json.JSONEncoder(separators=(",", ":")).encode


@click.command()
@click.option("--event", "file", type=click.File("rb"), help="File with one event, a list, or one a line (- = stdin).")
@click.option("--last", type=click.IntRange(min=1), help="The last N events that the router has stored, instead.")
@click.option("--source", help="Who sent them, by a name of the sources file; if not given, who fits.")
@click.option("--event-name", help="What the address would say: name of a webhook's event, call of Segment's.")
@click.option("--routes", type=click.Path(dir_okay=False), help="Routes that are not live; default: ROUTES_FILE.")
@click.option("--diff", "other", type=click.Path(dir_okay=False), help="Show what these routes would change.")
@click.option("--json", "as_json", is_flag=True, help="For programs: an object; of several events one a line.")
@reveal_option
@click.pass_obj
def explain(
    environ: dict[str, str],
    file: BinaryIO | None,
    last: int | None,
    source: str | None,
    event_name: str | None,
    routes: str | None,
    other: str | None,
    as_json: bool,
    reveal: bool,
) -> None:
    """Show which routes take an event, why the others do not, and the exact requests. Sends nothing.

    Of stored events people's data is hidden, unless --reveal asks for it; of a file it is shown as it would be sent.
    Needs neither Redis (but for --last) nor secrets. Ends with status 1 when an event could not be read or its source
    would refuse it, with 2 when the routes are refused.
    """
    if (file is None) == (last is None):
        raise click.UsageError("give either --event or --last")
    settings = load({**environ, "ROUTES_FILE": routes} if routes else environ)
    explainer = explainer_of(settings, settings.routes_file)
    compared = explainer_of(settings, Path(other)) if other else None
    found = _read(settings, file, source, event_name) if file else _stored(settings, last or 0)
    cover = None if file or reveal else Cover(settings)
    report: Report = Differences(explainer, compared, cover) if compared else Explanations(explainer, cover)
    _print(report.data(found) if as_json else report.text(found))
    if report.unusable:
        click.echo(f"{report.unusable} of the events could not be read", err=True)
    sys.exit(1 if report.unusable else 0)


def explainer_of(settings: Settings, path: Path) -> Explainer:
    """A routes file, ready to be asked. Raises ConfigurationRefused with every problem."""
    routes = routing.load(path, routing.names(settings.sources_file, settings.publishers_file))
    return Explainer(routes, destinations(settings, routes.webhooks))


def _read(settings: Settings, file: BinaryIO, source: str | None, event_name: str | None) -> Iterator[Item]:
    known = kinds_of(settings.sources_file)
    if source is not None and source not in known:
        raise Unusable(f"no source of the name {source} in the sources file; there are: {', '.join(known)}")
    return items(file, Intake(known, source, event_name, datetime.now(UTC)))


def _stored(settings: Settings, last: int) -> Iterator[Item]:
    envelopes = connection_to(settings).ledger.stored(last)
    if not envelopes:
        raise Unusable("no event is stored")
    return enumerate(envelopes)


def _print(lines: Iterable[str]) -> None:
    # Not click.echo: it flushes after each line, which is most of the time for many events.
    for line in lines:
        sys.stdout.write(line + "\n" if line.isascii() else line.encode("utf-8", "replace").decode() + "\n")


class Explanations:
    """What each event does."""

    def __init__(self, explainer: Explainer, cover: Cover | None = None) -> None:
        self._explainer = explainer
        self._cover = cover
        self.unusable = 0

    def data(self, found: Iterable[Item]) -> Iterator[str]:
        """One JSON object for each event; with its number, unless it is the only one."""
        found = iter(found)
        first = list(islice(found, 2))
        several = len(first) > 1
        for number, envelope in chain(first, found):
            if isinstance(envelope, str):
                self.unusable += 1
                members = f'{as_json(())},"error":{_dumped(envelope)}'
            else:
                members = as_json(self._explain(envelope))
            yield f'{{"event":{number},{members}}}' if several else f"{{{members}}}"

    def _explain(self, envelope: Envelope) -> list[Outcome]:
        outcomes = self._explainer.explain(envelope)
        return [self._cover.outcome(envelope, each) for each in outcomes] if self._cover else outcomes

    def text(self, found: Iterable[Item]) -> Iterator[str]:
        """For people, with a line of sums under several events."""
        events = requests = 0
        for number, envelope in found:
            events += 1
            yield from _headline(number, envelope, self._cover)
            if isinstance(envelope, str):
                self.unusable += 1
                continue
            for outcome in self._explain(envelope):
                requests += len(outcome.requests)
                yield from _outcome_lines(outcome)
            yield ""
        if events > 1:
            yield f"{events} events, {requests} requests"


class Differences:
    """What other routes would change for each event; events for which nothing changes are only counted."""

    def __init__(self, before: Explainer, after: Explainer, cover: Cover | None = None) -> None:
        self._explainers = before, after
        self._cover = cover
        self._counts: collections.Counter[str] = collections.Counter()
        self.unusable = 0

    def data(self, found: Iterable[Item]) -> Iterator[str]:
        """One JSON object for each event that changes, then one with the sums."""
        for number, envelope in found:
            changed = self._changes(envelope)
            if changed:
                kinds = {kind: [each.as_data() for each in changed if each.kind == kind] for kind in _SIGNS}
                yield _dumped({"event": number, **kinds})
        yield _dumped({"summary": self._sums()})

    def text(self, found: Iterable[Item]) -> Iterator[str]:
        """For people: unified, and the sums."""
        for number, envelope in found:
            changed = self._changes(envelope)
            if changed or isinstance(envelope, str):
                yield from _headline(number, envelope, self._cover)
            for each in changed:
                yield f"  {_SIGNS[each.kind]} {each.route}: {_MEANING[each.kind]}"
                yield from (f"      {line}" for line in each.lines())
            if changed:
                yield ""
        sums = self._sums()
        yield f"{sums['changed_events']} of {sums['events']} events change; " + ", ".join(
            f"{meaning}: {sums[kind]}" for kind, meaning in _MEANING.items()
        )

    def _changes(self, envelope: Envelope | str) -> list[Any]:
        self._counts["events"] += 1
        if isinstance(envelope, str):
            self.unusable += 1
            return []
        before, after = (explainer.explain(envelope) for explainer in self._explainers)
        changed = changes(before, after)
        self._counts["changed_events"] += bool(changed)
        self._counts.update(each.kind for each in changed)
        # Compared as they are, shown as they may be.
        return [self._cover.change(envelope, each) for each in changed] if self._cover else changed

    def _sums(self) -> dict[str, int]:
        return {name: self._counts[name] for name in ("events", "changed_events", *_SIGNS)}


Report = Explanations | Differences


def _headline(number: int, envelope: Envelope | str, cover: Cover | None) -> Iterator[str]:
    if isinstance(envelope, str):
        yield f"event {number}: {envelope}"
        yield ""
    else:
        shown = cover.headline(envelope) if cover else envelope.shown
        yield f"event {number}: {shown}  {envelope.id}"


def _outcome_lines(outcome: Outcome) -> Iterator[str]:
    if not outcome.sends:
        yield f"  {'·' if outcome.matches else '✗'} {outcome.route}: {outcome.reason}"
        return
    yield f"  → {outcome.route}: {outcome.action}"
    if outcome.error is not None:
        yield f"      dead letter ({outcome.error['reason']}): {outcome.error['message']}"
    for request in outcome.requests:
        yield f"      {request['method']} {request['url']}"
        yield from (f"      {name}: {value}" for name, value in request["headers"].items())
        if request["body"] is not None:
            yield f"      {json.dumps(request['body'], ensure_ascii=False)}"
