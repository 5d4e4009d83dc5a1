"""The two ways to run everything on a bare machine, and the check before it."""

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from conftest import Router, wait

COMMAND = [sys.executable, "-c", "from cli.main import main; main()"]


def samples(kind: str) -> Any:
    """Each as its sender posts it."""
    return json.loads((Path(__file__).parents[2] / "cli" / "samples" / f"{kind}.json").read_text())


KINDS = samples("encharge")


def bare_environment(**more: str) -> dict[str, str]:
    """What a new shell has: none of the router's settings."""
    return {**{name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}, **more}


def run(cwd: Path, *args: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*COMMAND, *args],
        cwd=cwd,
        env=bare_environment(**environ),
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
    )


class Up:
    """`event-router up` in the background."""

    def __init__(self, folder: Path) -> None:
        self.output = folder / "output"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [*COMMAND, "up"],
                cwd=folder,
                env=bare_environment(FLOWER_UNAUTHENTICATED_API="true", PYTHONUNBUFFERED="1"),
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        wait(lambda: "Ctrl-C stops" in self.text(), 60, "up has started", self.process)

    def text(self) -> str:
        return self.output.read_text()

    def found(self, pattern: str) -> str:
        match = re.findall(pattern, self.text())
        assert match, self.text()
        text: str = match[-1]
        return text

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(30)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A working directory; whatever is still running out of it is ended."""
    yield tmp_path
    for note in tmp_path.glob("var/*/processes.json"):
        for process in json.loads(note.read_text()).values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process["pid"], signal.SIGKILL)
    for note in tmp_path.glob("var/*/redis/server.json"):
        with contextlib.suppress(ProcessLookupError):
            os.kill(json.loads(note.read_text())["pid"], signal.SIGKILL)


@pytest.fixture
def started(folder: Path) -> Iterator[contextlib.ExitStack]:
    """Ends what a test has started, before the folder's own fixture looks for leftovers."""
    with contextlib.ExitStack() as stack:
        yield stack


def test_demo_shows_one_event_of_every_kind(folder: Path) -> None:
    """Every sample of every source has a row; what may be delivered is, nothing waits, the equation holds, status 0."""
    done = run(folder, "demo")
    assert done.returncode == 0, done.stdout + done.stderr
    for sample in KINDS:
        assert re.search(rf"^encharge · {re.escape(sample['event'])} .* delivered \(200\)", done.stdout, re.MULTILINE)
    for sample in samples("activity_sync"):
        # Somebody of whom there is only a phone number is nobody to Encharge; outbound events only tell who it is.
        end = "filtered" if re.match("outbound|inbound", sample["kind"]) else r"delivered \(200\)"
        assert re.search(rf"^activity_sync · {sample['kind']} .* {end}", done.stdout, re.MULTILINE)
    messages = samples("activatepro")
    for sample in messages[1:]:
        assert re.search(rf"^activatepro · {sample['event']} .* delivered \(200\)", done.stdout, re.MULTILINE)
    posted = len(KINDS) + len(samples("activity_sync")) + len(messages) - 1 + len(messages[0]["events"])
    said = f"{posted} events posted, {posted - 4} delivered, 4 filtered, 0 waiting, the equation holds"
    assert said in done.stdout
    again = run(folder, "demo")
    assert again.returncode == 0, again.stdout + again.stderr
    assert f"accepted {2 * posted} = delivered {2 * posted - 8} + filtered 8" in again.stdout


