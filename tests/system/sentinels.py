"""Three sentinels, a master and two replicas, on the loopback address.

Two, because a master that has lost all its replicas refuses writes here, as it should: nobody would have them after it.
"""

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import redis

from cli import redis_server
from tasks.connection import connect

NAME = "router"
HOST = "127.0.0.1"
REPLICAS = 2


class Sentinels:
    """Starts them, and ends them, by id."""

    def __init__(self, folder: Path, down_after_ms: int = 2000) -> None:
        self._folder = folder
        self._servers: dict[int, subprocess.Popen[bytes]] = {}
        self._sentinels: dict[int, subprocess.Popen[bytes]] = {}
        self._down_after_ms = down_after_ms

    def __enter__(self) -> Self:
        self._folder.mkdir()
        master = self._server()
        for _ in range(REPLICAS):
            self._server("--replicaof", HOST, str(master))
        for _ in range(3):
            self._sentinel(master)
        self._until(self._all_known, "the sentinels know all")
        return self

    def __exit__(self, *_: object) -> None:
        for process in (*self._sentinels.values(), *self._servers.values()):
            process.kill()
            process.wait()

    @property
    def url(self) -> str:
        """As REDIS_URL takes it."""
        return f"sentinel://{','.join(f'{HOST}:{port}' for port in self._sentinels)}/0?master={NAME}"

    def master(self) -> int:
        """The port of the server that the first sentinel calls the master."""
        with self._ask() as sentinel:
            return int(sentinel.sentinel_master(NAME)["port"])

    def kill_master(self) -> None:
        """Kill -9."""
        process = self._servers.pop(self.master())
        process.kill()
        process.wait()

    def ask_to_fail_over(self) -> None:
        """Have the roles changed while both servers live, and wait until they are."""
        before = self.master()
        with self._ask() as sentinel:
            sentinel.execute_command("SENTINEL", "FAILOVER", NAME)
        self._until(lambda: self.master() != before, "another master")

    def _server(self, *options: str) -> int:
        port = redis_server.free_port()
        folder = self._folder / str(port)
        folder.mkdir()
        command = [redis_server.binary(), "--port", str(port), "--bind", HOST, "--dir", str(folder), "--save", ""]
        safe = ["--appendonly", "yes", "--min-replicas-to-write", "1", "--min-replicas-max-lag", "3"]
        more = [*safe, "--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1", *options]
        self._servers[port] = self._start(folder, [*command, *more])
        self._until(lambda: connect(f"redis://{HOST}:{port}/0", timeout_s=1).ping(), "a server")
        return port

    def _sentinel(self, master: int) -> None:
        port = redis_server.free_port()
        folder = self._folder / str(port)
        folder.mkdir()
        lines = [
            f"port {port}",
            f"bind {HOST}",
            f"dir {folder}",
            f"sentinel monitor {NAME} {HOST} {master} 2",
            f"sentinel down-after-milliseconds {NAME} {self._down_after_ms}",
            f"sentinel failover-timeout {NAME} 10000",
        ]
        (folder / "sentinel.conf").write_text("\n".join(lines) + "\n")
        self._sentinels[port] = self._start(
            folder, [redis_server.binary(), str(folder / "sentinel.conf"), "--sentinel"]
        )

    @staticmethod
    def _start(folder: Path, command: list[str]) -> "subprocess.Popen[bytes]":
        with (folder / "log").open("ab") as log:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)

    @contextlib.contextmanager
    def _ask(self) -> Iterator[Any]:
        with contextlib.closing(connect(f"redis://{HOST}:{next(iter(self._sentinels))}/0", timeout_s=2)) as client:
            yield client

    def _all_known(self) -> bool:
        for port in self._sentinels:
            with contextlib.closing(connect(f"redis://{HOST}:{port}/0", timeout_s=2)) as client:
                told = client.sentinel_master(NAME)
            if (told["num-other-sentinels"], told["num-slaves"]) != (2, REPLICAS):
                return False
        return True

    @staticmethod
    def _until(true: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with contextlib.suppress(redis.RedisError):
                if true():
                    return
            time.sleep(0.1)
        raise AssertionError(f"not within 20 s: {what}")
