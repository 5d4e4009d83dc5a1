"""event-router events: where an event is, what became of it, and what waits."""

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final

import click

from cli.connection import Connection, open_connection
from cli.reveal import Cover, reveal_option
from cli.table import table
from tasks.contract import rejected_ids
from tasks.envelope import id_without_address, rfc3339, without_addresses
from tasks.ledger import DEAD, NO_ROUTE, WAITING, Delivery, Ledger, StoredEvent, event_key

#: State → what happens at the time that stands beside the event's id in the sorted set of that state.
_UNTIL: Final = {
    "scheduled": "goes on at",
    "unidentified": "goes on without a person at",
    "retrying": "is due at",
    "running": "its lease ends at",
}
_PLACES: Final = {key.removeprefix("router:"): key for key in WAITING}
_PAGE: Final = 200
#: Dead letters among which those of an id are looked for, in all and in one call to Redis.
_MOST_LOOKED_AT: Final = 100_000
_LOOKED_AT: Final = 1000
#: What is more than itself in a pattern of Redis.
_SPECIAL: Final = re.compile(r"[\[\]*?\\]")
_COLUMNS: Final = ("time", "state", "source", "event", "id")
_HEADER: Final = ("route", "state", "attempts", "next", "reason", "dead letter")


@dataclasses.dataclass(frozen=True)
class Place:
    """Where an event waits."""

    until: str | None = None  #: when its state changes by itself, if it does
    ahead: int | None = None  #: events of its subject that go before it
    line: int | None = None  #: events in its subject's line, itself among them
    over_quota: bool = False  #: it is scheduled because its publisher sent more than its quota
    lanes: Mapping[str, int] = dataclasses.field(default_factory=dict)  #: route → earlier deliveries that hold it back


@click.group()
def events() -> None:
    """Single events: where they are, what they wait for, what became of them."""


@events.command()
@click.argument("id")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@reveal_option
@click.pass_obj
def show(environ: dict[str, str], id: str, as_json: bool, reveal: bool) -> None:  # noqa: A002 - the argument's name
    """Show what became of an event, by its id or, of a published one without an id, its task's.

    What was refused as `invalid` under this id is named beside it; the last of that is shown where nothing else has it.
    Ends with status 1 when no event of that id is known.
    """
    connection = open_connection(environ)
    ledger, known_as = connection.ledger, id_without_address(id)
    invalid = refused(ledger, known_as)
    event = ledger.event(id) or ledger.event(known_as) or (ledger.event(invalid[-1]) if invalid else None)
    if event is None:
        raise click.ClickException(_unknown(connection, id))
    letters = [f"{each}:{NO_ROUTE}" for each in invalid]
    found = {**told(ledger, event, None if reveal else Cover(connection.settings)), "invalid": letters}
    click.echo(json.dumps(found) if as_json else text(found))


@events.command("list")
@click.option("--state", type=click.Choice(sorted(_PLACES)), help="Only those that wait so.")
@click.option("--source", help="Only those of this source, or publisher.")
@click.option("--limit", default=100, show_default=True, help="Show at most so many.")
@click.option("--json", "as_json", is_flag=True, help="For programs: one object a line.")
@click.pass_obj
def list_(environ: dict[str, str], state: str | None, source: str | None, limit: int, as_json: bool) -> None:
    """List events that have not ended, state by state; those of which something is next come first."""
    found = islice(waiting(open_connection(environ).ledger, state, source), limit)
    rows = [(_time(score), each.state, each.source, each.label, each.id) for score, each in found]
    if as_json:
        for row in rows:
            click.echo(json.dumps(dict(zip(_COLUMNS, row, strict=True))))
        return
    click.echo(table(_COLUMNS, rows))


def waiting(ledger: Ledger, state: str | None = None, source: str | None = None) -> Iterator[tuple[float, StoredEvent]]:
    """The events that have not ended, with their time in the sorted set of their state."""
    for key in WAITING if state is None else [_PLACES[state]]:
        start = 0
        while page := ledger.client.zrange(key, start, start + _PAGE - 1, withscores=True):
            for each, (_, score) in zip(ledger.events([id_.decode() for id_, _ in page]), page, strict=True):
                if each is not None and source in {None, each.source}:
                    yield score, each
            start += _PAGE


