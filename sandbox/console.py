"""The sandbox's own endpoints: the page, what it knows, and the faults."""

import json
from hmac import compare_digest
from pathlib import Path

from flask import Blueprint, Response, jsonify, request

from sandbox.activity_stream import ActivityStream
from sandbox.body import Refused, json_object, json_value
from sandbox.curtain import drawn
from sandbox.faults import Faults, InvalidRule, parse_rules
from sandbox.state import State

#: The page shows hostile data as text; should that ever fail, nothing is fetched from or sent elsewhere.
_PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Console:
    """No fault ever hits it, and only where other machines reach the sandbox it wants a key.

    Without `reveal` it tells how much arrived and when, and nothing of what.
    """

    def __init__(
        self,
        state: State,
        faults: Faults,
        activity_stream: ActivityStream | None,
        key: str = "",
        *,
        reveal: bool = True,
    ) -> None:
        self._key = key
        self._state = state
        self._faults = faults
        self._activity_stream = activity_stream
        self._reveal = reveal
        self._page = Path(__file__).with_name("page.html").read_text(encoding="utf-8")

    def blueprint(self) -> Blueprint:
        """`/` and `/_sandbox/*`."""
        blueprint = Blueprint("console", __name__)
        blueprint.add_url_rule("/", view_func=self.page, methods=["GET"])
        for method, rule, view in (
            ("GET", "health", self.health),
            ("GET", "state", self.state),
            ("DELETE", "state", self.clear_state),
            ("GET", "events", self.events),
            ("GET", "calls", self.calls),
            ("POST", "schemas", self.add_schema),
            ("GET", "faults", self.faults),
            ("PUT", "faults", self.replace_faults),
            ("DELETE", "faults", self.clear_faults),
        ):
            blueprint.add_url_rule(f"/_sandbox/{rule}", view_func=view, methods=[method])
        blueprint.register_error_handler(Refused, _refusal)
        if self._key:
            blueprint.before_request(self._check_key)
        if not self._reveal:
            blueprint.after_request(_draw_curtain)
        return blueprint

    def _check_key(self) -> Response | None:
        if request.path == "/_sandbox/health":
            return None
        given = (request.authorization and request.authorization.password) or ""
        if compare_digest(given.encode("utf-8", "replace"), self._key.encode()):
            return None
        response = jsonify({"error": "The password is the API key; any user will do."})
        response.status_code = 401
        response.headers["WWW-Authenticate"] = 'Basic realm="sandbox"'
        return response

    def page(self) -> Response:
        """People, objects, events and faults for a human."""
        response = Response(self._page, mimetype="text/html")
        response.headers["Content-Security-Policy"] = _PAGE_POLICY
        return response

    def health(self) -> Response:
        """Ready to take requests."""
        return jsonify({"status": "ok"})

    def state(self) -> Response:
        """{"people", "objects", "events" (last 200), "counts"}; ?limit=N people and objects, newest first."""
        body = self._state.as_json(_whole("limit"))
        if self._activity_stream:
            body["activity_stream"] = self._activity_stream.counts()
        return jsonify(body)

    def clear_state(self) -> Response:
        """Forget people, objects, events, counts and the log of faults; the fault rules stay."""
        self._state.clear()
        self._faults.clear_log()
        return Response(status=204)

    def events(self) -> Response:
        """?since=N → {"events": those kept from number N on, "total": how many there ever were}."""
        events, total = self._state.events_since(_whole("since") or 1)
        return jsonify({"events": [event.as_json() for event in events], "total": total})

    def calls(self) -> Response:
        """?since=N → {"calls": the requests that an API worked on, from number N on, "total": how many ever}."""
        calls, total = self._state.calls_since(_whole("since") or 1)
        return jsonify({"calls": [call.as_json() for call in calls], "total": total})

    def add_schema(self) -> tuple[Response, int]:
        """{"name", "fields"?: ["a", "b"]}; without fields, objects of this kind take every field."""
        body = json_object(request)
        name, fields = body.get("name"), body.get("fields")
        if not isinstance(name, str) or not name or "/" in name:
            raise Refused(400, "name must be a string without a slash.")
        if fields is not None and not (isinstance(fields, list) and all(isinstance(f, str) for f in fields)):
            raise Refused(400, "fields must be a list of strings.")
        with self._state.lock:
            self._state.objects.add_schema(name, fields)
        return jsonify({"name": name, "fields": fields}), 201

    def faults(self) -> Response:
        """{"rules", "seed", "faulted", "log"}."""
        return jsonify(self._faults.as_json() | {"faulted": self._state.counts()["faulted"]})

    def replace_faults(self) -> Response:
        """A list of rules instead of the present ones; ?seed=7 makes their dice repeatable."""
        try:
            rules = parse_rules(json_value(request, any_content_type=True))
        except InvalidRule as error:
            raise Refused(400, str(error)) from None
        self._faults.replace(rules, _whole("seed"))
        return self.faults()

    def clear_faults(self) -> Response:
        """No more faults; the log stays, to be read after a test."""
        self._faults.replace([])
        return Response(status=204)


def _draw_curtain(response: Response) -> Response:
    told = response.get_json(silent=True)
    # What it refuses, and its health, are its own words.
    if request.method == "GET" and isinstance(told, dict) and not told.keys() & {"error", "status"}:
        response.set_data(json.dumps(drawn(told)))
    return response


def _whole(name: str) -> int | None:
    text = request.args.get(name)
    if text is None:
        return None
    if not text.isascii() or not text.isdigit():
        raise Refused(400, f"{name} must be a whole number.")
    return int(text[:18])


def _refusal(refused: Refused) -> tuple[Response, int]:
    return jsonify({"error": refused.message}), refused.status
