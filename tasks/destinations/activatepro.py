"""Spotler ActivatePro's API for events of users (formerly CrossEngage, as its address still says).

https://activatepro.spotler.help/hc/en-gb/articles/28288201296402
Up to 50 events of one user in a request; 202 with an empty body when they were taken.
"""

import dataclasses
import json
import re
import time
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Final

from tasks.action import Request
from tasks.destinations.http import Http, Response, taken
from tasks.errors import DestinationRejected

_KEY_HEADER: Final = "X-XNG-AuthToken"
_SHOWN_KEY: Final = "(the key)"
#: What says whose events a request has.
_IDENTITY: Final = ("id", "email", "businessUnit")
#: Names and kinds of error as the API writes them; anything else could be a value of the event.
_WORD: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.]{0,39}")


class ActivatePro:
    """The API. Several requests of one user can be made into one (tasks/destinations/grouping.py)."""

    most: Final = 50

    def __init__(self, http: Http, address: str, token: str) -> None:
        self._http = http
        self._address = address.rstrip("/")
        self._environment = http.environment_of(address)
        self._headers = {
            _KEY_HEADER: token,
            "X-XNG-ApiVersion": "1",
            "Accept": "application/json",
            "Content-Type": "application/json",
            "User-Agent": "event-router",
        }

    def shown(self, request: Request) -> dict[str, Any]:
        """The request as it would be sent, with the token left out."""
        return {
            "method": request.method,
            "url": self._url(request),
            "headers": {**self._headers, _KEY_HEADER: _SHOWN_KEY},
            "body": request.body,
        }

    def send(self, request: Request) -> Response:
        """Send one request.

        Raises an error of tasks.errors for every answer but 2xx, with the answer (and its X-Request-ID) as `response`.
        """
        body = json.dumps(request.body, separators=(",", ":")).encode()
        response = self._http.send(request.method, self._url(request), self._headers, body, self._environment)
        try:
            return taken(response, time.time())
        except DestinationRejected as error:
            told = DestinationRejected(f"{error}{_what_it_says(response.body)}")
            told.response = response
            raise told from None

    def group_key(self, request: Request) -> Hashable | None:
        """Whose event it is; None for a request that is not one event of one user, which goes alone."""
        body = request.body
        if request.path != "/events" or not isinstance(body, Mapping) or body.keys() - {*_IDENTITY, "events"}:
            return None
        events = body.get("events")
        if not isinstance(events, list) or len(events) != 1:
            return None
        names = tuple(body.get(name, "") for name in _IDENTITY)
        return names if all(isinstance(name, str) for name in names) else None

    def merged(self, requests: Sequence[Request]) -> Request:
        """One request with the events of all, in their order."""
        events = [event for request in requests for event in request.body["events"]]
        return dataclasses.replace(requests[0], body={**requests[0].body, "events": events})

    def _url(self, request: Request) -> str:
        if not request.path.startswith("/"):
            raise ValueError("a request's path begins with a slash")  # else it could go on with the host's name
        return f"{self._address}{request.path}"


def _what_it_says(body: str) -> str:
    """' (event: UNKNOWN_VALUE)' out of {"field", "type"}, of a list its first; nothing where it says something else."""
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    first = told[0] if isinstance(told, list) and told else told
    if not isinstance(first, dict):
        return ""
    words = [word for word in (first.get("field"), first.get("type")) if isinstance(word, str)]
    return f" ({': '.join(words)})" if words and all(map(_WORD.fullmatch, words)) else ""
