"""Finds what is valid in a routes file and still cannot be meant: warnings, never refusals.

Triggers that can never be true, routes that repeat an earlier one, fields that no stored event has had, states and
channels of messages that there are not.
"""

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from config.yaml_file import YamlFile
from tasks import mapping as mappings
from tasks import trigger as triggers
from tasks.envelope import PERSON_IDS, Envelope
from tasks.errors import MappingRefused
from tasks.mapping_directives import UNDEFINED, walk
from tasks.routing import Route, Routes
from tasks.trigger_syntax import Comparison, Condition, Field, Group, Literal, Membership, fields_of, operands_of
from tasks.vocabulary import CHANNELS, DETAILS, STATES, SYSTEMS

#: Fewer stored events of a source say nothing about the fields that its events have.
ENOUGH_EVENTS: Final = 20

#: The keys along a path; `[]` behind a key = in each element of the list there.
Path = tuple[str, ...]


def warnings(file: YamlFile, routes: Routes, sources: Iterable[str], stored: Iterable[Envelope]) -> list[str]:
    """Every warning as `file:line: key: text`. `sources` = the names that there are, `stored` = events to look at."""
    known = frozenset(sources)
    views: dict[str, list[dict[str, Any]]] = {}
    for envelope in stored:
        views.setdefault(envelope.source, []).append(envelope.view)
    entries = _entries(file)
    written = [(entries[route.name], route) for route in routes.routes if route.name in entries]
    found = [
        *_never_true(written),
        *_no_such_word(written),
        *_repeated(written, file),
        *_unknown_fields(written, file, known, views),
    ]
    return [file.problem(("routes", index, key), text) for index, key, text in sorted(found, key=lambda each: each[0])]


#: Index of the route in the file, the key of the route that is meant, what to say.
_Found = tuple[int, str, str]


def _entries(file: YamlFile) -> dict[str, int]:
    return {entry["name"]: index for index, entry in enumerate(file.data.get("routes") or ()) if "name" in entry}


# --- never true ------------------------------------------------------------------------------------------------------


def _never_true(written: Iterable[tuple[int, Route]]) -> Iterator[_Found]:
    for index, route in written:
        reason = contradiction(route.trigger.condition) if route.trigger else None
        if reason:
            yield index, "trigger", f"can never be true: {reason}"


@dataclasses.dataclass(frozen=True)
class _Pin:
    """A comparison that leaves a field one value only."""

    condition: Comparison
    names: Path
    event: dict[str, Any]  #: an event that has this value there

    def forbids(self, other: Condition) -> bool:
        """Whether the other condition, which reads this field and nothing else, is false for the value."""
        if isinstance(other, Group):
            return False
        read = {found.names for operand in operands_of(other) for found in fields_of(operand)}
        if read != {self.names} or (isinstance(other, Membership) and not isinstance(other.right, tuple)):
            return False
        return not triggers.compiled("", other, [])(self.event)


def contradiction(condition: Condition, above: tuple[Condition, ...] = ()) -> str | None:
    """Why no event can make the condition true beside those above it; None when one might. Never a false alarm."""
    if isinstance(condition, Group) and condition.joiner == "or":
        reasons = [contradiction(child, above) for child in condition.children]
        return reasons[0] if all(reasons) else None
    children = condition.children if isinstance(condition, Group) else (condition,)
    leaves = tuple(child for child in children if not isinstance(child, Group))
    groups = [child for child in children if isinstance(child, Group)]
    together = (*above, *leaves)
    reasons = [_clash(together), *(contradiction(group, together) for group in groups)]
    return next(filter(None, reasons), None)


def _clash(together: Sequence[Condition]) -> str | None:
    for pin in filter(None, map(_pin, together)):
        for other in together:
            if other is not pin.condition and pin.forbids(other):
                return f"{pin.condition} and {other} exclude each other"
    return None


def _pin(condition: Condition) -> _Pin | None:
    if not isinstance(condition, Comparison) or condition.operator != "=" or not isinstance(condition.left, Field):
        return None
    names = condition.left.names
    value: Any = triggers.as_compared(condition.left, "=", condition.right)
    for name in reversed(names):
        value = {name: value}
    return _Pin(condition, names, value)


# --- words that there are not ----------------------------------------------------------------------------------------

#: Virtual fields, and the only values that they have.
_WORDS: Final[Mapping[Path, tuple[str, ...]]] = {("message", "state"): STATES, ("message", "channel"): CHANNELS}


