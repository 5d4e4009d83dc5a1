"""Gates as operators see them: what is shut, why, since when, what waits there; and a line in the log for each change.

How they work: tasks/ledger/include/4_gates.lua.
"""

import dataclasses
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

import structlog

from tasks.ledger import Ledger

log: Final = structlog.get_logger("tasks.gates")

#: What a route's gate is called.
ROUTE: Final = "route:"
#: Mode → level and what an operator is told of it; the others come and go by themselves.
_TOLD: Final = {
    "open": ("warning", "it failed again and again; deliveries are parked, one of them probes now and then"),
    "throttled": ("warning", "it asked us to wait; deliveries are parked until then"),
    "unauthorized": ("error", "it refuses our key or plan (401, 403); deliveries are parked until that is mended"),
    "paused": ("error", "too many of its deliveries failed for reasons of its own; mend it, then resume it"),
    "flowing": ("info", "nothing waits there any more"),
}


@dataclasses.dataclass(frozen=True)
class Gate:
    """One gate. Times are Unix seconds."""

    name: str
    mode: str  #: flowing, open, throttled, unauthorized, busy, probing, ramping, paused
    since: float | None
    until: float | None
    paused_by: str | None
    parked: int
    in_flight: int
    oldest_parked_s: float
    requests_per_s: float | None
    concurrency: int | None


def moment(seconds: float | None) -> str:
    """A Unix time for people: RFC 3339 to the second, UTC; "" for none."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if seconds else ""


def log_changes(changes: Iterable[tuple[str, str]]) -> None:
    """One line for each gate that an operator should hear of."""
    for gate, mode in changes:
        if mode in _TOLD:
            level, what = _TOLD[mode]
            kind, name = ("route", gate.removeprefix(ROUTE)) if gate.startswith(ROUTE) else ("destination", gate)
            getattr(log, level)(f"{kind}.{mode}", **{kind: name}, meaning=what)


def gates(ledger: Ledger, names: Iterable[str] = ()) -> list[Gate]:
    """The gates of these names, and all that are shut."""
    client = ledger.client
    seconds, micros = client.time()
    now = seconds + micros / 1e6
    found = {name.decode() for name in client.smembers("router:shut")} | set(names)
    return [_gate(client, name, now) for name in sorted(found)]


def _gate(client: Any, name: str, now: float) -> Gate:
    pipe = client.pipeline(transaction=False)
    pipe.hgetall(f"router:gate:{name}")
    pipe.zcard(f"router:parked:{name}")
    pipe.zcard(f"router:flight:{name}")
    pipe.zrange(f"router:parked:{name}", 0, 0, withscores=True)
    fields, parked, in_flight, oldest = pipe.execute()
    said = {key.decode(): value.decode() for key, value in fields.items()}
    paused = "paused" in said
    until = float(said.get("until", 0)) / 1e6
    return Gate(
        name=name,
        mode="paused" if paused else said.get("mode", "flowing"),
        since=float(said.get("paused") or said.get("since") or 0) / 1e6 or None,
        until=until if until > now and not paused else None,
        paused_by=said.get("by"),
        parked=parked,
        in_flight=in_flight,
        oldest_parked_s=max(0.0, now - oldest[0][1] / 1e6) if oldest else 0.0,
        requests_per_s=float(said["rate"]) if "rate" in said else None,
        concurrency=int(said["concurrency"]) if "concurrency" in said else None,
    )
