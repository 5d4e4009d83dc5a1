"""ActivatePro's API for events of users.

https://activatepro.spotler.help/hc/en-gb/articles/28288201296402
"""

import uuid
from datetime import datetime, timedelta
from hmac import compare_digest
from typing import Any

from flask import Blueprint, Response, jsonify, request

from sandbox.body import Refused, json_object
from sandbox.records import Json
from sandbox.state import State

MOST_EVENTS = 50


class Wrong(Exception):
    """What the API says of a request: {"field", "type"}."""

    def __init__(self, field: str, kind: str) -> None:
        super().__init__(f"{field}: {kind}")
        self.answer = {"field": field, "type": kind}


class ActivatePro:
    """The endpoint with its token, and the names of events that it knows (none = all)."""

    def __init__(self, state: State, token: str, event_classes: frozenset[str] = frozenset()) -> None:
        self._state = state
        self._token = token
        self._event_classes = event_classes

    def blueprint(self) -> Blueprint:
        """`POST /activatepro/events`."""
        blueprint = Blueprint("activatepro", __name__, url_prefix="/activatepro")
        blueprint.add_url_rule("/events", view_func=self.post, methods=["POST"])
        blueprint.register_error_handler(Wrong, lambda wrong: (jsonify(wrong.answer), 400))
        blueprint.register_error_handler(Refused, _refusal)
        blueprint.after_request(_numbered)
        return blueprint

    def post(self) -> Response:
        """Take the events of one user: all of them, or none."""
        given = request.headers.get("X-XNG-AuthToken", "")
        if not compare_digest(given.encode("utf-8", "replace"), self._token.encode()):
            return Response(status=401)
        if request.headers.get("X-XNG-ApiVersion") != "1":
            raise Wrong("X-XNG-ApiVersion", "WRONG_VALUE")
        body = json_object(request)
        who = _identity(body)
        events = [self._checked(event) for event in _list(body)]
        for event in events:
            with self._state.changing() as journal:
                journal.remark(f"ActivatePro: {', '.join(f'{name} {value}' for name, value in who.items())}")
                self._state.record(event["event"], None, {**who, **event})
        return Response(status=202)

    def _checked(self, event: Any) -> Json:
        if not isinstance(event, dict):
            raise Wrong("events", "WRONG_FORMAT")
        name = event.get("event")
        if not isinstance(name, str) or not name:
            raise Wrong("event", "NOT_NULL")
        if self._event_classes and name not in self._event_classes:
            raise Wrong("event", "UNKNOWN_VALUE")
        if "timestamp" in event and not _is_utc(event["timestamp"]):
            raise Wrong("timestamp", "WRONG_FORMAT")
        if not isinstance(event.get("properties", {}), dict):
            raise Wrong("properties", "WRONG_FORMAT")
        return event


def _identity(body: Json) -> dict[str, str]:
    who = {name: body[name] for name in ("id", "email", "businessUnit") if body.get(name) not in (None, "")}
    for name, value in who.items():
        if not isinstance(value, str):
            raise Wrong(name, "WRONG_FORMAT")
    if not {"id", "email"} & who.keys():
        raise Wrong("id", "NOT_NULL")
    return who


def _list(body: Json) -> list[Any]:
    events = body.get("events")
    if not isinstance(events, list) or not events:
        raise Wrong("events", "NOT_NULL")
    if len(events) > MOST_EVENTS:
        raise Wrong("events", "WRONG_VALUE")
    return events


def _is_utc(text: object) -> bool:
    """ISO 8601 in UTC with Z, as the page asks for."""
    try:
        return isinstance(text, str) and text.endswith("Z") and datetime.fromisoformat(text).utcoffset() == timedelta()
    except ValueError:
        return False


def _refusal(_: Refused) -> tuple[Response, int]:
    return jsonify({"field": "body", "type": "WRONG_FORMAT"}), 400


def _numbered(response: Response) -> Response:
    response.headers["X-Request-ID"] = str(uuid.uuid4())
    return response