def _no_such_word(written: Iterable[tuple[int, Route]]) -> Iterator[_Found]:
    for index, route in written:
        for field, literal in compared_in(route.trigger.condition) if route.trigger else ():
            allowed = _WORDS.get(field.names)
            if allowed and isinstance(literal.value, str) and literal.value not in allowed:
                yield index, "trigger", f"{field} is never {literal}; it is one of {', '.join(allowed)}"


def compared_in(condition: Condition) -> Iterator[tuple[Field, Literal]]:
    """Each field with each value that it is compared with."""
    if isinstance(condition, Group):
        for child in condition.children:
            yield from compared_in(child)
    elif isinstance(condition, Comparison) and isinstance(condition.left, Field):
        yield condition.left, condition.right
    elif isinstance(condition, Membership) and isinstance(condition.left, Field) and isinstance(condition.right, tuple):
        yield from ((condition.left, literal) for literal in condition.right)


# --- repeated --------------------------------------------------------------------------------------------------------


def _repeated(written: Iterable[tuple[int, Route]], file: YamlFile) -> Iterator[_Found]:
    earlier: dict[str, str] = {}
    for index, route in written:
        entry = {key: value for key, value in file.data["routes"][index].items() if key not in {"name", "enabled"}}
        # Spelled otherwise, and still the same: source and trigger are compared by what they mean.
        entry |= {"source": sorted(route.sources), "trigger": str(route.trigger or ""), "action": route.does}
        entry["format"] = route.format
        content = json.dumps(entry, sort_keys=True, default=repr)
        if content in earlier:
            yield index, "name", f"does the same as the earlier route {earlier[content]}: everything is done twice"
        earlier.setdefault(content, route.name)


# --- fields that no event has had ------------------------------------------------------------------------------------


def _unknown_fields(
    written: Iterable[tuple[int, Route]],
    file: YamlFile,
    known: frozenset[str],
    views: Mapping[str, Sequence[dict[str, Any]]],
) -> Iterator[_Found]:
    for index, route in written:
        # Of every source that the route takes there must be enough: the field may be one of the quiet source's.
        taken = route.sources or known
        if not taken or any(len(views.get(source, ())) < ENOUGH_EVENTS for source in taken):
            continue
        wanted = _format(route)
        seen = [view for source in taken for view in views[source]]
        events = [view for view in seen if wanted in {None, view["envelope"]["format"]}]
        entry = file.data["routes"][index]
        for key, paths in (("trigger", _trigger_paths(route)), ("mapping", _mapping_paths(entry.get("mapping")))):
            sought = paths - _OURS
            absent = (path for path in sought if path[0] == "message" or not any(has(view, path) for view in events))
            missing = sorted(".".join(path) for path in absent)
            if missing and events:
                yield index, key, f"none of the last {len(events)} events has {', '.join(missing)}"


#: Fields that we add where there is something to add: that none of the last events had them is nobody's slip.
_OURS: Final[frozenset[Path]] = frozenset(
    {("message",), *(("message", name) for name in ("state", "channel", *DETAILS, "at"))}
    | {("message", "words", system) for system in SYSTEMS}
    | {("envelope", "person", name) for name in PERSON_IDS}
)


def _format(route: Route) -> str | None:
    """The one format of events that the route's trigger asks for, if it does."""
    condition = route.trigger.condition if route.trigger else None
    together = condition.children if isinstance(condition, Group) and condition.joiner == "and" else (condition,)
    pins = (_pin(each) for each in together if isinstance(each, Comparison))
    values = (pin.condition.right.value for pin in pins if pin and pin.names == ("envelope", "format"))
    return next((value for value in values if isinstance(value, str)), None)


def _trigger_paths(route: Route) -> set[Path]:
    if route.trigger is None:
        return set()
    return {found.names for operand in operands_of(route.trigger.condition) for found in fields_of(operand)}


def _mapping_paths(written: Any) -> set[Path]:
    """Of the mapping as it is written: what presets and defaults add is nobody's slip."""
    try:
        paths = mappings.compile(written or {}).paths
    except MappingRefused:  # half of a mapping, of which defaults are the other half
        return set()
    return {tuple(path.split(".")) for path in paths if path}


def has(value: Any, path: Path) -> bool:
    """Whether the path leads somewhere, if only to null."""
    for at, key in enumerate(path):
        if key.endswith("[]"):
            found = walk(value, [key.removesuffix("[]")])
            items = found if isinstance(found, list) else [found]
            return any(has(item, path[at + 1 :]) for item in items)
        value = walk(value, [key])
        if value is UNDEFINED:
            return False
    return value is not UNDEFINED
