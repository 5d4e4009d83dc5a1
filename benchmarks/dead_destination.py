"""One destination dies beside a healthy one: what the healthy one notices, and how the dead one's events come after.

Every event goes to both, at a steady rate. First both are well, then A hangs, then A refuses connections, then it is
back. B's time from accept to delivery is compared between the calm and the outage; A's events must all arrive, in order
for each subject, no faster than its limit.
"""

import argparse
import contextlib
import os
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any, Self

import requests
from stage import reached

from cli import redis_server
from torture.parts import Parts, wait

HERE = Path(__file__).parent
SECRET = "bench-secret"
#: A is Encharge's REST API, B its Ingest API: two destinations, two addresses.
ROUTES = """version: 1
routes:
- {{name: to-a, handler: "dead_destination_handlers:to_a"}}
- {{name: to-b, handler: "dead_destination_handlers:to_b"}}
destinations:
  encharge_api: {{requests_per_s: {rate}}}
"""
HANDLERS = """from tasks.action import Request


def to_a(event):
    return [Request("encharge_api", "POST", "/tags", {"properties": event.event["properties"]})]


def to_b(event):
    return [Request("encharge_ingest", "POST", "", {"properties": event.event["properties"]})]
"""
SOURCES = "version: 1\nsources:\n  encharge: {kind: encharge, secrets: [BENCH_SECRET]}\n"


