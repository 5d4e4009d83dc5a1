"""What stalled senders do to a post that comes meanwhile: to granian directly, and through deploy/nginx.conf.

Starts Redis, the endpoint and nginx (which must be installed) on 127.0.0.1, measures, and ends them again.
docs/adr/0004-web-server.md has the figures. `make bench` does not run it.
"""

import argparse
import contextlib
import http.client
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path

import accept
import load

from cli import redis_server

_CONFIGURATION = Path(__file__).resolve().parent.parent / "deploy" / "nginx.conf"
_PATH = "/webhooks/encharge"
_PATIENCE_S = 5.0
_MOST_S = 40.0


def main() -> None:
    """Measure both ways, and what nginx does with limits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stalled", type=int, default=60, help="connections that send half a body (60)")
    parser.add_argument("--posts", type=int, default=20, help="normal posts to measure (20)")
    parser.add_argument("--granian", default="--workers 2 --blocking-threads 4 --http 1", help="its options")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    if shutil.which("nginx") is None:
        sys.exit("nginx is not on the PATH")
    with tempfile.TemporaryDirectory(prefix="slow-senders-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)  # nginx' workers are another user when root starts it
        server = stack.enter_context(accept.own_redis(folder / "redis"))
        web = stack.enter_context(accept.web(accept.OURS, Namespace(granian=given.granian), server.url, folder))
        proxy = stack.enter_context(_nginx(web, folder))
        for where, port in (("granian", web), ("nginx", proxy)):
            for stalled in (0, given.stalled):
                print(f"{where}, {stalled} stalled: {_posts(port, given.posts, stalled)}", flush=True)
        print(f"granian, after the stalled connections were closed: {_posts(web, given.posts, 0)}")
        print(f"nginx, 1.5 MB: {_answer(proxy, _request(b'x' * 1_500_000))}")
        print(f"nginx, 300 kB: {_answer(proxy, _request(b'x' * 300_000))}")
        print(f"nginx, chunked body: {_answer(proxy, _chunked())}")
        print(f"granian, chunked body: {_answer(web, _chunked())}")
        print(f"nginx, /metrics: {_answer(proxy, b'GET /metrics HTTP/1.1' + _HOST)}")
        print(f"nginx, half a body, then nothing: {_answer(proxy, _half())}")
        print(f"nginx, half the headers, then nothing: {_answer(proxy, _half()[:60])}")
        print(f"granian, half a body, then nothing: {_answer(web, _half())}")
        print(f"granian, idle keep-alive connection: {_idle(web)}")
        print(f"nginx, as many posts as it takes: {_fast(proxy)}; granian directly: {_fast(web)}")


_HOST = b"\r\nHost: x\r\nConnection: close\r\n\r\n"


@contextlib.contextmanager
def _nginx(web: int, folder: Path) -> Iterator[int]:
    """Nginx with a copy of our configuration; only addresses and the folder of its files differ."""
    port = redis_server.free_port()
    text = _CONFIGURATION.read_text(encoding="utf-8")
    for there, here in (
        ("server web:8080;", f"server 127.0.0.1:{web};"),
        ("listen 8080;", f"listen 127.0.0.1:{port};"),
        ("/tmp/", f"{folder}/nginx-"),
        ("/dev/stdout", f"{folder}/access.log"),
        ("/dev/stderr", f"{folder}/error.log"),
    ):
        if there not in text:
            sys.exit(f"{_CONFIGURATION} has no {there!r}")
        text = text.replace(there, here)
    copy = folder / "nginx.conf"
    copy.write_text(text, encoding="utf-8")
    process = subprocess.Popen(
        ["nginx", "-c", str(copy), "-e", str(folder / "start.log"), "-g", "daemon off;"], start_new_session=True
    )
    with accept.ended_at_last(process):
        deadline = time.monotonic() + 5
        while _answer(port, b"GET /livez HTTP/1.1" + _HOST)[:3] != "200":
            if time.monotonic() > deadline or process.poll() is not None:
                sys.exit(f"nginx did not start: {(folder / 'start.log').read_text()}")
            time.sleep(0.05)
        yield port


def _request(body: bytes) -> bytes:
    head = (
        f"POST {_PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\n"
        f"Authorization: Bearer {accept.SECRET}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _half() -> bytes:
    whole = load.request(_PATH, accept.SECRET, 0)
    return whole[: len(whole) - 100]


def _chunked() -> bytes:
    head, _, body = load.request(_PATH, accept.SECRET, time.monotonic_ns()).partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.startswith(b"Content-Length")]
    chunk = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    return b"\r\n".join([*lines, b"Transfer-Encoding: chunked", b"Connection: close", b"", chunk])


def _posts(port: int, count: int, stalled: int) -> str:
    """Post one after the other, each on a connection of its own, while others have sent half a body."""
    with contextlib.ExitStack() as stack:
        for _ in range(stalled):
            sender = stack.enter_context(socket.create_connection((load.HOST, port)))
            sender.sendall(_half())
        time.sleep(0.5)
        took = []
        for _ in range(count):
            begun = time.monotonic()
            if not _post(port):
                unanswered = f"no answer within {_PATIENCE_S:.0f} s"
                return f"{len(took)} of {len(took) + 1} posts answered, then {unanswered}"
            took.append((time.monotonic() - begun) * 1000)
        return f"{count} of {count} posts answered 200, median {statistics.median(took):.1f} ms, max {max(took):.1f} ms"


def _post(port: int) -> bool:
    connection = http.client.HTTPConnection(load.HOST, port, timeout=_PATIENCE_S)
    with contextlib.closing(connection):
        try:
            connection.putrequest("POST", _PATH)
            body = load.request(_PATH, accept.SECRET, time.monotonic_ns()).partition(b"\r\n\r\n")[2]
            for key, value in _headers(body):
                connection.putheader(key, value)
            connection.endheaders(body)
            return connection.getresponse().status == http.HTTPStatus.OK
        except TimeoutError:
            return False


def _headers(body: bytes) -> Sequence[tuple[str, str]]:
    return (
        ("Content-Type", "application/json"),
        ("Authorization", f"Bearer {accept.SECRET}"),
        ("Content-Length", str(len(body))),
    )


def _answer(port: int, data: bytes) -> str:
    """Send, then say what came back and when."""
    begun = time.monotonic()
    received = b""
    try:
        with socket.create_connection((load.HOST, port), timeout=_MOST_S) as sender:
            with contextlib.suppress(OSError):  # closed while we were sending: the answer may be there all the same
                sender.sendall(data)
            while part := sender.recv(65536):
                received += part
        end = "closed"
    except TimeoutError:
        end = "still open"
    except OSError as error:
        end = type(error).__name__
    head, _, body = received.partition(b"\r\n\r\n")
    answer = f"{head[9:12].decode()} {body[:120].decode()}".strip() or "no answer"
    return f"{answer}; {end} after {time.monotonic() - begun:.1f} s"


def _idle(port: int) -> str:
    begun = time.monotonic()
    with socket.create_connection((load.HOST, port), timeout=_MOST_S) as sender:
        sender.sendall(load.request(_PATH, accept.SECRET, time.monotonic_ns()))
        try:
            while sender.recv(65536):
                pass
        except TimeoutError:
            return f"still open after {_MOST_S:.0f} s"
    return f"closed after {time.monotonic() - begun:.1f} s"


def _fast(port: int) -> str:
    requests = [load.request(_PATH, accept.SECRET, time.monotonic_ns()) for _ in range(3000)]
    posts = load.Load(port, requests, 16)
    took_s = posts.run(0, 20)
    p99_ms = load.quantile(posts.latencies, 0.99) * 1000
    return f"{len(requests) / took_s:,.0f}/s, p99 {p99_ms:.1f} ms, statuses {posts.statuses}"


if __name__ == "__main__":
    main()
