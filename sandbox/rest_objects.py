"""The part of Encharge's REST API about custom objects, and what its parts share.

Source: Encharge's OpenAPI document of https://api.encharge.io/v1.
"""

import uuid
from collections.abc import Callable, Mapping
from html import escape
from typing import Any

from flask import Response, jsonify, request

from sandbox.body import Refused, json_object
from sandbox.objects import Association
from sandbox.records import Item, Json, Person
from sandbox.state import State

#: method, path below /api/v1, view
Operation = tuple[str, str, Callable[..., Any]]
_ASSOCIATIONS = "/objects/<name>/<item_id>/associations"


class RestObjects:
    """Schemas, objects (by id or by /externalId/…) and associations."""

    def __init__(self, state: State) -> None:
        self._state = state

    def operations(self) -> tuple[Operation, ...]:
        """Every operation."""
        return (
            ("GET", "/schemas", self.schemas),
            ("PUT", "/objects/<name>", self.upsert_object),
            ("GET", "/objects/<name>/<item_id>", self.get_object),
            ("PATCH", "/objects/<name>/<item_id>", self.update_object),
            ("DELETE", "/objects/<name>/<item_id>", self.delete_object),
            ("GET", "/objects/<name>/externalId/<path:external_id>", self.get_object),
            ("PATCH", "/objects/<name>/externalId/<path:external_id>", self.update_object),
            ("DELETE", "/objects/<name>/externalId/<path:external_id>", self.delete_object),
            (
                "POST",
                f"{_ASSOCIATIONS}/default/<target>/<target_id>",
                self.associate_by_default,
            ),
            (
                "POST",
                f"{_ASSOCIATIONS}/<int:association_id>/<target_id>",
                self.associate,
            ),
            (
                "DELETE",
                f"{_ASSOCIATIONS}/<int:association_id>/<target_id>",
                self.dissociate,
            ),
        )

    def schemas(self) -> Response:
        """{"objects": [{"name", "displayNameSingular", …}]}."""
        with self._state.lock:
            return jsonify({"objects": self._state.objects.schemas()})

    def upsert_object(self, name: str) -> Response:
        """{"externalId", "id", …fields} → {"created", "object"}."""
        data = json_object(request)
        with self._state.changing():
            self._check_schema(name)
            item, created = self._state.objects.upsert(name, data)
        return jsonify({"created": created, "object": item.as_object()})

    def get_object(self, name: str, item_id: str | None = None, external_id: str | None = None) -> Response:
        """→ {"object"}."""
        with self._state.lock:
            return jsonify({"object": self._item(name, item_id, external_id).as_object()})

    def update_object(self, name: str, item_id: str | None = None, external_id: str | None = None) -> Response:
        """Fields of an object that exists → {"object"}."""
        data = json_object(request)
        new_external_id = data.get("externalId")
        with self._state.changing():
            item = self._item(name, item_id, external_id)
            item = self._state.objects.update(item, new_external_id and str(new_external_id), data)
        return jsonify({"object": item.as_object()})

    def delete_object(self, name: str, item_id: str | None = None, external_id: str | None = None) -> Response:
        """→ 204."""
        with self._state.changing():
            self._state.objects.delete(self._item(name, item_id, external_id))
        return empty(204)

    def associate_by_default(self, name: str, item_id: str, target: str, target_id: str) -> Response:
        """The only association between two kinds → 201."""
        with self._state.changing():
            association_id = self._state.objects.association_id(name, target)
            self._state.objects.associate(self._line(association_id, name, item_id, target, target_id))
        return empty(201)

    def associate(self, name: str, item_id: str, association_id: int, target_id: str) -> Response:
        """→ 201."""
        with self._state.changing():
            target = self._other_side(association_id, name)
            self._state.objects.associate(self._line(association_id, name, item_id, target, target_id))
        return empty(201)

    def dissociate(self, name: str, item_id: str, association_id: int, target_id: str) -> Response:
        """→ 204."""
        with self._state.changing():
            target = self._other_side(association_id, name)
            self._state.objects.dissociate(self._line(association_id, name, item_id, target, target_id))
        return empty(204)

    def _check_schema(self, name: str) -> None:
        if not self._state.objects.has_schema(name):
            raise Refused(404, f"There is no object schema named {name!r}.")

    def _item(self, name: str, item_id: str | None, external_id: str | None) -> Item:
        self._check_schema(name)
        item = self._state.objects.find(name, item_id, external_id)
        if item is None:
            raise Refused(404, f"There is no {name} {external_id or item_id!r}.")
        return item

    def _other_side(self, association_id: int, name: str) -> str:
        target = self._state.objects.other_side(association_id, name)
        if target is None:
            raise Refused(404, f"There is no association {association_id} of {name}.")
        return target

    def _line(self, association_id: int, name: str, item_id: str, target: str, target_id: str) -> Association:
        return Association(
            association_id, name, self._known_id(name, item_id), target, self._known_id(target, target_id)
        )

    def _known_id(self, name: str, item_id: str) -> str:
        if name == "person":
            return known_person(self._state, {"id": item_id}).id
        return str(self._item(name, item_id, None).id)


def known_person(state: State, ids: Mapping[str, str]) -> Person:
    """The person of these identifiers.

    Raises Refused.
    """
    person = state.people.find(ids)
    if person is None:
        raise Refused(404, "Person not found.")
    return person


def empty(status: int) -> Response:
    """201 and 204 carry no body."""
    return Response(status=status)


def error_envelope(message: str, error_code: int | None = None) -> Json:
    """{"error": {"message", "markdown", "traceId"[, "errorCode"]}}: the one error that the vendor shows."""
    error: Json = {
        "message": message,
        "markdown": f"<p>{escape(message)}</p>\n",
        "traceId": str(uuid.uuid4()),
    }
    return {"error": error if error_code is None else error | {"errorCode": error_code}}