class Load:
    """Posts events at a steady rate, and remembers when each was answered."""

    def __init__(self, url: str, per_second: float, subjects: int) -> None:
        self.answered: dict[int, float] = {}
        self._url = url
        self._every = 1 / per_second
        self._subjects = subjects
        self._stop = threading.Event()
        self._next = 0
        self._lock = threading.Lock()
        self._begun = time.monotonic()
        # Each subject has one thread, so its events are sent in order.
        self._threads = [threading.Thread(target=self._post, args=(first,)) for first in range(4)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _post(self, first: int) -> None:
        with requests.Session() as session:
            session.headers["Authorization"] = f"Bearer {SECRET}"
            number = first
            while not self._stop.is_set():
                time.sleep(max(0.0, self._begun + number * self._every - time.monotonic()))
                subject = number % self._subjects
                event = {
                    "event": "performed-step:1",
                    "type": "step",
                    "properties": {"number": number},
                    "user": {"id": f"person-{subject}", "email": f"person-{subject}@example.com"},
                    "timestamp": 1_700_000_000_000 + number,
                }
                answer = session.post(f"{self._url}/webhooks/encharge", json=event, timeout=10)
                assert answer.ok, answer.text
                self.answered[number] = time.time()
                number += len(self._threads)


def arrivals(url: str) -> list[list[Any]]:
    """What the receiver took."""
    return [row for row in requests.get(f"{url}/arrivals", timeout=60).json() if row[2] == 200]


def p99(numbers: list[float]) -> float:
    """Milliseconds."""
    return statistics.quantiles(numbers, n=100)[98] * 1000


class Bench:
    """A router between a sender and the two destinations."""

    def __init__(self, folder: Path, limit: float, workers: int) -> None:
        self.parts = Parts(folder, os.environ, "bench-key")
        ports = {which: redis_server.free_port() for which in ("a", "b", "web")}
        self.urls = {which: f"http://127.0.0.1:{port}" for which, port in ports.items()}
        self._ports = ports
        (folder / "routes.yaml").write_text(ROUTES.format(rate=limit))
        (folder / "sources.yaml").write_text(SOURCES)
        (folder / "dead_destination_handlers.py").write_text(HANDLERS)
        self.parts.environ |= {
            "PYTHONPATH": os.pathsep.join((str(folder), self.parts.environ["PYTHONPATH"])),
            "ROUTES_FILE": str(folder / "routes.yaml"),
            "SOURCES_FILE": str(folder / "sources.yaml"),
            "SPOOL_FOLDER": str(folder / "spool"),
            "BENCH_SECRET": SECRET,
            "ENCHARGE_API_URL": self.urls["a"],
            "ENCHARGE_INGEST_URL": f"{self.urls['b']}/",
            "MAX_WAITING": "1000000",
            "LOG_LEVEL": "WARNING",
        }
        self.receiver("a")
        self.receiver("b")
        self.parts.start_web_at("web", ports["web"])
        for number in range(workers):
            self.parts.start_worker(f"worker-{number}")

    def receiver(self, which: str) -> None:
        """Start a destination."""
        program = [sys.executable, str(HERE / "receiver.py"), "--port", str(self._ports[which])]
        self.parts.start(which, program)
        wait(lambda: reached(self.urls[which]), 10, f"{which} answers")

    def outage(self, seconds: float) -> tuple[float, float, list[list[Any]]]:
        """A hangs, then refuses, then is back: begin and end, and what it had taken before."""
        begin = time.time()
        requests.post(f"{self.urls['a']}/mode", json={"hang": True}, timeout=5)
        before = arrivals(self.urls["a"])
        time.sleep(seconds / 2)
        os.killpg(self.parts.processes["a"].pid, signal.SIGKILL)
        self.parts.processes.pop("a").wait()
        time.sleep(seconds / 2)
        end = time.time()
        self.receiver("a")
        return begin, end, before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="the outage; the calm before it: at most 60")
    parser.add_argument("--rate", type=float, default=100, help="events a second")
    parser.add_argument("--limit", type=float, default=300, help="A's limit, requests a second")
    parser.add_argument("--subjects", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        bench = Bench(Path(name), given.limit, given.workers)
        stack.callback(bench.parts.close)
        with Load(bench.urls["web"], given.rate, given.subjects) as load:
            time.sleep(3)  # everything warm
            begun = time.time()
            time.sleep(min(60.0, given.seconds))
            calm = (begun, time.time())
            begin, end, before = bench.outage(given.seconds)
            time.sleep(5)
        print(f"outage of {end - begin:.0f} s, {len(load.answered)} events", flush=True)
        seen = {number for _, number, _ in before}

        def missing() -> set[int]:
            return set(load.answered) - seen - {number for _, number, _ in arrivals(bench.urls["a"])}

        wait(lambda: not missing(), 60 + given.seconds, "all at A")
        at_a, at_b = arrivals(bench.urls["a"]), arrivals(bench.urls["b"])
    report(given, load.answered, at_a, at_b, calm, (begin, end), end)


def report(
    given: argparse.Namespace,
    answered: dict[int, float],
    at_a: list[list[Any]],
    at_b: list[list[Any]],
    calm: tuple[float, float],
    outage: tuple[float, float],
    back: float,
) -> None:
    """Prints the figures; ends with status 1 when a promise is broken."""
    arrived = {number: at for at, number, _ in reversed(at_b)}
    took = {
        span: [max(0.0, arrived[n] - at) for n, at in answered.items() if span[0] <= at < span[1] and n in arrived]
        for span in (calm, outage)
    }
    quiet, loud = p99(took[calm]), p99(took[outage])
    newest: dict[int, int] = {}
    overtaken = 0
    for _, number, _ in at_a:
        subject = number % given.subjects
        overtaken += number < newest.get(subject, -1)
        newest[subject] = max(number, newest.get(subject, -1))
    a_second = Counter(int(at - back) for at, _, _ in at_a)
    last = max(at for at, _, _ in at_a)
    ratio = loud / quiet
    print(f"B, accept to delivery, p99: {quiet:.1f} ms in the calm, {loud:.1f} ms in the outage: ratio {ratio:.2f}")
    print(f"B, median: {statistics.median(took[calm]) * 1000:.1f} ms, {statistics.median(took[outage]) * 1000:.1f} ms")
    print(
        f"A: {len(at_a)} after the outage, all within {last - back:.1f} s, most in one second {max(a_second.values())}"
    )
    print(f"A: {overtaken} overtaken; B: all {len(arrived)} of {len(answered)} arrived")
    if overtaken or len(arrived) != len(answered) or max(a_second.values()) > 1.5 * given.limit:
        sys.exit(1)


if __name__ == "__main__":
    main()
