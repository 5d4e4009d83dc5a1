"""Requests that go out together: of an event, and of those behind it in its subject's line.

While a worker has the first event of a line, nobody works on those behind it. So what they have for a destination that
takes several in one request may go along, and its answer is remembered until their turn comes in the same run.
"""

from collections.abc import Iterator, Sequence
from typing import Final, Protocol

import structlog

from tasks.action import Request
from tasks.destinations.grouping import Groups
from tasks.destinations.http import Response
from tasks.envelope import Envelope
from tasks.errors import DestinationRejected, RouterError
from tasks.ledger import Ledger, StoredEvent
from tasks.routing import Routes

log: Final = structlog.get_logger("tasks.delivery")


class Sends(Protocol):
    """As much of a destination as is needed here."""

    def send(self, request: Request) -> Response:
        """Send one request."""
        ...


class Run:
    """What one worker knows while it works along a line. Used by one thread."""

    def __init__(self, ledger: Ledger, routes: Routes) -> None:
        self._ledger = ledger
        self._routes = routes
        #: (event, route) → the answer to the request that its own went along with
        self._answers: dict[tuple[str, str], Response] = {}
        self._together = True

    @property
    def open(self) -> bool:
        """Whether requests of events behind went along: their turn must come in this run."""
        return bool(self._answers)

    def answer(self, event_id: str, route: str) -> Response | None:
        """The answer to a delivery whose request went along with an earlier one; asked once."""
        return self._answers.pop((event_id, route), None)

    def send(
        self, event: StoredEvent, envelope: Envelope, route: str, destination: Sends, request: Request
    ) -> Response:
        """Send a request, and along with it those of the events behind, where the destination takes several.

        Raises what the destination raises. A merged request that it refuses for good is sent again, each for itself.
        """
        if not isinstance(destination, Groups):
            return destination.send(request)
        company, together = self._gathered(event, envelope, route, destination, request)
        if together is None:
            return destination.send(request)
        try:
            response = destination.send(together)
        except DestinationRejected:
            # One of them is to blame. The others are not to die for it.
            self._together = False
            log.warning("group.refused", event_id=event.id, destination=request.destination, requests=len(company) + 1)
            return destination.send(request)
        self._answers |= {(event_id, name): response for event_id, name, _ in company}
        return response

    def _gathered(
        self, event: StoredEvent, envelope: Envelope, route: str, destination: Groups, request: Request
    ) -> tuple[Sequence[tuple[str, str, Request]], Request | None]:
        """Those that may go along, and one request for all; None when it goes alone."""
        if event.crashes:
            # Somebody's death is not to be the first one's fault: until it is clear whose, each is met in its turn.
            self._together = False
        try:
            company = list(self._company(event, envelope, route, destination, request))
            if company:
                return company, destination.merged([request, *(each for _, _, each in company)])
        except Exception:
            # Of what lies behind, or of Redis: nothing that the first one should fail for.
            log.exception("group.failed", event_id=event.id, destination=request.destination)
        return (), None

    def _company(
        self, event: StoredEvent, envelope: Envelope, route: str, destination: Groups, request: Request
    ) -> Iterator[tuple[str, str, Request]]:
        """Those behind, in their order, whose request may go along: event, route, request."""
        # Only an event that is worked on for the first time is the first of a line that nobody else works on.
        if not self._together or event.deliveries or not event.subject:
            return
        key = destination.group_key(request)
        if key is None or self._to(envelope, request.destination) != [(route, request)]:
            return
        for behind in self._ledger.behind(event, destination.most - 1):
            found = self._to(behind, request.destination)
            if found == []:
                continue
            if found is None or len(found) > 1 or destination.group_key(found[0][1]) != key:
                return
            name, other = found[0]
            if f"route:{name}" in event.shut:
                return
            yield behind.id, name, other

    def _to(self, envelope: Envelope, destination: str) -> Sequence[tuple[str, Request]] | None:
        """What an event has for a destination: route, request. None when it is not certain, or goes one by one."""
        found: list[tuple[str, Request]] = []
        for route in self._routes.match(envelope):
            if route.handler is not None:
                return None  # a team's own code; called once, when its turn comes
            try:
                requests = route.requests(envelope)
            except RouterError:
                if route.order == "hold":
                    return None
                continue
            except Exception:  # noqa: BLE001 - our own fault shows when its turn comes
                return None
            here = [(route.name, request) for request in requests if request.destination == destination]
            if here and len(requests) > 1:
                return None
            found += here
        return found
