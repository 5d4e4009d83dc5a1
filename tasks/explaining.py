"""Says what would become of an event, route by route, without doing it; and what another routes file would change."""

import dataclasses
import difflib
import functools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

from tasks import integrations
from tasks.action import Request
from tasks.envelope import Envelope
from tasks.routing import Route, Routes
from tasks.trigger import Trigger
from tasks.trigger_syntax import Condition, Group

#: Sets of verdicts of one trigger whose explanation is remembered; most triggers have few.
_REMEMBERED: Final = 256

_to_json: Final = json.JSONEncoder(separators=(",", ":")).encode


class Destination(Protocol):
    """What is asked of a destination here: nothing is sent."""

    def shown(self, request: Request) -> dict[str, Any]:
        """The request as it would be sent, without secrets."""
        ...


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What one route would do with one event: its requests, or why there are none."""

    route: str
    action: str
    matches: bool
    requests: tuple[dict[str, Any], ...] = ()
    reason: str | None = None  #: why nothing is sent
    failed: tuple[str, ...] = ()  #: the trigger's conditions that decided against it
    error: Mapping[str, str] | None = None  #: the attempt would end with it

    @property
    def sends(self) -> bool:
        """Whether it is more than filtered: it has requests, or would become a dead letter."""
        return self.reason is None

    def as_data(self) -> dict[str, Any]:
        """For programs."""
        data: dict[str, Any] = {"route": self.route, "action": self.action}
        if not self.sends:
            return {**data, "reason": self.reason, "failed": list(self.failed)}
        data["requests"] = list(self.requests)
        return data if self.error is None else {**data, "error": self.error}

    @functools.cached_property
    def text(self) -> str:
        """The same as JSON; written once for the many events that share an outcome without requests."""
        return _to_json(self.as_data())


def as_json(outcomes: Sequence[Outcome]) -> str:
    """All routes for one event, for programs: the members of a JSON object, without its braces."""
    routes = ",".join([outcome.text for outcome in outcomes if outcome.sends])
    filtered = ",".join([outcome.text for outcome in outcomes if not outcome.sends])
    return f'"routes":[{routes}],"filtered":[{filtered}]'


class Explainer:
    """Routes, ready to be asked about many events."""

    def __init__(self, routes: Routes, destinations: Mapping[str, Destination]) -> None:
        self._destinations = destinations
        self._asked = [(route, _misses(route)) for route in routes.routes]

    def explain(self, envelope: Envelope) -> list[Outcome]:
        """What each route would do with the event, in the order of the file."""
        return [
            self._attempt(route, envelope) if route.matches(envelope) else missed(envelope)
            for route, missed in self._asked
        ]

    def _attempt(self, route: Route, envelope: Envelope) -> Outcome:
        try:
            shown = tuple(map(self._shown, route.requests(envelope)))
            if route.handler is not None:
                json.dumps([each["body"] for each in shown])
        except (Exception, SystemExit) as error:  # noqa: BLE001 - any exception is an outcome of the attempt
            told = {"reason": getattr(error, "reason", "bug"), "message": f"{type(error).__name__}: {error}"}
            return Outcome(route.name, route.does, matches=True, error=told)
        reason = None if shown else _why_nothing(route, envelope)
        return Outcome(route.name, route.does, matches=True, requests=shown, reason=reason)

    def _shown(self, request: Any) -> dict[str, Any]:
        if not isinstance(request, Request):
            raise TypeError(f"a handler gave {type(request).__name__} in place of a Request")
        if request.destination not in self._destinations:
            raise LookupError(f"a handler named a destination that there is not: {request.destination}")
        return self._destinations[request.destination].shown(request)


def _why_nothing(route: Route, envelope: Envelope) -> str:
    if route.handler is not None:
        return "matches; the handler gives no request"
    if envelope.format == "encharge":
        return "matches; the event reports what the router did itself, so nothing is sent (a loop is cut)"
    return "matches; nothing is sent"


# --- why a route does not match --------------------------------------------------------------------------------------


def _misses(route: Route) -> Callable[[Envelope], Outcome]:
    """A function from an event that the route does not match to the outcome that says why."""
    asked = route.trigger

    @functools.lru_cache(_REMEMBERED)
    def of_reason(reason: str) -> Outcome:
        return Outcome(route.name, route.does, matches=False, reason=reason)

    @functools.lru_cache(_REMEMBERED)
    def of_verdicts(verdicts: tuple[tuple[str, bool], ...]) -> Outcome:
        failed = tuple(failing(asked, verdicts)) if asked else ()
        reason = f"trigger: not true: {'; '.join(failed)}"
        return Outcome(route.name, route.does, matches=False, reason=reason, failed=failed)

    # The only condition is false, or the route would match: nothing to ask.
    alone = of_verdicts(((str(asked), False),)) if asked and not isinstance(asked.condition, Group) else None

    def missed(envelope: Envelope) -> Outcome:
        reason = _not_for(route, envelope)
        if reason is not None:
            return of_reason(reason)
        return alone or of_verdicts(tuple(asked.explain(envelope.view)) if asked else ())

    return missed


def _not_for(route: Route, envelope: Envelope) -> str | None:
    """Why the route is not for such events, whatever its trigger says; in the order in which it decides itself."""
    if route.sources and envelope.source not in route.sources:
        return f"source: the route is for {', '.join(sorted(route.sources))}, the event is of {envelope.source}"
    if route.format is not None and envelope.format != route.format:
        return f"format: the route is for events of {route.format}, the event is of {envelope.format}"
    if route.action is not None and integrations.excluded(envelope, route.action.system):
        return f"integrations: the event says that it is not for {route.action.system}"
    return None


def failing(trigger: Trigger, verdicts: Iterable[tuple[str, bool]]) -> list[str]:
    """Those of a false trigger's conditions that made it false: of `a and b` the false ones, of `a or b` all."""
    return _judged(trigger.condition, iter(verdicts))[1]


