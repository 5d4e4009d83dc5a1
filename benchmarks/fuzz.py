"""Fuzzing of each door, seeded, for a bounded time: damaged requests to a web process, damaged messages to a worker.

    make fuzz SECONDS=600 DOOR=webhooks     # or signed, tracking, health, queue, parsers; without DOOR all, in turn

Starts a Redis, the endpoint and, for `queue`, a worker of its own on 127.0.0.1, and ends them again. Checked: no 5xx
but the documented 503, no failure in the log, no crash, no request without an end, a good event in between is always
taken, and memory flat. What failed is kept in var/fuzz/; `--replay FILE` sends it again. Status 1 when anything failed.
"""

import argparse
import collections
import contextlib
import dataclasses
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fuzz_parsers
import fuzz_queue
import redis
from fuzz_requests import DOORS, KEY, SECRET, SOURCES, raw

from cli import redis_server, stack

_KEPT = Path(__file__).resolve().parent.parent / "var" / "fuzz"
_SENDERS = 4
_PATIENCE_S = 10.0
#: Silence after which a request that may be incomplete is ended from our side.
_QUIET_S = 0.15
_PROBE_S = 2.0
#: Growth of the resident set, after a first part in which caches and pools fill, that still counts as flat: a worker's
#: 16 threads fill their arenas with the largest messages, which are rare (116 MiB, 143, 128 over 130,000 messages).
_GROWTH_KIB = 40 * 1024
_WARM = 0.3
_MOST_KEPT = 20


@dataclasses.dataclass
class Found:
    """What a run has seen so far."""

    sent: int = 0
    answers: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    failures: list[str] = dataclasses.field(default_factory=list)
    slowest_s: float = 0.0
    slowest: bytes = b""
    probes: int = 0
    lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)

    def fail(self, door: str, what: str, request: bytes) -> None:
        """Note a failure, and keep the request that made it."""
        with self.lock:
            self.failures.append(what)
            if len(self.failures) <= _MOST_KEPT:
                _KEPT.mkdir(parents=True, exist_ok=True)
                (_KEPT / f"{door}-{len(self.failures)}.bin").write_bytes(request)


