"""The router's processes on one machine, for demo and up: started, watched, stopped, and not doubled."""

import contextlib
import dataclasses
import fcntl
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import requests

import config
from cli import redis_server
from cli.redis_server import Server, pick_port
from sandbox.tokens import ACTIVATEPRO_TOKEN, SEGMENT_KEY

_STOP_S = 10.0
_READY_S = 30.0


def web_command(port: int) -> list[str]:
    """The web process. Blocking threads: enough that a slow Redis call of one request does not hold the next."""
    return [
        *(sys.executable, "-m", "granian", "--interface", "wsgi", "--host", "127.0.0.1", "--port", str(port)),
        *("--workers", "1", "--blocking-threads", "4", "--http", "1", "--http1-buffer-size", "65536"),
        *("--no-ws", "app.wsgi:app"),
    ]


WORKER = [
    sys.executable,
    "-m",
    "celery",
    "-A",
    "tasks",
    "worker",
    "--without-gossip",
    "--without-mingle",
    "-l",
    "INFO",
]


#: Reads the streams of sources that have one; other routers need no such process.
KINESIS = [sys.executable, "-c", "from cli.main import main; main()", "kinesis"]


def flower_command(port: int) -> list[str]:
    """Flower, the operators' window, with the options of config/flower.py."""
    options = Path(config.__file__).with_name("flower.py")
    return [
        *(sys.executable, "-m", "celery", "-A", "tasks.flower", "flower"),
        *(f"--conf={options}", f"--port={port}", "--loglevel=WARNING"),
    ]


def sandbox_command(port: int, *, reveal: bool = False) -> list[str]:
    """The stand-in Encharge; its keys are those of the environment (ENCHARGE_WRITE_KEY, ENCHARGE_API_KEY)."""
    return [sys.executable, "-m", "sandbox", "--port", str(port), *(["--reveal"] if reveal else [])]


@dataclasses.dataclass
class Process:
    """One of them, with its log file."""

    name: str
    command: Sequence[str]
    environ: Mapping[str, str]
    popen: "subprocess.Popen[bytes]"
    log: Path


