"""The router under test: two web processes, two workers, Redis, both destinations, and a proxy on every connection.

sender ──▶ proxy ──▶ web ──▶ proxy ──▶ Redis ◀── proxy ◀── worker ──▶ sandbox
"""

import contextlib
import secrets
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self, TypeVar
from urllib.parse import urlsplit

import redis
import requests

from cli import redis_server
from tasks.ledger import StoredEvent, connect
from torture import events
from torture.parts import NotInTime, Parts, wait
from torture.proxy import Proxy
from torture.senders import Secrets

HERE: Final = Path(__file__).parent
WEBS: Final = ("web-0", "web-1")
WORKERS: Final = ("worker-0", "worker-1")
#: A worker has this long to end after TERM.
GRACE_S: Final = 20.0
READ_TIMEOUT_S: Final = 3.0
#: A process that starts while Redis is away, on a busy machine.
START_S: Final = 60.0

_REDIS_TIMEOUT_S: Final = 2.0
_PAUSE_S: Final = 0.5
_SETTINGS: Final = {
    # Short spans: what takes minutes in production must happen several times in one run.
    "LEASE_S": "4",
    "TICKET_GRACE_S": "2",
    "RETRY_BASE_S": "0.5",
    "RETRY_MAX_DELAY_S": "2",
    "HTTP_CONNECT_TIMEOUT_S": "2",
    "HTTP_READ_TIMEOUT_S": f"{READ_TIMEOUT_S:g}",
    # Nothing is given up: whatever ends as a dead letter is worth a look.
    "RETRY_MAX_ATTEMPTS": "1000",
    "CRASH_LIMIT": "100",
    # Full within seconds of an outage.
    "SPOOL_MAX_BYTES": "1048576",
    "ROUTES_FILE": str(HERE / "routes.yaml"),
    "SOURCES_FILE": str(HERE / "sources.yaml"),
}

#: Nothing is instant: without these nothing would ever be in flight when a fault comes. Half of the answers tarry
#: before the work is done, half after it.
_USUAL: Final = (
    {"kind": "delay", "delay_s": 0.08, "rate": 0.5, "after": True},
    {"kind": "delay", "delay_s": 0.08},
)

#: To Redis and back it takes twice this: what is asked there is in flight often enough for a fault to hit it.
_LATENCY_S: Final = 0.004

_Answer = TypeVar("_Answer")


