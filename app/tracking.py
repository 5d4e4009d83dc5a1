"""Segment's HTTP Tracking API under /v1/: whoever sends to api.segment.io can send here by changing the host.

https://segment.com/docs/connections/sources/catalog/libraries/server/http-api/; answers as its client libraries need
them: exactly 200 for everything but what is not JSON, too large, or of an unknown write key; errors as JSON.
"""

import dataclasses
import hmac
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from app import body as bodies
from app.doors import RETRY_AFTER, Answer, not_taken
from app.incoming import Incoming
from app.intake import Intake
from app.source import Refusal, Source, basic_user
from app.sources import segment
from app.sources.segment import BATCHES, CALLS, Call
from tasks.envelope import Envelope, Rejected
from tasks.errors import QueueFull, QueueUnavailable

PREFIX: Final = "/v1/"
_METRICS: Final = "m"
_PATHS: Final = frozenset({*CALLS, *BATCHES, _METRICS})
_MOST_OF_A_BATCH: Final = 500 * 1024
_SUCCESS: Final = Answer(200, {"success": True})
#: What browsers ask before analytics.js may send its Authorization header (https://fetch.spec.whatwg.org/#http-cors-protocol).
_CORS: Final = {
    "Access-Control-Allow-Methods": "POST, OPTIONS",
    "Access-Control-Allow-Headers": "authorization, content-type, content-encoding, x-retry-count",
    "Access-Control-Max-Age": "86400",
}


class Tracking:
    """The door for Segment's client libraries; which source it is, the write key says."""

    def __init__(self, sources: Mapping[str, Source], intake: Intake) -> None:
        self._sources = [source for source in sources.values() if source.write_keys]
        self._origins = {origin for source in self._sources for origin in source.allowed_origins}
        self._max_depth = max((source.max_depth for source in self._sources), default=0)
        self._intake = intake

    def __call__(self, incoming: Incoming, path: str) -> Answer:
        """Take one call. Raises Refusal."""
        origin = self._allowed_origin(incoming.header("ORIGIN"))
        if incoming.method == "OPTIONS":
            return Answer(204, None, {**_CORS, **origin})
        try:
            answer = self._receive(incoming, path.rstrip("/"))
        except Refusal as refusal:
            refusal.headers |= origin
            raise
        return Answer(answer.status, answer.data, origin)

    def _allowed_origin(self, origin: str) -> dict[str, str]:
        if not origin or not self._origins & {"*", origin}:
            return {}
        return {"Access-Control-Allow-Origin": "*" if "*" in self._origins else origin, "Vary": "Origin"}

    def _receive(self, incoming: Incoming, path: str) -> Answer:
        if not self._sources or path not in _PATHS:
            raise Refusal(404, "not_found", "there is no such call")
        if incoming.method != "POST":
            raise Refusal(405, "method_not_allowed", "calls are posted", {"Allow": "POST, OPTIONS"})
        most = segment.MOST_OF_AN_EVENT if path in CALLS else _MOST_OF_A_BATCH
        body = _body(incoming, most, self._max_depth)
        if path == _METRICS:
            return _SUCCESS  # analytics.js counts its own calls there, without a write key
        source = self._source(incoming, body)
        call = Call(source.name, datetime.now(UTC), incoming.client(source.trusted_proxies), body.get("sentAt"))
        incoming.source = source.name
        self._take(source, _unwrapped(call, path, body))
        return _SUCCESS

    def _source(self, incoming: Incoming, body: Mapping[str, Any]) -> Source:
        given = (basic_user(incoming.header("AUTHORIZATION")), body.get("writeKey"))
        offered = [key.encode("utf-8", "surrogatepass") for key in given if isinstance(key, str) and key]
        found = None
        for source in self._sources:
            for write_key in source.write_keys.values():
                for key in offered:
                    if hmac.compare_digest(key, write_key.encode()):
                        found = source
        if found is None:
            raise Refusal(401, "invalid_write_key", "no source has this write key")
        return found

    def _take(self, source: Source, events: Sequence[Envelope | Rejected]) -> None:
        try:
            self._intake.take(source, events)
        except QueueFull as error:
            refusal = not_taken(error, full=429)
            refusal.headers["X-RateLimit-Reset"] = RETRY_AFTER
            raise refusal from None
        except QueueUnavailable as error:
            raise not_taken(error, full=429) from None


def _unwrapped(call: Call, path: str, body: dict[str, Any]) -> Sequence[Envelope | Rejected]:
    if path in CALLS:
        return [segment.unwrap_event(call, CALLS[path], body)]
    items = body.get("batch")
    if not isinstance(items, list):
        raise Refusal(400, "bad_request", "batch must be a list")
    shared = dataclasses.replace(call, context=body.get("context"), integrations=body.get("integrations"))
    return segment.unwrap_batch(shared, items)


def _body(incoming: Incoming, most: int, max_depth: int) -> dict[str, Any]:
    """The body, whatever its content type says: analytics.js sends text/plain. All that is wrong with it is a 400."""
    try:
        body = bodies.parse(bodies.read_any(incoming, most), max_depth)
    except Refusal as refusal:
        raise Refusal(400, refusal.code, refusal.message) from None
    if not isinstance(body, dict):
        raise Refusal(400, "bad_request", "the body must be a JSON object")
    return body
