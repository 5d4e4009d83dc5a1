"""An HTTP server on loopback that answers as a test tells it, and keeps what came."""

import contextlib
import dataclasses
import gzip
import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ssl import SSLContext
from typing import Any


@dataclasses.dataclass(frozen=True)
class Came:
    """A request as it arrived."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """Its body, unpacked."""
        packed = self.headers.get("Content-Encoding") == "gzip"
        return json.loads(gzip.decompress(self.body) if packed else self.body)


@dataclasses.dataclass(frozen=True)
class Reply:
    """What to answer, or how to fail: `kind` "status", "chunked", "hang", "reset", "drip" or "drip_head"."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    kind: str = "status"


OK = Reply()
Answer = Callable[[Came], Reply]


class Peer:
    """The server. `answer` may be replaced at any time; `came` holds the requests in their order."""

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self.came: list[Came] = []
        self.answer: Answer = lambda _: OK
        self.closing = threading.Event()
        self.port = server.server_port
        self.host = str(server.server_address[0])

    @property
    def url(self) -> str:
        """Where it is, without TLS."""
        return f"http://{self.host}:{self.port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    peer: Peer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        came = Came(self.command, self.path, dict(self.headers), body)
        self.peer.came.append(came)
        reply = self.peer.answer(came)
        getattr(self, f"_{reply.kind}")(reply)

    do_DELETE = do_POST  # noqa: N815 - the base class's names

    def _status(self, reply: Reply) -> None:
        self._head(reply, len(reply.body))
        self.wfile.write(reply.body)

    def _head(self, reply: Reply, length: int | None) -> None:
        self.send_response(reply.status)
        framing = {"Transfer-Encoding": "chunked"} if length is None else {"Content-Length": str(length)}
        for name, value in {**reply.headers, **framing}.items():
            self.send_header(name, value)
        self.end_headers()

    def _hang(self, _: Reply) -> None:
        self.close_connection = True
        self.peer.closing.wait(10)

    def _reset(self, _: Reply) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def _chunked(self, reply: Reply) -> None:
        self._head(reply, None)
        for byte in reply.body:
            self.wfile.write(b"1\r\n%c\r\n" % byte)
        self.wfile.write(b"0\r\n\r\n")

    def _drip(self, reply: Reply) -> None:
        chunked = "Transfer-Encoding" in reply.headers
        self._head(reply, None if chunked else 1000)
        with contextlib.suppress(OSError):
            while not self.peer.closing.wait(0.03):
                self.wfile.write(b"1\r\nx\r\n" if chunked else b"x")
                self.wfile.flush()
        self.close_connection = True

    def finish(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            super().finish()

    def _drip_head(self, _: Reply) -> None:
        self.close_connection = True
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
        with contextlib.suppress(OSError):
            while not self.peer.closing.wait(0.03):
                self.wfile.write(b"x")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Quiet."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Clients that go away are what some tests are about."""


@contextlib.contextmanager
def serving(host: str = "127.0.0.1", port: int = 0, tls: SSLContext | None = None) -> Iterator[Peer]:
    """A peer at an address; with `tls` it speaks that."""
    handler = type("Handler", (_Handler,), {})
    with _Server((host, port), handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        peer = handler.peer = Peer(server)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield peer
        peer.closing.set()
        server.shutdown()
