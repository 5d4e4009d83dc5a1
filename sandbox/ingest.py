"""Encharge's Ingest API: one event per request, strict about what its page states and lenient about the rest.

https://docs.encharge.io/getting-started/connecting-your-app-to-encharge/ingest-api
"""

from collections.abc import Mapping
from dataclasses import dataclass
from hmac import compare_digest
from typing import Any

from flask import Blueprint, Response, jsonify, request

from sandbox.body import Refused, identifiers, json_object, tag_list
from sandbox.objects import Association
from sandbox.records import Json, Person
from sandbox.state import State

#: Segment's destination sends these without a name; their type says what they are.
#: https://github.com/segmentio/action-destinations/tree/main/packages/destination-actions/src/destinations/encharge
_NEED_NO_NAME = frozenset({"alias", "group", "identify", "page"})


@dataclass(frozen=True, slots=True)
class Call:
    """A body whose documented keys have been checked."""

    name: str
    type: str
    ids: Mapping[str, str]
    user: Mapping[str, Any]
    tags: list[str]
    properties: Mapping[str, Any]
    body: Json


class Ingest:
    """The endpoint with its write key."""

    def __init__(self, state: State, write_key: str) -> None:
        self._state = state
        self._write_key = write_key

    def blueprint(self) -> Blueprint:
        """With and without the last slash (the vendor's samples use both), and the key as a path segment."""
        blueprint = Blueprint("ingest", __name__, url_prefix="/ingest/v1")
        for rule in ("/", "/<write_key>"):
            blueprint.add_url_rule(rule, view_func=self.post, methods=["POST"], strict_slashes=False)
        blueprint.register_error_handler(Refused, _refusal)
        return blueprint

    def post(self, write_key: str | None = None) -> Response:
        """Take one event."""
        self._check_key(request.headers.get("X-Encharge-Token") or write_key)
        call = read_call(json_object(request))
        with self._state.changing():
            person = self._apply(call)
            self._state.record(call.name, person, call.body)
        # Documented only as "200: OK". Not JSON, so that no client comes to rely on it.
        return Response("OK", mimetype="text/plain")

    def _check_key(self, key: str | None) -> None:
        if not key:
            # The text has been seen, its status has not.
            raise Refused(401, "Missing Encharge write key.")
        if not compare_digest(key.encode("utf-8", "replace"), self._write_key.encode()):
            raise Refused(400, "Can't find this account.")

    def _apply(self, call: Call) -> Person | None:
        if call.type == "alias":
            return self._alias(call)
        if call.type == "group":
            return self._group(call)
        return self._upsert_person(call)

    def _upsert_person(self, call: Call) -> Person:
        people = self._state.people
        return people.add_tags(people.upsert(call.ids, call.user), call.tags)

    def _alias(self, call: Call) -> Person | None:
        """{"previousUserId", "previousEmail", "user": {…new}}; Segment's dialect: userId at top level."""
        people, objects = self._state.people, self._state.objects
        previous = _previous(call.body)
        before = people.find(previous)
        person = people.rekey(previous, call.ids)
        if before and person and before.id != person.id:
            objects.move_lines("person", before.id, person.id)
        return person

    def _group(self, call: Call) -> Person | None:
        name = _object_type(call.body)
        objects = self._state.objects
        if not objects.has_schema(name):
            raise Refused(400, f"There is no object schema named {name!r}.")
        item, _ = objects.upsert(name, call.properties)
        if not call.ids:
            return None
        person = self._upsert_person(call)
        association_id = objects.association_id("person", name)
        objects.associate(Association(association_id, "person", person.id, name, str(item.id)))
        return person


def read_call(body: Json) -> Call:
    """The documented keys of a body.

    Raises Refused.
    """
    kind = _text(body, "type")
    name = _text(body, "name") or _text(body, "event") or _name_of(kind)
    user, properties = _mapping(body, "user"), _mapping(body, "properties")
    ids = identifiers(user)
    if kind == "alias":
        _previous(body)
        ids = identifiers(body, "body") | ids
    elif kind == "group":
        _object_type(body)
    elif not ids:
        raise Refused(400, "user must have at least an email or a userId.")
    return Call(name, kind, ids, user, tag_list(user.get("tags"), "user.tags"), properties, body)


def _name_of(kind: str) -> str:
    if kind in _NEED_NO_NAME:
        return kind
    raise Refused(400, "name is required.")


def _object_type(body: Json) -> str:
    return _text(body, "objectType") or _refuse("objectType is required.")


def _refuse(message: str) -> str:
    raise Refused(400, message)


def _previous(body: Json) -> dict[str, str]:
    previous = {"userId": body.get("previousUserId"), "email": body.get("previousEmail")}
    return identifiers(previous, "previous")


def _text(body: Json, key: str) -> str:
    value = body.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Refused(400, f"{key} must be a string.")
    return value


def _mapping(body: Json, key: str) -> Json:
    value = body.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Refused(400, f"{key} must be an object.")
    return value


def _refusal(refused: Refused) -> tuple[Response, int]:
    """{"error": "<text>"}: a string here, unlike the REST API's object."""
    return jsonify({"error": refused.message}), refused.status
