"""Segment's HTTP Tracking API, as far as servers use it: batches.

https://segment.com/docs/connections/sources/catalog/libraries/server/http-api/
"""

import json
from hmac import compare_digest
from typing import Any

from flask import Blueprint, Response, jsonify, request

from sandbox.body import Refused, unpacked
from sandbox.state import State

#: Sizes in bytes, as documented.
MOST_BODY, MOST_EVENT = 500 * 1024, 32 * 1024
MOST_EVENTS = 2500


class Segment:
    """The endpoint with its write key."""

    def __init__(self, state: State, write_key: str) -> None:
        self._state = state
        self._write_key = write_key

    def blueprint(self) -> Blueprint:
        """`POST /segment/v1/batch`."""
        blueprint = Blueprint("segment", __name__, url_prefix="/segment/v1")
        blueprint.add_url_rule("/batch", view_func=self.post, methods=["POST"])
        blueprint.register_error_handler(
            Refused, lambda refused: (jsonify({"code": "invalid_request", "message": refused.message}), refused.status)
        )
        return blueprint

    def post(self) -> Response:
        """Take a batch, packed or not. Events that make no sense are taken too, and only the page says so."""
        given = (request.authorization and request.authorization.username) or ""
        if not compare_digest(given.encode("utf-8", "replace"), self._write_key.encode()):
            raise Refused(401, "unknown write key")
        for event in _events(unpacked(request.get_data(), request.headers.get("Content-Encoding", ""))):
            with self._state.changing() as journal:
                journal.remark(f"Segment: {_what_of(event)}")
                self._state.record(str(event.get("event") or event.get("type") or "?"), None, event)
        return jsonify({"success": True})


def _events(body: bytes) -> list[dict[str, Any]]:
    try:
        batch = json.loads(body).get("batch")
    except (ValueError, RecursionError, AttributeError):
        raise Refused(400, "the body is not a JSON object") from None
    if not isinstance(batch, list) or not all(isinstance(event, dict) for event in batch):
        raise Refused(400, "batch must be a list of objects")
    if len(body) > MOST_BODY or any(len(json.dumps(event, separators=(",", ":"))) > MOST_EVENT for event in batch):
        raise Refused(400, "Exceed payload limit")
    # More are answered 200 and thrown away.
    return batch if len(batch) <= MOST_EVENTS else []


def _what_of(event: dict[str, Any]) -> str:
    who = next((f"{name} {event[name]}" for name in ("userId", "anonymousId") if event.get(name)), None)
    return who or "discarded, it names nobody (no_user_anon_id)"
