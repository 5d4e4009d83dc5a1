"""Encharge's REST API, as far as a router calls it.

Operations, success codes and field names: Encharge's OpenAPI document of https://api.encharge.io/v1, which
declares no error at all; 400, 401 and 404 in the one documented error envelope are this sandbox's reading.
"""

import re
from collections.abc import Mapping
from hmac import compare_digest
from itertools import islice
from typing import Any

from flask import Blueprint, Response, jsonify, request

from sandbox.body import Refused, identifiers, json_object, json_value, tag_list
from sandbox.people import IDENTIFIERS
from sandbox.records import Json, Person
from sandbox.rest_objects import Operation, RestObjects, empty, error_envelope, known_person
from sandbox.state import State

_PEOPLE_QUERY = re.compile(r"people\[([0-9]{1,6})\]\[(\w+)\]")


class Rest:
    """The operations with their API key."""

    def __init__(self, state: State, api_key: str) -> None:
        self._state = state
        self._api_key = api_key

    def blueprint(self) -> Blueprint:
        """Every operation under /api/v1."""
        blueprint = Blueprint("rest", __name__, url_prefix="/api/v1")
        blueprint.before_request(self._check_key)
        blueprint.register_error_handler(Refused, _refusal)
        for method, rule, view in (*self._operations(), *RestObjects(self._state).operations()):
            blueprint.add_url_rule(rule, f"{method} {rule}".replace(".", ""), view, methods=[method])
        return blueprint

    def _operations(self) -> tuple[Operation, ...]:
        return (
            ("POST", "/tags", self.add_tag),
            ("DELETE", "/tags", self.remove_tag),
            ("POST", "/people", self.upsert_people),
            ("GET", "/people", self.get_people),
            ("DELETE", "/people", self.archive_people),
            ("GET", "/people/all", self.all_people),
            ("POST", "/people/unsubscribe", self.unsubscribe),
            ("GET", "/accounts/info", self.account),
            ("GET", "/fields", self.fields),
            ("POST", "/fields", self.add_fields),
        )

    def _check_key(self) -> None:
        key = request.headers.get("X-Encharge-Token") or request.args.get("token")
        if not key:
            raise Refused(401, "User not logged in: Unauthorized request: no authentication given")
        if not compare_digest(key.encode("utf-8", "replace"), self._api_key.encode()):
            raise Refused(401, "Token without payload (should be JWT token).", error_code=10082)

    def add_tag(self) -> Response:
        """{"tag": "a, b", "userId"|"email"|"id": …} → 201 without a body; the person must exist."""
        tags, ids = _tags_and_ids(json_object(request))
        with self._state.changing():
            self._state.people.add_tags(self._person(ids), tags)
        return empty(201)

    def remove_tag(self) -> Response:
        """The same body, with DELETE → 204. A tag that is not there is no error (nowhere documented)."""
        tags, ids = _tags_and_ids(json_object(request))
        with self._state.changing():
            self._state.people.remove_tags(self._person(ids), tags)
        return empty(204)

    def upsert_people(self) -> Response:
        """An array of people; a single one has been seen to work too.

        Custom fields are said to have to exist first, by third parties only: here they are made on the way.
        """
        value = json_value(request)
        users = value if isinstance(value, list) else [value]
        calls = [(_identifiers(_user(user)), tag_list(user.get("tags"), "tags"), user) for user in users]
        with self._state.changing():
            people = self._state.people
            saved = [people.add_tags(people.upsert(ids, user), tags) for ids, tags, user in calls]
        return jsonify({"users": [person.as_end_user() for person in saved]})

    def get_people(self) -> Response:
        """?people[0][email]=… or ?email=…; an unknown person is a 404."""
        with_archived = request.args.get("includeArchived") == "true"
        with self._state.lock:
            found = [self._person(ids) for ids in _people_query()]
        if any(person.archived and not with_archived for person in found):
            raise Refused(404, "Person not found.")
        return jsonify({"users": [_with_attributes(person) for person in found]})

    def archive_people(self) -> Response:
        """Archive, or with force=true erase. Somebody unknown is no error (nowhere documented)."""
        forced = request.args.get("force") == "true"
        with self._state.changing():
            for ids in _people_query():
                person = self._state.people.find(ids)
                if person and forced:
                    self._state.people.erase(person)
                    self._state.objects.forget_lines("person", person.id)
                elif person:
                    self._state.people.archive(person)
        return empty(204)

    def all_people(self) -> Response:
        """?limit=100&offset=0&sort=email&order=desc&ignoreAnonymous=true&attributes=a,b."""
        limit, offset = _whole("limit", 100), _whole("offset", 0)
        ignore_anonymous = request.args.get("ignoreAnonymous") == "true"
        with self._state.lock:
            people = [person for person in self._state.people.newest_first() if not person.archived]
        if ignore_anonymous:
            people = [person for person in people if person.email or person.user_id]
        sort = request.args.get("sort") or "createdAt"
        descending = request.args.get("order") == "desc"
        people.sort(key=lambda person: str(person.as_end_user().get(sort) or ""), reverse=descending)
        return jsonify({"people": list(map(_with_attributes, islice(people, offset, offset + limit)))})

    def unsubscribe(self) -> Response:
        """?email=… or userId=… or id=… → 204."""
        ids = _identifiers(request.args)
        with self._state.changing():
            self._state.people.unsubscribe(self._person(ids))
        return empty(204)

    def account(self) -> Response:
        """What Segment calls to test a key."""
        return jsonify(
            {
                "peopleCount": self._state.counts()["people"],
                "status": "active",
                "timezone": "UTC",
                "services": {},
                "activeServices": [],
                "site": "example.com",
                "name": "Sandbox",
                "accountId": 1,
            }
        )

    def fields(self) -> Response:
        """{"items": [{"name", "type"}]}."""
        with self._state.lock:
            return jsonify({"items": self._state.people.fields()})

    def add_fields(self) -> Response:
        """[{"name", "type"}] → the same under "items"."""
        value = json_value(request)
        fields = value if isinstance(value, list) else [value]
        for field in fields:
            if not isinstance(field, dict) or not isinstance(field.get("name"), str) or not field["name"]:
                raise Refused(400, "A field must be an object with a name.")
        with self._state.lock:
            self._state.people.define_fields({field["name"]: {"type": "any"} | field for field in fields})
        return jsonify({"items": fields})

    def _person(self, ids: Mapping[str, str]) -> Person:
        return known_person(self._state, ids)


