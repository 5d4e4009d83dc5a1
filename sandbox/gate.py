"""The gate in front of the APIs: counts every request, and carries out the faults that the rules decide."""

import json
import os
import selectors
import socket
import struct
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cached_property
from http import HTTPStatus
from io import BytesIO
from time import monotonic, sleep
from typing import Any, BinaryIO
from urllib.parse import parse_qsl

from sandbox.body import Refused, unpacked
from sandbox.faults import Fault, Faults
from sandbox.records import Json, rfc3339
from sandbox.rest_objects import error_envelope
from sandbox.state import State
from sandbox.wsgi import Answer, WsgiApp, answer_of

_REST = "/api/v1"
_APIS = ("/ingest/v1", _REST, "/activatepro", "/segment/v1", "/webhook")
_PEEK_EVERY_S = 0.05
#: struct linger {on, 0 seconds}: closing sends RST instead of FIN
_LINGER_RST = struct.pack("ii", 1, 0)


class ConnectionGone(ConnectionError):
    """The connection ends here without an answer."""


class Request:
    """A request whose body has been read, as the rules look at it."""

    def __init__(self, environ: dict[str, Any]) -> None:
        self.environ = environ
        self.method = str(environ["REQUEST_METHOD"])
        self.path = str(environ["PATH_INFO"])
        self.connection: socket.socket | None = environ.get("werkzeug.socket")
        self.body = _read_body(environ)
        self.rewind()

    def rewind(self) -> None:
        """Give the application the body from its start."""
        self.environ["wsgi.input"] = BytesIO(self.body)

    @cached_property
    def text(self) -> bytes:
        """The body, unpacked where that can be done."""
        try:
            return unpacked(self.body, str(self.environ.get("HTTP_CONTENT_ENCODING", "")))
        except Refused:
            return self.body

    @cached_property
    def emails(self) -> list[str]:
        """The e-mails of the query, and user.email and email of the body (or of each person in a list)."""
        query = parse_qsl(self.environ.get("QUERY_STRING", ""))
        found = [value for key, value in query if key == "email" or key.endswith("[email]")]
        try:
            value = json.loads(self.text)
        except (ValueError, RecursionError):
            value = None
        for entry in value if isinstance(value, list) else [value]:
            if isinstance(entry, dict):
                user = entry.get("user")
                found.append(user.get("email") if isinstance(user, dict) else None)
                found.append(entry.get("email"))
        return [email.casefold() for email in found if isinstance(email, str) and email]


class FaultGate:
    """WSGI middleware around the application; `/` and `/_sandbox/*` pass untouched."""

    def __init__(self, app: WsgiApp, state: State, faults: Faults) -> None:
        self._app = app
        self._state = state
        self._faults = faults

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if not any(path == api or path.startswith(f"{api}/") for api in _APIS):
            return self._app(environ, start_response)
        request = Request(environ)
        self._state.count("requests")
        fault = self._faults.decide(path, lambda: request.emails)
        answer = self._misbehave(request, fault) if fault else self._process(request)
        start_response(answer.status, answer.headers)
        return [answer.body]

    def _process(self, request: Request, answered_after_s: float | None = 0) -> Answer:
        """Let the API answer, count how, and note the call in the order in which the work was done."""
        request.rewind()
        # One at a time, or the notes could be in another order than the work.
        with self._state.lock:
            answer = answer_of(self._app, request.environ)
            status = int(answer.status[:3])
            self._state.record_call(request.method, request.path, request.text, status, answered_after_s)
        self._state.count("accepted" if answer.status.startswith("2") else "refused")
        return answer

    def _misbehave(self, request: Request, fault: Fault) -> Answer:
        """Carry out a rule; `after` = the API did its work first, and the caller does not learn of it."""
        rule = fault.rule
        self._state.count("faulted")
        self._faults.log(_log_entry(request, fault))
        told_after_s = rule.delay_s if rule.kind == "delay" else None
        done = self._process(request, told_after_s) if rule.after else None
        # A caller who left while waiting is not served: only `after` makes duplicates.
        if _caller_left(request.connection, rule.delay_s) or rule.kind == "hang":
            raise ConnectionGone
        if rule.kind == "reset":
            _reset(request.connection)
        if rule.kind == "delay":
            return done or self._process(request)
        return _fault_answer(request, fault)


def _fault_answer(request: Request, fault: Fault) -> Answer:
    status = fault.status or HTTPStatus.INTERNAL_SERVER_ERROR.value
    try:
        reason = HTTPStatus(status).phrase
    except ValueError:
        reason = "Sandbox Fault"
    body, content_type = _fault_body(request, fault, reason)
    if status in {HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED}:
        headers, body = [], b""
    else:
        headers = [("Content-Type", content_type), ("Content-Length", str(len(body)))]
    if fault.rule.retry_after is not None:
        headers.append(("Retry-After", fault.rule.retry_after))
    return Answer(f"{status} {reason}", headers, body)


def _fault_body(request: Request, fault: Fault, reason: str) -> tuple[bytes, str]:
    body = fault.rule.body
    if isinstance(body, str):
        return body.encode(errors="replace"), "text/plain; charset=utf-8"
    if body is None:
        text = f"Sandbox fault: {reason}"
        body = error_envelope(text) if request.path.startswith(_REST) else {"error": text}
    return json.dumps(body).encode(), "application/json"


def _log_entry(request: Request, fault: Fault) -> Json:
    return {
        "at": rfc3339(datetime.now(UTC)),
        "method": request.method,
        "path": request.path,
        "email": next(iter(request.emails), None),
        "rule": fault.number,
        "kind": fault.rule.kind,
        "status": fault.status,
        "after": fault.rule.after,
    }


def _read_body(environ: dict[str, Any]) -> bytes:
    """Exactly the declared length: the test client's stream ends by itself, a socket does not."""
    stream: BinaryIO = environ["wsgi.input"]
    return stream.read(int(environ.get("CONTENT_LENGTH") or 0))


def _caller_left(connection: socket.socket | None, wait_s: float) -> bool:
    """Wait; end early and say True when the caller has closed the connection."""
    if connection is None:
        sleep(wait_s)
        return False
    deadline = monotonic() + wait_s
    with selectors.DefaultSelector() as selector:  # not select(), which cannot watch more than 1,024 files
        selector.register(connection, selectors.EVENT_READ)
        while (left_s := deadline - monotonic()) > 0:
            if not selector.select(left_s):
                continue
            if _closed(connection):
                return True
            sleep(min(_PEEK_EVERY_S, left_s))  # the next request is already there: it stays readable
    return False


def _closed(connection: socket.socket) -> bool:
    try:
        return not connection.recv(1, socket.MSG_PEEK)
    except OSError:
        return True


def _reset(connection: socket.socket | None) -> None:
    """Close with RST. Through the file descriptor: the socket object would say goodbye with a FIN first."""
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RST)
        os.close(connection.detach())
    raise ConnectionGone
