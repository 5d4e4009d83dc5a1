"""How many events a second `event-router explain` reads: the command in one process, five routes, generated files.

See benchmarks/README.md.
"""

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[1]
_COMMAND = [sys.executable, "-c", "from cli.main import main; main()", "explain", "--json"]
_WANTED_PER_S = 10_000

ROUTES = """version: 1
routes:
  - {name: created, source: encharge, trigger: event = "newUser", action: track_event,
     mapping: {email: {"@path": $.user.email}, event: Person created, properties: {"@path": $.properties}}}
  - {name: tagged, source: encharge, trigger: 'match(event, "added-tag-*")', action: identify_user,
     mapping: {email: {"@path": $.user.email}, user: {lastTag: {"@path": $.properties.tag}}}}
  - {name: paid, source: encharge, trigger: event = "newUser" and \\user.plan = "Pro", action: tag_user,
     mapping: {email: {"@path": $.user.email}, tag: pro}}
  - {name: bounced, source: encharge, trigger: event = "email-bounce", action: tag_user,
     mapping: {email: {"@path": $.user.email}, tag: bounced}}
  - {name: visited, source: encharge, trigger: event = "page-visited", action: track_page,
     mapping: {email: {"@path": $.user.email}, properties: {"@path": $.properties}}}
"""


SOURCES = """version: 1
sources:
  encharge: {kind: encharge, secrets: [NOT_SET]}
  website: {kind: segment, write_keys: {web: NOT_SET}}
"""


def activities(count: int) -> Iterator[dict[str, Any]]:
    """Activity Stream events of five kinds."""
    kinds: list[tuple[str, dict[str, Any]]] = [
        ("newUser", {}),
        ("added-tag-vip", {"tag": "vip"}),
        ("email-open", {"emailId": 59969, "flowId": "48918", "flowName": "Onboarding", "emailName": "Welcome email"}),
        ("email-bounce", {"emailId": 59969, "flowId": "48918"}),
        ("page-visited", {"url": "https://www.example.com/pricing"}),
    ]
    for number in range(count):
        event, properties = kinds[number % len(kinds)]
        user = {"id": f"00000000-0000-4000-8000-{number:012d}", "email": f"person-{number}@example.com", "plan": "Pro"}
        yield {"event": event, "properties": properties, "user": user, "timestamp": 1_562_914_373_005 + number}


def calls(count: int) -> Iterator[dict[str, Any]]:
    """Calls of the five kinds that Segment's presets take, as its client libraries send them."""
    kinds: list[dict[str, Any]] = [
        {"type": "track", "event": "Order Completed", "properties": {"total": 12.5, "currency": "EUR"}},
        {"type": "identify", "traits": {"email": "someone@example.com", "plan": "Pro"}},
        {"type": "page", "name": "Pricing", "properties": {"url": "https://www.example.com/pricing"}},
        {"type": "alias", "previousId": "before"},
        {"type": "group", "groupId": "acme", "traits": {"name": "Acme"}},
    ]
    context = {"ip": "192.0.2.1", "library": {"name": "example", "version": "1"}, "page": {"path": "/pricing"}}
    for number in range(count):
        common = {"userId": f"person-{number}", "messageId": f"message-{number}", "context": context}
        yield {**kinds[number % len(kinds)], **common, "timestamp": "2026-01-02T03:04:05.678Z"}


@dataclasses.dataclass(frozen=True)
class Case:
    """Routes, and events that make as many requests as they are."""

    name: str
    routes: str
    events: Callable[[int], Iterator[dict[str, Any]]]


CASES = (
    Case("five simple routes", ROUTES, activities),
    Case("Segment's five presets", "version: 1\npresets: segment\n", calls),
)


def seconds(case: Case, folder: Path, count: int, limit_s: float) -> float:
    """How long the command takes for so many events, its start included."""
    file = folder / f"{case.events.__name__}-{count}.jsonl"
    if not file.exists():
        file.write_text("".join(json.dumps(event) + "\n" for event in case.events(count)))
    (folder / "routes.yaml").write_text(case.routes)
    environ = {
        "PATH": os.environ.get("PATH", ""),
        "PYTHONPATH": str(_ROOT),
        "ROUTES_FILE": "routes.yaml",
        "SOURCES_FILE": "sources.yaml",
    }
    output = folder / "output"
    begun = time.monotonic()
    with output.open("wb") as written:
        command = [*_COMMAND, "--event", str(file)]
        subprocess.run(command, env=environ, cwd=folder, stdout=written, check=True, timeout=limit_s)
    took = time.monotonic() - begun
    found = [json.loads(line) for line in output.read_bytes().splitlines()]
    sent = sum(len(route["requests"]) for event in found for route in event["routes"])
    if len(found) != count or sent != count:
        sys.exit(f"benchmark failed: {count} events, {len(found)} explained, {sent} requests")
    return took


def main() -> None:
    """Measure and print; status 1 when it is slower than it must be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=50_000, help="in a file, a multiple of 5 (50000)")
    parser.add_argument("--rounds", type=int, default=3, help="(3)")
    parser.add_argument("--time-limit", type=float, default=60, help="seconds for one run of the command (60)")
    given = parser.parse_args()
    rates = []
    with tempfile.TemporaryDirectory(prefix="explain-bench-") as name:
        folder = Path(name)
        (folder / "sources.yaml").write_text(SOURCES)
        for case in CASES:
            start = min(seconds(case, folder, 5, given.time_limit) for _ in range(given.rounds))
            rounds = [seconds(case, folder, given.events, given.time_limit) for _ in range(given.rounds)]
            whole = statistics.median(rounds)
            rates.append(given.events / (whole - start))
            print(
                f"explain, {case.name}: {rates[-1]:,.0f} events/s ({given.events} events in "
                f"{', '.join(f'{took:.2f}' for took in rounds)} s; {given.events / whole:,.0f}/s with the start of "
                f"{start:.2f} s)",
                flush=True,
            )
    if min(rates) < _WANTED_PER_S:
        sys.exit(f"benchmark failed: less than {_WANTED_PER_S:,} events/s")


if __name__ == "__main__":
    main()
