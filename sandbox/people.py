"""The people of the account: finding, creating, changing, tagging and re-keying them."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from sandbox.records import Journal, Json, Person, changed_fields

#: In this order, so that the strongest identifier decides when two name different people.
IDENTIFIERS = ("id", "userId", "email", "segmentAnonymousId")
_BUILT_IN_FIELDS = ("email", "userId", "name", "firstName", "lastName")
#: Keys of a user that are not fields.
_NOT_FIELDS = frozenset({"id", "userId", "email", "tags"})


class People:
    """Everybody, by id and by every identifier. Not thread-safe by itself: the state's lock guards it."""

    def __init__(self, journal: Journal, new_id: Callable[[], str]) -> None:
        self._journal = journal
        self._new_id = new_id
        #: In the order of their last change.
        self._people: dict[str, Person] = {}
        self._fields: dict[str, Json] = {}
        self._index: dict[tuple[str, str], str] = {}

    def __len__(self) -> int:
        return len(self._people)

    def newest_first(self) -> Iterator[Person]:
        """Everybody, the person changed last first."""
        return reversed(self._people.values())

    def find(self, identifiers: Mapping[str, str]) -> Person | None:
        """The person of the first identifier that is known."""
        for kind in IDENTIFIERS:
            value = identifiers.get(kind)
            owner = self._owner(kind, value) if value else None
            if owner:
                return owner
        return None

    def upsert(self, identifiers: Mapping[str, str], fields: Mapping[str, Any]) -> Person:
        """Create or update a person; keys of `fields` that are identifiers are left out."""
        own = {name: value for name, value in fields.items() if name not in _NOT_FIELDS}
        person = self.find(identifiers)
        return self._update(person, identifiers, own) if person else self._create(identifiers, own)

    def add_tags(self, person: Person, tags: Iterable[str]) -> Person:
        """Add the tags that the person does not have yet."""
        for tag in dict.fromkeys(tags):
            if tag not in person.tags:
                person = self._put(replace(person, tags=(*person.tags, tag)))
                self._journal.changed(f"added-tag-{tag}", "tag", {"tag": tag}, person)
        return person

    def remove_tags(self, person: Person, tags: Iterable[str]) -> Person:
        """Remove the tags that the person has."""
        for tag in dict.fromkeys(tags):
            if tag in person.tags:
                person = self._put(replace(person, tags=tuple(one for one in person.tags if one != tag)))
                self._journal.changed(f"removed-tag-{tag}", "tag", {"tag": tag}, person)
        return person

    def unsubscribe(self, person: Person) -> None:
        """No more mail; a second time changes nothing."""
        if not person.unsubscribed:
            person = self._put(replace(person, unsubscribed=True))
            self._journal.changed("unsubscribedUser", "unsubscribedUser", {}, person)

    def archive(self, person: Person) -> None:
        """Hide the person. The next create or update brings them back."""
        self._put(replace(person, archived=True))

    def erase(self, person: Person) -> None:
        """Forget the person and all identifiers."""
        self._unindex(self._people.pop(person.id))

    def rekey(self, previous: Mapping[str, str], new: Mapping[str, str]) -> Person | None:
        """Give the person of the previous identifiers the new ones.

        Nowhere documented, decided here: if nobody has the previous identifiers, nothing changes (so a
        repeated alias is harmless); if somebody else has a new one already, the two become one person.
        """
        person = self.find(previous)
        if person is None:
            self._journal.remark("nobody has the previous identifiers")
            return None
        other = self.find(new)
        if other and other.id != person.id:
            return self._merge(person, other, new)
        return self._update(person, new, {})

    def define_fields(self, fields: Mapping[str, Json]) -> None:
        """Describe fields before anybody has them."""
        self._fields |= fields

    def fields(self) -> list[Json]:
        """[{"name", "type", …}] of the built-in fields, the described ones and those that somebody has."""
        used = {name for person in self._people.values() for name in person.fields}
        names = (*_BUILT_IN_FIELDS, *sorted(used))
        return list(({name: {"name": name, "type": "any"} for name in names} | self._fields).values())

    def _owner(self, kind: str, value: str) -> Person | None:
        return self._people.get(self._index.get(_index_key(kind, value), ""))

    def _create(self, identifiers: Mapping[str, str], fields: Mapping[str, Any]) -> Person:
        now = self._journal.stamp()
        person = self._put(
            Person(
                id=self._new_id(),
                user_id=identifiers.get("userId"),
                email=identifiers.get("email"),
                fields={name: value for name, value in fields.items() if value is not None},
                tags=(),
                unsubscribed=False,
                archived=False,
                created_at=now,
                updated_at=now,
            )
        )
        self._journal.changed("newUser", "newUser", {}, person)
        return person

    def _update(self, person: Person, identifiers: Mapping[str, str], fields: Mapping[str, Any]) -> Person:
        ids = self._free_identifiers(person, identifiers)
        old: Json = {**person.fields, "userId": person.user_id, "email": person.email}
        changed = changed_fields(old, {**fields, **ids})
        if not changed and not person.archived:
            return person
        person = self._put(
            replace(
                person,
                user_id=ids.get("userId", person.user_id),
                email=ids.get("email", person.email),
                fields={**person.fields, **{name: fields[name] for name in changed if name in fields}},
                archived=False,
            )
        )
        if changed:
            properties = {"changedFields": changed, "source": "api"}
            self._journal.changed("updatedUser", "updatedUser", properties, person)
        return person

    def _free_identifiers(self, person: Person, identifiers: Mapping[str, str]) -> dict[str, str]:
        """The identifiers this person may take.

        A call that names two people (userId of one, e-mail of the other) is nowhere documented. Here the
        person of the userId is the one that changes, and the e-mail stays with its owner: no identifier moves
        from one person to another. One that nobody has is taken, over the person's own if need be.
        """
        free = {}
        for kind in ("userId", "email"):
            value = identifiers.get(kind)
            if not value:
                continue
            owner = self._owner(kind, value)
            if owner and owner.id != person.id:
                self._journal.remark(f"{kind} belongs to another person and stays there")
            else:
                free[kind] = value
        return free

    def _merge(self, person: Person, survivor: Person, new: Mapping[str, str]) -> Person:
        self.erase(person)
        self._journal.remark(f"merged with {person.id}, who had the previous identifiers")
        missing = {name: value for name, value in person.fields.items() if name not in survivor.fields}
        inherited = {"userId": person.user_id, "email": person.email} | dict(new)
        for kind, value in (("userId", survivor.user_id), ("email", survivor.email)):
            if value and not new.get(kind):
                inherited[kind] = value
        ids = {kind: value for kind, value in inherited.items() if value}
        survivor = self._update(survivor, ids, missing)
        return self.add_tags(survivor, person.tags)

    def _put(self, person: Person) -> Person:
        old = self._people.pop(person.id, None)
        if old:
            self._unindex(old)
        person = replace(person, updated_at=self._journal.stamp())
        self._people[person.id] = person
        self._index.update(dict.fromkeys(_index_keys(person), person.id))
        return person

    def _unindex(self, person: Person) -> None:
        for key in _index_keys(person):
            if self._index.get(key) == person.id:
                del self._index[key]


def _index_keys(person: Person) -> Iterator[tuple[str, str]]:
    anonymous = person.fields.get("segmentAnonymousId")
    values = {
        "id": person.id,
        "userId": person.user_id,
        "email": person.email,
        "segmentAnonymousId": anonymous,
    }
    for kind, value in values.items():
        if isinstance(value, str) and value:
            yield _index_key(kind, value)


def _index_key(kind: str, value: str) -> tuple[str, str]:
    # Nowhere documented: addresses that differ only in case are the same person here.
    return kind, value.casefold() if kind == "email" else value