def _judged(condition: Condition, verdicts: Iterator[tuple[str, bool]]) -> tuple[bool, list[str]]:
    if not isinstance(condition, Group):
        text, holds = next(verdicts)
        return holds, [] if holds else [text]
    judged = [_judged(child, verdicts) for child in condition.children]
    join = all if condition.joiner == "and" else any
    holds = join(holds for holds, _ in judged)
    return holds, [] if holds else [text for child_holds, texts in judged if not child_holds for text in texts]


# --- what another routes file changes --------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """One route that would do something else with an event: "added" (matches now), "removed", or "changed"."""

    kind: str
    route: str
    before: Outcome | None
    after: Outcome | None

    def as_data(self) -> dict[str, Any]:
        """For programs."""
        sides = {"before": self.before, "after": self.after}
        return {"route": self.route, **{name: side.as_data() for name, side in sides.items() if side is not None}}

    def lines(self) -> list[str]:
        """Unified diff of what is sent."""
        before, after = (_text(side).splitlines() for side in (self.before, self.after))
        return list(difflib.unified_diff(before, after, lineterm="", n=len(before) + len(after)))[3:]


def changes(before: Sequence[Outcome], after: Sequence[Outcome]) -> list[Change]:
    """What changes for one event, by the routes' names; routes that match neither before nor after are no change."""
    old = {outcome.route: outcome for outcome in before if outcome.matches}
    new = {outcome.route: outcome for outcome in after if outcome.matches}
    removed = [Change("removed", name, outcome, None) for name, outcome in old.items() if name not in new]
    added = [Change("added", name, None, outcome) for name, outcome in new.items() if name not in old]
    both = [(old[name], outcome) for name, outcome in new.items() if name in old]
    return [*removed, *added, *(Change("changed", b.route, a, b) for a, b in both if a != b)]


def _text(outcome: Outcome | None) -> str:
    if outcome is None:
        return ""
    data = outcome.as_data()
    del data["route"]
    return json.dumps(data, indent=2, ensure_ascii=False)
