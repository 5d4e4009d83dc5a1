"""Turns the subscriptions ("mappings") of a Segment destination into the text of a routes file.

Format: the list that Segment's Public API gives (https://docs.segmentapis.com/tag/Destinations), of a destination
Encharge (Actions). What cannot be a route as it is stays in the file, commented out, below the reason.
"""

import dataclasses
import functools
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import yaml

from tasks import mapping as mappings
from tasks import presets
from tasks import trigger as triggers
from tasks.actions import ACTIONS
from tasks.actions.segment import DEFINITIONS
from tasks.errors import MappingRefused, TriggerRefused

#: Segment's action → ours.
_ACTIONS: Final[Mapping[str, str]] = {definition.slug: name for name, definition in DEFINITIONS.items()}
_MOST_OF_A_NAME: Final = 64
_WIDTH: Final = 110


class NoExport(ValueError):
    """Not a list of subscriptions."""


@dataclasses.dataclass(frozen=True)
class Imported:
    """One subscription as a route, or what is in the way."""

    title: str  #: as Segment calls it
    route: Mapping[str, Any]
    problems: tuple[str, ...]


def subscriptions(data: Any) -> list[Any]:
    """The list in an export: by itself, or under `data` and `subscriptions`. Raises NoExport."""
    for key in ("data", "subscriptions"):
        if isinstance(data, dict) and key in data:
            data = data[key]
    if not isinstance(data, list):
        raise NoExport('neither a list of subscriptions nor {"data": {"subscriptions": [...]}}')
    return data


def imported(found: Iterable[Any], source: str | None) -> list[Imported]:
    """Each subscription as a route, in the order of the export; names that are taken get a number."""
    taken: set[str] = set()
    return [_imported(each if isinstance(each, dict) else {}, source, taken) for each in found]


def _imported(entry: Mapping[str, Any], source: str | None, taken: set[str]) -> Imported:
    slug = _first(entry, "partnerAction", "actionSlug")
    action = _ACTIONS.get(str(slug), slug)
    title = _plain(str(entry.get("name") or slug or "(no name)"))
    mapping = _object(_first(entry, "mapping", "settings"))
    route: dict[str, Any] = {"name": _safe_name(title, taken)}
    if source:
        route["source"] = source
    route |= {"trigger": entry.get("trigger"), "action": action, **_mapped(action, mapping)}
    if entry.get("enabled") is False:
        route["enabled"] = False
    return Imported(title, route, tuple(_problems(slug, route)))


def _mapped(action: Any, mapping: Any) -> dict[str, Any]:
    """The mapping as a route says it: sent in Segment's form, and filled up with defaults where it lacks what it needs.

    Segment's interface saves a mapping whole; what is left out there is not sent.
    """
    definition = DEFINITIONS.get(action) if isinstance(action, str) else None
    if definition is None or not isinstance(mapping, dict) or any(key.startswith("@") for key in mapping):
        return {"mapping": mapping}
    lacks = [name for name, field in definition.fields.items() if field.required_in_segment and name not in mapping]
    filled = {"defaults": "segment"} if lacks else {}
    return {**filled, "mapping": {**mapping, **definition.constants}}


def _first(entry: Mapping[str, Any], *keys: str) -> Any:
    return next((entry[key] for key in keys if entry.get(key) is not None), None)


def _object(mapping: Any) -> Any:
    """Some clients of the Public API keep a mapping as the text of its JSON."""
    if isinstance(mapping, str):
        try:
            return json.loads(mapping)
        except ValueError:
            return mapping
    return {} if mapping is None else mapping


def _safe_name(title: str, taken: set[str]) -> str:
    letters = unicodedata.normalize("NFKD", title.lower()).encode("ascii", "ignore").decode()
    safe = re.sub(r"[^a-z0-9_]+", "-", letters).strip("-_")[:_MOST_OF_A_NAME].strip("-_") or "route"
    name, number = safe, 1
    while name in taken:
        number += 1
        name = f"{safe[: _MOST_OF_A_NAME - len(str(number)) - 1]}-{number}"
    taken.add(name)
    return name


def _problems(slug: Any, route: Mapping[str, Any]) -> Iterator[str]:
    if not isinstance(slug, str) or slug not in _ACTIONS:
        there = ", ".join(_ACTIONS)
        yield "the subscription names no action" if slug is None else f"no action {slug} here; there are: {there}"
    try:
        triggers.parse(route["trigger"])
    except TriggerRefused as refused:
        yield f"trigger: {refused}"
    if not isinstance(route["mapping"], dict):
        yield "the mapping is no object"
        return
    yield from _field_problems(route)
    try:
        mappings.compile(route["mapping"])
    except MappingRefused as refused:
        yield from (f"mapping: {problem}" for problem in refused.problems)


def _field_problems(route: Mapping[str, Any]) -> Iterator[str]:
    action = ACTIONS.get(route["action"]) if isinstance(route["action"], str) else None
    if action is None or presets.is_directive(route["mapping"]):
        return
    for name in route["mapping"]:
        if name not in action.fields and name != mappings.ROOT_KEY:
            yield f"mapping: {action.name} has no field {name}, which Segment drops; take it away"


# --- the file --------------------------------------------------------------------------------------------------------


def routes_file(found: Iterable[Imported]) -> str:
    """The text of routes.yaml."""
    lines = ["# Out of a Segment export, by `event-router import segment`.", "version: 1", "", "routes:"]
    active = False
    for each in found:
        active = active or not each.problems
        lines += ["", *_entry(each)]
    if not active:
        lines[3] = "routes: []"
    return "\n".join(lines) + "\n"


def _entry(each: Imported) -> Iterator[str]:
    yield f"  # {each.title}{' NEEDS A HAND:' if each.problems else ''}"
    for problem in each.problems:
        yield from (f"  #   {_plain(line)}" for line in problem.splitlines())
    begin = "# " if each.problems else ""
    for number, line in enumerate(_dumped(dict(each.route)).splitlines()):
        yield f"  {begin}{'  ' if number else '- '}{line}".rstrip()


def _dumped(route: dict[str, Any]) -> str:
    dump: Any = functools.partial(yaml.safe_dump, route, sort_keys=False, width=_WIDTH)
    text: str = dump(allow_unicode=True)
    # PyYAML writes these as they are, and reads them as ends of lines.
    return str(dump()) if re.search("[\x85\u2028\u2029]", text) else text


def _plain(text: str) -> str:
    """On one line, with nothing in it that YAML forbids even in comments."""
    return "".join(character if character.isprintable() else " " for character in text)
