"""One delivery's turn: held behind earlier ones, parked at a gate that is shut, or attempted; and what follows."""

import dataclasses
import time
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import structlog

from tasks import dead_letter, retry
from tasks.action import Request, written
from tasks.destinations.http import Response
from tasks.envelope import Envelope, without_people
from tasks.errors import (
    DestinationRejected,
    DestinationThrottled,
    DestinationUnauthorized,
    DestinationUnavailable,
    MappingFailed,
    RouterError,
    reason_of,
)
from tasks.gates import ROUTE
from tasks.ledger import Delivery, Result, StoredEvent, Verdict
from tasks.routing import Route
from tasks.run import Run
from tasks.slots import Slots

log: Final = structlog.get_logger("tasks.delivery")

#: Attempts that a record keeps; replays add to those of earlier lives.
_MOST_ATTEMPTS_KEPT: Final = 50
_MICROS: Final = 1_000_000
#: What a delivery that was let go may pass; at the others it waits again.
_PASSABLE: Final = frozenset({"flowing", "probing", "ramping", "busy"})
#: Reasons for which a route is to blame, not its destination.
_OWN_FAILURES: Final = frozenset({"bug", "invalid", "unmappable"})


class Destination(Protocol):
    """An HTTP API; tasks/destinations has one adapter for each."""

    def send(self, request: Request) -> Response:
        """Send one request. Raises an error of tasks.errors for every answer but 2xx, with it as `response`."""
        ...

    def shown(self, request: Request) -> dict[str, Any]:
        """The request as it would be sent, without secrets."""
        ...


@dataclasses.dataclass(frozen=True)
class World:
    """Everything that an attempt does not decide purely."""

    destinations: Mapping[str, Destination]
    policy: retry.Policy
    slots: Slots
    now: Callable[[], float]  #: Unix time
    roll: Callable[[], float]  #: dice, between 0 and 1
    measured: Callable[[str, float], None] = lambda _destination, _seconds: None  #: what a request took


