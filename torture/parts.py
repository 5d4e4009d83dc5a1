"""A router's processes, each in a group of its own, so that each can be killed and started again."""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from cli import redis_server, stack
from cli.connection import Connection, open_connection

REPOSITORY: Final = Path(__file__).resolve().parents[1]
_START_S: Final = 15.0
_WORKER_START_S: Final = 30.0
_STOP_S: Final = 10.0
#: What programs need of the machine's environment to run at all; the rest is not theirs.
_KEPT: Final = ("PATH", "HOME", "LANG", "TMPDIR")


class NotInTime(Exception):
    """Something that had to happen did not, or a process ended instead."""


class Parts:
    """Starts, kills and restarts the parts; everything it started it ends, by id."""

    def __init__(self, folder: Path, machine: Mapping[str, str], key: str) -> None:
        """`folder` gets the logs and Redis' file; `key` is the write key and API key of the sandbox."""
        self.folder = folder
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.redis = redis_server.ensure({}, folder / "redis")
        self.sandbox_port = redis_server.free_port()
        self.sandbox_url = f"http://127.0.0.1:{self.sandbox_port}"
        self.key = key
        self.environ = {
            **{name: machine[name] for name in _KEPT if name in machine},
            "PYTHONPATH": str(REPOSITORY),
            "REDIS_URL": self.redis.url,
            "ENCHARGE_WRITE_KEY": key,
            "ENCHARGE_API_KEY": key,
            "ENCHARGE_INGEST_URL": f"{self.sandbox_url}/ingest/v1/",
            "ENCHARGE_API_URL": f"{self.sandbox_url}/api/v1",
            "FLOWER_DB": str(folder / "flower" / "rows"),
        }
        self._connection: Connection | None = None
        self._starting = threading.Lock()
        self._closed = False

    @property
    def connection(self) -> Connection:
        """The ledger and the rest, as commands see them."""
        if self._connection is None:
            self._connection = open_connection(self.environ)
        return self._connection

    def log(self, name: str) -> Path:
        """Where a process writes."""
        return self.folder / f"{name}.log"

    def start(self, name: str, command: Sequence[str], **environ: str) -> "subprocess.Popen[bytes]":
        """Start a process under a name; its output is added to its log."""
        with self._starting, self.log(name).open("ab") as log:
            if self._closed:
                raise NotInTime(f"{name} was to start while everything ends")
            process = subprocess.Popen(
                command,
                env={**self.environ, **environ},
                cwd=REPOSITORY,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self.processes[name] = process
        return process

    def start_sandbox(self, *options: str, reveal: bool = True) -> None:
        """The stand-in Encharge, ready; `reveal`, so that what arrived can be checked."""
        self.start("sandbox", [*stack.sandbox_command(self.sandbox_port, reveal=reveal), *options])
        wait(lambda: stack.answers(f"{self.sandbox_url}/_sandbox/health"), _START_S, "the sandbox answers")

    def start_web_at(self, name: str, port: int, path: str = "/readyz", **environ: str) -> None:
        """A web process that answers at `path`."""
        process = self.start(name, stack.web_command(port), **environ)
        wait(lambda: stack.answers(f"http://127.0.0.1:{port}{path}"), _START_S, f"{name} answers", process)

    def start_worker(
        self, name: str = "worker", command: Sequence[str] = stack.WORKER, *, ready: bool = True, **environ: str
    ) -> "subprocess.Popen[bytes]":
        """A worker; `ready` waits until it takes tickets."""
        log = self.log(name)
        before = log.stat().st_size if log.exists() else 0
        process = self.start(name, [*command, "-n", f"{name}-{time.monotonic_ns()}@test"], **environ)
        if ready:
            wait(lambda: b" ready." in log.read_bytes()[before:], _WORKER_START_S, f"{name} is ready", process)
        return process

    def kill(self, name: str) -> float:
        """Kill -9, and the time of it."""
        process = self.processes.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return time.time()

    def freeze(self, name: str) -> None:
        """Stop it where it stands, until `thaw`."""
        os.killpg(self.processes[name].pid, signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """Let it go on."""
        os.killpg(self.processes[name].pid, signal.SIGCONT)

    def terminate(self, name: str, within_s: float) -> bool:
        """TERM; when it does not end within that time, kill -9 and False."""
        self.processes[name].terminate()
        try:
            self.processes[name].wait(within_s)
        except subprocess.TimeoutExpired:
            self.kill(name)
            return False
        # Its children are not to outlive it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.processes.pop(name).pid, signal.SIGKILL)
        return True

    def kill_redis(self) -> None:
        """Kill -9; its append-only file stays."""
        assert self.redis.process is not None  # noqa: S101 - it is always ours
        self.redis.process.kill()
        self.redis.process.wait()

    def restart_redis(self) -> None:
        """Start it again from its append-only file, at its old address."""
        with self._starting:
            if self._closed:
                raise NotInTime("Redis was to start while everything ends")
            again = redis_server.ensure({}, self.folder / "redis")
        if again.url != self.redis.url:
            raise NotInTime(f"Redis' port was taken while it was away: {self.redis.url}")
        self.redis = again

    def close(self) -> None:
        """End everything, the newest first; nothing starts any more."""
        with self._starting:
            self._closed = True
        for process in reversed(list(self.processes.values())):
            if process.poll() is None:
                process.terminate()
                os.killpg(process.pid, signal.SIGCONT)
        for process in self.processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_STOP_S)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        redis_server.stop(self.redis)


def wait(true: Callable[[], bool], seconds: float, what: str, process: "subprocess.Popen[bytes] | None" = None) -> None:
    """Look again and again. Raises NotInTime, also when the process ends meanwhile."""
    deadline = time.monotonic() + seconds
    while not true():
        if process is not None and process.poll() is not None:
            raise NotInTime(f"the process ended with {process.returncode} instead of: {what}")
        if time.monotonic() > deadline:
            raise NotInTime(f"not within {seconds:g} s: {what}")
        time.sleep(0.05)
