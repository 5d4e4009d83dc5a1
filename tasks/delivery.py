"""From a ticket to the destination: claim, route, attempt, settle."""

import dataclasses
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import structlog

from tasks import dead_letter, retry
from tasks import envelope as envelopes
from tasks.action import Request
from tasks.destinations.http import Response
from tasks.envelope import Envelope
from tasks.errors import InvalidEnvelope, MappingFailed, RouterError, reason_of
from tasks.ledger import Delivery, Ledger, Result, StoredEvent
from tasks.routing import Route, Routes

log: Final = structlog.get_logger("tasks.delivery")

#: Attempts that a record keeps; replays add to those of earlier lives.
_MOST_ATTEMPTS_KEPT: Final = 50
_MICROS: Final = 1_000_000


class Destination(Protocol):
    """An HTTP API; tasks/destinations has one adapter for each."""

    def send(self, request: Request) -> Response:
        """Send one request. Raises an error of tasks.errors for every answer but 2xx, with it as `response`."""
        ...

    def shown(self, request: Request) -> dict[str, Any]:
        """The request as it would be sent, without secrets."""
        ...


class Leases(Protocol):
    """Keeps leases alive while work goes on."""

    def hold(self, ids: Sequence[str], owner: str) -> None:
        """Renew this owner's leases on these events from now on."""
        ...

    def release(self, ids: Sequence[str], owner: str) -> None:
        """Stop renewing them."""
        ...


@dataclasses.dataclass(frozen=True)
class Deliverer:
    """Works on events. Everything that is not decided purely is handed in."""

    ledger: Ledger
    routes: Routes
    destinations: Mapping[str, Destination]
    policy: retry.Policy
    leases: Leases
    now: Callable[[], float]  #: Unix time
    roll: Callable[[], float]  #: dice, between 0 and 1

    def work(self, ids: Sequence[str], owner: str) -> None:
        """Work on those events of a ticket that are free. `owner` must be new for each call."""
        claimed = self.ledger.claim(ids, owner)
        held = [event.id for event in claimed]
        self.leases.hold(held, owner)
        try:
            for event in claimed:
                self._deliver_alone(event)
                self.leases.release([event.id], owner)
        finally:
            self.leases.release(held, owner)

    def _deliver_alone(self, event: StoredEvent) -> None:
        try:
            self.deliver(event)
        except Exception:
            # Its lease runs out and it is tried again; the other events of the ticket are not to suffer for it.
            log.exception("delivery.failed", event_id=event.id)

    def deliver(self, event: StoredEvent) -> None:
        """Attempt every delivery of a claimed event that is due, and settle each."""
        try:
            envelope = envelopes.decode(event.envelope or b"")
        except InvalidEnvelope as error:
            self._bury(event, error)
            return
        try:
            todo = self._todo(event, envelope)
        except Exception as error:  # noqa: BLE001 - whatever our own code raises must end as a dead letter
            self._bury(event, error)
            return
        if event.crashes:
            # Should the worker die again, the dead letter names the routes.
            plan = [Result(name, "pending", delivery.record) for name, _, delivery in todo]
            if self.ledger.settle(event, plan, more=True) == "stale":
                return
        while todo:
            name, route, delivery = todo.pop(0)
            result = self._attempt(event, envelope, name, route, delivery)
            rest = [Result(later, "pending", waiting.record) for later, _, waiting in todo]
            state = self.ledger.settle(event, [result, *rest], more=bool(todo))
            if state == "stale":
                log.warning("lease.lost", event_id=event.id, route=name, outcome=result.state)
                return
            if not todo:
                return
        self.ledger.settle(event, [])

    def _todo(self, event: StoredEvent, envelope: Envelope) -> list[tuple[str, Route | None, Delivery]]:
        if not event.deliveries:
            fresh = Delivery("pending", {})
            return [(route.name, route, fresh) for route in self.routes.match(envelope)]
        waiting = event.waiting()
        # Clocks differ: what the ledger gave out is due, whatever ours says.
        first_due = min((delivery.due_at or 0 for delivery in waiting.values()), default=0)
        due = max(first_due, int(self.now() * _MICROS))
        return [
            (name, self.routes.get(name), delivery)
            for name, delivery in waiting.items()
            if (delivery.due_at or 0) <= due
        ]

    def _bury(self, event: StoredEvent, error: Exception) -> None:
        # With routes or without: nothing of an event that cannot be read may go on waiting.
        dead_letter.bury(self.ledger, event, event.waiting(), _failure(error))

    def _attempt(
        self, event: StoredEvent, envelope: Envelope, name: str, route: Route | None, delivery: Delivery
    ) -> Result:
        record = dict(delivery.record)
        earlier = list(record.get("attempts", []))
        tried = int(record.get("tried", 0)) + 1
        started, clock = self.now(), time.monotonic()
        run = _Run(self.destinations, sent=int(record.get("sent", 0)))
        error: BaseException | None = None
        try:
            run.all_of(route, envelope)
        except KeyboardInterrupt:
            raise
        except BaseException as raised:  # noqa: BLE001 - SystemExit, CancelledError: all are outcomes of the attempt
            error = raised
        duration_ms = round((time.monotonic() - clock) * 1000)
        entry = {
            # A crash was an attempt too, though nobody was left to write it down.
            "number": record.get("made", 0) + max(0, event.crashes - record.get("crashes", 0)) + 1,
            "at": datetime.fromtimestamp(started, UTC).isoformat(timespec="milliseconds"),
            "duration_ms": duration_ms,
            "status": run.response.status if run.response else None,
        }
        since = float(record.get("since", event.accepted_at / _MICROS))
        outcome, delay_s, reason = self._verdict(error, tried, self.now() - since, run)
        entry |= {"outcome": outcome, "reason": reason_of(error) if error else None}
        log.info(
            "delivery.attempted",
            event_id=event.id,
            source=event.source,
            type=event.type,
            route=name,
            delay_s=round(delay_s, 3),
            reason=reason,
            **{key: entry[key] for key in ("number", "outcome", "status", "duration_ms")},
        )
        if error is None:
            # A settled delivery keeps only what an operator looks for; the rest would outlive its use in Redis.
            return Result(name, outcome, {"attempts": [*earlier, entry][-_MOST_ATTEMPTS_KEPT:]})
        record |= {
            "attempts": [*earlier, entry][-_MOST_ATTEMPTS_KEPT:],
            "tried": tried,
            "made": entry["number"],
            "crashes": event.crashes,
            "since": since,
            "sent": run.sent,
            **_failure(error),
            "reason": reason,
            "request": run.shown(),
            "response": dataclasses.asdict(run.response) if run.response else None,
        }
        result = Result(name, outcome, record, delay_s)
        if outcome == "dead":
            dead_letter.log_put(event, result)
        return result

    def _verdict(
        self, error: BaseException | None, tried: int, age_s: float, run: "_Run"
    ) -> tuple[str, float, str | None]:
        if error is None:
            return ("delivered" if run.sent else "filtered"), 0, None
        if not isinstance(error, Exception):
            return "dead", 0, "bug"
        decided = retry.decide(error, tried, age_s, self.policy, self.roll())
        if isinstance(decided, retry.Again):
            return "retrying", decided.delay_s, reason_of(error)
        return "dead", 0, decided.reason


