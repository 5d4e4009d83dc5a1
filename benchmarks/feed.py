"""A feed of 100,000 rows imported by a process that is killed in the middle, then by another that goes on.

Redis, worker and sandbox of this run only; the first process reads the file as it is, the second the same file zipped.
Ends with status 1 when a row was lost or taken twice, a broken one was not reported, another run added something, or a
process needed more memory than it may. See benchmarks/README.md.
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import requests

from torture.parts import Parts, wait

SOURCE = "crm"
ROUTES = """\
version: 1
routes:
  - name: clicks
    source: crm
    trigger: event = "Message Clicked"
    action: track_event
    mapping:
      userId: {"@path": $.envelope.person.userId}
      event: {"@path": $.event}
      properties: {"@path": $.properties}
"""
SOURCES = "version: 1\nsources:\n  crm: {kind: activatepro, secrets: [CRM_TOKEN]}\n"
COMMAND = [sys.executable, "-c", "from cli.main import main; main()", "import", "activatepro", "--json"]
_NAME = "event_history_20220111000000.json"
_EVERY_CLICKED, _EVERY_BROKEN, _EVERY_WITHOUT_TIME = 100, 10_000, 50
_FROM_CLICKED, _FROM_BROKEN, _FROM_WITHOUT_TIME = 1, 5000, 7


@dataclasses.dataclass(frozen=True)
class Run:
    """One process that imports."""

    seconds: float
    rss_mib: float
    status: int
    found: dict[str, object]


def main() -> None:
    """Make the feed, import it, judge."""
    given = _arguments()
    with tempfile.TemporaryDirectory(prefix="feed-") as name:
        folder = Path(name)
        (folder / "sources.yaml").write_text(SOURCES)
        (folder / "routes.yaml").write_text(ROUTES)
        feed, archive = _made(folder, given.rows)
        parts = Parts(folder, os.environ, "feed-key")
        parts.environ |= {
            "CRM_TOKEN": "feed-token",
            "SOURCES_FILE": str(folder / "sources.yaml"),
            "ROUTES_FILE": str(folder / "routes.yaml"),
            "SPOOL_FOLDER": str(folder / "spool"),
        }
        try:
            parts.start_sandbox()
            parts.start_worker()
            wrong = _measured(given, parts, feed, archive)
        finally:
            parts.close()
    if wrong:
        sys.exit("failed: " + "; ".join(wrong))
    print("passed")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000, help="of the feed (100000)")
    parser.add_argument("--kill-at", type=float, default=0.5, help="share of the rows taken when it is killed (0.5)")
    parser.add_argument("--most-mib", type=float, default=150, help="memory of an importing process (150)")
    parser.add_argument("--time-limit", type=float, default=600, help="seconds for the events to end (600)")
    return parser.parse_args()


def _row(number: int) -> str:
    if number % _EVERY_BROKEN == _FROM_BROKEN:
        return '{"id": "ABC0000", "event": "Message Sent'
    hour, minute, second = number // 3600 % 24, number // 60 % 60, number % 60
    row = {
        "id": f"ABC{number % 20_000:08d}",
        "event": "Message Clicked" if number % _EVERY_CLICKED == _FROM_CLICKED else "Message Viewed",
        "timestamp": f"2022-01-11T{hour:02d}:{minute:02d}:{second:02d}.{number % 1000:03d}Z",
        "channel": "Email",
        "type": "Newsletter",
        "url": f"https://www.example.com/campaigns/{number % 97}/products/{number}?utm_source=newsletter",
        "campaignId": str(123_456 + number % 97),
        "messageId": str(304_405 + number),
        "number": number,
        "title": "Our new products for the spring, and what others say of them",
    }
    if number % _EVERY_WITHOUT_TIME == _FROM_WITHOUT_TIME:
        del row["timestamp"]
    return json.dumps(row)


def _made(folder: Path, rows: int) -> tuple[Path, Path]:
    feed, archive = folder / _NAME, folder / f"{_NAME}.zip"
    with feed.open("w") as file:
        file.write("[\n")
        file.writelines(_row(number) + (",\n" if number + 1 < rows else "\n") for number in range(rows))
        file.write("]\n")
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.write(feed, _NAME)
    print(f"{rows} rows, {feed.stat().st_size / 1e6:.1f} MB, zipped {archive.stat().st_size / 1e6:.1f} MB")
    return feed, archive


def _measured(given: argparse.Namespace, parts: Parts, feed: Path, archive: Path) -> list[str]:
    report = parts.folder / "bad.jsonl"
    begun = time.monotonic()
    killed = _run(parts, feed, report, lambda: _taken(parts) >= given.rows * given.kill_at)
    behind = _taken(parts)
    resumed = _run(parts, archive, report)
    took = time.monotonic() - begun
    counts = dict(parts.connection.ledger.counts()["source", SOURCE])
    again = _run(parts, feed, report)
    wait(lambda: not _counted(parts)["waiting"], given.time_limit, "every event has ended")
    ended_s = time.monotonic() - begun
    after = _counted(parts)
    rate = (given.rows - behind) / resumed.seconds
    print(f"killed behind row {behind} after {killed.seconds:.1f} s: {killed.rss_mib:.0f} MiB")
    print(f"gone on from the archive: {resumed.seconds:.1f} s, {rate:,.0f} rows/s, {resumed.rss_mib:.0f} MiB")
    print(f"the whole feed in {took:.1f} s; every event had ended after {ended_s:.1f} s; {after}")
    print(f"another run: {again.seconds:.1f} s, {again.rss_mib:.0f} MiB")
    broken = [number for number in range(given.rows) if number % _EVERY_BROKEN == _FROM_BROKEN]
    good = given.rows - len(broken)
    reported = [json.loads(line)["row"] for line in report.read_text().splitlines()] if broken else []
    clicked = list(range(_FROM_CLICKED, given.rows, _EVERY_CLICKED))
    arrived = _arrived(parts)
    checks = {
        "it was not killed": killed.status != 0,
        f"{resumed.status} was the status": resumed.status == int(bool(broken)),
        "the second process began anew": resumed.found["before"]["rows"] == behind > 0,  # type: ignore[index]
        "rows are missing or double": after["accepted"] - after["duplicate"] == good,
        "more came again than one piece": after["duplicate"] <= 250,
        "not every event ended well": after["delivered"] + after["filtered"] == good,
        "a delivery is missing or double": arrived == clicked,
        "broken rows and report differ": reported == [number + 1 for number in broken],
        "another run added something": _same(counts, after) and again.status == 0,
        "too much memory": max(each.rss_mib for each in (killed, resumed, again)) <= given.most_mib,
    }
    return [what for what, holds in checks.items() if not holds]


def _run(parts: Parts, feed: Path, report: Path, until: Callable[[], bool] | None = None) -> Run:
    """Import it in a process of its own; killed -9 when something is so, else to its end."""
    begun = time.monotonic()
    process = subprocess.Popen(
        [*COMMAND, "--report", str(report), str(feed)], env=parts.environ, stdout=subprocess.PIPE, text=True
    )
    if until is not None:
        wait(until, 120, "it is half-way")
        process.kill()
    assert process.stdout is not None
    said = process.stdout.read()
    _, ended, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(ended)
    seconds = time.monotonic() - begun
    return Run(seconds, usage.ru_maxrss / 1024, process.returncode, json.loads(said) if said else {})


def _taken(parts: Parts) -> int:
    """Rows that are noted as taken."""
    client = parts.connection.ledger.client
    for key in client.scan_iter("router:import:*", count=10_000):
        return int(json.loads(client.hget(key, SOURCE))["rows"])
    return 0


def _counted(parts: Parts) -> dict[str, int]:
    counts = parts.connection.ledger.counts().get(("source", SOURCE), {})
    states = ("accepted", "delivered", "filtered", "duplicate", "dead", "waiting")
    return {state: counts.get(state, 0) for state in states}


def _same(before: dict[str, int], after: dict[str, int]) -> bool:
    return all(before.get(state, 0) == after[state] for state in ("accepted", "duplicate"))


def _arrived(parts: Parts) -> list[int]:
    """The numbers that reached the stand-in Encharge, doubles twice."""
    answer = requests.get(f"{parts.sandbox_url}/_sandbox/events?since=0", timeout=60).json()
    return sorted(int(each["body"]["properties"]["number"]) for each in answer["events"])


if __name__ == "__main__":
    main()
