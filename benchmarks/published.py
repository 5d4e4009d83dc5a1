"""What a published event costs a worker, beside a posted one: the same events, the same worker, in turn.

While the worker stands still, all events lie ready: posted ones in the ledger, each with a ticket of its own as the
endpoint makes it; published ones as Celery messages, one event each, on the queue. Then it goes on, and the time until
nothing waits any more is its own. `--rounds` alternates the two.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import requests

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent)]

from benchmarks.order import ROUTES, events, reached, waiting  # noqa: E402
from cli import redis_server  # noqa: E402
from config.celery_settings import QUEUE  # noqa: E402
from tasks.envelope import Envelope  # noqa: E402
from tasks.queue import PUBLISH_TASK, redis_message  # noqa: E402
from torture.parts import Parts, wait  # noqa: E402


def post(parts: Parts, made: list[Envelope]) -> None:
    """As the endpoint takes them: one request each."""
    for envelope in made:
        parts.connection.ledger.accept([envelope])


def publish(parts: Parts, made: list[Envelope]) -> None:
    """As other teams do: one message each."""
    pipe = parts.connection.ledger.client.pipeline(transaction=False)
    for envelope in made:
        data = {name: value for name, value in vars(envelope).items() if value not in (None, ()) or name == "subject"}
        pipe.lpush(QUEUE, redis_message(PUBLISH_TASK, [data], shadow=None, argsrepr="(…)"))
    pipe.execute()


def run(given: argparse.Namespace, load: Callable[[Parts, list[Envelope]], None]) -> float:
    """Events a second of one worker."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parts = Parts(folder, os.environ, "bench-key")
        port = redis_server.free_port()
        receiver = f"http://127.0.0.1:{port}"
        (folder / "routes.yaml").write_text(ROUTES.format(order="pass"))
        (folder / "sources.yaml").write_text("version: 1\nsources: {}\n")
        parts.environ |= {
            "ROUTES_FILE": str(folder / "routes.yaml"),
            "SOURCES_FILE": str(folder / "sources.yaml"),
            "ENCHARGE_INGEST_URL": f"{receiver}/",
            "LOG_LEVEL": "WARNING",
        }
        try:
            parts.start("receiver", [sys.executable, str(HERE / "receiver.py"), "--port", str(port)])
            wait(lambda: reached(receiver), 10, "the receiver answers")
            parts.start_worker()
            made = events(given.events, 1, ordered=True)
            parts.freeze("worker")
            load(parts, made)
            begun = time.monotonic()
            parts.thaw("worker")
            wait(lambda: ended(parts) >= given.events, 300, "all have ended")
            took = time.monotonic() - begun
            arrivals = requests.get(f"{receiver}/arrivals", timeout=60).json()
            assert {number for _, number, _ in arrivals} == set(range(given.events)), "not all arrived"
            assert len(arrivals) == given.events, "some arrived twice"
            assert waiting(parts.connection) == 0
            return given.events / took
        finally:
            parts.close()


def ended(parts: Parts) -> int:
    """Events that were delivered."""
    return parts.connection.ledger.counts().get(("source", "bench"), {}).get("delivered", 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    found: dict[str, list[float]] = {"posted": [], "published": []}
    for number in range(given.rounds):
        for name, load in (("posted", post), ("published", publish)):
            found[name].append(run(given, load))
            print(f"round {number + 1}  {name:9}  {found[name][-1]:6.0f} events/s", flush=True)
    posted, published = (statistics.median(found[name]) for name in ("posted", "published"))
    print(f"\nposted {posted:.0f} events/s, published {published:.0f}: ratio {published / posted:.2f}")
    if published < posted:
        sys.exit("a published event costs a worker more than a posted one")


if __name__ == "__main__":
    main()