def refused(ledger: Ledger, id_: str) -> list[str]:
    """What was published under this id and refused, as events of their own, the oldest first.

    Looked for among all dead letters, of which there may be many: not more than 100,000 of them, or so.
    """
    escaped = _SPECIAL.sub(r"\\\g<0>", rejected_ids(id_))
    pattern, cursor = f"{escaped}*:{NO_ROUTE}", 0
    found: dict[str, float] = {}
    for _ in range(_MOST_LOOKED_AT // _LOOKED_AT):
        cursor, some = ledger.client.zscan(DEAD, cursor, pattern, _LOOKED_AT)
        found |= {key.decode().removesuffix(f":{NO_ROUTE}"): score for key, score in some}
        if not cursor:
            break
    return sorted(found, key=lambda each: found[each])


def _unknown(connection: Connection, id_: str) -> str:
    window = f"{connection.settings.dedupe_window_s} s (DEDUPE_WINDOW_S)"
    return (
        f"no event {without_addresses(id_)} is known: it was never accepted, its message has not been taken yet, or it "
        f"ended more than {window} ago, for which ids are remembered; messages that could not become an event are in "
        "`event-router dead list`"
    )


def _place(ledger: Ledger, event: StoredEvent) -> Place:
    """What the ledger says of where an event waits, in one round trip."""
    line = f"router:line:{event.subject}"
    held = [
        (route, f"router:lane:{destination}:{event.subject}")
        for route, each in event.deliveries.items()
        if each.state == "held"
        for destination in each.order.partition(":")[2].split(",")
    ]
    pipe = ledger.client.pipeline(transaction=False)
    pipe.zscore(f"router:{event.state}", event.id)
    pipe.hget(event_key(event.id), "quota")
    pipe.lpos(line, event.id)
    pipe.llen(line)
    for route, lane in held:
        pipe.lpos(lane, f"{event.id}:{route}")
    score, quota, ahead, length, *found = pipe.execute()
    lanes: dict[str, int] = {}
    for (route, _), before in zip(held, found, strict=True):
        lanes[route] = max(lanes.get(route, 0), before or 0)
    return Place(
        until=_time(score) if event.state in _UNTIL and score else None,
        ahead=ahead,
        line=None if ahead is None else length,
        over_quota=quota is not None,
        lanes=lanes,
    )


def told(ledger: Ledger, event: StoredEvent, cover: Cover | None) -> dict[str, Any]:
    """Everything that may be said of an event; people's data only without a cover."""
    place = _place(ledger, event)
    envelope = _parsed(event.envelope)
    shown = cover.event(envelope) if cover else envelope
    # A type may hold what its event says of a person; without the event nobody can tell.
    type_ = shown.get("type") if isinstance(shown, dict) else None
    return {
        "id": event.id,
        "label": event.label,
        "state": event.state,
        "source": event.source,
        "type": type_ if cover else event.type,
        "accepted_at": _time(event.accepted_at),
        "ended_at": _time(event.ended_at) if event.ended_at else None,
        "expires_at": envelope.get("expires_at") if isinstance(envelope, dict) else None,
        "crashes": event.crashes,
        **{name: value for name, value in vars(place).items() if name != "lanes"},
        "deliveries": [
            _delivery(event.id, route, each, place.lanes.get(route), _error(envelope, each, cover))
            for route, each in event.deliveries.items()
        ],
        "envelope": shown,
    }


def _error(envelope: Any, delivery: Delivery, cover: Cover | None) -> str | None:
    return cover.failure(envelope, delivery.record) if cover else delivery.record.get("error")


def _delivery(event_id: str, route: str, delivery: Delivery, ahead: int | None, error: str | None) -> dict[str, Any]:
    attempts = list(delivery.record.get("attempts", ()))
    last = attempts[-1] if attempts else {}
    return {
        "route": route,
        "state": delivery.state,
        "ahead": ahead,
        "gate": delivery.gate,
        "due_at": _time(delivery.due_at) if delivery.due_at else None,
        "attempts": attempts,
        "reason": delivery.record.get("reason") or last.get("reason"),
        "error": error,
        "dead_letter": f"{event_id}:{route}" if delivery.state == "dead" else None,
    }


def text(found: Mapping[str, Any]) -> str:
    """For people."""
    state = found["state"]
    if found["until"]:
        state += f", {_UNTIL[state]} {found['until']}" + ", over its quota" * found["over_quota"]
    lines = [("event", f"{found['label']}  {found['id']}"), ("state", state)]
    lines += [(name, found[name]) for name in ("source", "type")]
    lines += [(name.removesuffix("_at"), found[name]) for name in ("accepted_at", "ended_at", "expires_at")]
    if found["ahead"] is not None:
        lines.append(("line", f"{found['ahead']} of its subject's {found['line']} events go before it"))
    if found["crashes"]:
        lines.append(("crashes", str(found["crashes"])))
    lines += [
        ("invalid", f"was refused under this id: event-router dead show {each}") for each in found.get("invalid", ())
    ]
    parts = ["".join(f"{name:<9} {value}\n" for name, value in lines if value)]
    if found["deliveries"]:
        parts.append(table(_HEADER, [_row(each) for each in found["deliveries"]]) + "\n")
    parts += [f"{each['route']}: {each['error']}\n" for each in found["deliveries"] if each["error"]]
    if found["envelope"] is not None:
        parts.append(json.dumps(found["envelope"], indent=2, ensure_ascii=False))
    return "\n".join(parts).rstrip("\n")


def _row(each: Mapping[str, Any]) -> tuple[object, ...]:
    state = each["state"]
    if each["gate"]:
        state += f" at {each['gate']}"
    if each["ahead"]:
        state += f" behind {each['ahead']}"
    cells = (each["due_at"], each["reason"], each["dead_letter"])
    return (each["route"], state, len(each["attempts"]), *(cell or "" for cell in cells))


def _parsed(envelope: bytes | None) -> Any:
    try:
        return json.loads(envelope) if envelope else None
    except ValueError:
        return None


def _time(micros: float) -> str:
    return rfc3339(datetime.fromtimestamp(micros / 1e6, UTC))