def test_up_carries_the_event_of_its_curl_line_and_takes_over_after_a_kill(
    folder: Path, started: contextlib.ExitStack
) -> None:
    """What up prints works; Flower names the event and shows nobody's address; a killed run is taken over."""
    up = started.enter_context(contextlib.closing(Up(folder)))
    web, flower, sandbox = (up.found(rf"{name} +(http://127\.0\.0\.1:\d+)") for name in ("web", "Flower", "Encharge"))
    wait(lambda: "flower_worker_online{" in requests.get(f"{flower}/metrics", timeout=5).text, 20, "Flower listens")
    curl = shlex.split(up.found(r"(curl -i [\s\S]*?\}')").replace("\\\n", " "))
    headers = dict(curl[i + 1].split(": ", 1) for i, word in enumerate(curl) if word == "-H")
    answer = requests.post(curl[2], data=curl[curl.index("-d") + 1], headers=headers, timeout=10)
    assert (answer.status_code, answer.json()["code"]) == (200, "accepted")
    state = f"{sandbox}/_sandbox/state"
    wait(lambda: bool(requests.get(state, timeout=5).json()["people"]), 10, "the person arrived")
    user, password = up.found(r"Flower .*\((router:\S+)\)").split(":")
    assert requests.get(f"{flower}/api/tasks", timeout=5).status_code == 401

    def tasks() -> str:
        return requests.get(f"{flower}/api/tasks", auth=(user, password), timeout=5).text

    wait(lambda: "SUCCESS" in tasks(), 15, "Flower shows what became of it")
    shown = tasks()
    task = next(iter(json.loads(shown).values()))
    assert task["name"] == "encharge · added-tag-vip"
    assert task["state"] == "SUCCESS"
    assert answer.json()["ids"][0] in task["args"]
    assert "someone@example.com" not in shown
    for page in ("/metrics", "/readyz", "/livez"):
        assert requests.get(web + page, timeout=5).status_code == 200
    assert 'event_router_source_events_total{source="encharge",state="delivered"} 1.0' in (
        requests.get(f"{web}/metrics", timeout=5).text
    )

    # Nothing of it is for other users of the machine: not the files, not the secrets.
    assert not any(
        (folder / "var/up" / name).stat().st_mode & 0o077 for name in ("", "environment", "redis/redis.conf")
    )
    secrets = [
        password,
        headers["Authorization"].split()[1],
        (folder / "var/up/redis/redis.conf").read_text().split()[1],
    ]
    listed = subprocess.run(["ps", "-ww", "-eo", "command="], capture_output=True, text=True, check=True).stdout
    assert not [secret for secret in secrets if secret in listed]

    up.process.kill()
    up.process.wait()
    redis_before = json.loads((folder / "var/up/redis/server.json").read_text())
    again = started.enter_context(contextlib.closing(Up(folder)))
    assert json.loads((folder / "var/up/redis/server.json").read_text()) == redis_before
    web = again.found(r"web +(http://127\.0\.0\.1:\d+)")
    assert 'state="delivered"} 1.0' in requests.get(f"{web}/metrics", timeout=5).text
    second = subprocess.run(
        [*COMMAND, "up"], cwd=folder, env=bare_environment(), capture_output=True, text=True, check=False, timeout=30
    )
    assert second.returncode != 0
    assert "runs already" in second.stderr
    pids = [note["pid"] for note in json.loads((folder / "var/up/processes.json").read_text()).values()]
    again.close()
    left = subprocess.run(
        ["ps", "-o", "pid=,stat=,command=", "-p", ",".join(map(str, pids))], capture_output=True, text=True, check=False
    )
    assert left.stdout == ""
    for log in (folder / "var/up/log").iterdir():
        assert "someone@example.com" not in log.read_text()


def test_check_reports_every_problem_with_file_line_and_key(folder: Path) -> None:
    """Settings, sources and routes are wrong in several places: one run names them all."""
    (folder / "routes.yaml").write_text(
        "version: 1\nroutes:\n"
        "  - {name: A b, source: nobody, trigger: 'event =', action: tag_user, mapping: {tg: x}}\n"
        "  - name: two\n    action: tag\n"
    )
    (folder / "sources.yaml").write_text(
        "version: 1\nsources:\n  encharge:\n    kind: encharge\n    secrets: [NOT_SET]\n"
    )
    files = {"ROUTES_FILE": "routes.yaml", "SOURCES_FILE": "sources.yaml"}
    done = run(folder, "check", "--offline", "--json", RETRY_BASE_S="soon", ENCHARGE_INGEST_URL="ftp://x", **files)
    problems = json.loads(done.stdout)["problems"]
    assert done.returncode == 1
    assert [problem for problem in problems if "RETRY_BASE_S" in problem]
    assert [problem for problem in problems if "ENCHARGE_INGEST_URL" in problem]
    assert [problem for problem in problems if problem.startswith("sources.yaml:5: sources.encharge.secrets: none of")]
    assert [problem for problem in problems if problem.startswith("routes.yaml:3: routes.0.name: ")]
    assert [problem for problem in problems if problem.startswith("routes.yaml:5: routes.1.action: ")]


def test_nothing_starts_without_a_secret(folder: Path) -> None:
    """Web process and worker end at once with the list of problems, not with a traceback."""
    web = subprocess.run(
        [sys.executable, "-c", "import app.wsgi"],
        env=bare_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert web.returncode == 1
    assert "sources.encharge.secrets: none of ENCHARGE_WEBHOOK_SECRET" in web.stderr
    assert "Traceback" not in web.stderr
    worker = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "tasks", "worker"],
        env=bare_environment(LEASE_S="never"),
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert worker.returncode == 1
    assert "environment: LEASE_S: must be a number (it is 'never')" in worker.stderr
    assert "Traceback" not in worker.stderr


def test_remote_control_leaves_no_dead_letters(make_router: Callable[..., Router]) -> None:
    """`celery inspect ping` is answered through queues of its own, which our channel lets pass."""
    router = make_router()
    router.start_worker()
    ping = [sys.executable, "-m", "celery", "-A", "tasks", "inspect", "ping", "--timeout", "5"]
    done = subprocess.run(ping, env=router.environ, capture_output=True, text=True, check=False, timeout=60)
    assert "pong" in done.stdout, done.stderr
    assert router.command("dead", "list", "--json") == ""
