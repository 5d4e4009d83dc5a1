"""Calling a WSGI application and taking its whole answer, as both the gate and the server must."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

WsgiApp = Callable[[dict[str, Any], Any], Iterable[bytes]]


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole response."""

    status: str
    headers: list[tuple[str, str]]
    body: bytes


def answer_of(app: WsgiApp, environ: dict[str, Any]) -> Answer:
    """Call the application, collect its body, close it."""
    status, headers = "", []

    def start_response(begun: str, sent: list[tuple[str, str]], _: object = None) -> None:
        nonlocal status, headers
        status, headers = begun, sent

    chunks = app(environ, start_response)
    try:
        body = b"".join(chunks)
    finally:
        getattr(chunks, "close", lambda: None)()
    return Answer(status, headers, body)
