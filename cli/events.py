"""event-router events: where one event is, and what became of it."""

import dataclasses
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import click

from cli.connection import Connection, open_connection
from cli.reveal import Cover, reveal_option
from cli.table import table
from tasks.envelope import id_without_address, rfc3339, without_addresses
from tasks.ledger import Delivery, Ledger, StoredEvent, event_key

#: State → what happens at the time that stands beside the event's id in the sorted set of that state.
_UNTIL: Final = {
    "scheduled": "goes on at",
    "unidentified": "goes on without a person at",
    "retrying": "is due at",
    "running": "its lease ends at",
}
_HEADER: Final = ("route", "state", "attempts", "next", "reason", "error", "dead letter")


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
    """Single events: state, deliveries, what they wait for."""


@events.command()
@click.argument("id")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@reveal_option
@click.pass_obj
def show(environ: dict[str, str], id: str, as_json: bool, reveal: bool) -> None:  # noqa: A002 - the argument's name
    """Show what became of an event, by its id or, of a published one without an id, its task's.

    Ends with status 1 when no event of that id is known.
    """
    connection = open_connection(environ)
    event = connection.ledger.event(id) or connection.ledger.event(id_without_address(id))
    if event is None:
        raise click.ClickException(_unknown(connection, id))
    found = _told(event, _place(connection.ledger, event), None if reveal else Cover(connection.settings))
    click.echo(json.dumps(found) if as_json else _text(found))


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


def _told(event: StoredEvent, place: Place, cover: Cover | None) -> dict[str, Any]:
    """Everything that may be said of an event; people's data only without a cover."""
    envelope = _parsed(event.envelope)
    shown = cover.event(envelope) if cover else envelope
    type_ = shown["type"] if isinstance(shown, dict) and "type" in shown else without_addresses(event.type)
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


def _text(found: Mapping[str, Any]) -> str:
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
    parts = ["".join(f"{name:<9} {value}\n" for name, value in lines if value)]
    if found["deliveries"]:
        parts.append(table(_HEADER, [_row(each) for each in found["deliveries"]]) + "\n")
    if found["envelope"] is not None:
        parts.append(json.dumps(found["envelope"], indent=2, ensure_ascii=False))
    return "\n".join(parts).rstrip("\n")


def _row(each: Mapping[str, Any]) -> tuple[object, ...]:
    state = each["state"]
    if each["gate"]:
        state += f" at {each['gate']}"
    if each["ahead"]:
        state += f" behind {each['ahead']}"
    cells = (each["due_at"], each["reason"], each["error"], each["dead_letter"])
    return (each["route"], state, len(each["attempts"]), *(cell or "" for cell in cells))


def _parsed(envelope: bytes | None) -> Any:
    try:
        return json.loads(envelope) if envelope else None
    except ValueError:
        return None


def _time(micros: float) -> str:
    return rfc3339(datetime.fromtimestamp(micros / 1e6, UTC))