class Router(Parts):
    """Everything under one roof; used as a context manager, it is ready inside and gone afterwards."""

    def __init__(self, folder: Path, machine: Mapping[str, str]) -> None:
        super().__init__(folder, machine, secrets.token_hex(8))
        self.secrets = Secrets(*(secrets.token_hex(16) for _ in range(3)))
        self.environ |= {
            **_SETTINGS,
            "SPOOL_FOLDER": str(folder / "spool"),
            "ENCHARGE_WEBHOOK_SECRET": self.secrets.stream,
            "TORTURE_WRITE_KEY": self.secrets.write_key,
            "TORTURE_HOOK_SECRET": self.secrets.hook,
        }
        (folder / "spool").mkdir(exist_ok=True)
        self._redis_port = int(urlsplit(self.redis.url).port or 0)
        self._ports = {web: redis_server.free_port() for web in WEBS}
        # Bound and never listening: nobody else gets a port while its owner is dead.
        self._keepers = {port: _keeper(port) for port in self._ports.values()}
        self.links = {name: Proxy(self._redis_port, latency_s=_LATENCY_S) for name in (*WEBS, *WORKERS)}
        self.links |= {f"sender-{web}": Proxy(port) for web, port in self._ports.items()}
        self.control: Any = connect(self.redis.url, timeout_s=_REDIS_TIMEOUT_S)
        self._rules: dict[str, list[Mapping[str, Any]]] = {}
        self._rules_lock = threading.Lock()
        self.exits: list[str] = []  #: parts that ended by themselves
        #: Bytes by which events are larger than they need to be; a fault may ask for it.
        self.padding = 0

    @property
    def doors(self) -> list[str]:
        """Where senders post to."""
        return [f"http://127.0.0.1:{self.links[f'sender-{web}'].port}" for web in WEBS]

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            stack.callback(self._let_ports_go)
            for link in self.links.values():
                stack.enter_context(link)
            stack.callback(self.close)
            self.start_sandbox()
            self.misbehave("nobody", ())
            for web in WEBS:
                self.start_part(web)
            for worker in WORKERS:
                self.start_part(worker, ready=False)
            for worker in WORKERS:
                self.wait_for_worker(worker)
            self._left = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._left.close()

    # --- processes --------------------------------------------------------------------------------------------

    def start_part(self, name: str, *, ready: bool = True, **environ: str) -> None:
        """Start a web process or worker with its own way to Redis."""
        url = f"redis://127.0.0.1:{self.links[name].port}/0"
        if name in WEBS:
            # Alive, not ready: Redis may be away.
            self.start_web_at(name, self._ports[name], "/livez", REDIS_URL=url, **environ)
        else:
            self.start_worker(name, ready=ready, REDIS_URL=url, **environ)

    def bring_back(self, name: str, **environ: str) -> None:
        """Start a part again and again, as a supervisor does, until it stays. Raises NotInTime."""
        deadline = time.monotonic() + START_S
        while True:
            try:
                self.start_part(name, ready=True, **environ)
            except NotInTime:
                if not self.ended(name) or time.monotonic() > deadline:
                    raise
                time.sleep(_PAUSE_S)
            else:
                return

    def ended(self, name: str) -> bool:
        """Whether a part has ended without being told to; notes it."""
        process = self.processes.get(name)
        if process is None or process.poll() is None:
            return False
        self.exits.append(f"{name} ended with {process.returncode}")
        return True

    def wait_for_worker(self, name: str) -> None:
        """Until a worker that was started takes tickets."""
        wait(lambda: b" ready." in self.log(name).read_bytes(), START_S, f"{name} is ready", self.processes[name])

    def _let_ports_go(self) -> None:
        for keeper in self._keepers.values():
            keeper.close()

    # --- Redis ------------------------------------------------------------------------------------------------

    def kill_redis(self) -> None:
        """Kill -9; its port stays ours."""
        super().kill_redis()
        if self._redis_port not in self._keepers:
            self._keepers[self._redis_port] = _keeper(self._redis_port)

    def insist(self, call: Callable[[], _Answer], within_s: float = 30.0) -> _Answer:
        """Ask Redis until it answers. Raises NotInTime."""
        deadline = time.monotonic() + within_s
        while True:
            try:
                return call()
            except (redis.RedisError, OSError) as error:
                if time.monotonic() > deadline:
                    raise NotInTime(f"Redis did not answer for {within_s:g} s ({type(error).__name__})") from error
                time.sleep(0.1)

    def ledger_events(self, ids: Sequence[str]) -> list[StoredEvent | None]:
        """What the ledger knows of these events."""
        return self.insist(lambda: self.connection.ledger.events(ids))

    # --- the sandbox ------------------------------------------------------------------------------------------

    def misbehave(self, who: str, rules: Sequence[Mapping[str, Any]]) -> None:
        """Let the destinations fail by these rules, beside those of others; () ends it."""
        with self._rules_lock:
            self._rules[who] = list(rules)
            together = [*(rule for some in self._rules.values() for rule in some), *_USUAL]
            requests.put(f"{self.sandbox_url}/_sandbox/faults?seed=1", json=together, timeout=10).raise_for_status()

    def calls(self, since: int) -> list[dict[str, Any]]:
        """What arrived, from that number on."""
        answer = requests.get(f"{self.sandbox_url}/_sandbox/calls?since={since}", timeout=30)
        found: list[dict[str, Any]] = answer.json()["calls"]
        return found

    def know_people(self, subjects: int) -> None:
        """The REST API tags only people that there are."""
        people = [{"email": events.email_of(subject)} for subject in range(subjects)]
        headers = {"X-Encharge-Token": self.key}
        requests.post(f"{self.sandbox_url}/api/v1/people", json=people, headers=headers, timeout=30).raise_for_status()


def _keeper(port: int) -> socket.socket:
    keeper = socket.socket()
    keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    keeper.bind(("127.0.0.1", port))
    return keeper