class _Run:
    """One attempt in progress: the requests of a route, of which the first `sent` have succeeded earlier."""

    def __init__(self, destinations: Mapping[str, Destination], sent: int) -> None:
        self._destinations = destinations
        self.sent = sent
        self.request: Request | None = None
        self.response: Response | None = None

    def all_of(self, route: Route | None, envelope: Envelope) -> None:
        if route is None:
            raise MappingFailed("there is no route of this name any more")
        for request in route.requests(envelope)[self.sent :]:
            destination = self._destination(request)
            self.request, self.response = request, None
            try:
                self.response = destination.send(request)
            except RouterError as error:
                self.response = error.response
                raise
            self.sent += 1

    def shown(self) -> dict[str, Any] | None:
        if self.request is None:
            return None
        return self._destination(self.request).shown(self.request)

    def _destination(self, request: Any) -> Destination:
        if not isinstance(request, Request):
            raise TypeError(f"a handler gave {type(request).__name__} in place of a Request")
        destination = self._destinations.get(request.destination)
        if destination is None:
            raise LookupError(f"a handler named a destination that there is not: {request.destination}")
        return destination


def _failure(error: BaseException) -> dict[str, Any]:
    """What a dead letter says of an exception; the traceback where it is none that we raise on purpose."""
    failure: dict[str, Any] = {
        "reason": reason_of(error),
        "error": f"{type(error).__name__}: {error}",
    }
    if not isinstance(error, RouterError):
        failure["traceback"] = "".join(traceback.format_exception(error))
    return failure
