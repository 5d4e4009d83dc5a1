"""Custom objects of the account (companies and others), their schemas, and who belongs to what."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

from sandbox.records import Item, Journal, Json, changed_fields

#: Nowhere published as a list; what a company has besides id and externalId in this account.
COMPANY_FIELDS = (
    "name",
    "domain",
    "plan",
    "website",
    "industry",
    "size",
    "employees",
    "country",
    "createdAt",
)


@dataclass(frozen=True, slots=True)
class Schema:
    """A kind of custom object; `fields` None = every field is taken."""

    name: str
    plural: str
    fields: tuple[str, ...] | None

    def as_json(self, associations: Sequence[Json]) -> Json:
        """{"name", "displayNameSingular", "displayNamePlural", "fields", "associations"}."""
        return {
            "name": self.name,
            "displayNameSingular": self.name.capitalize(),
            "displayNamePlural": self.plural,
            "fields": [{"name": name, "type": "any"} for name in self.fields or ()],
            "associations": list(associations),
        }


@dataclass(frozen=True, slots=True)
class Association:
    """A line between two things; both ways, so (person, company) and (company, person) are the same line."""

    id: int
    from_object: str
    from_id: str
    to_object: str
    to_id: str

    def as_json(self) -> Json:
        """The properties of the Activity Stream's newAssociation-… event."""
        return {
            "associationId": self.id,
            "fromId": self.from_id,
            "fromObject": self.from_object,
            "toId": self.to_id,
            "toObject": self.to_object,
        }


