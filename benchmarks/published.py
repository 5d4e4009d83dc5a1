"""What a published event costs a worker, beside a posted one: the same events, the same worker, in turn.

While the worker stands still, all events lie ready: posted ones in the ledger, each with a ticket of its own as the
endpoint makes it; published ones as Celery messages, one event each, on the queue. Then it goes on, and the time until
nothing waits any more is its own. `--rounds` alternates the two.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable

from order import events, waiting
from stage import stage

from config.celery_settings import QUEUE
from tasks.envelope import Envelope
from tasks.queue import PUBLISH_TASK, redis_message
from torture.parts import Parts, wait


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
    with stage(LOG_LEVEL="WARNING") as on:
        on.parts.start_worker()
        made = events(given.events, 1, ordered=True)
        on.parts.freeze("worker")
        load(on.parts, made)
        begun = time.monotonic()
        on.parts.thaw("worker")
        wait(lambda: ended(on.parts) >= given.events, 300, "all have ended")
        took = time.monotonic() - begun
        arrivals = on.arrivals()
        assert {number for _, number, _ in arrivals} == set(range(given.events)), "not all arrived"
        assert len(arrivals) == given.events, "some arrived twice"
        assert waiting(on.parts.connection) == 0
        return given.events / took


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
