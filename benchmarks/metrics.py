"""What metrics cost: a request at a door, and a scrape while many events wait and every label has been seen.

Ends with status 1 when a request costs more than --most-us, or a scrape takes longer than --most-ms.
"""

import argparse
import dataclasses
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import redis
from accept import own_redis

from tasks.envelope import Envelope, rfc3339
from tasks.errors import REASONS
from tasks.ledger import Ledger, Result, Verdict
from tasks.measures import Measures
from tasks.metrics import Exporter, LedgerPart
from tasks.metrics_page import Page
from tasks.publishers import Publishers

_AT_ONCE = 200
_SAMPLES = 100_000


def path_us(measures: Measures) -> tuple[float, float]:
    """Microseconds that a request costs while its sender waits, and later in the thread that adds up."""
    begun = time.perf_counter()
    for _ in range(_SAMPLES):
        clock = time.perf_counter()
        measures.took("accept_seconds", time.perf_counter() - clock, "encharge")
    noted = time.perf_counter()
    measures.flush()
    return (noted - begun) / _SAMPLES * 1e6, (time.perf_counter() - noted) / _SAMPLES * 1e6


def fill(ledger: Ledger, events: int, sources: int) -> None:
    """Let so many events wait; and have one of every source die of every reason on a route of its own."""
    now = rfc3339(datetime.now(UTC))
    plain = Envelope(
        id="",
        source="",
        format="encharge",
        type="t",
        name="t",
        subject=None,
        received_at=now,
        occurred_at=now,
        event={},
    )

    def envelope(id_: str, source: int) -> Envelope:
        return dataclasses.replace(plain, id=id_, source=f"source-{source}")

    for first in range(0, events, _AT_ONCE):
        ledger.accept([envelope(f"w{first + n}", first // _AT_ONCE % sources) for n in range(_AT_ONCE)])
    for source in range(sources):
        ids = [f"d{source}-{reason}" for reason in REASONS]
        ledger.accept([envelope(id_, source) for id_ in ids])
        for event, reason in zip(ledger.claim(ids, f"bench-{source}"), REASONS, strict=True):
            dead = Result(f"route-{source}", "dead", {}, reason=reason, destination="api")
            fine = Result(f"other-{source}", "delivered", {}, destination="api")
            ledger.settle(event, [dead, fine], [Verdict("api", "ok")])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=100_000, help="that wait (100000)")
    parser.add_argument("--sources", type=int, default=50, help="and as many routes (50)")
    parser.add_argument("--most-us", type=float, default=2, help="for a request (2)")
    parser.add_argument("--most-ms", type=float, default=500, help="for a scrape (500)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="metrics-bench-") as folder, own_redis(Path(folder) / "redis") as server:
        client = redis.Redis.from_url(server.url, socket_timeout=30)
        ledger = Ledger(client, max_waiting=2 * given.events + 10_000, dedupe_window_s=600, lease_s=60)
        noted, added = map(min, zip(*(path_us(Measures(ledger)) for _ in range(5)), strict=True))
        print(f"a request: {noted:.2f} µs while its sender waits, {added:.2f} µs later")
        fill(ledger, given.events, given.sources)
        page = Page(Exporter((LedgerPart(ledger, (), Publishers()),), web=False), "")
        ask = {"PATH_INFO": "/metrics", "REQUEST_METHOD": "GET", "REMOTE_ADDR": "127.0.0.1"}
        took = []
        for _ in range(10):
            begun = time.perf_counter()
            (text,) = page(ask, lambda *_: None)
            took.append((time.perf_counter() - begun) * 1000)
        waiting = int(ledger.sizes()["unclaimed"])
        lines = sum(not line.startswith(b"#") for line in text.splitlines())
        print(
            f"a scrape with {waiting} events waiting, {given.sources} sources and {2 * given.sources} routes: median "
            f"{statistics.median(took):.1f} ms, longest {max(took):.1f} ms; {lines} samples, {len(text) / 1024:.0f} KiB"
        )
    if noted + added > given.most_us or statistics.median(took) > given.most_ms or waiting < given.events:
        sys.exit("metrics cost more than they may")


if __name__ == "__main__":
    main()