class Objects:
    """Every custom object. Not thread-safe by itself: the state's lock guards it."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._ids = count(1)
        #: In the order of their last change.
        self._items: dict[tuple[str, str], Item] = {}
        self._by_external_id: dict[tuple[str, str], str] = {}
        self._schemas = {"company": Schema("company", "Companies", COMPANY_FIELDS)}
        #: pair of object names → id of their association
        self._association_ids = {frozenset({"person", "company"}): 1}
        self._associations: dict[Association, None] = {}

    def __len__(self) -> int:
        return len(self._items)

    def newest_first(self) -> Iterator[Item]:
        """Every object, the one changed last first."""
        return reversed(self._items.values())

    def has_schema(self, name: str) -> bool:
        """Whether objects of this name may be made."""
        return name in self._schemas

    def add_schema(self, name: str, fields: Sequence[str] | None) -> None:
        """Make a kind of object; a second time replaces its list of fields."""
        self._schemas[name] = Schema(name, f"{name.capitalize()}s", tuple(fields) if fields else None)

    def schemas(self) -> list[Json]:
        """Every schema, as `GET /schemas` lists it."""
        return [schema.as_json(self._associations_of(schema.name)) for schema in self._schemas.values()]

    def find(self, name: str, item_id: str | None, external_id: str | None) -> Item | None:
        """The object with this id, else the one with this externalId."""
        found = self._items.get((name, item_id)) if item_id else None
        if found or not external_id:
            return found
        return self._items.get((name, self._by_external_id.get((name, external_id), "")))

    def upsert(self, name: str, data: Mapping[str, Any]) -> tuple[Item, bool]:
        """Create or update; True = created. Fields that the schema does not list are ignored, as documented.

        https://docs.encharge.io/getting-started/connecting-your-app-to-encharge/ingest-api
        """
        item_id, external_id = _text(data.get("id")), _text(data.get("externalId"))
        fields = self._known_fields(name, data)
        item = self.find(name, item_id, external_id)
        if item:
            return self.update(item, external_id, fields), False
        return self._create(name, item_id, external_id, fields), True

    def update(self, item: Item, external_id: str | None, fields: Mapping[str, Any]) -> Item:
        """Change fields; nothing is noted when they had these values already."""
        fields = self._known_fields(item.object_name, fields)
        changed = changed_fields(item.fields, fields)
        if external_id and external_id != item.external_id:
            changed["externalId"] = {"newValue": external_id, "oldValue": item.external_id}
        if not changed:
            return item
        merged = {**item.fields, **{key: fields[key] for key in changed if key in fields}}
        item = self._put(replace(item, fields=merged, external_id=external_id or item.external_id))
        properties = {"changedFields": changed, "source": "api"}
        self._journal.changed(f"updatedObject-{item.object_name}", "object", properties, item=item)
        return item

    def delete(self, item: Item) -> None:
        """Forget the object and its associations."""
        self._forget(item)
        self.forget_lines(item.object_name, str(item.id))
        properties = {"id": item.id, "externalId": item.external_id}
        self._journal.changed(f"deletedObject-{item.object_name}", "object", properties, item=item)

    def association_id(self, one: str, other: str) -> int:
        """The id of the association between two kinds, made when it is first asked for."""
        return self._association_ids.setdefault(frozenset({one, other}), len(self._association_ids) + 1)

    def other_side(self, association_id: int, name: str) -> str | None:
        """The kind that this association ties to `name`; None = no such association."""
        for names, known_id in self._association_ids.items():
            if known_id == association_id and name in names:
                return next(iter(names - {name}), name)
        return None

    def associate(self, line: Association) -> None:
        """Draw the line unless it is there, in either direction."""
        if line not in self._associations and _turned(line) not in self._associations:
            self._associations[line] = None
            self._journal.changed(f"newAssociation-{line.id}", "association", line.as_json())

    def dissociate(self, line: Association) -> None:
        """Take the line away if it is there, in either direction."""
        for known in (line, _turned(line)):
            if known in self._associations:
                del self._associations[known]
                self._journal.changed(f"deletedAssociation-{known.id}", "association", known.as_json())

    def forget_lines(self, name: str, item_id: str) -> None:
        """Take away every line of something that is no more."""
        self.move_lines(name, item_id, None)

    def move_lines(self, name: str, old_id: str, new_id: str | None) -> None:
        """Give the lines of one thing to another of the same kind; None = to nobody."""
        for line in self.associations():
            if (name, old_id) == (line.from_object, line.from_id):
                moved = replace(line, from_id=new_id or "")
            elif (name, old_id) == (line.to_object, line.to_id):
                moved = replace(line, to_id=new_id or "")
            else:
                continue
            del self._associations[line]
            if new_id and _turned(moved) not in self._associations:
                self._associations[moved] = None

    def associations(self) -> list[Association]:
        """Every line."""
        return list(self._associations)

    def _associations_of(self, name: str) -> list[Json]:
        return [
            {"id": known_id, "type": "M:M", "fromObject": name, "toObject": next(iter(names - {name}), name)}
            for names, known_id in self._association_ids.items()
            if name in names
        ]

    def _known_fields(self, name: str, data: Mapping[str, Any]) -> Json:
        listed = self._schemas[name].fields
        fields = {key: value for key, value in data.items() if key not in {"id", "externalId"}}
        if listed is None:
            return fields
        for key in fields.keys() - set(listed):
            self._journal.remark(f"ignored field {key}: {name} has none of that name")
        return {key: value for key, value in fields.items() if key in listed}

    def _create(self, name: str, item_id: str | None, external_id: str | None, fields: Json) -> Item:
        now = self._journal.stamp()
        kept = {key: value for key, value in fields.items() if value is not None}
        item = self._put(Item(name, item_id or self._next_id(name), external_id, kept, now, now))
        self._journal.changed(f"newObject-{name}", "object", item.as_object(), item=item)
        return item

    def _next_id(self, name: str) -> int:
        # An id that nobody has is nowhere documented; here it makes an object with that id, so skip those.
        return next(number for number in self._ids if (name, str(number)) not in self._items)

    def _put(self, item: Item) -> Item:
        self._forget(item)
        item = replace(item, updated_at=self._journal.stamp())
        self._items[item.object_name, str(item.id)] = item
        if item.external_id:
            self._by_external_id[item.object_name, item.external_id] = str(item.id)
        return item

    def _forget(self, item: Item) -> None:
        old = self._items.pop((item.object_name, str(item.id)), None)
        if old and old.external_id:
            self._by_external_id.pop((old.object_name, old.external_id), None)


def _turned(line: Association) -> Association:
    return Association(line.id, line.to_object, line.to_id, line.from_object, line.from_id)


def _text(value: object) -> str | None:
    return None if value is None or value == "" else str(value)
