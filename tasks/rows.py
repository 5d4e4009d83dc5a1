"""What Flower shows of an event: one row, told by Celery's task events.

A row's uuid and args are the event's id, its name is the event's label; its state is what became of the event:

    being worked on                        STARTED
    delivered, filtered                    SUCCESS, with that word as result
    to be tried again, parked, or held     RETRY, with the reason as exception
    a delivery is dead                     FAILURE, with reason and route as exception

Each Celery event carries the whole row, so that a Flower that was started later shows it right. `state` is among its
fields, so that the newest word holds: `celery.events.state.Task.event` sorts them as those of a task, which ends once,
and no replay would take a FAILURE away.
https://docs.celeryq.dev/en/stable/userguide/monitoring.html#event-reference

Only our own words are told: reasons, routes, destinations, and labels, which were made to be shown.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from tasks.envelope import id_without_address, without_addresses
from tasks.ledger import NO_ROUTE, Delivery, Result, Shut, StoredEvent

#: Deliveries that a text names.
_MOST_NAMED: Final = 5
_MICROS: Final = 1_000_000
_DONE: Final = frozenset({"delivered", "filtered"})
_OVER: Final = frozenset({"dead", "discarded"})
_WAITS: Final = frozenset({"retrying", "held", "accepted"})

_NO_FIELDS: Final = "{}"
_MOST_OF_A_NAME: Final = 200
_OF_WORKERS: Final = frozenset({"worker-online", "worker-heartbeat", "worker-offline"})
_OF_TASKS: Final = frozenset(
    {"task-received", "task-started", "task-succeeded", "task-failed", "task-retried", "task-rejected", "task-revoked"}
)
#: Fields of other programs' task events in which nothing stands that somebody wrote.
_HARMLESS: Final = frozenset(
    {"type", "hostname", "pid", "clock", "timestamp", "utcoffset", "retries", "eta", "expires", "runtime"}
)

#: The type of a Celery event, and its fields.
Told = tuple[str, dict[str, Any]]


def begun(event: StoredEvent, now: float) -> Iterator[Told]:
    """An event that a worker begins to work on; the first time, that it was received too."""
    fields = {**_row(event), "timestamp": now, "started": now, "result": None, "exception": None}
    if not event.deliveries and not event.crashes:
        yield "task-received", fields
    yield "task-started", {**fields, "state": "STARTED"}


def ended(event: StoredEvent, state: str, now: float) -> Told | None:
    """An event that a worker is done with for now, and in that state; None when there is nothing to say."""
    row = {**_row(event), "timestamp": now}
    if state in _DONE:
        return "task-succeeded", {**row, "state": "SUCCESS", "result": state, "exception": None}
    if state in _OVER:
        over = {name: each for name, each in event.deliveries.items() if each.state in _OVER}
        return _failed(row, [_named(_reason(each), name) for name, each in over.items()])
    if state in _WAITS:
        texts = [_named(_why(each, event.shut, now), name) for name, each in event.waiting().items()]
        return "task-retried", {**row, "state": "RETRY", "result": None, "exception": _listed(texts)}
    return None


def died(event: StoredEvent, reason: str) -> Told:
    """An event all of whose waiting deliveries became dead letters outside an attempt."""
    return _failed(_row(event), [_named(reason, name) for name in event.waiting() or (NO_ROUTE,)])


def failed(id_: str, name: str, reason: str, now: float) -> Told:
    """Something that a publisher sent, and that became a dead letter at once; its name is as foreign as its id."""
    return _failed(_fields(id_, without_addresses(name), now), [reason])


def heard(event: Any) -> dict[str, Any] | None:
    """What Flower is to hear of a Celery event, whoever sent it; None = nothing.

    Ours are rows. Other programs' tell what tasks were given, gave back and failed with, and publishers
    (`task_send_sent_event`) of tasks of which nobody will ever say what became of them.
    """
    kind = event.get("type") if isinstance(event, dict) else None
    if not isinstance(kind, str):
        return None
    if kind in _OF_WORKERS:
        return dict(event)
    if kind not in _OF_TASKS or not isinstance(id_ := event.get("uuid"), str):
        return None
    if event.get("args") == id_ and event.get("kwargs") == _NO_FIELDS:
        return dict(event)
    kept = {name: value for name, value in event.items() if name in _HARMLESS}
    name = event.get("name")
    named = {"name": without_addresses(name[:_MOST_OF_A_NAME])} if isinstance(name, str) else {}
    return {**kept, **named, "uuid": id_without_address(id_)}


def with_results(event: StoredEvent, results: Iterable[Result], now: float) -> StoredEvent:
    """The event as it is after these results."""
    after = {each.route: _delivery(each, now) for each in results}
    return dataclasses.replace(event, deliveries={**event.deliveries, **after}) if after else event


def _delivery(result: Result, now: float) -> Delivery:
    state, _, gate = result.state.partition(":")
    due_at = int((now + result.delay_s) * _MICROS) if state == "retrying" else None
    return Delivery(state, result.record, due_at, gate or None)


def _row(event: StoredEvent) -> dict[str, Any]:
    return _fields(event.id, event.label, event.accepted_at / _MICROS)


def _fields(id_: str, name: str, received: float) -> dict[str, Any]:
    id_ = id_without_address(id_)
    # `received` is not the Celery event's time: of a worker whose events are old Flower says that its clock is wrong.
    return {"uuid": id_, "name": name, "args": id_, "kwargs": _NO_FIELDS, "received": received}


def _failed(row: Mapping[str, Any], reasons: Sequence[str]) -> Told:
    return "task-failed", {**row, "state": "FAILURE", "result": None, "exception": _listed(reasons)}


def _reason(delivery: Delivery) -> str:
    return "discarded" if delivery.state == "discarded" else str(delivery.record.get("reason", "bug"))


def _why(delivery: Delivery, shut: Mapping[str, Shut], now: float) -> str:
    """Why a delivery waits."""
    if delivery.state == "retrying":
        reason, number = delivery.record.get("reason", "unavailable"), int(delivery.record.get("made", 0)) + 1
        return f"{reason}, attempt {number} in {max((delivery.due_at or 0) / _MICROS - now, 0):.0f} s"
    if delivery.state == "parked":
        gate = delivery.gate or ""
        return f"parked: {gate} is {shut[gate].mode if gate in shut else 'shut'}"
    return "held behind an earlier one" if delivery.state == "held" else "goes on at once"


def _named(text: str, route: str) -> str:
    return text if route == NO_ROUTE else f"{text} ({route})"


def _listed(texts: Sequence[str]) -> str:
    more = f"; … {len(texts) - _MOST_NAMED} more" if len(texts) > _MOST_NAMED else ""
    return "; ".join(texts[:_MOST_NAMED]) + more
