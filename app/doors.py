"""The addresses that senders post to, as plain WSGI in front of the Flask application that serves all else.

Flask's own work on a request would cost more than ours does (docs/adr/0007-accept-path.md).
"""

import dataclasses
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import structlog

from app.incoming import Incoming
from app.source import Refusal
from config.metrics import NONE
from tasks.errors import QueueFull, QueueUnavailable
from tasks.measures import Measures

log: Final = structlog.get_logger("app.doors")

Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

#: Seconds after which a sender may try again when we could not take the event.
RETRY_AFTER: Final = "5"
_FIRST_REFUSAL: Final = 300
_STATUS_LINES: Final = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a sender gets; data None = no body."""

    status: int
    data: Mapping[str, Any] | None
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)


#: (request, path behind the door's prefix) → answer. Raises Refusal. A door whose senders expect refusals in a form of
#: their own has a method `refused` as well; what it must not do is raise.
Door = Callable[[Incoming, str], Answer]
Refused = Callable[[Refusal, Incoming], Answer]


def plainly(refusal: Refusal, _: Incoming) -> Answer:
    """A refusal as senders get it who expect no form of their own."""
    return Answer(refusal.status, refusal.answer, refusal.headers)


class Doors:
    """WSGI application: a door for all below "/a/", or for "/a" alone; everything else is the next application's.

    What the doors answer is measured.
    """

    def __init__(self, doors: Mapping[str, Door], otherwise: Wsgi, measures: Measures) -> None:
        self._measures = measures
        self._doors: Sequence[tuple[str, Door, Refused]] = [
            (prefix, door, getattr(door, "refused", plainly)) for prefix, door in doors.items() if prefix[-1] == "/"
        ]
        self._alone = {
            path: (path, door, getattr(door, "refused", plainly)) for path, door in doors.items() if path[-1] != "/"
        }
        self._otherwise = otherwise

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request."""
        begun = time.perf_counter()
        path: str = environ.get("PATH_INFO", "")
        for found in self._doors:
            if path.startswith(found[0]):
                break
        else:
            if (alone := self._alone.get(path.removesuffix("/"))) is None:
                return self._otherwise(environ, start_response)
            found = alone
        prefix, door, refused = found
        incoming = Incoming(environ)
        answer = _answer(door, refused, incoming, prefix)
        content = b"" if answer.data is None else json.dumps(answer.data).encode()
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(content)))]
        start_response(_STATUS_LINES[answer.status], [*headers, *answer.headers.items()])
        # No label of what a sender makes up: doors are few, and a source has a name only when there is one.
        if answer.status >= _FIRST_REFUSAL:
            self._measures.happened(
                "refused_requests_total", prefix.strip("/"), incoming.source or NONE, str(answer.status)
            )
        elif incoming.source is not None:
            self._measures.took("accept_seconds", time.perf_counter() - begun, incoming.source)
        return [content]


def _answer(door: Door, refused: Refused, incoming: Incoming, prefix: str) -> Answer:
    """What the door answers, or how it refuses; our own mistakes are a refusal too."""
    try:
        return door(incoming, incoming.path[len(prefix) :])
    except Refusal as caught:
        refusal = caught
        log.info(
            "request.refused",
            door=prefix,
            status=refusal.status,
            code=refusal.code,
            source=incoming.source,
            request_id=incoming.request_id,
        )
    except Exception:
        log.exception("request.failed", door=prefix, request_id=incoming.request_id)
        refusal = Refusal(500, "bug", "the router failed; send it again")
    return refused(refusal, incoming)


def not_taken(error: QueueFull | QueueUnavailable, full: int) -> Refusal:
    """The refusal of what could not be taken now; `full` is the status of back-pressure in the sender's protocol."""
    code, status, message = (
        ("queue_full", full, "too many events wait; send it again")
        if isinstance(error, QueueFull)
        else ("queue_unavailable", 503, "it was not taken; send it again")
    )
    log.error(code.replace("_", "."), error=str(error))
    return Refusal(status, code, message, {"Retry-After": RETRY_AFTER})