class Processes:
    """Redis and what is started beside it, in a folder that goes away."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.redis = redis_server.ensure({}, folder / "redis")
        # What the disk is busy with is none of the doors' business.
        redis.Redis.from_url(self.redis.url).config_set("appendonly", "no")
        (folder / "sources.yaml").write_text(SOURCES)
        self.environ = {
            **os.environ,
            "REDIS_URL": self.redis.url,
            "SOURCES_FILE": str(folder / "sources.yaml"),
            "FUZZ_SECRET": SECRET,
            "FUZZ_WRITE_KEY": KEY,
            "ENCHARGE_WRITE_KEY": "fuzz",
            # Nothing is delivered anywhere: the address refuses connections.
            "ENCHARGE_INGEST_URL": "http://127.0.0.1:9/",
            "ENCHARGE_API_URL": "http://127.0.0.1:9/",
            "LOG_LEVEL": "WARNING",
            "ACCEPT_TIMEOUT_S": "5",
            "RETRY_MAX_ATTEMPTS": "1",
        }
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self, name: str, command: list[str]) -> subprocess.Popen[bytes]:
        """Start one, in a group of its own, logging to <folder>/<name>.log."""
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command, env=self.environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self.started.append(process)
        return process

    def start_web(self, port: int) -> "subprocess.Popen[bytes]":
        """The endpoint, ready. Ends the program with its log when it does not start."""
        web = self.start("web", stack.web_command(port))
        while not stack.answers(f"http://127.0.0.1:{port}/readyz"):
            if web.poll() is not None:
                sys.exit((self.folder / "web.log").read_text())
            time.sleep(0.05)
        return web

    def failures_logged(self, name: str) -> list[str]:
        """Lines that say that our own code failed."""
        text = (self.folder / f"{name}.log").read_text(errors="replace")
        return re.findall(
            r"^.*(?:request\.failed|Traceback|panicked|raised unexpected|UNHANDLED).*$", text, re.MULTILINE
        )

    def close(self) -> None:
        """End all, by id."""
        for process in self.started:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        redis_server.stop(self.redis)


def rss_kib(process: "subprocess.Popen[bytes]") -> int:
    """Resident memory of a process and its children."""
    listed = subprocess.run(["ps", "-eo", "pgid=,rss="], capture_output=True, text=True, check=True).stdout
    return sum(int(rss) for group, rss in map(str.split, listed.splitlines()) if int(group) == process.pid)


def exchange(port: int, request: bytes, quiet_s: float = _QUIET_S) -> tuple[list[int], float, bool]:
    """Send a request, read its answer: statuses, seconds, whether there was an end of it.

    After `quiet_s` without a byte the server is told that nothing follows: what it waits for will not come.
    """
    begun = time.monotonic()
    content, ended = b"", False
    with socket.create_connection(("127.0.0.1", port), timeout=quiet_s) as connection:
        with contextlib.suppress(OSError):  # it may answer and close before it has read all
            connection.sendall(request)
        while not ended and time.monotonic() - begun < _PATIENCE_S:
            try:
                piece = connection.recv(65536)
            except TimeoutError:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_WR)
            except OSError:
                ended = True
            else:
                content += piece
                ended = not piece or _whole(content) or (request[:5] == b"HEAD " and b"\r\n\r\n" in content)
    statuses = [int(status) for status in re.findall(rb"^HTTP/1\.[01] (\d{3})", content, re.MULTILINE)]
    return statuses, time.monotonic() - begun, ended


def _whole(content: bytes) -> bool:
    """Whether an answer is there to its end, as far as its Content-Length says."""
    content = re.sub(rb"^(HTTP/1\.1 1\d\d [^\r]*\r\n.*?\r\n)+", b"", content, flags=re.DOTALL)  # 100 Continue
    head, found, body = content.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)^content-length: (\d+)", head, re.MULTILINE)
    return bool(found and length) and len(body) >= int(length[1] if length else 0)


def send(port: int, door: str, request: bytes, found: Found) -> None:
    """One damaged request, and the verdict on its answer."""
    try:
        statuses, seconds, ended = exchange(port, request)
    except OSError as error:
        found.fail(door, f"no connection: {error}", request)
        return
    with found.lock:
        found.sent += 1
        if seconds > found.slowest_s:
            found.slowest_s, found.slowest = seconds, request
        found.answers.update(f"{status // 100}xx" if status < 500 else str(status) for status in statuses)
        found.answers["no answer"] += not statuses
    if any(status >= 500 and status != 503 for status in statuses):
        found.fail(door, f"answered {statuses}", request)
    if not ended:
        found.fail(door, f"no end after {seconds:.1f} s", request)


def _good(number: int) -> bytes:
    body = b'{"event":"newUser","user":{"id":"1"},"timestamp":%d}' % (1_700_000_000_000 + number)
    head = f"POST /webhooks/encharge HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SECRET}\r\nConnection: close\r\n"
    return f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def fuzz_endpoint(door: str, seconds: float, seed: int, folder: Path) -> Found:
    """Senders in threads, a good event every second beside them."""
    found = Found()
    processes = Processes(folder)
    try:
        port = redis_server.free_port()
        web = processes.start_web(port)
        client = redis.Redis.from_url(processes.redis.url)
        end = time.monotonic() + seconds

        def sender(number: int) -> None:
            dice = random.Random(f"{seed}/{door}/{number}")
            while time.monotonic() < end and len(found.failures) < _MOST_KEPT:
                send(port, door, raw(dice, DOORS[door](dice)), found)

        threads = [threading.Thread(target=sender, args=(number,)) for number in range(_SENDERS)]
        for thread in threads:
            thread.start()
        warm_at, warm = time.monotonic() + seconds * _WARM, 0
        while any(thread.is_alive() for thread in threads):
            statuses, took, _ = exchange(port, _good(found.probes), _PATIENCE_S)
            found.probes += 1
            if statuses != [200] or took > _PROBE_S:
                found.fail(door, f"a good event: {statuses} after {took:.2f} s", b"")
            if web.poll() is not None:
                found.fail(door, f"the web process ended: {web.returncode}", b"")
            warm = warm or (rss_kib(web) if time.monotonic() > warm_at else 0)
            client.flushdb(asynchronous=True)  # nobody works on what was accepted
            time.sleep(min(1.0, seconds / 5))
        _judge(found, door, warm, rss_kib(web), processes.failures_logged("web"))
    finally:
        processes.close()
    return found


def _judge(found: Found, door: str, warm_kib: int, end_kib: int, logged: list[str]) -> None:
    print(
        f"{door}: {found.sent} sent, answers {dict(sorted(found.answers.items()))}, slowest {found.slowest_s:.2f} s, "
        f"{found.probes} good events between, resident {warm_kib / 1024:.0f} MiB warm, {end_kib / 1024:.0f} at the end"
    )
    if found.slowest:
        _KEPT.mkdir(parents=True, exist_ok=True)
        (_KEPT / f"{door}-slowest.bin").write_bytes(found.slowest)
    if end_kib - warm_kib > _GROWTH_KIB:
        found.fail(door, f"memory grew by {(end_kib - warm_kib) / 1024:.0f} MiB", b"")
    for line in logged[:_MOST_KEPT]:
        found.fail(door, f"logged: {line[:500]}", b"")


def fuzz_queue_door(seconds: float, seed: int, folder: Path) -> Found:
    """Damaged messages on the list that a worker reads."""
    found = Found()
    processes = Processes(folder)
    try:
        worker = processes.start("worker", [*stack.WORKER, "-n", "fuzz@%h"])
        client = redis.Redis.from_url(processes.redis.url)
        dice, end, warm = random.Random(f"{seed}/queue"), time.monotonic() + seconds, 0
        warm_at = time.monotonic() + seconds * _WARM
        while time.monotonic() < end and not found.failures:
            messages = [fuzz_queue.message(dice) for _ in range(fuzz_queue.BATCH)]
            wrong, took = fuzz_queue.round_trip(client, messages, worker)
            found.sent += len(messages)
            found.probes += 1
            found.slowest_s = max(found.slowest_s, took)
            if wrong:
                found.fail("queue", wrong, b"\n".join(messages))
            found.answers["quarantined"] += int(client.zcard("router:quarantine"))
            client.flushdb(asynchronous=True)
            warm = warm or (rss_kib(worker) if time.monotonic() > warm_at else 0)
        _judge(found, "queue", warm, rss_kib(worker), processes.failures_logged("worker"))
    finally:
        processes.close()
    return found


def fuzz_parsers_door(seconds: float, seed: int) -> Found:
    """The parsers, in this process."""
    found = Found()
    for name, what, data in fuzz_parsers.run(
        random.Random(f"{seed}/parsers"), time.monotonic() + seconds, found.answers
    ):
        found.fail("parsers", f"{name}: {what}", data)
    found.sent = sum(found.answers.values())
    print(f"parsers: {found.sent} inputs, {dict(sorted(found.answers.items()))}")
    return found


def fuzz(door: str, seconds: float, seed: int) -> Found:
    """One door."""
    if door == "parsers":
        return fuzz_parsers_door(seconds, seed)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        if door == "queue":
            return fuzz_queue_door(seconds, seed, Path(name))
        return fuzz_endpoint(door, seconds, seed, Path(name))


@contextlib.contextmanager
def _running_web() -> Iterator[tuple[int, Any]]:
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        processes = Processes(Path(name))
        try:
            port = redis_server.free_port()
            processes.start_web(port)
            yield port, processes
        finally:
            processes.close()


def main() -> None:
    """Fuzz, print what was found; status 1 when anything was."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30, help="for each door (30)")
    parser.add_argument("--door", choices=[*DOORS, "queue", "parsers"], help="only this one")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the dice; printed")
    parser.add_argument("--replay", type=Path, help="a request that failed: send it again, print the answer")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    if given.replay:
        with _running_web() as (port, processes):
            print(exchange(port, given.replay.read_bytes(), _PATIENCE_S), *processes.failures_logged("web"), sep="\n")
        return
    print(f"seed {given.seed}, {given.seconds:g} s for each door", flush=True)
    failed = 0
    for door in [given.door] if given.door else [*DOORS, "queue", "parsers"]:
        found = fuzz(door, given.seconds, given.seed)
        failed += len(found.failures)
        for what, times in collections.Counter(found.failures).items():
            print(f"  FAILED {times} x {what}")
    print("nothing failed" if not failed else f"{failed} failures; requests in {_KEPT}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
