"""Redis stopped under load: what senders are answered meanwhile, and what has become of every event afterwards.

Two web processes on one spool, a worker and the sandbox; senders post at a fixed rate before, during and after the
outage. Ends with status 1 when an answer was not 2xx, an event was lost, one overtook another of its subject, or the
p99 of accepting during the outage was 100 ms or more. See benchmarks/README.md.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import requests
from load import quantile

from app.spool import spooled
from cli import redis_server
from cli.connection import open_connection
from cli.stack import Stack, running, web_command
from tasks.ledger import Ledger, StoredEvent

_MOST_P99_S = 0.1
_MOST_END_S = 120
_SUBJECTS = 4
_DONE = {"delivered", "filtered", "dead"}


@dataclasses.dataclass(frozen=True)
class Answered:
    """One event's answer; times are of time.monotonic."""

    due: float
    seconds: float
    status: int


class Sender(threading.Thread):
    """One connection that posts the events of its own subjects, one after the other, each when it is due."""

    def __init__(self, number: int, port: int, given: argparse.Namespace, secret: str, begin: float) -> None:
        super().__init__(name=f"sender-{number}")
        self.answers: list[Answered] = []
        self.posted: dict[int, str] = {}  #: number → the id that its answer gave
        every = given.connections / given.rate
        self._due = [begin + (number / given.rate) + every * turn for turn in range(int(given.seconds / every))]
        self._numbers = [number + given.connections * turn for turn in range(len(self._due))]
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers["Authorization"] = f"Bearer {secret}"
        self._url = f"http://127.0.0.1:{port}/webhooks/encharge"
        self._name = number

    def run(self) -> None:
        """Post all. Latency counts from the moment when a request was due, so that a stall is not hidden."""
        for due, number in zip(self._due, self._numbers, strict=True):
            person = f"{self._name}-{_subject(number)}"
            body = {
                "event": "performed-step:1",
                "type": "step",
                "properties": {"stepId": "1", "flowId": "1", "number": number},
                "user": {"id": person, "email": f"person-{person}@example.com"},
                "timestamp": 1562914373005 + number,
            }
            time.sleep(max(due - time.monotonic(), 0))
            answer = self._session.post(self._url, json=body, timeout=10)
            self.answers.append(Answered(due, time.monotonic() - due, answer.status_code))
            if answer.ok:
                (self.posted[number],) = answer.json()["ids"]


def _subject(number: int) -> int:
    """Which of its sender's subjects an event is about."""
    return number % (16 * _SUBJECTS) // 16


def main() -> None:
    """Measure, print, judge."""
    given = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    with tempfile.TemporaryDirectory(prefix="redis-outage-") as folder, _rest(Path(folder)) as stack:
        wrong = _measure(given, stack)
    if wrong:
        sys.exit("failed: " + "; ".join(wrong))
    print("passed")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--outage", type=float, default=60, help="seconds without Redis (60)")
    parser.add_argument("--around", type=float, default=5, help="seconds of load before, and after (5)")
    parser.add_argument("--rate", type=float, default=200, help="events a second (200)")
    parser.add_argument("--connections", type=int, default=16, help="of the senders, over both processes (16)")
    parser.add_argument("--hang", action="store_true", help="Redis hangs (SIGSTOP) instead of being killed")
    given = parser.parse_args()
    given.seconds = given.outage + 2 * given.around
    return given


@contextlib.contextmanager
def _rest(folder: Path) -> Iterator[Stack]:
    """Everything but the second web process, with a Redis of this run only."""
    environ = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    environ["PYTHONPATH"] = str(Path(__file__).resolve().parents[1])
    with running(environ, folder, {}, reveal=True) as stack:
        yield stack


def _measure(given: argparse.Namespace, stack: Stack) -> list[str]:
    ports = [int(stack.web_url.rpartition(":")[2]), redis_server.free_port()]
    stack.start("web-2", web_command(ports[1]))
    while not _ready(ports[1]):
        time.sleep(0.05)
    begin = time.monotonic() + 0.2
    senders = [Sender(number, ports[number % 2], given, stack.secret, begin) for number in range(given.connections)]
    for each in senders:
        each.start()
    time.sleep(max(begin + given.around - time.monotonic(), 0))
    away_at = time.monotonic()
    server = _pid(stack)
    os.kill(server, signal.SIGSTOP if given.hang else signal.SIGKILL)
    time.sleep(given.outage)
    waiting = len(spooled(stack.folder / "spool"))
    again: subprocess.Popen[bytes] | None = None
    if given.hang:
        os.kill(server, signal.SIGCONT)
    else:
        again = redis_server.ensure({}, stack.folder / "redis").process
    back_at = time.monotonic()
    while not all(map(_ready, ports)):
        time.sleep(0.02)
    drained_s = time.monotonic() - back_at
    for each in senders:
        each.join()
    print(f"at the end of the outage {waiting} events were spooled; drained {drained_s:.2f} s after Redis was back")
    wrong = [*_accepting(senders, away_at, back_at, back_at + drained_s), *_ending(stack, senders)]
    if again is not None:
        redis_server.stop(stack.redis)
        again.wait()
    return wrong


