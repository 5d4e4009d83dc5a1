"""A whole router for system tests: real Redis, real web, worker and sandbox processes, faults by signal."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import requests

from cli import redis_server, stack
from cli.connection import Connection, open_connection
from tasks.ledger import StoredEvent

SECRET = "system-test-secret"
KEY = "system-test-key"
HERE = Path(__file__).parent
DONE = {"delivered", "filtered", "dead"}


class Router:
    """Starts, kills and restarts the parts; everything it started it ends, by id."""

    def __init__(self, folder: Path, settings: dict[str, str]) -> None:
        self.folder = folder
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.redis = redis_server.ensure({}, folder / "redis")
        self.sandbox_port, self.web_port = redis_server.free_port(), redis_server.free_port()
        self.sandbox_url = f"http://127.0.0.1:{self.sandbox_port}"
        self.web_url = f"http://127.0.0.1:{self.web_port}"
        # The machine's own environment is not the test's: only what programs need to run at all.
        self.environ = {
            **{name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ},
            "PYTHONPATH": os.pathsep.join((str(HERE), str(HERE.parent.parent))),
            "REDIS_URL": self.redis.url,
            "ENCHARGE_WEBHOOK_SECRET": SECRET,
            "ENCHARGE_WRITE_KEY": KEY,
            "ENCHARGE_INGEST_URL": f"{self.sandbox_url}/ingest/v1/",
            "ENCHARGE_API_URL": f"{self.sandbox_url}/api/v1",
            "ACCEPT_TIMEOUT_S": "2",
            **settings,
        }
        self.session = requests.Session()
        self.session.trust_env = False
        self._connection: Connection | None = None

    @property
    def connection(self) -> Connection:
        """The ledger and the rest, as commands see them."""
        if self._connection is None:
            self._connection = open_connection(self.environ)
        return self._connection

    # --- processes

    def start(self, name: str, command: Sequence[str], **environ: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                env={**self.environ, **environ},
                cwd=HERE.parent.parent,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.processes[name] = process
        return process

    def start_sandbox(self, *options: str) -> None:
        self.start("sandbox", [*stack.sandbox_command(self.sandbox_port), *options])
        wait(lambda: stack.answers(f"{self.sandbox_url}/_sandbox/health"), 15, "the sandbox answers")

    def start_web(self) -> None:
        self.start("web", stack.web_command(self.web_port))
        wait(lambda: stack.answers(f"{self.web_url}/readyz"), 15, "the endpoint answers")

    def start_worker(
        self, name: str = "worker", command: Sequence[str] = stack.WORKER, *, ready: bool = True, **environ: str
    ) -> subprocess.Popen[bytes]:
        log = self.folder / f"{name}.log"
        before = log.stat().st_size if log.exists() else 0
        process = self.start(name, [*command, "-n", f"{name}-{time.monotonic_ns()}@test"], **environ)
        if ready:
            wait(lambda: b" ready." in log.read_bytes()[before:], 30, "the worker is ready", process)
        return process

    def start_all(self, *sandbox_options: str) -> None:
        self.start_sandbox(*sandbox_options)
        self.start_web()
        self.start_worker()

    def kill(self, name: str) -> float:
        """Kill -9, and the time of it."""
        process = self.processes.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return time.time()

    def kill_redis(self) -> None:
        assert self.redis.process is not None
        self.redis.process.kill()
        self.redis.process.wait()

    def restart_redis(self) -> None:
        again = redis_server.ensure({}, self.folder / "redis")
        assert again.url == self.redis.url
        self.redis = again

    def close(self) -> None:
        for process in reversed(list(self.processes.values())):
            if process.poll() is None:
                process.terminate()
        for process in self.processes.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        redis_server.stop(self.redis)
        self.session.close()

    # --- use

    def post(self, event: object, path: str = "encharge", **headers: str) -> requests.Response:
        return self.session.post(
            f"{self.web_url}/webhooks/{path}",
            json=event,
            headers={"Authorization": f"Bearer {SECRET}", **headers},
            timeout=10,
        )

    def post_many(self, events: Sequence[dict[str, Any]], threads: int = 4, per_second: float = 0) -> list[str]:
        """Post all, as a sender that tries again after 503; gives the ids in order. `per_second` 0 = at full speed."""
        ids: list[str] = [""] * len(events)
        begun = time.monotonic()

        def share(first: int) -> None:
            with requests.Session() as session:
                session.trust_env = False
                session.headers["Authorization"] = f"Bearer {SECRET}"
                for index in range(first, len(events), threads):
                    if per_second:
                        time.sleep(max(0.0, begun + index / per_second - time.monotonic()))
                    ids[index] = post_until_accepted(session, f"{self.web_url}/webhooks/encharge", events[index])

        workers = [threading.Thread(target=share, args=(first,)) for first in range(threads)]
        for each in workers:
            each.start()
        for each in workers:
            each.join()
        assert all(ids)
        return ids

    def faults(self, *rules: dict[str, Any], seed: int = 1) -> None:
        answer = self.session.put(f"{self.sandbox_url}/_sandbox/faults?seed={seed}", json=list(rules), timeout=5)
        assert answer.ok, answer.text

    def arrivals(self) -> dict[str, list[float]]:
        """Every call that Encharge took, by the order number in the event's properties: when."""
        found: dict[str, list[float]] = {}
        answer = self.session.get(f"{self.sandbox_url}/_sandbox/events?since=0", timeout=30).json()
        for event in answer["events"]:
            number = (event["body"].get("properties") or {}).get("number")
            found.setdefault(str(number), []).append(datetime.fromisoformat(event["at"]).timestamp())
        return found

    def settled(self, ids: Sequence[str], within_s: float) -> list[StoredEvent]:
        """Wait until every event has ended; gives them."""
        events: list[StoredEvent | None] = []
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            events = [event for first in range(0, len(ids), 500) for event in self._some(ids[first : first + 500])]
            if all(event is not None and event.state in DONE for event in events):
                return [event for event in events if event is not None]
            time.sleep(0.2)
        states = [event.state if event else "missing" for event in events]
        raise AssertionError({state: states.count(state) for state in set(states)})

    def _some(self, ids: Sequence[str]) -> list[StoredEvent | None]:
        return self.connection.ledger.events(ids)

    def counts(self, kind: str, name: str) -> dict[str, int]:
        return self.connection.ledger.counts().get((kind, name), {})

    def command(self, *args: str, status: int = 0) -> str:
        """Run `event-router …` and give what it prints."""
        done = subprocess.run(
            [sys.executable, "-c", "from cli.main import main; main()", *args],
            env=self.environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
        return done.stdout

    def assert_equation(self) -> None:
        rows = json.loads(self.command("ledger", "--json"))["rows"]
        assert rows
        assert all(row["holds"] for row in rows), rows


def post_until_accepted(session: requests.Session, url: str, event: dict[str, Any]) -> str:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            answer = session.post(url, json=event, timeout=10)
        except requests.ConnectionError:
            time.sleep(0.1)
            continue
        if answer.ok:
            id_: str = answer.json()["ids"][0]
            return id_
        assert answer.status_code == 503, answer.text
        time.sleep(0.1)
    raise AssertionError("never accepted")


def numbered(count: int, name: str = "performed-step:{}", **more: Any) -> list[dict[str, Any]]:
    """Activity Stream events of as many people, told apart by properties.number."""
    now = int(time.time() * 1000)
    return [
        {
            "event": name.format(number % 7),
            "type": "step",
            "properties": {"stepId": str(number % 7), "flowId": "1", "number": number},
            "user": {"id": f"00000000-0000-4000-8000-{number:012d}", "email": f"person-{number}@example.com"},
            "timestamp": now + number,
            **more,
        }
        for number in range(count)
    ]


def wait(true: Callable[[], bool], seconds: float, what: str, process: "subprocess.Popen[bytes] | None" = None) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert process is None or process.poll() is None, f"the process ended instead of: {what}"
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.05)


@pytest.fixture
def make_router(tmp_path: Path) -> Iterator[Callable[..., Router]]:
    """Makes routers with settings of their own; all are ended after the test."""
    routers: list[Router] = []

    def make(**settings: str) -> Router:
        folder = tmp_path / str(len(routers))
        folder.mkdir()
        routers.append(Router(folder, settings))
        return routers[-1]

    yield make
    for router in routers:
        router.close()
