"""Segment's HTTP Tracking API, and whatever else speaks it: several events in a request, packed.

https://segment.com/docs/connections/sources/catalog/libraries/server/http-api/
"""

import base64
import gzip
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from tasks.action import Request, in_utf8
from tasks.destinations.batches import Batches
from tasks.destinations.http import Http, Response, taken
from tasks.envelope import rfc3339

_SHOWN_KEY: Final = "(the key)"
#: Events of one request, as Segment's own libraries send them; and their size, with room for what stands around them.
_MOST_EVENTS: Final = 100
_MOST_BYTES: Final = 500 * 1024 - 1024


class Segment:
    """One source of Segment's. Requests of several threads share a batch."""

    def __init__(self, http: Http, address: str, write_key: str) -> None:
        self._http = http
        self._address = f"{address.rstrip('/')}/batch"
        self._environment = http.environment_of(address)
        user = base64.b64encode(f"{write_key}:".encode()).decode()
        self._headers = {
            "Authorization": f"Basic {user}",
            "Content-Type": "application/json",
            "Content-Encoding": "gzip",
            "User-Agent": "event-router",
        }
        self._batches: Batches[bytes, Response] = Batches(self._post, most=_MOST_EVENTS, most_size=_MOST_BYTES)

    def shown(self, request: Request) -> dict[str, Any]:
        """The request as it would be sent if it went alone, unpacked, without the key and the time of sending."""
        return {
            "method": "POST",
            "url": self._address,
            "headers": {**self._headers, "Authorization": _SHOWN_KEY},
            "body": {"batch": [request.body]},
        }

    def send(self, request: Request) -> Response:
        """Send one event, with those that other threads have to send.

        Raises an error of tasks.errors for every answer but 2xx, with the answer as its `response`.
        """
        if (request.method, request.path, request.query) != ("POST", "", ()) or not isinstance(request.body, Mapping):
            raise ValueError("a request to segment is one event: POST, without a path or query")
        event = in_utf8(request.body)
        return self._batches.send(event, len(event) + 1)

    def _post(self, events: Sequence[bytes]) -> Response:
        body = b'{"batch":[%s],"sentAt":"%s"}' % (b",".join(events), rfc3339(datetime.now(UTC)).encode())
        packed = gzip.compress(body, compresslevel=6, mtime=0)
        response = self._http.send("POST", self._address, self._headers, packed, self._environment)
        return taken(response, time.time())
