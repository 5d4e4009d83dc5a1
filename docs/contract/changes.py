"""Tells changes of the contract that break a publisher from those that break nobody.

v1/released.json is the contract as publishers have it: each task's schema, and what is asked of a whole call. What they
send by it must stay valid for as long as version 1 is read: `breaking` names each change by which it might not.
`python docs/contract/changes.py` releases what has been added since, and refuses what breaks. v1/calls.json are calls
that must be taken for ever, whatever a schema says; add to it by hand what is new.
"""

import json
import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RELEASED = HERE / "v1/released.json"
ADVICE = (
    "This breaks publishers. Keep what version 1 took, and let what is new be optional; or give the new form a version "
    "of its own (VERSION in tasks/arguments.py, docs/contract/v2) beside the old one."
)
#: Keywords for people, and what may be added to freely.
_TOLD = frozenset({"$schema", "title", "description", "examples"})
#: Limits: keyword → whether the new one lets through less than the old one.
_LIMITS: dict[str, Callable[[Any, Any], bool]] = {
    **dict.fromkeys(("minLength", "minItems", "minProperties", "minimum"), lambda old, new: new > old),
    **dict.fromkeys(("maxLength", "maxItems", "maxProperties", "maximum"), lambda old, new: new < old),
}


def breaking(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Task → JSON Schema of its arguments, twice → what of the new ones does not take all that the old ones took."""
    gone = [f"{task}: the task is gone" for task in old if task not in new]
    return gone + [text for task in old if task in new for text in _schema(task, old[task], new[task])]


def _schema(place: str, old: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
    yield from _properties(place, old, new)
    for keyword in sorted((old.keys() | new.keys()) - _TOLD - {"properties", "required", "additionalProperties"}):
        was, now = old.get(keyword), new.get(keyword)
        if was != now:
            yield from _RULES.get(keyword, _other)(f"{place}: {keyword}", was, now)


def _properties(place: str, old: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
    was, now = old.get("properties", {}), new.get("properties", {})
    for name in was:
        if name not in now:
            yield f"{place}.{name}: the argument is gone"
        else:
            yield from _schema(f"{place}.{name}", was[name], now[name])
    others = old.get("additionalProperties", True)
    for name in sorted(now.keys() - was.keys()) if others is not False else ():
        if any(_schema("", others if isinstance(others, dict) else {}, now[name])):
            yield f"{place}.{name}: could hold anything until now"
    for name in sorted(set(new.get("required", ())) - set(old.get("required", ()))):
        yield f"{place}.{name}: is required now"
    yield from _additional(place, old.get("additionalProperties", True), new.get("additionalProperties", True))


def _additional(place: str, was: Any, now: Any) -> Iterator[str]:
    if isinstance(was, dict) and isinstance(now, dict):
        yield from _schema(f"{place}.*", was, now)
    elif now not in (True, {}) and was is not False and was != now:
        yield f"{place}: other arguments are refused now"


def _type(place: str, was: Any, now: Any) -> Iterator[str]:
    if now is not None and (was is None or not _several(was) <= _several(now) | _wider(now)):
        yield f"{place} is narrower"


def _several(types: Any) -> set[str]:
    return {types} if isinstance(types, str) else set(types)


def _wider(types: Any) -> set[str]:
    return {"integer"} if "number" in _several(types) else set()


def _enum(place: str, was: Any, now: Any) -> Iterator[str]:
    if now is not None and (was is None or any(value not in now for value in was)):
        yield f"{place}: values are gone"


def _limit(place: str, was: Any, now: Any) -> Iterator[str]:
    tighter = _LIMITS[place.rpartition(" ")[2]]
    if now is not None and (was is None or tighter(was, now)):
        yield f"{place} is narrower"


def _items(place: str, was: Any, now: Any) -> Iterator[str]:
    yield from _schema(place, was or {}, now or {})


def _alternatives(place: str, was: Any, now: Any) -> Iterator[str]:
    if now is not None and (was is None or any(each not in now for each in was)):
        yield f"{place}: alternatives are gone"


def _positions(place: str, was: Any, now: Any) -> Iterator[str]:
    if list(was or ()) != list(now or ())[: len(was or ())]:
        yield f"{place}: arguments by position have moved; new ones go behind the others"


def _other(place: str, was: Any, now: Any) -> Iterator[str]:
    """A pattern, or a keyword that none of these rules knows: gone, it lets through more; anything else may break."""
    if now is not None or was is None:
        yield f"{place} has changed"


_RULES: dict[str, Callable[[str, Any, Any], Iterator[str]]] = {
    "type": _type,
    "enum": _enum,
    "items": _items,
    "propertyNames": _items,
    "anyOf": _alternatives,
    "x-positions": _positions,
    **dict.fromkeys(_LIMITS, _limit),
}


def released() -> dict[str, Any]:
    """The contract as publishers have it."""
    found: dict[str, Any] = json.loads(RELEASED.read_text())
    return found


if __name__ == "__main__":
    current = runpy.run_path(str(HERE / "generate.py"))["contract"]()
    problems = breaking(released(), current) if RELEASED.exists() else []
    if problems:
        sys.exit("\n".join([*problems, "", ADVICE]))
    RELEASED.write_text(json.dumps(current, indent=1) + "\n")
