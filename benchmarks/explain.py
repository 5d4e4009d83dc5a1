"""How many events a second `event-router explain` reads: the command in one process, five routes, a generated file.

See benchmarks/README.md.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
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


def events(count: int) -> Iterator[dict[str, Any]]:
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


def seconds(folder: Path, count: int, limit_s: float) -> float:
    """How long the command takes for so many events, its start included."""
    file = folder / f"{count}.jsonl"
    if not file.exists():
        file.write_text("".join(json.dumps(event) + "\n" for event in events(count)))
    environ = {"PATH": os.environ.get("PATH", ""), "PYTHONPATH": str(_ROOT)}
    command = [*_COMMAND, "--event", str(file), "--routes", str(folder / "routes.yaml")]
    output = folder / "output"
    begun = time.monotonic()
    with output.open("wb") as written:
        subprocess.run(command, env=environ, cwd=folder, stdout=written, check=True, timeout=limit_s)
    took = time.monotonic() - begun
    found = [json.loads(line) for line in output.read_bytes().splitlines()]
    sent = sum(len(route["requests"]) for event in found for route in event["routes"])
    if len(found) != count or (count > 1 and sent != count):
        sys.exit(f"benchmark failed: {count} events, {len(found)} explained, {sent} requests")
    return took


def main() -> None:
    """Measure and print; status 1 when it is slower than it must be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=50_000, help="in the file (50000)")
    parser.add_argument("--rounds", type=int, default=3, help="(3)")
    parser.add_argument("--time-limit", type=float, default=60, help="seconds for one run of the command (60)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="explain-bench-") as name:
        folder = Path(name)
        (folder / "routes.yaml").write_text(ROUTES)
        start = min(seconds(folder, 1, given.time_limit) for _ in range(given.rounds))
        rounds = [seconds(folder, given.events, given.time_limit) for _ in range(given.rounds)]
    whole = statistics.median(rounds)
    rate, rate_whole = given.events / (whole - start), given.events / whole
    print(
        f"explain: {rate:,.0f} events/s ({given.events} events, 5 routes; {rate_whole:,.0f}/s with the start of "
        f"{start:.2f} s; rounds {', '.join(f'{took:.2f}' for took in rounds)} s)"
    )
    if rate < _WANTED_PER_S:
        sys.exit(f"benchmark failed: less than {_WANTED_PER_S:,} events/s")


if __name__ == "__main__":
    main()
