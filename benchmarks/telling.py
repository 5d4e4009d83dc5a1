"""What it costs a worker to tell Flower of every event, beside Celery's own events of tickets, and beside silence.

    python benchmarks/telling.py [--events 2000] [--rounds 3] [--listen]

One worker, a real Redis, and in a process of its own a destination that answers 200 at once. In each round all events
are accepted first and then worked off, by a worker of each kind in turn. Printed: events a second, and the worker's
processor time for each; the best of the rounds. With --listen somebody reads the events, as Flower does.
Ends with status 1 when a worker that tells of events manages less than 0.95 of what one manages that tells of tickets,
by events a second and by processor time both.
"""

import argparse
import os
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "tests"), str(HERE.parent / "tests" / "system")]

from conftest import Router, numbered, wait  # noqa: E402 - the system tests' harness

from app.sources.encharge import unwrap  # noqa: E402

KINDS = ("nothing", "tickets", "events")
LEAST = 0.95
WARM_UP = 200


def cpu_s(pid: int) -> float:
    """Processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def ended(router: Router) -> int:
    """Events that a worker is done with."""
    counts = router.counts("source", "encharge")
    return sum(counts.get(state, 0) for state in ("delivered", "filtered", "dead"))


def accept(router: Router, first: int, events: int) -> None:
    """Put events where a worker finds them."""
    for number in range(first, first + events):
        person = {"id": f"person-{number}", "email": f"person-{number}@example.com"}
        body = numbered(1, timestamp=1_700_000_000_000 + number, user=person)[0]
        router.connection.queue.accept(unwrap("encharge", body, None, datetime.now(UTC)))


def measured(router: Router, told: str, first: int, events: int) -> tuple[float, float]:
    """Events a second, and processor seconds an event."""
    done = ended(router)
    worker = [sys.executable, "-m", "celery", "-A", "telling_worker", *WORKER]
    accept(router, first, WARM_UP)
    process = router.start_worker(told, worker, TOLD=told, PYTHONPATH=f"{HERE}:{router.environ['PYTHONPATH']}")
    wait(lambda: ended(router) >= done + WARM_UP, 60, "warm", process)
    router.freeze(told)
    accept(router, first + WARM_UP, events)
    before, begun = cpu_s(process.pid), time.monotonic()
    router.thaw(told)
    wait(lambda: ended(router) >= done + WARM_UP + events, 120, "all is done", process)
    lasted = time.monotonic() - begun
    time.sleep(0.3)  # what is left to be told costs, too
    spent = cpu_s(process.pid) - before
    router.terminate(told, 20)
    return events / lasted, spent / events


WORKER = ("worker", "--without-gossip", "--without-mingle", "-l", "INFO")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--listen", action="store_true")
    given = parser.parse_args()
    speeds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    costs: dict[str, list[float]] = {kind: [] for kind in KINDS}
    with tempfile.TemporaryDirectory() as folder:
        router = Router(Path(folder), {"LOG_LEVEL": "INFO", "HEARTBEAT_DEAD_S": "300", "LEASE_S": "60"})
        port = router.sandbox_url.rpartition(":")[2]
        try:
            router.start("receiver", [sys.executable, str(HERE / "receiver.py"), "--port", port])
            if given.listen:
                router.start("listener", [sys.executable, "-m", "celery", "-A", "tasks", "events", "--dump"])
            number = 0
            for _ in range(given.rounds):
                for kind in KINDS:
                    speed, cost = measured(router, kind, number, given.events)
                    number += given.events + WARM_UP
                    speeds[kind].append(speed)
                    costs[kind].append(cost)
                    print(f"{kind:8} {speed:6.0f} events/s {cost * 1e6:6.0f} us of processor each", flush=True)
        finally:
            router.close()
    fastest, cheapest = {kind: max(speeds[kind]) for kind in KINDS}, {kind: min(costs[kind]) for kind in KINDS}
    by_speed, by_cost = fastest["events"] / fastest["tickets"], cheapest["tickets"] / cheapest["events"]
    print(f"events beside tickets: {by_speed:.2f} by events a second, {by_cost:.2f} by processor time")
    print(f"tickets beside nothing: {fastest['tickets'] / fastest['nothing']:.2f}, events: ", end="")
    print(f"{fastest['events'] / fastest['nothing']:.2f} by events a second")
    sys.exit(by_speed < LEAST and by_cost < LEAST)


if __name__ == "__main__":
    main()
