"""A request as the accept path sees it: a view of the WSGI environment (PEP 3333) that computes nothing unasked."""

import contextlib
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qs

from app.source import Refusal

_CHUNK: Final = 65_536


class Incoming:
    """One request."""

    #: The sender's own name of the request, where the door's protocol has one: for the log, and for answers.
    request_id: str | None = None
    #: Name of the source, once the door knows it: for the log and the counts.
    source: str | None = None

    def __init__(self, environ: Mapping[str, Any]) -> None:
        self._environ = environ
        self.method: str = environ["REQUEST_METHOD"]
        self._parameters: dict[str, list[str]] | None = None

    @property
    def path(self) -> str:
        """The path, decoded; WSGI hands UTF-8 over as if it were Latin-1."""
        path: str = self._environ.get("PATH_INFO", "")
        return path if path.isascii() else path.encode("latin-1").decode("utf-8", "replace")

    def header(self, name: str) -> str:
        """A header's value, or "". Name as in CGI: "AUTHORIZATION", "CONTENT_TYPE"."""
        key = name if name in {"CONTENT_TYPE", "CONTENT_LENGTH"} else f"HTTP_{name}"
        value: str = self._environ.get(key, "")
        return value

    def parameter(self, name: str) -> str:
        """A query parameter's first value, or ""."""
        if self._parameters is None:
            try:
                self._parameters = parse_qs(self._environ.get("QUERY_STRING", ""), max_num_fields=100)
            except ValueError:
                raise Refusal(400, "invalid_query", "the query has too many fields") from None
        return self._parameters.get(name, [""])[0]

    def client(self, trusted_proxies: int) -> str:
        """The sender's address; behind proxies that we trust, what the outermost of them saw."""
        seen = [part.strip() for part in self.header("X_FORWARDED_FOR").split(",") if part.strip()]
        if trusted_proxies and seen:
            return seen[-min(trusted_proxies, len(seen))]
        address: str = self._environ.get("REMOTE_ADDR", "")
        return address

    def read(self, max_bytes: int) -> bytes:
        """The body as it was sent. Raises Refusal: 411, 413 or 400."""
        given = self.header("CONTENT_LENGTH")
        if not given:
            raise Refusal(411, "length_required", "send a Content-Length")
        if not (given.isascii() and given.isdigit()):
            raise Refusal(400, "invalid_length", "Content-Length is not a number")
        length = int(given[:20])
        if length > max_bytes:
            raise too_large(max_bytes)
        body = b""
        while len(body) < length:
            chunk: bytes = self._environ["wsgi.input"].read(length - len(body))
            if not chunk:
                raise Refusal(400, "incomplete_body", "the body is shorter than its Content-Length")
            body += chunk
        return body

    def drop(self, most: int) -> None:
        """Read a body that nobody wants, up to `most` bytes, and forget it; raises nothing.

        A server that answers in the middle of a long body closes the connection, and a proxy then reports that instead
        of the answer.
        """
        with contextlib.suppress(OSError):
            while most > 0 and (chunk := self._environ["wsgi.input"].read(min(most, _CHUNK))):
                most -= len(chunk)


def too_large(max_bytes: int) -> Refusal:
    """The refusal of a body beyond its limit, before or after unpacking."""
    return Refusal(413, "too_large", f"the body is larger than {max_bytes} bytes")
