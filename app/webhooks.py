"""The endpoint that senders post to: answered 2xx only once Redis has the event.

It is plain WSGI, in front of the Flask application that serves all else: Flask's own work on a request would cost more
than ours does (docs/adr/0007-accept-path.md).
"""

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final

import structlog

from app import body as bodies
from app.incoming import Incoming
from app.source import Refusal, Source
from tasks.errors import QueueFull, QueueUnavailable
from tasks.queue import Queue

log: Final = structlog.get_logger("app.webhooks")

Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

_PREFIX: Final = "/webhooks/"
#: Seconds after which a sender may try again when we could not take the event.
_RETRY_AFTER: Final = {"Retry-After": "5"}
_STATUS_LINES: Final = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}


class Webhooks:
    """WSGI application: POST /webhooks/<source>[/<event name>] is ours, everything else the next application's."""

    def __init__(self, sources: Mapping[str, Source], queue: Queue, otherwise: Wsgi) -> None:
        self._sources = sources
        self._queue = queue
        self._otherwise = otherwise

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request."""
        if not environ.get("PATH_INFO", "").startswith(_PREFIX):
            return self._otherwise(environ, start_response)
        incoming = Incoming(environ)
        name, _, event_name = incoming.path[len(_PREFIX) :].partition("/")
        headers: Mapping[str, str] = {}
        try:
            status, data = 200, self._receive(incoming, name, event_name)
        except Refusal as refusal:
            status, data, headers = refusal.status, refusal.answer, refusal.headers
            # The source only if there is one: an unknown path may hold anything.
            known = name if name in self._sources else None
            log.info("webhook.refused", status=status, code=refusal.code, source=known)
        except QueueFull as error:
            log.error("queue.full", error=str(error))  # noqa: TRY400 - no bug of ours, the text says it all
            status, data, headers = 503, _error("queue_full", "too many events wait; send it again"), _RETRY_AFTER
        except QueueUnavailable as error:
            log.error("queue.unavailable", error=str(error))  # noqa: TRY400 - as above
            status, data, headers = 503, _error("queue_unavailable", "it was not taken; send it again"), _RETRY_AFTER
        except Exception:
            log.exception("request.failed")
            status, data = 500, _error("bug", "the router failed; nothing was taken, send it again")
        content = json.dumps(data).encode()
        sent = [("Content-Type", "application/json"), ("Content-Length", str(len(content))), *headers.items()]
        start_response(_STATUS_LINES[status], sent)
        return [content]

    def _receive(self, incoming: Incoming, name: str, event_name: str) -> dict[str, Any]:
        source = self._sources.get(name)
        if source is None:
            raise Refusal(404, "unknown_source", "there is no source of this name")
        if incoming.method != "POST":
            raise Refusal(405, "method_not_allowed", "events are posted", {"Allow": "POST"})
        source.verify(incoming.header, incoming.parameter)
        body = bodies.parse(bodies.read(incoming, source.max_body_bytes), source.max_depth)
        envelopes = source.unwrap(name, body, event_name or None, datetime.now(UTC))
        fresh = self._queue.accept(envelopes)
        return {"code": "accepted" if any(fresh) else "duplicate", "ids": [envelope.id for envelope in envelopes]}


def _error(code: str, message: str) -> dict[str, str]:
    return {"code": code, "message": message}
