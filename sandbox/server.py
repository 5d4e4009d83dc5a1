"""Puts the sandbox together and serves it: many requests at a time, over connections that stay open."""

import sys
from collections.abc import Mapping
from email.utils import formatdate
from html import escape
from io import BytesIO
from ipaddress import ip_address
from typing import Any

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException
from werkzeug.serving import BaseWSGIServer, ThreadedWSGIServer, WSGIRequestHandler

from sandbox.activatepro import ActivatePro
from sandbox.activity_stream import ActivityStream
from sandbox.console import Console
from sandbox.faults import Faults
from sandbox.gate import FaultGate
from sandbox.ingest import Ingest
from sandbox.rest import Rest
from sandbox.segment import Segment
from sandbox.state import State
from sandbox.tokens import Tokens
from sandbox.webhook import WebhookReceiver
from sandbox.wsgi import Answer, answer_of

WRITE_KEY = "sandbox-write-key"
API_KEY = "sandbox-api-key"
HOST = "127.0.0.1"
PORT = 8900
#: A limit of the sandbox: what is announced larger is not read.
MOST_BODY = 16 * 1024 * 1024
_TOKENS = Tokens()


class OpenToAll(Exception):
    """The sandbox would listen where others reach it, with keys that everybody knows."""


def keys_of(environ: Mapping[str, str]) -> tuple[str, str]:
    """The write key and the API key that callers must know, out of the environment, as the router reads them."""
    write_key = environ.get("ENCHARGE_WRITE_KEY", "")
    return write_key or WRITE_KEY, environ.get("ENCHARGE_API_KEY") or write_key or API_KEY


def create_sandbox(
    write_key: str = WRITE_KEY,
    api_key: str = API_KEY,
    activity_stream: ActivityStream | None = None,
    *,
    console_key: str = "",
    tokens: Tokens = _TOKENS,
    reveal: bool = True,
) -> Flask:
    """One account as a WSGI application: /ingest/v1, /api/v1, the page and /_sandbox/*.

    And what else the router sends to, as far as there is a token for it: /activatepro, /segment/v1, /webhook.
    `console_key` guards the page and /_sandbox/* as the password of Basic authentication; "" = open. Without `reveal`
    they show nothing of what callers sent.
    """
    state = State(on_change=activity_stream.offer) if activity_stream else State()
    faults = Faults()
    app = Flask(__name__, static_folder=None)
    app.json.sort_keys = False  # type: ignore[attr-defined]  # of the default provider: keys as they came
    app.url_map.merge_slashes = False  # a client does not follow redirects after a POST
    app.register_blueprint(Ingest(state, write_key).blueprint())
    app.register_blueprint(Rest(state, api_key).blueprint())
    if tokens.activatepro:
        app.register_blueprint(ActivatePro(state, tokens.activatepro, tokens.event_classes).blueprint())
    if tokens.segment:
        app.register_blueprint(Segment(state, tokens.segment).blueprint())
    if tokens.webhook:
        app.register_blueprint(WebhookReceiver(state, tokens.webhook).blueprint())
    app.register_blueprint(Console(state, faults, activity_stream, console_key, reveal=reveal).blueprint())
    app.register_error_handler(404, _cannot)
    app.register_error_handler(405, _cannot)
    app.wsgi_app = FaultGate(app.wsgi_app, state, faults)  # type: ignore[method-assign]
    return app


def make_server(app: Flask, host: str = HOST, port: int = PORT) -> BaseWSGIServer:
    """A bound server; port 0 = a free one, to be read from `server_port`."""
    return ThreadedWSGIServer(host, port, app, handler=KeepAliveHandler)


def serve(
    host: str,
    port: int,
    keys: tuple[str, str],
    *,
    activity_stream: ActivityStream | None = None,
    tokens: Tokens = _TOKENS,
    reveal: bool = False,
) -> None:
    """Print the address and serve until interrupted; `keys` are the write key and the API key.

    On an address that other machines reach, the page wants the API key as password. Raises OpenToAll when a key is
    one of those that everybody knows; other systems are left out then.
    """
    local = is_loopback(host)
    if not local and {WRITE_KEY, API_KEY} & set(keys):
        raise OpenToAll(f"{host} is reached from other machines: set ENCHARGE_WRITE_KEY to a key of your own")
    tokens = tokens if local else tokens.own()
    console_key = "" if local else keys[1]
    app = create_sandbox(*keys, activity_stream, console_key=console_key, tokens=tokens, reveal=reveal)
    server = make_server(app, host, port)
    shown = f"[{host}]" if ":" in host else host
    sys.stdout.write(f"sandbox on http://{shown}:{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address; names but localhost count as reachable."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


class KeepAliveHandler(WSGIRequestHandler):
    """Werkzeug's handler closes the connection after every answer; this one keeps it."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else head and body of a kept connection wait for each other, 40 ms

    def run_wsgi(self) -> None:
        """Answer one request."""
        try:
            self.environ = environ = self.make_environ()
            body = self._read_body(environ)
        except (ValueError, OSError):
            self.close_connection = True
            self._write(Answer("400 Bad Request", [("Content-Length", "0")], b""))
            return
        environ |= {"wsgi.input": BytesIO(body), "CONTENT_LENGTH": str(len(body))}
        environ.pop("HTTP_TRANSFER_ENCODING", None)
        try:
            self._write(answer_of(self.server.app, environ))
        except ConnectionError:
            self.close_connection = True

    def _read_body(self, environ: dict[str, Any]) -> bytes:
        """All of it, also when nobody looks at it: what is left would be taken for the next request."""
        stream = environ["wsgi.input"]
        if environ.get("wsgi.input_terminated"):
            body = bytes(stream.read(MOST_BODY + 1))
            if len(body) > MOST_BODY:
                raise ValueError("the body is too large")
            return body
        length = int(environ.get("CONTENT_LENGTH") or 0)
        if length > MOST_BODY:
            raise ValueError("the body is too large")
        body = bytes(stream.read(length)) if length >= 0 else b""
        if len(body) != length:
            raise ValueError("the body is not as long as announced")
        return body

    def _write(self, answer: Answer) -> None:
        """Head and body in one piece."""
        connection = "close" if self.close_connection else "keep-alive"
        lines = [f"HTTP/1.1 {answer.status}", f"Date: {formatdate(usegmt=True)}", f"Connection: {connection}"]
        lines += [f"{name}: {value}" for name, value in answer.headers]
        body = b"" if self.command == "HEAD" else answer.body
        self.wfile.write("\r\n".join((*lines, "", "")).encode("latin-1") + body)

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 - werkzeug's name
        """Quiet: the page shows what came, and Flask logs what went wrong."""


def _cannot(_: HTTPException) -> tuple[Response, int]:
    """An unknown path is answered with a page, not with JSON, as the REST API has been seen to do."""
    what = escape(f"Cannot {request.method} {request.path}")
    page = f"<!DOCTYPE html>\n<html><head><title>Error</title></head><body><pre>{what}</pre></body></html>\n"
    return Response(page, mimetype="text/html"), 404
