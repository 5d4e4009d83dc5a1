"""A whole router for system tests: real Redis, real web, worker and sandbox processes, faults by signal."""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import requests
from click.testing import CliRunner

from cli import redis_server
from cli.main import main
from tasks.ledger import StoredEvent
from torture.parts import Parts, wait

__all__ = ["DONE", "HERE", "KEY", "SECRET", "Router", "numbered", "wait"]

SECRET = "system-test-secret"
KEY = "system-test-key"
HERE = Path(__file__).parent
DONE = {"delivered", "filtered", "dead"}


class Router(Parts):
    """One of each part, and what tests do with them."""

    def __init__(self, folder: Path, settings: dict[str, str]) -> None:
        super().__init__(folder, os.environ, KEY)
        self.web_port = redis_server.free_port()
        self.web_url = f"http://127.0.0.1:{self.web_port}"
        self.environ |= {
            "PYTHONPATH": os.pathsep.join((str(HERE), self.environ["PYTHONPATH"])),
            "ENCHARGE_WEBHOOK_SECRET": SECRET,
            "ACCEPT_TIMEOUT_S": "2",
            "SPOOL_FOLDER": str(folder / "spool"),
            **settings,
        }
        self.session = requests.Session()
        self.session.trust_env = False

    def start_web(self) -> None:
        self.start_web_at("web", self.web_port)

    def start_all(self, *sandbox_options: str) -> None:
        self.start_sandbox(*sandbox_options)
        self.start_web()
        self.start_worker()

    def close(self) -> None:
        super().close()
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
            events = [event for first in range(0, len(ids), 500) for event in self.some(ids[first : first + 500])]
            if all(event is not None and event.state in DONE for event in events):
                return [event for event in events if event is not None]
            time.sleep(0.2)
        states = [event.state if event else "missing" for event in events]
        raise AssertionError({state: states.count(state) for state in set(states)})

    def some(self, ids: Sequence[str]) -> list[StoredEvent | None]:
        return self.connection.ledger.events(ids)

    def counts(self, kind: str, name: str) -> dict[str, int]:
        return self.connection.ledger.counts().get((kind, name), {})

    def command(self, *args: str, status: int = 0) -> str:
        """Run `event-router …` and give what it prints; in this process, without the time that one takes to start."""
        done = CliRunner(env=self.environ).invoke(main, args)
        assert done.exit_code == status, (done.exit_code, done.stdout, done.stderr, done.exception)
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