@dataclasses.dataclass(frozen=True)
class Stack:
    """What runs: addresses, the environment all were started with, and the processes."""

    environ: Mapping[str, str]
    folder: Path
    redis: Server
    web_url: str
    sandbox_url: str | None
    secret: str
    processes: dict[str, Process]

    def start(self, name: str, command: Sequence[str], environ: Mapping[str, str] | None = None) -> Process:
        """Start a process; its output goes to <folder>/log/<name>.log. `environ`: what only this one gets to know."""
        log = self.folder / "log" / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            popen = subprocess.Popen(
                command,
                env={**self.environ, **(environ or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        process = Process(name, command, environ or {}, popen, log)
        self.processes[name] = process
        note = {name: {"pid": each.popen.pid, "command": list(each.command)} for name, each in self.processes.items()}
        (self.folder / "processes.json").write_text(json.dumps(note))
        return process

    def stop(self) -> None:
        """Stop everything that was started, the newest first."""
        for process in reversed(list(self.processes.values())):
            _stop(process.popen)
        (self.folder / "processes.json").unlink(missing_ok=True)
        redis_server.stop(self.redis)


@contextlib.contextmanager
def running(
    environ: Mapping[str, str], folder: Path, ports: Mapping[str, int], *, reveal: bool = False
) -> Iterator[Stack]:
    """Redis, sandbox (without an Encharge key), web and worker, ready; stopped at the end.

    `reveal`: the sandbox shows what it was sent, not only how much.

    `ports` gives wished ports by name ("web", "sandbox"); one that is taken, or not given, becomes a free one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)  # people's data and secrets are in it
    with _only_one(folder):
        _stop_left_by_earlier_run(folder)
        server = redis_server.ensure(environ, folder / "redis", guarded=True)
        click.echo(f"Redis    {server.url if server.ours else 'as set in REDIS_URL'} ({server.what})")
        web_port = pick_port(ports.get("web"))
        env = dict(environ)
        env["REDIS_URL"] = server.url
        env.setdefault("SPOOL_FOLDER", str((folder / "spool").resolve()))
        if "worker" in ports:
            env.setdefault("WORKER_METRICS_PORT", str(pick_port(ports["worker"])))
        secret = env.setdefault("ENCHARGE_WEBHOOK_SECRET", secrets.token_urlsafe(24))
        sandbox_url = None
        sandbox_port = 0
        keys = ("sandbox-write-key", "sandbox-api-key")
        if not env.get("ENCHARGE_WRITE_KEY"):
            sandbox_port = pick_port(ports.get("sandbox"))
            sandbox_url = f"http://127.0.0.1:{sandbox_port}"
            env["ENCHARGE_WRITE_KEY"], env["ENCHARGE_API_KEY"] = keys
            env["ENCHARGE_INGEST_URL"] = f"{sandbox_url}/ingest/v1/"
            env["ENCHARGE_API_URL"] = f"{sandbox_url}/api/v1"
            _others_in_the_sandbox(env, sandbox_url)
        stack = Stack(env, folder, server, f"http://127.0.0.1:{web_port}", sandbox_url, secret, {})
        try:
            if sandbox_url:
                stack.start("sandbox", sandbox_command(sandbox_port, reveal=reveal))
            stack.start("web", web_command(web_port))
            stack.start("worker", WORKER)
            wait_ready(stack)
            yield stack
        finally:
            stack.stop()


def _others_in_the_sandbox(env: dict[str, str], url: str) -> None:
    """The other systems that routes send to; those whose key is set are meant."""
    for key, token, address, path in (
        ("ACTIVATEPRO_TOKEN", ACTIVATEPRO_TOKEN, "ACTIVATEPRO_URL", "/activatepro"),
        ("SEGMENT_WRITE_KEY", SEGMENT_KEY, "SEGMENT_URL", "/segment/v1"),
    ):
        if not env.get(key):
            env[key], env[address] = token, f"{url}{path}"


def wait_ready(stack: Stack) -> None:
    """Wait until web, sandbox and worker do their work; ends the command when one of them ended instead."""
    worker = stack.processes["worker"]
    begun = worker.log.stat().st_size if worker.log.exists() else 0
    waiting = {"web": f"{stack.web_url}/readyz", "worker": ""}
    if stack.sandbox_url:
        waiting["sandbox"] = f"{stack.sandbox_url}/_sandbox/health"
    deadline = time.monotonic() + _READY_S
    while waiting:
        for name, url in list(waiting.items()):
            process = stack.processes[name]
            if process.popen.poll() is not None:
                raise click.ClickException(f"{name} did not start:\n{_tail(process.log)}")
            if answers(url) if url else b" ready." in worker.log.read_bytes()[max(0, begun - 65536) :]:
                del waiting[name]
        if time.monotonic() > deadline:
            raise click.ClickException(
                f"not ready after {_READY_S:.0f} s: {', '.join(waiting)}; see {stack.folder}/log"
            )
        time.sleep(0.05)


def answers(url: str) -> bool:
    """Whether something answers there, and well."""
    try:
        return requests.get(url, timeout=1).ok
    except requests.RequestException:
        return False


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-20:])


@contextlib.contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise click.ClickException(f"it runs already ({folder}); stop that one first") from None
        yield


def _stop_left_by_earlier_run(folder: Path) -> None:
    """A run that was killed leaves its processes; end those that are still what they were."""
    try:
        notes: dict[str, dict[str, Any]] = json.loads((folder / "processes.json").read_text())
    except (OSError, ValueError):
        return
    ours = {(int(note["pid"]), " ".join(note["command"])) for note in notes.values()}
    # By group, not by process: children live on when only their parent was killed.
    for group in {group for group, command in _groups_and_commands() if (group, command) in ours}:
        _end_group(group, signal.SIGTERM)
        deadline = time.monotonic() + _STOP_S
        while time.monotonic() < deadline and group in {each for each, _ in _groups_and_commands()}:
            time.sleep(0.1)
        _end_group(group, signal.SIGKILL)


def _groups_and_commands() -> list[tuple[int, str]]:
    listed = subprocess.run(["ps", "-ww", "-eo", "pgid=,command="], capture_output=True, text=True, check=False).stdout
    rows = [line.strip().partition(" ") for line in listed.splitlines()]
    return [(int(group), command.strip()) for group, _, command in rows if group.isdigit()]


def _stop(popen: "subprocess.Popen[bytes]") -> None:
    """TERM to the process, KILL to whatever is left of its group."""
    popen.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        popen.wait(_STOP_S)
    _end_group(popen.pid, signal.SIGKILL)
    popen.wait()


def _end_group(group: int, by: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, by)
