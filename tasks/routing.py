"""Routes: which events go where. Loaded and checked once, then decided purely."""

import collections
import dataclasses
import importlib
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from marshmallow import Schema, ValidationError, fields, validate, validates_schema

from config.problems import ConfigurationRefused
from config.yaml_file import Place, YamlFile, read
from tasks import integrations, loop, mapping, presets, publishers, trigger
from tasks import webhooks as receivers
from tasks.action import Action, Field, Request, checked, in_segments_form
from tasks.actions import ACTIONS
from tasks.destinations import DESTINATIONS
from tasks.envelope import TASK, Envelope
from tasks.errors import MappingFailed, MappingRefused, TriggerRefused

#: As many as Segment lets one destination have.
_MOST_ROUTES: Final = 50

#: A team's own handler: takes the envelope, gives requests (none = nothing to send) or raises of tasks.errors.
Handler = Callable[[Envelope], Sequence[Request] | None]


@dataclasses.dataclass(frozen=True)
class Route:
    """A named rule: source and trigger → action and mapping, or a handler."""

    name: str
    sources: frozenset[str]  #: empty = all
    trigger: trigger.Trigger | None  #: None = every event
    action: Action | None
    mapping: mapping.Mapping | None
    handler: Handler | None
    format: str | None = None  #: whose events it is for; None = anybody's
    order: str = "pass"  #: pass, hold (a dead letter holds those behind it), or off

    @property
    def does(self) -> str:
        """What tables and logs call it: the action, or "handler"."""
        return self.action.name if self.action else "handler"

    def matches(self, envelope: Envelope) -> bool:
        """Whether the route is for this event."""
        if self.sources and envelope.source not in self.sources:
            return False
        if self.format is not None and envelope.format != self.format:
            return False
        if self.action is not None and integrations.excluded(envelope, self.action.system):
            return False
        return self.trigger is None or self.trigger.matches(envelope.view)

    def requests(self, envelope: Envelope) -> tuple[Request, ...]:
        """What to send for an event; empty when it has to be sent nothing (a loop was cut, a handler said so).

        Raises MappingFailed, or whatever a handler raises.
        """
        if self.handler is not None:
            return tuple(self._named(each, n, envelope) for n, each in enumerate(self.handler(envelope) or ()))
        if self.action is None or self.mapping is None:
            raise MappingFailed("the route has neither an action nor a handler")
        filled = {**self._given(envelope), **checked(self.action, self.mapping.resolve(envelope.view))}
        if loop.is_echo(envelope, self.action.name, filled):
            return ()
        return self.action.requests(loop.marked(envelope, self.action.name, filled))

    def _named(self, request: Request, number: int, envelope: Envelope) -> Request:
        """A handler's request, with an id of its own if it has none: of two alike each is another's."""
        if not isinstance(request, Request) or request.id:
            return request
        return dataclasses.replace(request, id=f"{envelope.id}:{self.name}:{number}")

    def _given(self, envelope: Envelope) -> dict[str, str]:
        facts = {"occurred_at": envelope.occurred_at, "delivery": f"{envelope.id}:{self.name}"}
        return {field: facts[fact] for field, fact in self.action.given.items()} if self.action else {}


def _built_in(action: Action) -> Route:
    """What a published task asks for: its arguments are the action's fields."""
    fields_ = mapping.compile({name: {"@path": f"$.{name}"} for name in action.fields})
    return Route(action.task, frozenset(), None, action, fields_, None)


#: By the names of the tasks that other teams may publish; they need no file, and no file changes what they do.
BUILT_IN: Final[Mapping[str, Route]] = {action.task: _built_in(action) for action in ACTIONS.values()}


@dataclasses.dataclass(frozen=True)
class Routes:
    """All routes: presets, then those of the file in its order."""

    routes: tuple[Route, ...]
    warnings: tuple[str, ...] = ()  #: what is allowed, and still better looked at: file, line, key
    #: destination → requests a second, requests at a time; None = no limit
    limits: Mapping[str, tuple[float | None, int | None]] = dataclasses.field(default_factory=dict)
    webhooks: Mapping[str, receivers.Webhook] = dataclasses.field(default_factory=dict)  #: by name

    def get(self, name: str) -> Route | None:
        """The route of that name."""
        return BUILT_IN.get(name) or next((route for route in self.routes if route.name == name), None)

    def match(self, envelope: Envelope) -> list[Route]:
        """The routes that the event goes along."""
        if envelope.format == TASK:
            return [BUILT_IN[envelope.type]] if envelope.type in BUILT_IN else []
        return [route for route in self.routes if route.matches(envelope)]


_NAME: Final = validate.Regexp(r"^[a-z0-9][a-z0-9_-]{0,63}$", error="Only a-z, 0-9, _ and -, at most 64.")