def _tags_and_ids(body: Json) -> tuple[list[str], dict[str, str]]:
    tags = tag_list(body.get("tag"), "tag")
    if not tags:
        raise Refused(400, "tag is required.")
    return tags, _identifiers(body)


def _user(value: object) -> Json:
    if not isinstance(value, dict):
        raise Refused(400, "Every person must be an object.")
    return value


def _identifiers(source: Mapping[str, Any]) -> dict[str, str]:
    """id, userId, email; and segmentAnonymousId, one of the "additional keys" allowed here."""
    found = identifiers(source, "person")
    for kind in IDENTIFIERS:
        value = source.get(kind)
        if isinstance(value, str) and value:
            found.setdefault(kind, value)
    if not found:
        raise Refused(400, "At least one of id/userId/email must be specified.")
    return found


def _people_query() -> list[dict[str, str]]:
    people: dict[int, dict[str, str]] = {}
    for key, value in request.args.items():
        match = _PEOPLE_QUERY.fullmatch(key)
        if match:
            people.setdefault(int(match[1]), {})[match[2]] = value
    return [_identifiers(people[number]) for number in sorted(people)] or [_identifiers(request.args)]


def _with_attributes(person: Person) -> Json:
    flat = person.as_end_user()
    wanted = [name for name in request.args.get("attributes", "").split(",") if name]
    return {name: value for name, value in flat.items() if not wanted or name in (*wanted, *IDENTIFIERS)}


def _whole(name: str, default: int) -> int:
    text = request.args.get(name, str(default))
    if not text.isascii() or not text.isdigit():
        raise Refused(400, f"{name} must be a whole number.")
    return int(text[:9])


def _refusal(refused: Refused) -> tuple[Response, int]:
    return jsonify(error_envelope(refused.message, refused.error_code)), refused.status