class Attempt:
    """One delivery's turn. `blocked` names destinations at which earlier deliveries of the event's subject wait."""

    def __init__(
        self,
        world: World,
        event: StoredEvent,
        envelope: Envelope,
        name: str,
        route: Route | None,
        delivery: Delivery,
        blocked: Collection[str],
        run: Run,
    ) -> None:
        self._world = world
        self._run = run
        self._event = event
        self._envelope = envelope
        self._name = name
        self._route = route
        self._delivery = delivery
        # What was let go by its destination's gate, or is due again, is the first in its lanes already.
        in_line = delivery.state == "pending" or (delivery.gate or "").startswith(ROUTE)
        self._blocked = frozenset(blocked) if in_line else frozenset()
        self._record = dict(delivery.record)
        self._sent = int(self._record.get("sent", 0))  # of the route's requests, these have succeeded earlier
        self._requests: Sequence[Request] = ()
        self._request: Request | None = None
        self._response: Response | None = None
        self.verdicts: list[Verdict] = []

    @property
    def destinations(self) -> set[str]:
        """Where its requests go, those that were sent included."""
        return {request.destination for request in self._requests}

    @property
    def _at(self) -> str:
        """Where its last request went; "" = none was made."""
        return self._request.destination if self._request else ""

    def make(self) -> Result:
        """Do what can be done now."""
        gate = f"{ROUTE}{self._name}"
        went_along = self._run.answer(self._event.id, self._name)
        if self._route_shut(gate) and went_along is None:
            return self._waits(f"parked:{gate}")
        started, clock = self._world.now(), time.monotonic()
        error = self._plan()
        if went_along is not None and error is None:
            self._request, self._response, self._sent = self._requests[0], went_along, 1
            return self._result(None, started, 0)
        if self._blocked & set(self._order.partition(":")[2].split(",")):
            return self._waits("held")
        if error is None:
            closed, error = self._send()
            if closed is not None:
                return self._waits(f"parked:{closed}")
        return self._result(error, started, time.monotonic() - clock)

    @property
    def _order(self) -> str:
        """Which order it keeps, as the ledger has it."""
        if self._delivery.order:
            return self._delivery.order
        mode = self._route.order if self._route else "pass"
        to = self.destinations
        if mode == "hold" and not to:
            # It failed before anyone knew where it goes to: those behind it are held everywhere.
            to = set(self._world.destinations)
        return f"{mode}:{','.join(sorted(to))}" if mode != "off" and to else ""

    def _waits(self, state: str) -> Result:
        record = {**self._record, "sent": self._sent} if self._sent else self._record
        return Result(self._name, state, record, order=self._order)

    def _route_shut(self, gate: str) -> bool:
        """Whether the route's gate is for this delivery: once past it, only a pause stops it."""
        shut = self._event.shut.get(gate)
        if shut is None:
            return False
        new = self._delivery.state == "pending" and not self._delivery.order
        return shut.mode not in _PASSABLE or new

    def _shut(self, gate: str) -> bool:
        shut = self._event.shut.get(gate)
        if shut is None:
            return False
        return shut.mode not in _PASSABLE or self._delivery.gate != gate

    def _plan(self) -> BaseException | None:
        """Find out what is to be sent. Gives what our own code or a handler raised."""
        if self._route is None:
            return MappingFailed("there is no route of this name any more")
        try:
            requests = self._route.requests(self._envelope)
            for request in requests:
                self._destination(request)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - SystemExit, CancelledError: all are outcomes of the attempt
            return error
        self._requests = requests
        return None

    def _send(self) -> tuple[str | None, BaseException | None]:
        """Send what is left to send. Gives the destination whose gate is shut, or what went wrong."""
        for request in self._requests[self._sent :]:
            name = request.destination
            if self._shut(name):
                return name, None
            if not self._world.slots.enter(name):
                self.verdicts.append(Verdict(name, "busy"))
                return name, None
            self._request, self._response = request, None
            begun = time.monotonic()
            try:
                self._response = self._run.send(
                    self._event, self._envelope, self._name, self._destination(request), request
                )
            except RouterError as error:
                self._response = error.response
                self.verdicts += _heard(name, error, self._world.policy)
                return None, error
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # noqa: BLE001 - as above
                return None, error
            finally:
                self._world.slots.leave(name)
                self._world.measured(name, time.monotonic() - begun)
            self.verdicts.append(Verdict(name, "ok"))
            self._sent += 1
        return None, None

    def _result(self, error: BaseException | None, started: float, lasted_s: float) -> Result:
        record = self._record
        # A crash was an attempt too, though nobody was left to write it down.
        crashed = max(0, self._event.crashes - record.get("crashes", 0))
        tried = int(record.get("tried", 0)) + 1
        since = float(record.get("since", self._event.accepted_at / _MICROS))
        state, delay_s, reason = self._outcome(error, tried, self._world.now() - since)
        outcome = "parked" if state.startswith("parked:") else state
        waits = outcome == "parked" or (outcome == "retrying" and isinstance(error, DestinationThrottled))
        entry = {
            "number": record.get("made", 0) + crashed + 1,
            "at": datetime.fromtimestamp(started, UTC).isoformat(timespec="milliseconds"),
            "duration_ms": round(lasted_s * 1000),
            "status": self._response.status if self._response else None,
            "outcome": outcome,
            "reason": reason_of(error) if error else None,
        }
        log.info(
            "delivery.attempted",
            event_id=self._event.id,
            source=self._event.source,
            type=without_people(self._envelope.type, self._envelope.event, self._envelope.personal),
            route=self._name,
            delay_s=round(delay_s, 3),
            reason=reason,
            **{key: entry[key] for key in ("number", "outcome", "status", "duration_ms")},
        )
        attempts = [*record.get("attempts", []), entry][-_MOST_ATTEMPTS_KEPT:]
        if error is None:
            # A settled delivery keeps only what an operator looks for; the rest would outlive its use in Redis.
            fields = (*self._written(), f"{ROUTE}{self._name}") if self._event.buried else ()
            return Result(
                self._name, state, {"attempts": attempts}, order=self._order, fields=fields, destination=self._at
            )
        record |= {
            "attempts": attempts,
            # Time at a gate costs no attempts, nor does what showed that the gate has to stay shut.
            "tried": tried - 1 if waits and not self._alone() else tried,
            "made": entry["number"],
            "crashes": self._event.crashes,
            "since": since,
            "sent": self._sent,
            **failure_of(error),
            "reason": reason,
            "request": self._shown(),
            "response": dataclasses.asdict(self._response) if self._response else None,
        }
        if self._requests:
            record["writes"] = self._written()
        if waits:
            record["heard_at"] = self._heard_at()
        failure = reason or ""
        result = Result(
            self._name,
            state,
            record,
            delay_s,
            order=self._order,
            failure=failure if outcome == "dead" and failure in _OWN_FAILURES else "",
            reason=failure,
            destination=self._at,
        )
        if outcome == "dead":
            dead_letter.log_put(self._event, result)
        return result

    def _outcome(self, error: BaseException | None, tried: int, age_s: float) -> tuple[str, float, str | None]:
        """State, delay and reason."""
        if error is None:
            return ("delivered" if self._sent else "filtered"), 0, None
        if not isinstance(error, Exception):
            return "dead", 0, "bug"
        gate = f"parked:{self._request.destination}" if self._request else ""
        alone = self._alone()
        if isinstance(error, DestinationUnauthorized) and not alone:
            return gate, 0, error.reason
        unhurried = isinstance(error, DestinationThrottled) and not error.retry_after_s and not alone
        if unhurried:
            # It named no time. Those that others overtake wait longer each time, and have lost no attempt.
            tried = min(len(self._record.get("attempts", ())) + 1, self._world.policy.max_attempts - 1)
        decided = retry.decide(error, tried, age_s, self._world.policy, self._world.roll())
        too_old = isinstance(decided, retry.GiveUp) and decided.reason == "expired"
        gives_up = isinstance(decided, retry.GiveUp) and (alone or too_old)
        if self._tells_of_the_gate(error) and not gives_up and not unhurried:
            return gate, 0, reason_of(error)
        if isinstance(decided, retry.Again):
            return "retrying", decided.delay_s, reason_of(error)
        return "dead", 0, decided.reason

    def _tells_of_the_gate(self, error: Exception) -> bool:
        """Whether a failure is the destination's way to say: not now. A wait that it names is all deliveries' wait."""
        shut = self._event.shut.get(self._request.destination) if self._request else None
        probes = shut is not None and shut.mode == "probing"
        return isinstance(error, DestinationThrottled) or (probes and isinstance(error, DestinationUnavailable))

    def _alone(self) -> bool:
        """Whether others got through since it was parked last: then it is the event, or its route, not the gate."""
        return self._heard_at() > int(self._record.get("heard_at", self._heard_at()))

    def _heard_at(self) -> int:
        shut = self._event.shut.get(self._request.destination) if self._request else None
        return shut.heard_at if shut else 0

    def _written(self) -> tuple[str, ...]:
        return tuple(sorted({field for request in self._requests for field in written(request)}))

    def _shown(self) -> dict[str, Any] | None:
        if self._request is None:
            return None
        return self._destination(self._request).shown(self._request)

    def _destination(self, request: Any) -> Destination:
        if not isinstance(request, Request):
            raise TypeError(f"a handler gave {type(request).__name__} in place of a Request")
        destination = self._world.destinations.get(request.destination)
        if destination is None and self._route is not None and self._route.handler is None:
            raise MappingFailed(f"there is no destination {request.destination}: its key or address is not set")
        if destination is None:
            raise LookupError(f"a handler named a destination that there is not: {request.destination}")
        return destination


def _heard(destination: str, error: RouterError, policy: retry.Policy) -> list[Verdict]:
    """What an error says about the destination. A request that it refuses is an answer like another."""
    if isinstance(error, DestinationThrottled):
        return [Verdict(destination, "throttled", min(error.retry_after_s or 0, policy.retry_after_cap_s))]
    if isinstance(error, DestinationUnauthorized):
        return [Verdict(destination, "unauthorized")]
    if isinstance(error, DestinationUnavailable):
        return [Verdict(destination, "failed")]
    return [Verdict(destination, "ok")] if isinstance(error, DestinationRejected) else []


def failure_of(error: BaseException) -> dict[str, Any]:
    """What a dead letter says of an exception; the traceback where it is none that we raise on purpose."""
    failure: dict[str, Any] = {
        "reason": reason_of(error),
        "error": f"{type(error).__name__}: {error}",
    }
    if not isinstance(error, RouterError):
        failure["traceback"] = "".join(traceback.format_exception(error))
    return failure