class _Order(fields.String):
    """A text; `off` without quotes is false to YAML 1.1."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        return super()._deserialize("off" if value is False else value, *args, **kwargs)


class _RouteSchema(Schema):
    name = fields.String(required=True, validate=_NAME)
    source = fields.Raw(
        metadata={"doc": "A name of sources.yaml or publishers.yaml, or a list of names; all if not given."}
    )
    trigger = fields.String(metadata={"doc": "Condition on the event; every event if not given."})
    action = fields.String(validate=validate.OneOf(ACTIONS, error="No action of this name; there are: {choices}."))
    mapping = fields.Dict(keys=fields.String())
    defaults = fields.String(validate=validate.Equal(presets.SEGMENT, error="Must be segment."))
    handler = fields.String(validate=validate.Regexp(r"^[\w.]+:\w+$", error="Must be module:function."))
    enabled = fields.Boolean(load_default=True)
    order = _Order(
        load_default="pass",
        validate=validate.OneOf(("pass", "hold", "off"), error="Must be pass, hold or off."),
        metadata={"doc": "pass: a dead letter lets the subject's next event go on; hold: it holds it; off: no order."},
    )

    @validates_schema
    def _action_or_handler(self, data: Mapping[str, Any], **_: Any) -> None:
        if ("action" in data) == ("handler" in data):
            raise ValidationError("A route needs either an action or a handler.")
        if "action" in data and "mapping" not in data:
            raise ValidationError("An action needs a mapping.", "mapping")
        for key in ("mapping", "defaults"):
            if "handler" in data and key in data:
                raise ValidationError("A handler takes the whole event, not a mapping.", key)


class _LimitsSchema(Schema):
    requests_per_s = fields.Float(load_default=None, validate=validate.Range(0, 100_000, min_inclusive=False))
    concurrency = fields.Integer(load_default=None, strict=True, validate=validate.Range(1, 100_000))


class _FileSchema(Schema):
    version = fields.Integer(required=True, strict=True, validate=validate.Equal(1))
    shared = fields.Raw(metadata={"doc": "Free: a place for YAML anchors."})
    presets = fields.Raw(metadata={"doc": "segment, or segment with a list of sources."})
    routes = fields.List(fields.Nested(_RouteSchema), required=True)
    destinations = fields.Dict(keys=fields.String(), values=fields.Nested(_LimitsSchema), load_default=dict)
    webhooks = fields.Raw(metadata={"doc": "Receivers of webhooks: tasks/webhooks.py."})


def load(path: Path, known_sources: Iterable[str] | None = None) -> Routes:
    """Routes out of a file.

    Raises ConfigurationRefused with every problem: file, line, key, and what to write instead.
    """
    file = read(path)
    problems: list[str] = []
    data, on = _filled(file, problems)
    try:
        data = _FileSchema().load(data)
    except ValidationError as error:
        raise ConfigurationRefused((*problems, *file.problems(error.normalized_messages()))) from None
    webhooks = receivers.declared(file, problems)
    problems += _unknown_names(file, data)
    known = None if known_sources is None else set(known_sources)
    names = [entry["name"] for entry in data["routes"]]
    untouched = [{**preset, "enabled": True, "order": "pass"} for name, preset in on.items() if name not in names]
    routes = [_route(file, ("presets", presets.SEGMENT), entry, known, on, problems) for entry in untouched]
    routes += [
        _route(file, ("routes", index), entry, known, on, problems) for index, entry in enumerate(data["routes"])
    ]
    problems += [
        file.problem(("routes", index, "name"), f"the name {name} is taken by an earlier route")
        for index, name in enumerate(names)
        if name in names[:index]
    ]
    if problems:
        raise ConfigurationRefused(tuple(dict.fromkeys(problems)))
    used = tuple(route for route in routes if route is not None)
    limits = {name: (each["requests_per_s"], each["concurrency"]) for name, each in data["destinations"].items()}
    return Routes(used, _warnings(file, used), limits, webhooks)


def _unknown_names(file: YamlFile, data: Mapping[str, Any]) -> Iterator[str]:
    """Limits for a destination, and routes to a webhook, that there is not."""
    declared = data.get(receivers.KEY)
    names = list(map(str, declared)) if isinstance(declared, dict) else []
    known = [*DESTINATIONS, *(f"{receivers.PREFIX}{name}" for name in names)]
    for name in data["destinations"]:
        if name not in known:
            text = f"No destination of this name; there are: {', '.join(known)}."
            yield file.problem(("destinations", name), text)
    for index, route in enumerate(data["routes"]):
        # A constant: where an event is sent to is nothing that an event decides.
        given = route.get("mapping", {})
        named = "to" in given or presets.is_directive(given)
        if route.get("action") == "send_webhook" and named and given.get("to") not in names:
            text = f"must be the name of a webhook of this file; there are: {', '.join(names) or 'none'}"
            yield file.problem(("routes", index, "mapping", "to"), text)


def _filled(file: YamlFile, problems: list[str]) -> tuple[Any, dict[str, dict[str, Any]]]:
    """The file's data with what presets and defaults add to its routes, and the presets that are switched on."""
    on: dict[str, dict[str, Any]] = {}
    if not isinstance(file.data, dict):
        return file.data if file.data is not None else {}, on
    try:
        on = presets.switched_on(file.data.get("presets"))
    except ValueError as error:
        problems.append(file.problem(("presets",), str(error)))
    routes = file.data.get("routes", [] if on else None)
    if not isinstance(routes, list):
        return file.data, on
    return {**file.data, "routes": [_filled_route(file, *numbered, on, problems) for numbered in enumerate(routes)]}, on


