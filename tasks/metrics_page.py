"""The page /metrics, for the web's port and for a worker's own; and that port."""

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


def serve(page: Page, host: str, port: int) -> Callable[[], None] | None:
    """Serve the page in threads that end with the process. Gives how to stop; None when the address cannot be had.

    The router goes on without: the numbers are those of all processes, and any of them tells them.
    """
    try:
        server = _Server((host, port), _Handler)
    except OSError as error:
        log.warning(
            "metrics.not_served",
            host=host,
            port=port,
            error=type(error).__name__,
            reason=error.strerror,
            meaning="taken by another worker of this machine? It tells the same numbers; or set WORKER_METRICS_PORT",
        )
        return None
    server.set_app(page)
    threading.Thread(target=server.serve_forever, args=(0.1,), name="metrics", daemon=True).start()
    log.info("metrics.served", host=host, port=server.server_port)

    def stop() -> None:
        server.shutdown()
        server.server_close()

    return stop