def _accepting(senders: Sequence[Sender], away_at: float, back_at: float, drained_at: float) -> list[str]:
    answers = [answer for each in senders for answer in each.answers]
    phases = {
        "before": (0.0, away_at),
        "outage": (away_at, back_at),
        "draining": (back_at, drained_at),
        "after": (drained_at, float("inf")),
    }
    wrong = []
    for name, (begin, end) in phases.items():
        seconds = [answer.seconds for answer in answers if begin <= answer.due < end]
        if not seconds:
            continue
        p50, p99 = quantile(seconds, 0.5), quantile(seconds, 0.99)
        print(
            f"  {name:<9} {len(seconds):>6} answers  p50 {p50 * 1000:6.2f} ms  p99 {p99 * 1000:6.2f} ms"
            f"  slowest {max(seconds) * 1000:6.1f} ms"
        )
        if name == "outage" and p99 >= _MOST_P99_S:
            wrong.append(f"p99 during the outage {p99 * 1000:.0f} ms")
    statuses = Counter(answer.status for answer in answers)
    print(f"  answers by status: {dict(statuses)}")
    return [*wrong, *(f"{count} answers {status}" for status, count in statuses.items() if not 200 <= status < 300)]


def _ending(stack: Stack, senders: Sequence[Sender]) -> list[str]:
    """Wait until every event has ended; what is missing, and what overtook what."""
    ledger = open_connection(dict(stack.environ)).ledger
    ids = {number: id_ for each in senders for number, id_ in each.posted.items()}
    begun = time.monotonic()
    while time.monotonic() - begun < _MOST_END_S:
        events = dict(zip(ids, _events(ledger, list(ids.values())), strict=True))
        if all(each is not None and each.state in _DONE for each in events.values()):
            break
        time.sleep(0.5)
    states = Counter(each.state if each else "missing" for each in events.values())
    counts = ledger.counts()["source", "encharge"]
    print(f"  {sum(states.values())} events {time.monotonic() - begun:.1f} s later: {dict(states)}; {counts}")
    accepted = {number: each.accepted_at for number, each in events.items() if each is not None}
    arrivals = _arrivals(stack)
    wrong = {
        "not delivered": sum(count for state, count in states.items() if state != "delivered"),
        "overtook in the ledger": sum(_overtakings(list(each.posted), accepted.get) for each in senders),
        "overtook on the way to Encharge": sum(_overtakings(list(each.posted), arrivals.get) for each in senders),
    }
    print("  " + ", ".join(f"{what}: {number}" for what, number in wrong.items()))
    return [f"{number} {what}" for what, number in wrong.items() if number]


def _arrivals(stack: Stack) -> dict[int, float]:
    """When each event first reached the stand-in Encharge, by its number."""
    answer = requests.get(f"{stack.sandbox_url}/_sandbox/events?since=0", timeout=60).json()
    found: dict[int, float] = {}
    for arrived in answer["events"]:
        number = (arrived["body"].get("properties") or {}).get("number")
        if number is not None:
            found.setdefault(int(number), datetime.fromisoformat(arrived["at"]).timestamp())
    return found


def _overtakings(mine: Sequence[int], when: Callable[[int], float | None]) -> int:
    """How many of a sender's events came before the one posted before them, of the same subject."""
    found = 0
    for subject in range(_SUBJECTS):
        times = [when(number) for number in mine if _subject(number) == subject]
        found += sum(first is not None and second is not None and first > second for first, second in pairwise(times))
    return found


def _events(ledger: Ledger, ids: Sequence[str]) -> list[StoredEvent | None]:
    return [event for first in range(0, len(ids), 500) for event in ledger.events(ids[first : first + 500])]


def _ready(port: int) -> bool:
    try:
        answer = requests.get(f"http://127.0.0.1:{port}/readyz", timeout=2)
    except requests.RequestException:
        return False
    return answer.ok and answer.json()["code"] == "ready"


def _pid(stack: Stack) -> int:
    return int(json.loads((stack.folder / "redis" / "server.json").read_text())["pid"])


if __name__ == "__main__":
    main()
