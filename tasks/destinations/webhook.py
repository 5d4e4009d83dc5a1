"""Any receiver of webhooks, signed as Standard Webhooks.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md: the id stays the same over
all attempts, the time is that of the attempt, and both are signed with the body, once with each secret.
"""

import base64
import hashlib
import hmac
import json
import re
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from tasks.action import Request
from tasks.destinations.http import Http, Response, taken

_HEADERS: Final = {"Content-Type": "application/json", "User-Agent": "event-router"}
#: An id that can stand in a header and, as it has no full stop, in what is signed.
_PLAIN_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Webhook:
    """One receiver. `http` must be guarded: its name decides where we send."""

    def __init__(self, http: Http, url: str, keys: Sequence[bytes], now: Callable[[], float] = time.time) -> None:
        self._http = http
        self._url = url
        self._keys = tuple(keys)
        self._now = now
        # Never by a proxy of the environment: it would look the name up by itself.
        self._environment = {**http.environment_of(url), "proxies": {}}

    def shown(self, request: Request) -> dict[str, Any]:
        """The request as it would be sent, but for the time, the address' query and the signature."""
        signed = {
            "webhook-id": _id_of(request, _content(request)),
            "webhook-timestamp": "(the time of sending)",
            "webhook-signature": "v1,(the signature)",
        }
        # Many receivers know us by their address: its query is no more shown than a key is.
        address, mark, _ = self._url.partition("?")
        url = f"{address}?…" if mark else address
        return {"method": request.method, "url": url, "headers": {**_HEADERS, **signed}, "body": request.body}

    def send(self, request: Request) -> Response:
        """Send one request.

        Raises an error of tasks.errors for every answer but 2xx, with the answer as its `response`, and
        DestinationRejected without one when the receiver's name leads where it must not.
        """
        content = _content(request)
        id_, at = _id_of(request, content), str(int(self._now()))
        headers = {
            **_HEADERS,
            "webhook-id": id_,
            "webhook-timestamp": at,
            "webhook-signature": " ".join(signature(key, id_, at, content) for key in self._keys),
        }
        response = self._http.send(request.method, self._url, headers, content, self._environment)
        return taken(response, self._now())


def signature(key: bytes, id_: str, at: str, content: bytes) -> str:
    """`v1,` and base64 of HMAC-SHA256 over `id.timestamp.body`."""
    signed = b".".join((id_.encode(), at.encode(), content))
    return "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()


def _content(request: Request) -> bytes:
    if request.path or request.query:
        raise ValueError("a webhook has the address of the routes file, without a path or query of its own")
    return json.dumps(request.body, separators=(",", ":")).encode()


def _id_of(request: Request, content: bytes) -> str:
    """The request's own id, or what stands for it; without one, it is told apart by content."""
    if _PLAIN_ID.fullmatch(request.id):
        return request.id
    return "msg_" + hashlib.sha256(request.id.encode("utf-8", "backslashreplace") or content).hexdigest()[:32]
