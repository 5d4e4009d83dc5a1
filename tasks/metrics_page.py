"""The page /metrics, for the web's port and for a worker's own; and that port."""

import contextlib
import hmac
import socketserver
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.registry import Collector

log: Final = structlog.get_logger("tasks.metrics_page")

PATH: Final = "/metrics"
_THIS_MACHINE: Final = frozenset({"127.0.0.1", "::1", "::ffff:127.0.0.1"})
# Behind a proxy on this machine everybody seems to be local; proxies say for whom they ask.
_OF_PROXIES: Final = ("HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_PROTO", "HTTP_FORWARDED")
#: Whoever sends nothing for so long is hung up on.
_PATIENCE_S: Final = 10
#: An address that another has is tried again after this.
_AGAIN_S: Final = 5.0
#: How long it takes to notice that it is to stop.
_LOOK_S: Final = 0.1


class Page:
    """WSGI application. Without a token it answers this machine only (docs/adr/0011-who-may-read-metrics.md)."""

    def __init__(self, collector: Collector, token: str) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(collector)
        self._token = token

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request."""
        if environ.get("PATH_INFO") != PATH:
            status, headers, content = "404 Not Found", {}, b'{"code": "not_found"}'
        elif environ["REQUEST_METHOD"] not in {"GET", "HEAD"}:
            status, headers, content = "405 Method Not Allowed", {"Allow": "GET, HEAD"}, b'{"code": "not_allowed"}'
        elif not may_read(self._token, environ):
            status, headers, content = "401 Unauthorized", {"WWW-Authenticate": "Bearer"}, b'{"code": "unauthorized"}'
        else:
            status, headers, content = "200 OK", {"Content-Type": CONTENT_TYPE_LATEST}, generate_latest(self._registry)
        told = {"Content-Type": "application/json", "Content-Length": str(len(content)), **headers}
        start_response(status, list(told.items()))
        return [b"" if environ["REQUEST_METHOD"] == "HEAD" else content]


def may_read(token: str, environ: Mapping[str, Any]) -> bool:
    """Whether a request may read the metrics; `environ` as PEP 3333 has it."""
    if token:
        scheme, _, given = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        known = hmac.compare_digest(given.strip().encode("utf-8", "replace"), token.encode())
        return known and scheme.lower() == "bearer"
    forwarded = any(name in environ for name in _OF_PROXIES)
    return not forwarded and environ.get("REMOTE_ADDR") in _THIS_MACHINE


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def server_bind(self) -> None:
        # Not HTTPServer's, which asks the name service who we are, and may wait for it.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()

    def handle_error(self, *_: Any) -> None:
        log.info("metrics.broken_off")  # whoever asked is gone, or never asked


class _Handler(WSGIRequestHandler):
    timeout = _PATIENCE_S
    server_version = "event-router"
    sys_version = ""

    def log_message(self, *_: Any) -> None:
        """Nothing: who reads metrics reads them for ever."""


def serve(page: Page, host: str, port: int, again_s: float = _AGAIN_S) -> Callable[[], None]:
    """Serve the page in threads that end with the process. Gives how to stop.

    While the address cannot be had, it is tried again every so often: it may be another worker's, which tells the same
    numbers as long as it lives. The router goes on without.
    """
    over = threading.Event()

    def run(server: _Server | None) -> None:
        while server is None:
            if over.wait(again_s):
                return
            with contextlib.suppress(OSError):
                server = _bound(page, host, port)
        log.info("metrics.served", host=host, port=server.server_port)
        server.timeout = _LOOK_S
        with server:
            while not over.is_set():
                server.handle_request()

    server = None
    try:
        server = _bound(page, host, port)
    except OSError as error:
        log.warning(
            "metrics.not_served",
            host=host,
            port=port,
            error=type(error).__name__,
            reason=error.strerror,
            again_s=again_s,
            meaning="taken by another worker of this machine? It tells the same numbers; or set WORKER_METRICS_PORT",
        )
    thread = threading.Thread(target=run, args=(server,), name="metrics", daemon=True)
    thread.start()

    def stop() -> None:
        over.set()
        thread.join()

    return stop


def _bound(page: Page, host: str, port: int) -> _Server:
    server = _Server((host, port), _Handler)
    server.set_app(page)
    return server
