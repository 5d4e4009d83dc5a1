"""The sandbox as a process: what only a real connection shows (reset, hang, keep-alive, many at a time)."""

import http.client
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
import requests

pytestmark = pytest.mark.timeout(60)

KEYS = {"X-Encharge-Token": "sandbox-write-key"}
EVENT = {"name": "Bought", "user": {"email": "one@example.com"}}


@contextmanager
def running(*options: str, **environ: str) -> Iterator[str]:
    """A sandbox on a free port; its address."""
    command = [sys.executable, "-m", "sandbox", "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | environ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            match = re.fullmatch(r"sandbox on (http://127\.0\.0\.1:\d+)\n", line)
            assert match, line
            yield match[1]
        finally:
            process.kill()


@pytest.fixture(scope="module")
def shared() -> Iterator[str]:
    with running() as address:
        yield address


@pytest.fixture
def sandbox(shared: str) -> str:
    """The shared process, without people, events and faults."""
    for what in ("state", "faults"):
        requests.delete(f"{shared}/_sandbox/{what}", timeout=5).raise_for_status()
    return shared


def send(address: str, event: Any = EVENT, timeout_s: float = 5) -> requests.Response:
    return requests.post(f"{address}/ingest/v1/", json=event, headers=KEYS, timeout=timeout_s)


def put_faults(address: str, *rules: dict[str, Any]) -> None:
    requests.put(f"{address}/_sandbox/faults", json=rules, timeout=5).raise_for_status()


def counts(address: str) -> dict[str, int]:
    return dict(requests.get(f"{address}/_sandbox/state", timeout=5).json()["counts"])


def test_reset_is_a_reset(sandbox: str) -> None:
    """The connection ends with RST, not with a polite FIN; the next request is served."""
    put_faults(sandbox, {"kind": "reset", "count": 1})
    with pytest.raises(requests.ConnectionError) as caught:
        send(sandbox)
    assert "Connection reset by peer" in str(caught.value)
    assert send(sandbox).status_code == 200
    assert counts(sandbox)["events"] == 1


def test_reset_after_the_work_makes_duplicates(sandbox: str) -> None:
    """The caller cannot know that the event was taken, sends it again, and it is there twice."""
    put_faults(sandbox, {"kind": "reset", "count": 1, "after": True})
    with pytest.raises(requests.ConnectionError):
        send(sandbox)
    send(sandbox)
    assert counts(sandbox)["events"] == 2


def test_hang_runs_into_the_callers_time_out(sandbox: str) -> None:
    """Nothing is answered, nothing is processed, and others are served meanwhile."""
    put_faults(sandbox, {"kind": "hang", "email": "one@example.com"})
    with ThreadPoolExecutor(20) as pool:
        hanging = [pool.submit(send, sandbox, timeout_s=0.8) for _ in range(20)]
        started_at = time.monotonic()
        other = {"name": "Bought", "user": {"email": "two@example.com"}}
        assert send(sandbox, other).status_code == 200
        assert time.monotonic() - started_at < 0.6
        for future in hanging:
            with pytest.raises(requests.ReadTimeout):
                future.result()
    assert (counts(sandbox)["events"], counts(sandbox)["faulted"]) == (1, 20)


def test_hang_ends(sandbox: str) -> None:
    """When the delay is over, the connection is closed without an answer."""
    put_faults(sandbox, {"kind": "hang", "delay_s": 0.2})
    with pytest.raises(requests.ConnectionError, match="without response"):
        send(sandbox)


def test_delay_after_the_work(sandbox: str) -> None:
    """A caller who gives up too early leaves an event behind; one who waits gets its answer."""
    put_faults(sandbox, {"kind": "delay", "delay_s": 0.5, "after": True})
    with pytest.raises(requests.ReadTimeout):
        send(sandbox, timeout_s=0.1)
    assert counts(sandbox)["events"] == 1
    assert send(sandbox).status_code == 200


def test_delay_before_the_work(sandbox: str) -> None:
    """A caller who left while waiting is not served."""
    put_faults(sandbox, {"kind": "delay", "delay_s": 0.3, "count": 1})
    with pytest.raises(requests.ReadTimeout):
        send(sandbox, timeout_s=0.1)
    time.sleep(0.4)
    assert counts(sandbox)["events"] == 0


def test_keep_alive_survives_unread_bodies(sandbox: str) -> None:
    """One connection carries refused, faulted, unknown and bodiless requests without getting out of step."""
    host = sandbox.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=5)
    put_faults(sandbox, {"status": 503, "path": "/api/v1/fields"})
    body = json.dumps(EVENT).encode()
    json_type = KEYS | {"Content-Type": "application/json"}
    calls: list[tuple[str, str, Any, int]] = [
        ("POST", "/ingest/v1", body, 200),
        ("POST", "/ingest/v1", b"x" * 100_000, 400),
        ("POST", "/nowhere", b"x" * 100_000, 404),
        ("GET", "/api/v1/fields", None, 503),
        ("DELETE", "/_sandbox/faults", None, 204),
        ("HEAD", "/_sandbox/health", None, 200),
        ("POST", "/ingest/v1/", body, 200),
    ]
    sockets = set()
    for method, path, sent, status in calls:
        connection.request(method, path, sent, json_type)
        sockets.add(connection.sock)
        answer = connection.getresponse()
        answer.read()
        assert (path, answer.status) == (path, status)
    connection.request("POST", "/ingest/v1", iter([body[:9], body[9:]]), json_type, encode_chunked=True)
    assert connection.getresponse().read() == b"OK"
    assert len(sockets) == 1
    connection.close()


def test_answers_do_not_wait_for_acknowledgements(sandbox: str) -> None:
    """Requests over one connection take far less than the 40 ms of a delayed acknowledgement."""
    with requests.Session() as session:
        started_at = time.monotonic()
        for _ in range(50):
            session.post(f"{sandbox}/ingest/v1/", json=EVENT, headers=KEYS, timeout=5).raise_for_status()
        assert time.monotonic() - started_at < 50 * 0.02


def test_half_a_body(sandbox: str) -> None:
    """A caller who dies in the middle of a body is no event."""
    host, port = sandbox.removeprefix("http://").split(":")
    head = "POST /ingest/v1 HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(head.encode())
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(100).startswith(b"HTTP/1.1 400 ")
    assert counts(sandbox)["requests"] == 0


def test_many_at_a_time(sandbox: str) -> None:
    """Concurrent events of one person are all kept, with numbers without gaps."""

    def worker(number: int) -> None:
        with requests.Session() as session:
            for index in range(25):
                event = {"name": "a", "user": {"userId": "1", "tags": f"t{number}-{index}"}}
                session.post(f"{sandbox}/ingest/v1", json=event, headers=KEYS, timeout=5).raise_for_status()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(worker, range(8)))
    events = requests.get(f"{sandbox}/_sandbox/events", timeout=5).json()["events"]
    assert [event["seq"] for event in events] == list(range(1, 201))
    assert len(requests.get(f"{sandbox}/_sandbox/state", timeout=5).json()["people"][0]["tags"]) == 200


class Receiver(BaseHTTPRequestHandler):
    """Keeps what is posted to it."""

    heard: list[tuple[str, str, Any]]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.heard.append((self.path, self.headers["Authorization"], body))
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Quiet."""


def test_activity_stream() -> None:
    """Changes are posted back in order, with the secret; keys of the environment are used."""
    heard: list[tuple[str, str, Any]] = []
    handler = type("Handler", (Receiver,), {"heard": heard})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/hook"
        secrets = {"SANDBOX_ACTIVITY_STREAM_SECRET": "s3", "ENCHARGE_WRITE_KEY": "k"}
        with running("--activity-stream", url, **secrets) as address:
            event = {"name": "identify", "user": {"email": "one@example.com", "tags": "a,b"}}
            assert send(address, event).status_code == 400
            answer = requests.post(f"{address}/ingest/v1/k", json=event, timeout=5)
            assert answer.status_code == 200
            deadline = time.monotonic() + 5
            while len(heard) < 3 and time.monotonic() < deadline:
                time.sleep(0.01)
        server.shutdown()
    assert [body["event"] for _, _, body in heard] == ["newUser", "added-tag-a", "added-tag-b"]
    assert {(path, secret) for path, secret, _ in heard} == {("/hook", "Bearer s3")}
