"""How fast events are accepted: our endpoint beside plain Flask + `task.delay()`, alternating rounds in one run.

Both programs run on the same web server with the same options, in front of the same Redis with its append-only file,
under the same load generator (load.py). See benchmarks/README.md.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import platform
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import redis

from cli import redis_server
from cli.redis_server import Server
from cli.stack import web_command
from config.celery_settings import TICKETS

_HERE = Path(__file__).resolve().parent
_LOAD = [sys.executable, str(_HERE / "load.py")]
SECRET = "benchmark-secret"
_REPORT = _HERE.parent / "var" / "bench" / "accept.json"
_LATENCY_CONNECTIONS = 4
_START_S = 15.0
_STOP_S = 5.0


@dataclasses.dataclass(frozen=True)
class Program:
    """One of the two: what granian serves, and the list that its tickets or messages wait in."""

    name: str
    target: str
    queue: str


OURS = Program("event-router", "app.wsgi:app", TICKETS)
STOCK = Program("Flask + task.delay()", "stock_app:app", "celery")


class Failed(Exception):
    """The figures would mean nothing: an answer was not 2xx, or events are missing."""


class Bench:
    """The servers of one run, and what was measured."""

    def __init__(self, given: argparse.Namespace, client: Any) -> None:
        self.given = given
        self.client = client
        self.ports: dict[Program, int] = {}
        self.rounds: dict[Program, list[dict[str, Any]]] = {OURS: [], STOCK: []}
        self.begun = time.monotonic()

    @property
    def left_s(self) -> float:
        """Seconds until the time limit."""
        limit: float = self.given.time_limit
        return limit - (time.monotonic() - self.begun)

    def load(self, port: int, count: int, connections: int, rate: float = 0, first: int = 0) -> dict[str, Any]:
        """Run the load generator once."""
        options: Mapping[str, Any] = {
            "port": port,
            "secret": SECRET,
            "requests": count,
            "connections": connections,
            "rate": rate,
            "first": first,
            "most-s": max(self.left_s, 1),
        }
        command = _LOAD + [part for name, value in options.items() for part in (f"--{name}", str(value))]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=max(self.left_s, 1) + 10)
        if done.returncode:
            raise Failed(done.stderr.strip())
        found: dict[str, Any] = json.loads(done.stdout)
        if wrong := {status: number for status, number in found["statuses"].items() if not status.startswith("2")}:
            raise Failed(f"answers that were not 2xx: {wrong}")
        return found

    def round(self, program: Program) -> None:
        """Empty Redis, post as fast as the server takes it, then at the modest rate; check, remember."""
        port = self.ports[program]
        self.client.flushall()
        fast = self.load(port, self.given.requests, self.given.connections)
        modest_count = int(self.given.rate * self.given.latency_seconds)
        modest = self.load(port, modest_count, _LATENCY_CONNECTIONS, self.given.rate, first=self.given.requests)
        sent = self.given.requests + modest_count
        kept = self.kept(program)
        if kept != sent:
            raise Failed(f"{program.name}: {sent} answered 2xx, {kept} in Redis")
        self.rounds[program].append({"fast": fast, "modest": modest, "sent": sent, "kept": kept})
        print(f"  {_line(program, fast, modest)}   {kept} of {sent} in Redis", flush=True)

    def kept(self, program: Program) -> int:
        """Events in Redis: messages in the queue; with us also events in the ledger, which must be as many."""
        queued = int(self.client.llen(program.queue))
        if program is OURS:
            ledger = int(self.client.zcard("router:accepted"))
            counted = int(self.client.hget("router:counts", "source/encharge/accepted") or 0)
            if not ledger == counted == queued:
                raise Failed(f"ledger {ledger}, counted {counted}, tickets {queued}")
        return queued

    def median(self, program: Program, phase: str, key: str) -> float:
        """Over the rounds."""
        return statistics.median(each[phase][key] for each in self.rounds[program])


def main() -> None:
    """Measure, print, write the report; status 1 when a check failed."""
    given = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    try:
        with tempfile.TemporaryDirectory(prefix="accept-bench-") as folder, contextlib.ExitStack() as stack:
            _measure(given, Path(folder), stack)
    except Failed as failed:
        sys.exit(f"benchmark failed: {failed}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="of each program (3)")
    parser.add_argument("--requests", type=int, default=4000, help="of a throughput round (4000)")
    parser.add_argument("--connections", type=int, default=16, help="of a throughput round (16)")
    parser.add_argument("--rate", type=float, default=300, help="requests a second of a latency round (300)")
    parser.add_argument("--latency-seconds", type=float, default=2, help="length of a latency round (2)")
    parser.add_argument("--granian", default="", help="options for both web servers, e.g. '--workers 2'")
    parser.add_argument("--time-limit", type=float, default=60, help="seconds for everything (60)")
    parser.add_argument("--report", type=Path, default=_REPORT)
    return parser.parse_args()


def _measure(given: argparse.Namespace, folder: Path, stack: contextlib.ExitStack) -> None:
    server = stack.enter_context(own_redis(folder / "redis"))
    bench = Bench(given, redis.Redis.from_url(server.url, socket_timeout=10))
    generator = _own_speed(bench)
    print(
        f"load generator alone: {generator['per_second']:,.0f} requests/s against a trivial server, "
        f"{generator['own_processor_us_per_request']:.0f} µs of processor time each"
    )
    for program in (OURS, STOCK):
        bench.ports[program] = stack.enter_context(web(program, given, server.url, folder))
        bench.load(bench.ports[program], 300, given.connections)
    print(f"web server: granian {' '.join(_options(given))}")
    for number in range(given.rounds):
        begun = time.monotonic()
        for program in (OURS, STOCK):
            bench.round(program)
        if number + 1 < given.rounds and bench.left_s < (time.monotonic() - begun) * 1.3 + 2:
            print(f"  stopped after {number + 1} rounds: the time limit is {given.time_limit:.0f} s")
            break
    _report(bench, generator, server.what)


def _own_speed(bench: Bench) -> dict[str, Any]:
    with ended_at_last(
        subprocess.Popen([*_LOAD, "--trivial-server"], stdout=subprocess.PIPE, text=True, start_new_session=True)
    ) as trivial:
        port = int((trivial.stdout and trivial.stdout.readline()) or 0)
        return bench.load(port, 10_000, bench.given.connections)


def _options(given: argparse.Namespace) -> list[str]:
    """What follows `granian` on the command line of the product, without address and application, then ours."""
    command = web_command(0)[3:-1]
    for name in ("--host", "--port"):
        at = command.index(name)
        del command[at : at + 2]
    return [*command, *shlex.split(given.granian)]


@contextlib.contextmanager
def own_redis(folder: Path) -> Iterator[Server]:
    """A Redis of this run only, with an append-only file: an empty environment, so never the Redis of REDIS_URL."""
    server = redis_server.ensure({}, folder)
    pid = int(json.loads((folder / "server.json").read_text())["pid"])
    try:
        yield server
    finally:
        redis_server.stop(server)
        deadline = time.monotonic() + _STOP_S
        with contextlib.suppress(ChildProcessError):  # subprocess has waited for it already
            while os.waitpid(pid, os.WNOHANG) == (0, 0):
                if time.monotonic() > deadline:
                    os.kill(pid, signal.SIGKILL)
                time.sleep(0.02)


@contextlib.contextmanager
def web(program: Program, given: argparse.Namespace, redis_url: str, folder: Path) -> Iterator[int]:
    port = redis_server.free_port()
    environ = {
        "PATH": os.environ.get("PATH", ""),
        "PYTHONPATH": str(_HERE),
        "REDIS_URL": redis_url,
        "ENCHARGE_WEBHOOK_SECRET": SECRET,
        "ENCHARGE_WRITE_KEY": "benchmark",
        "SPOOL_FOLDER": str(folder / "spool"),
    }
    log = folder / f"{program.target}.log"
    command = [*web_command(port)[:-1], *shlex.split(given.granian), program.target]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=environ, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    with ended_at_last(process):
        deadline = time.monotonic() + _START_S
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise Failed(f"{program.name} did not start:\n{log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.05)
        yield port


def _answers(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/livez", timeout=1).close()
    except urllib.error.HTTPError as answer:
        answer.close()  # the stock program has no such address, but it answers
    except OSError:
        return False
    return True


@contextlib.contextmanager
def ended_at_last(process: "subprocess.Popen[Any]") -> Iterator["subprocess.Popen[Any]"]:
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _line(program: Program, fast: Mapping[str, float], modest: Mapping[str, float]) -> str:
    return (
        f"{program.name:<21} {fast['per_second']:>7,.0f} events/s  p50 {fast['p50_ms']:6.2f} ms  "
        f"p99 {fast['p99_ms']:6.2f} ms   at the fixed rate: p50 {modest['p50_ms']:5.2f} ms  "
        f"p99 {modest['p99_ms']:6.2f} ms"
    )


def _report(bench: Bench, generator: Mapping[str, Any], redis_what: str) -> None:
    given = bench.given
    print(
        f"medians of {len(bench.rounds[OURS])} rounds, {given.connections} connections; fixed rate {given.rate:.0f}/s:"
    )
    medians: dict[str, Any] = {}
    for program in (OURS, STOCK):
        medians[program.name] = {
            phase: {key: bench.median(program, phase, key) for key in ("per_second", "p50_ms", "p99_ms")}
            for phase in ("fast", "modest")
        }
        print(f"  {_line(program, medians[program.name]['fast'], medians[program.name]['modest'])}")
    sent = sum(each["sent"] for rounds in bench.rounds.values() for each in rounds)
    print(f"checked: {sent} requests, {sent} answers 2xx, {sent} events in Redis")
    ours, stock = medians[OURS.name], medians[STOCK.name]
    ratio = ours["fast"]["per_second"] / stock["fast"]["per_second"]
    each = [a["fast"]["per_second"] / b["fast"]["per_second"] for a, b in zip(*bench.rounds.values(), strict=True)]
    _write(
        given.report,
        {
            "ratio": ratio,
            "ratio_of_each_round": each,
            "medians": medians,
            "rounds": {program.name: rounds for program, rounds in bench.rounds.items()},
            "granian": _options(given),
            "connections": given.connections,
            "rate": given.rate,
            "load_generator": generator,
            "redis": redis_what,
            "python": platform.python_version(),
            "processors": os.cpu_count(),
            "versions": {name: version(name) for name in ("granian", "flask", "celery", "kombu", "redis")},
        },
    )
    spread = f"{min(each):.2f} to {max(each):.2f}"
    print(
        f"RATIO {ratio:.2f} (rounds: {spread}): {OURS.name} accepts {ours['fast']['per_second']:,.0f} events/s, "
        f"{STOCK.name} {stock['fast']['per_second']:,.0f}; p99 at {given.rate:.0f}/s "
        f"{ours['modest']['p99_ms']:.2f} ms beside {stock['modest']['p99_ms']:.2f} ms"
    )


def _write(path: Path, report: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
