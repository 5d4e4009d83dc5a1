"""A deliverer on a bench: a ledger in memory, destinations that answer as told, a clock and dice by hand."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from builders import GATES, back, envelope, fake_ledger

from tasks.action import Request
from tasks.attempt import World
from tasks.dead_letter import DeadLetters
from tasks.delivery import Deliverer
from tasks.destinations.http import Response
from tasks.envelope import Envelope
from tasks.errors import RouterError
from tasks.ledger import RETRYING, GatePolicy, Ledger, Result, StoredEvent
from tasks.queue import RedisQueue
from tasks.retry import Policy
from tasks.routing import Route, Routes
from tasks.slots import Slots

OK = Response(200, {}, "{}")
POLICY = Policy(max_attempts=3, max_age_s=1000, base_s=2, max_delay_s=60, retry_after_cap_s=100)


class Destination:
    """Answers as told, then 200."""

    def __init__(self, *answers: Response | Exception) -> None:
        self.answers = list(answers)
        self.sent: list[Any] = []
        self.before: Callable[[Any], None] = lambda _: None

    def send(self, request: Request) -> Response:
        self.before(request.body)
        self.sent.append(request.body)
        answer = self.answers.pop(0) if self.answers else OK
        if isinstance(answer, Exception):
            raise answer
        return answer

    def shown(self, request: Request) -> dict[str, Any]:
        return {"method": request.method, "url": "https://api.example.com/", "headers": {}, "body": request.body}


class Leases:
    """Remembers which leases are held."""

    def __init__(self) -> None:
        self.held: list[str] = []
        self.seen: list[str] = []

    def hold(self, ids: Sequence[str], _owner: str, _asked_at: float) -> None:
        self.held += ids
        self.seen += ids

    def release(self, ids: Sequence[str], _owner: str) -> None:
        self.held = [id_ for id_ in self.held if id_ not in ids]

    def sure(self, _id: str, _owner: str) -> bool:
        return True


class Told:
    """Remembers what is told of which event."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str]] = []

    def begun(self, event: StoredEvent) -> None:
        self.rows.append((event.id, "begun"))

    def ended(self, event: StoredEvent, state: str, _results: Sequence[Result], _lasted_s: float) -> None:
        self.rows.append((event.id, state))

    def died(self, event: StoredEvent, reason: str) -> None:
        self.rows.append((event.id, reason))


def route(name: str, handler: Callable[[Envelope], Any], *, only: str | None = None, order: str = "pass") -> Route:
    return Route(name, frozenset([only] if only else []), None, None, None, handler, order=order)


def sends(*bodies: Any, to: str = "api") -> Callable[[Envelope], list[Request]]:
    return lambda _: [Request(to, "POST", "", body) for body in bodies]


class Bench:
    """A deliverer and all that it is given."""

    def __init__(self, *routes: Route, gates: GatePolicy = GATES, **destinations: Any) -> None:
        self.ledger: Ledger = fake_ledger(gates=gates)
        self.destinations = {"api": Destination(), **destinations}
        self.leases = Leases()
        self.told = Told()
        self.clock = time.time()
        self.claims = 0
        self.slots = Slots(16, tuple(self.destinations))
        self.routes = Routes(routes or (route("a", sends("hello")),))
        self.letters = DeadLetters(self.ledger)
        self.queue = RedisQueue(self.ledger)

    def work(self, *ids: str) -> None:
        self.claims += 1
        world = World(
            destinations=self.destinations,
            policy=POLICY,
            slots=self.slots,
            now=lambda: self.clock,
            roll=lambda: 0.5,
        )
        Deliverer(self.ledger, self.routes, world, self.leases, self.told).work(ids or ["e1"], f"worker {self.claims}")

    def accept_line(self, events: int, start: int = 1, **changes: Any) -> None:
        """Accept events e1, e2, … of one subject."""
        for number in range(start, start + events):
            self.queue.accept([envelope(id=f"e{number}", subject="one", **changes)])

    def retry_now(self, id_: str) -> None:
        """Let an event's retry be due, if it waits for one."""
        if self.ledger.client.zscore(RETRYING, id_) is not None:
            back(self.ledger, RETRYING, id_, 7200)
            self.ledger.wake_due([id_])

    def event(self, id_: str = "e1") -> StoredEvent:
        found = self.ledger.event(id_)
        assert found is not None
        return found

    def record(self, name: str = "a", id_: str = "e1") -> dict[str, Any]:
        return dict(self.event(id_).deliveries[name].record)

    def states(self) -> dict[str, str]:
        return {name: delivery.state for name, delivery in self.event().deliveries.items()}

    def later(self, seconds: float = 3600) -> None:
        """Let the next retry be due."""
        back(self.ledger, RETRYING, "e1", seconds)


def answered(error: RouterError, status: int) -> RouterError:
    error.response = Response(status, {"X": "y"}, "answer")
    return error


def api(bench: Bench) -> Destination:
    found: Destination = bench.destinations["api"]
    return found
