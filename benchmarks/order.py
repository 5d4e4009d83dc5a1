"""Order per subject: inversions while deliveries fail at random, and what order costs, against order switched off.

The same events twice, in one run: with order, and with a source and a route that have none. Workers run already when
all events are accepted at once; the time until nothing waits any more is theirs. `--rounds` alternates the two.
"""

import argparse
import dataclasses
import statistics
import sys
import time
from datetime import UTC, datetime
from typing import Any

import requests
from stage import stage

from cli.connection import Connection
from tasks.envelope import Envelope, rfc3339
from torture.parts import wait


@dataclasses.dataclass(frozen=True)
class Round:
    """One way through all events."""

    per_second: float
    inversions: int
    failures: int


def events(subjects: int, each: int, *, ordered: bool) -> list[Envelope]:
    """One after another of every subject, in turn."""
    now = rfc3339(datetime.now(UTC))
    return [
        Envelope(
            id=f"n{number}",
            source="bench",
            format="encharge",
            type="numbered",
            name="numbered",
            subject=f"encharge:{number % subjects}" if ordered else None,
            received_at=now,
            occurred_at=now,
            event={"user": {"email": f"person-{number % subjects}@example.com"}, "properties": {"number": number}},
        )
        for number in range(subjects * each)
    ]


def inversions(arrivals: list[list[Any]], subjects: int) -> int:
    """Arrivals that succeeded after a younger one of the same subject."""
    newest: dict[int, int] = {}
    wrong = 0
    for _, number, status in arrivals:
        if status == 200:
            wrong += number < newest.get(number % subjects, -1)
            newest[number % subjects] = max(number, newest.get(number % subjects, -1))
    return wrong


def run(given: argparse.Namespace, *, ordered: bool) -> Round:
    """Accept all, start the workers, wait until nothing waits."""
    environ = {"RETRY_BASE_S": "0.1", "RETRY_MAX_DELAY_S": "0.5", "SWEEP_INTERVAL_S": "0.1"}
    order = "pass" if ordered else "off"
    with stage(order=order, **environ, MAX_WAITING="1000000", LOG_LEVEL="WARNING") as on:
        requests.post(f"{on.receiver}/mode", json={"fail": given.fail}, timeout=5)
        connection = on.parts.connection
        envelopes = events(given.subjects, given.each, ordered=ordered)
        for worker in range(given.workers):
            on.parts.start_worker(f"worker-{worker}")
        for first in range(0, len(envelopes), 500):
            connection.ledger.accept(envelopes[first : first + 500])
        begun = time.monotonic()
        wait(lambda: waiting(connection) == 0, 600, "nothing waits any more")
        took = time.monotonic() - begun
        arrivals = on.arrivals()
        delivered = {number for _, number, status in arrivals if status == 200}
        assert delivered == set(range(len(envelopes))), "not all arrived"
        failures = sum(status != 200 for _, _, status in arrivals)
        return Round(len(envelopes) / took, inversions(arrivals, given.subjects), failures)


def waiting(connection: Connection) -> int:
    """Events that have not ended."""
    return connection.ledger.counts().get(("source", "bench"), {}).get("waiting", 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subjects", type=int, default=200)
    parser.add_argument("--each", type=int, default=100, help="events of each subject")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--fail", type=float, default=0.1, help="share of requests answered 503")
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    found: dict[bool, list[Round]] = {True: [], False: []}
    for number in range(given.rounds):
        for ordered in (True, False):
            found[ordered].append(run(given, ordered=ordered))
            last = found[ordered][-1]
            print(
                f"round {number + 1}  order {'on ' if ordered else 'off'}  {last.per_second:6.0f} events/s  "
                f"{last.failures} failed attempts  {last.inversions} inversions",
                flush=True,
            )
    on, off = (statistics.median(each.per_second for each in found[ordered]) for ordered in (True, False))
    print(f"\norder on {on:.0f} events/s, off {off:.0f}: ratio {on / off:.2f}")
    if sum(each.inversions for each in found[True]):
        sys.exit("order on: events were overtaken")


if __name__ == "__main__":
    main()
