"""Routes that need not be written out: the presets of Segment's Encharge destination, and its default mappings.

Works on a routes file as it was read, before it is validated: what has another shape than expected is left as it is.
"""

from collections.abc import Mapping
from typing import Any, Final

from tasks.actions.segment import DEFINITIONS, defaults

SEGMENT: Final = "segment"
#: Name of a preset → its action. Tags have none at Segment either.
_ACTIONS: Final[Mapping[str, str]] = {
    "segment-track": "track_event",
    "segment-identify": "identify_user",
    "segment-page": "track_page",
    "segment-alias": "alias_user",
    "segment-group": "upsert_object",
}


def switched_on(presets: Any) -> dict[str, dict[str, Any]]:
    """Routes by their names, as the file could say them, for `presets: segment` or `presets: {segment: [sources]}`.

    Raises ValueError for anything else.
    """
    if presets is None:
        return {}
    names = presets.get(SEGMENT) if isinstance(presets, dict) and presets.keys() == {SEGMENT} else None
    if presets != SEGMENT and (not isinstance(names, list) or not names):
        raise ValueError("must be segment, or segment with a list of sources")
    sources = {} if names is None else {"source": names}
    return {name: {"name": name, **_preset(action), **sources} for name, action in _ACTIONS.items()}


def _preset(action: str) -> dict[str, Any]:
    return {"trigger": DEFINITIONS[action].trigger, "action": action, "mapping": defaults(action)}


def filled(route: Any, on: Mapping[str, Mapping[str, Any]]) -> Any:
    """A route with what a preset of its name, or `defaults: segment`, gives it where it says nothing itself.

    Raises ValueError when they do not go together.
    """
    if not isinstance(route, dict):
        return route
    preset = on.get(_text(route, "name"))
    if preset is not None:
        if "handler" in route or route.get("action", preset["action"]) != preset["action"]:
            raise ValueError(
                f"the preset of this name does {preset['action']}; a route that does not needs another name"
            )
        return {**preset, **route, "mapping": _over(preset["mapping"], route.get("mapping", {}))}
    action = _text(route, "action")
    if route.get("defaults") == SEGMENT and action is not None:
        if action not in DEFINITIONS:
            raise ValueError(f"Segment has no defaults for {action}, only for {', '.join(DEFINITIONS)}")
        return {**route, "mapping": _over(defaults(action), route.get("mapping", {}))}
    return route


def _text(route: Mapping[str, Any], key: str) -> Any:
    return value if isinstance(value := route.get(key), str) else None


def _over(mapping: Mapping[str, Any], own: Any) -> Any:
    """Single fields over others; a mapping that is one directive gives all fields itself."""
    if not isinstance(own, dict) or is_directive(own):
        return own
    return {**mapping, **own}


def is_directive(mapping: Mapping[str, Any]) -> bool:
    """Whether a mapping gives all fields by one directive, so that nobody knows which before an event is there."""
    return any(isinstance(key, str) and key.startswith("@") for key in mapping)
