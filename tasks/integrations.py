"""Who a sender wants its event to reach: the `integrations` of Segment's events.

https://segment.com/docs/connections/spec/common/#integrations
"""

from collections.abc import Mapping
from typing import Any, Final

from tasks.envelope import Envelope

#: System that actions send to → the names that Segment has for it.
_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "encharge": ("Encharge", "Encharge (Actions)"),
    "activatepro": ("ActivatePro",),
    "webhook": ("Webhooks", "Webhooks (Actions)"),
}
#: It is told everything, and sees to the event's `integrations` itself.
_SEGMENT: Final = "segment"
_EVERYBODY: Final = "All"


def excluded(envelope: Envelope, system: str) -> bool:
    """Whether the event says that it is not for this system: by name, or by `All` without naming it."""
    chosen = envelope.event.get("integrations")
    if not chosen or system == _SEGMENT or envelope.format != "segment" or not isinstance(chosen, dict):
        return False
    named = [chosen[name] for name in _NAMES.get(system, ()) if name in chosen]
    return any(_off(value) for value in named) or (not named and _off(chosen.get(_EVERYBODY)))


def _off(value: Any) -> bool:
    # A name may also have an object of options, even an empty one, which means yes.
    return value is False
