"""The endpoint that senders post to: answered 2xx only once Redis has the event."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

import structlog
from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from app import body as bodies
from app.source import Refusal, Source
from tasks.errors import QueueFull, QueueUnavailable
from tasks.queue import Queue

log: Final = structlog.get_logger("app.webhooks")

#: Seconds after which a sender may try again when we could not take the event.
_RETRY_AFTER: Final = "5"


def add(app: Flask, sources: Mapping[str, Source], queue: Queue) -> None:
    """Register POST /webhooks/<source>[/<event name>] and the JSON form of every error."""

    def receive(name: str, event_name: str | None = None) -> Response:
        source = sources.get(name)
        if source is None:
            raise Refusal(404, "unknown_source", "there is no source of this name")
        source.verify(request.headers, request.args)
        body = bodies.parse(bodies.read(request, source.max_body_bytes), source.max_depth)
        envelopes = source.unwrap(name, body, event_name, datetime.now(UTC))
        fresh = queue.accept(envelopes)
        return _json(
            200,
            {
                "code": "accepted" if any(fresh) else "duplicate",
                "ids": [envelope.id for envelope in envelopes],
            },
        )

    app.add_url_rule("/webhooks/<name>", "webhook", receive, methods=["POST"])
    app.add_url_rule("/webhooks/<name>/<path:event_name>", "named_webhook", receive, methods=["POST"])
    app.register_error_handler(Refusal, _refused)
    app.register_error_handler(QueueFull, _full)
    app.register_error_handler(QueueUnavailable, _unavailable)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _bug)


def _json(status: int, data: object) -> Response:
    return Response(json.dumps(data), status, mimetype="application/json")


def _refused(refusal: Refusal) -> Response:
    # The path's first part only: what follows may be an event's name, and the query may be a secret.
    log.info(
        "webhook.refused",
        status=refusal.status,
        code=refusal.code,
        source=(request.view_args or {}).get("name"),
    )
    answer = _json(refusal.status, {"code": refusal.code, "message": refusal.message})
    answer.headers.update(refusal.headers)
    return answer


def _full(error: QueueFull) -> Response:
    log.error("queue.full", error=str(error))
    return _later("queue_full", "too many events wait; nothing was taken, send it again")


def _unavailable(error: QueueUnavailable) -> Response:
    log.error("queue.unavailable", error=str(error))
    return _later("queue_unavailable", "the queue did not take the event; send it again")


def _later(code: str, message: str) -> Response:
    answer = _json(503, {"code": code, "message": message})
    answer.headers["Retry-After"] = _RETRY_AFTER
    return answer


def _http_error(error: HTTPException) -> Response:
    answer = _json(error.code or 500, {"code": error.name.lower().replace(" ", "_"), "message": error.description})
    answer.headers.extend(
        [(key, value) for key, value in error.get_headers() if key not in {"Content-Type", "Content-Length"}]
    )
    return answer


def _bug(error: Exception) -> Response:
    log.error("request.failed", exc_info=error)
    return _json(500, {"code": "bug", "message": "the router failed; nothing was taken, send it again"})