def _filled_route(
    file: YamlFile, index: int, route: Any, on: Mapping[str, Mapping[str, Any]], problems: list[str]
) -> Any:
    try:
        return presets.filled(route, on)
    except ValueError as error:
        problems.append(file.problem(("routes", index), str(error)))
        return route


def _warnings(file: YamlFile, routes: Iterable[Route]) -> tuple[str, ...]:
    """More routes to one system than Segment allows: they work, but cannot be moved back."""
    systems = collections.Counter(route.action.system for route in routes if route.action is not None)
    return tuple(
        file.problem(("routes",), f"{count} routes go to {system}; Segment allows {_MOST_ROUTES} for one destination")
        for system, count in systems.items()
        if count > _MOST_ROUTES
    )


def source_names(path: Path) -> list[str]:
    """The names of the sources in a sources file. Raises ConfigurationRefused when it is not readable."""
    data = read(path).data
    sources = data.get("sources") if isinstance(data, dict) else None
    return list(sources) if isinstance(sources, dict) else []


def names(sources: Path, publishing: Path) -> list[str]:
    """The names that routes may give as sources: those of the sources file, and of the publishers file.

    Raises ConfigurationRefused with the problems of either.
    """
    found = source_names(sources)
    return [*found, *publishers.load(publishing, found).known]


def _route(
    file: YamlFile,
    place: Place,
    entry: Mapping[str, Any],
    known: set[str] | None,
    on: Container[str],
    problems: list[str],
) -> Route | None:
    def attempt(key: str, make: Callable[[Any], Any]) -> Any:
        if key not in entry:
            return None
        try:
            return make(entry[key])
        except MappingRefused as error:
            problems.extend(file.problem((*place, key), problem) for problem in error.problems)
        except (TriggerRefused, ValueError) as error:
            problems.append(file.problem((*place, key), str(error)))
        return None

    action = ACTIONS.get(entry.get("action", ""))
    if action is not None:
        entry = {**entry, "mapping": _in_its_form(action, entry["mapping"])}
        for key, text in _field_problems(action, entry["mapping"]):
            problems.append(file.problem((*place, "mapping", *key), text))
    route = Route(
        name=entry["name"],
        sources=attempt("source", lambda value: _sources(value, known)) or frozenset(),
        trigger=attempt("trigger", trigger.parse),
        action=action,
        mapping=attempt("mapping", mapping.compile),
        handler=attempt("handler", _handler),
        format="segment" if entry["name"] in on and "source" not in entry else None,
        order=entry["order"],
    )
    return route if entry["enabled"] else None


def _in_its_form(action: Action, raw: dict[str, Any]) -> dict[str, Any]:
    """A mapping that names what only Segment has is in Segment's form, also for an event that lacks the value."""
    only = (name for name in raw if name in action.fields and action.fields[name].only_in_segment)
    return {"form": "segment", **raw} if "form" in action.fields and any(only) else raw


def _field_problems(action: Action, raw: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], str]]:
    """What can be said of a mapping's fields without an event; one directive for all of them says nothing."""
    if presets.is_directive(raw):
        return
    segments = in_segments_form(raw, action.fields)
    for name in raw:
        if name not in action.fields and name != mapping.ROOT_KEY:
            yield (name,), f"{action.name} has no field {name}; it has: {', '.join(action.fields)}"
    for name, field in action.fields.items():
        if _needed(field, segments) and name not in raw:
            yield (), f"{action.name} needs the field {name}"
        if field.choices and isinstance(raw.get(name), str) and raw[name] not in field.choices:
            yield (name,), f"must be {' or '.join(field.choices)}"


def _needed(field: Field, segments: bool) -> bool:
    return field.required or (segments and field.required_in_segment)


def _sources(value: Any, known: set[str] | None) -> frozenset[str]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ValueError("must be the name of a source, or a list of names")
    unknown = sorted(set(names) - known) if known is not None else []
    if unknown:
        raise ValueError(f"no source of the name {', '.join(unknown)} in the sources file, and no publisher")
    return frozenset(names)


def _handler(name: str) -> Handler:
    module_name, _, function_name = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        # Whatever a team's module does while it is imported is a problem of this route, to be told with the others.
        raise ValueError(f"cannot import {module_name}: {type(error).__name__}: {error}") from error
    handler = getattr(module, function_name, None)
    if handler is None:
        raise ValueError(f"{module_name} has no {function_name}")
    if not callable(handler):
        raise ValueError(f"{name} is not a function")  # noqa: TRY004 - a configuration problem, reported as the others
    return handler  # type: ignore[no-any-return]
