"""From a ticket to the destination: claim, route, attempt, settle."""

import dataclasses
import itertools
import time
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

import structlog

from tasks import dead_letter
from tasks import envelope as envelopes
from tasks.attempt import Attempt, World, failure_of
from tasks.envelope import Envelope, utc
from tasks.errors import Expired
from tasks.gates import log_changes
from tasks.ledger import Delivery, Ledger, Result, Settled, Shut, StoredEvent, Verdict
from tasks.routing import Route, Routes
from tasks.run import Run

log: Final = structlog.get_logger("tasks.delivery")

#: Events of one subject's line that a ticket's worker takes in a row; then others get their turn.
_MOST_IN_A_ROW: Final = 25
_MICROS: Final = 1_000_000


class Leases(Protocol):
    """Keeps leases alive while work goes on."""

    def hold(self, ids: Sequence[str], owner: str, asked_at: float) -> None:
        """Renew this owner's leases on these events from now on; they were asked for then (monotonic clock)."""
        ...

    def release(self, ids: Sequence[str], owner: str) -> None:
        """Stop renewing them."""
        ...

    def sure(self, id_: str, owner: str) -> bool:
        """Whether the lease is still this owner's."""
        ...


class Tells(Protocol):
    """Tells whoever watches what becomes of events; it neither fails nor takes time."""

    def begun(self, event: StoredEvent) -> None:
        """Work on a claimed event begins."""
        ...

    def ended(self, event: StoredEvent, state: str, results: Sequence[Result], lasted_s: float) -> None:
        """It is settled with these results, and in that state now ("stale": somebody else has it)."""
        ...

    def died(self, event: StoredEvent, reason: str) -> None:
        """All that waited of it became dead letters outside an attempt."""
        ...


@dataclasses.dataclass(frozen=True)
class Deliverer:
    """Works on events. Everything that is not decided purely is handed in."""

    ledger: Ledger
    routes: Routes
    world: World
    leases: Leases
    tell: Tells

    def work(self, ids: Sequence[str], owner: str) -> None:
        """Work on the events of a ticket that are free, and on those behind them; `owner` must be new for each call."""
        asked_at = time.monotonic()
        claimed = self.ledger.claim(ids, owner)
        held = [event.id for event in claimed]
        self.leases.hold(held, owner, asked_at)
        shut: Mapping[str, Shut] | None = None
        try:
            for event in claimed:
                fresh = event if shut is None else dataclasses.replace(event, shut=shut)
                shut = self._with_followers(fresh, held, most=max(1, _MOST_IN_A_ROW // len(claimed))) or shut
        finally:
            self.leases.release(held, owner)

    def _with_followers(self, event: StoredEvent, held: list[str], most: int) -> Mapping[str, Shut] | None:
        """Work on an event, then on those behind it in its subject's line. Gives the gates that are shut after it."""
        shut = None
        run = Run(self.ledger, self.routes)
        for number in itertools.count(1):
            asked_at = time.monotonic()
            settled = self._deliver_alone(event, run, take=number < most)
            self.leases.release([event.id], event.owner)
            shut = settled.shut if settled else shut
            if settled is None or settled.next is None:
                break
            event = settled.next
            held.append(event.id)
            self.leases.hold([event.id], event.owner, asked_at)
        if run.open:
            # Their requests went out, and nobody wrote it down: they will go out once more.
            log.warning("group.broken", event_id=event.id)
        return shut

    def _deliver_alone(self, event: StoredEvent, run: Run, *, take: bool) -> Settled | None:
        try:
            return self._deliver(event, run, take=take)
        except Exception:
            # Its lease runs out and it is tried again; the other events of the ticket are not to suffer for it.
            log.exception("delivery.failed", event_id=event.id)
            return None

    def _deliver(self, event: StoredEvent, run: Run, *, take: bool) -> Settled | None:
        """Attempt every delivery of a claimed event that is due, and settle each.

        Gives how it was settled, with the next event of its subject's line, claimed too, where `take` asks for it;
        None when it was not settled here.
        """
        begun_at = time.monotonic()
        self.tell.begun(event)
        try:
            envelope = envelopes.decode(event.envelope or b"")
            if not event.deliveries and not event.again:
                self._check_time(envelope)
            todo = self._todo(event, envelope)
        except Exception as error:  # noqa: BLE001 - whatever our own code raises must end as a dead letter
            self._bury(event, error)
            return None
        fresh = [name for name, _, _ in todo if name not in event.deliveries]
        if event.crashes and fresh:
            # Should the worker die again, the dead letter names the routes.
            if self._settle(event, _planned(fresh), more=True).state == "stale":
                return None
            fresh = []
        blocked = set(event.blocked)
        results: list[Result] = []
        for number, (name, route, delivery) in enumerate(todo, 1):
            if not self.leases.sure(event.id, event.owner):
                # Another worker may have it by now, and what comes after it: a late request would overtake.
                log.warning("lease.doubtful", event_id=event.id, route=name)
                return None
            attempt = Attempt(self.world, event, envelope, name, route, delivery, blocked, run)
            result = attempt.make()
            if result.order and result.state not in {"delivered", "filtered", "dead"}:
                blocked |= attempt.destinations
            results.append(result)
            rest = _planned(fresh[number:])
            more = number < len(todo)
            which = "" if more else _next(run, take=take)
            settled = self._settle(event, [result, *rest], attempt.verdicts, more=more, take=which)
            # Others shut gates too.
            event = dataclasses.replace(event, shut=settled.shut)
            fresh = []
            if settled.state == "stale":
                log.warning("lease.lost", event_id=event.id, route=name, outcome=result.state)
                return None
            if not more:
                break
        else:
            settled = self._settle(event, [], take=_next(run, take=take))
        self.tell.ended(event, settled.state, results, time.monotonic() - begun_at)
        return settled

    def _settle(
        self,
        event: StoredEvent,
        results: Sequence[Result],
        verdicts: Sequence[Verdict] = (),
        *,
        more: bool = False,
        take: str = "",
    ) -> Settled:
        settled = self.ledger.settle(event, results, verdicts, more=more, take=take)
        log_changes(settled.changes)
        return settled

    def _todo(self, event: StoredEvent, envelope: Envelope) -> list[tuple[str, Route | None, Delivery]]:
        if not event.deliveries:
            new = Delivery("pending", {})
            return [(route.name, route, new) for route in self.routes.match(envelope)]
        ready = event.ready()
        # Clocks differ: what the ledger gave out is due, whatever ours says.
        first_due = min((delivery.due_at or 0 for delivery in ready.values()), default=0)
        due = max(first_due, int(self.world.now() * _MICROS))
        return [
            (name, self.routes.get(name), delivery) for name, delivery in ready.items() if (delivery.due_at or 0) <= due
        ]

    def _check_time(self, envelope: Envelope) -> None:
        """Raises Expired when its publisher wants it no more."""
        until = utc(envelope.expires_at)
        if until is not None and until.timestamp() < self.world.now():
            raise Expired("not begun before the time that its publisher set")

    def _bury(self, event: StoredEvent, error: Exception) -> None:
        # With routes or without: nothing of an event that cannot be read may go on waiting.
        failure = failure_of(error)
        dead_letter.bury(self.ledger, event, event.waiting(), failure)
        self.tell.died(event, failure["reason"])


def _next(run: Run, *, take: bool) -> str:
    """Which event to take next: one whose request went along must be the next one of the line."""
    return "line" if run.open else "any" if take else ""


def _planned(names: Sequence[str]) -> list[Result]:
    return [Result(name, "pending", {}) for name in names]
