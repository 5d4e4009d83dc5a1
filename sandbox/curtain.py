"""What the page and /_sandbox/* tell where nobody asked to see people: how much arrived, when, by which call."""

from typing import Any, Final

_HIDDEN: Final = "…"
#: Lists of records, of which each is told by the keys below.
_RECORDS: Final = frozenset({"people", "objects", "events", "calls", "log"})
#: What is the sandbox's own, and not the caller's.
_OWN: Final = frozenset({
    "seq", "at", "method", "status", "answeredAfterS", "unsubscribed", "archived", "createdAt", "updatedAt",
    "counts", "activity_stream", "total", "rules", "seed", "faulted", "kind", "rule",
})  # fmt: skip


def drawn(told: dict[str, Any]) -> dict[str, Any]:
    """An answer of /_sandbox/* with … for all that a caller sent; shapes stay, so that the page can show it."""
    return {key: _drawn(key, value) for key, value in told.items()}


def _drawn(key: str, value: Any) -> Any:
    if key in _OWN or value is None:
        return value
    if isinstance(value, list):
        return [drawn(item) if key in _RECORDS and isinstance(item, dict) else _HIDDEN for item in value]
    if isinstance(value, dict):
        return {_HIDDEN: _HIDDEN} if value else {}
    return _HIDDEN
