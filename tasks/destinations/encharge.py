"""Encharge's two HTTP APIs, Ingest and REST: same header, same manners, another address and key.

https://docs.encharge.io/getting-started/connecting-your-app-to-encharge/ingest-api
"""

import json
import time
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode

from tasks.action import Request
from tasks.destinations.http import Http, Response, taken

_KEY_HEADER: Final = "X-Encharge-Token"
_SHOWN_KEY: Final = "(the key)"


class Encharge:
    """One of the two APIs."""

    def __init__(self, http: Http, address: str, key: str) -> None:
        self._http = http
        self._address = address
        self._environment = http.environment_of(address)
        self._headers = {_KEY_HEADER: key, "Accept": "application/json", "User-Agent": "event-router"}

    def shown(self, request: Request) -> dict[str, Any]:
        """The request as it would be sent, with the key left out: for dead letters and explanations."""
        return {
            "method": request.method,
            "url": self._url(request),
            "headers": {**self._headers_of(request), _KEY_HEADER: _SHOWN_KEY},
            "body": request.body,
        }

    def send(self, request: Request) -> Response:
        """Send one request.

        Raises an error of tasks.errors for every answer but 2xx, with the answer as its `response`.
        """
        body = None if request.body is None else json.dumps(request.body, separators=(",", ":")).encode()
        response = self._http.send(
            request.method, self._url(request), self._headers_of(request), body, self._environment
        )
        return taken(response, time.time())

    def _headers_of(self, request: Request) -> Mapping[str, str]:
        return self._headers if request.body is None else {**self._headers, "Content-Type": "application/json"}

    def _url(self, request: Request) -> str:
        if request.path and not request.path.startswith("/"):
            raise ValueError("a request's path begins with a slash")  # else it could go on with the host's name
        # The Ingest address ends in a slash as documented; paths of the REST API begin with one.
        address = self._address.rstrip("/") + request.path if request.path else self._address
        return f"{address}?{urlencode(request.query, errors='replace')}" if request.query else address
