"""A receiver of webhooks that are signed as Standard Webhooks.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import hmac
import time
from collections.abc import Callable, Mapping

from flask import Blueprint, Response, jsonify, request

from sandbox.body import Refused, json_object
from sandbox.state import State

#: How far, in seconds, the time of an attempt may be from ours.
_TOLERANCE_S = 300


class WebhookReceiver:
    """The endpoint with its secret."""

    def __init__(self, state: State, secret: str, now: Callable[[], float] = time.time) -> None:
        self._state = state
        self._key = base64.b64decode(secret.removeprefix("whsec_"))
        self._now = now

    def blueprint(self) -> Blueprint:
        """`POST /webhook`."""
        blueprint = Blueprint("webhook", __name__)
        blueprint.add_url_rule("/webhook", view_func=self.post, methods=["POST"])
        blueprint.register_error_handler(Refused, lambda refused: (jsonify({"error": refused.message}), refused.status))
        return blueprint

    def post(self) -> Response:
        """Take one that is signed with our secret, and of now."""
        self._verify(dict(request.headers), request.get_data())
        body = json_object(request)
        with self._state.changing() as journal:
            journal.remark(f"Webhook: {request.headers['webhook-id']}")
            self._state.record(str(body.get("type") or "?"), None, body)
        return Response(status=204)

    def _verify(self, headers: Mapping[str, str], body: bytes) -> None:
        """`headers` are named as the server has them: Webhook-Id."""
        id_, at = headers.get("Webhook-Id", ""), headers.get("Webhook-Timestamp", "")
        if not at.isascii() or not at.isdigit() or abs(self._now() - int(at[:12])) > _TOLERANCE_S:
            raise Refused(401, "webhook-timestamp is not of now")
        signed = b".".join((id_.encode("utf-8", "replace"), at.encode(), body))
        wanted = "v1," + base64.b64encode(hmac.digest(self._key, signed, "sha256")).decode()
        offered = headers.get("Webhook-Signature", "").split(" ")
        if not any(hmac.compare_digest(each.encode("utf-8", "replace"), wanted.encode()) for each in offered):
            raise Refused(401, "no valid signature in webhook-signature")
