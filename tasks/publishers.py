"""Who publishes tasks: names, lists of their own, quotas; out of publishers.yaml.

    publishers:
      billing: {prefix: "billing:", quota: {per_second: 50, burst: 200}}

A prefix is what kombu calls `global_keyprefix`: it stands before every key of a client
(https://docs.celeryq.dev/en/stable/getting-started/backends-and-brokers/redis.html). A Redis user that may write to no
other list proves by it who it is.
"""

import dataclasses
import functools
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from marshmallow import Schema, ValidationError, fields, validate

from config.celery_settings import QUEUE
from config.problems import ConfigurationRefused
from config.yaml_file import YamlFile, read

#: Who publishes without saying who it is.
NAMELESS: Final = "published"

#: kombu keeps a list in several keys, with the step of their priority behind the name; stock kombu knows 3, 6 and 9:
#: https://docs.celeryq.dev/en/stable/userguide/routing.html#redis-message-priorities
STEPS: Final = ("", *(f"\x06\x16{step}" for step in range(1, 10)))
_MOST_PER_SECOND: Final = 100_000
_NAME: Final = validate.Regexp(r"^[a-z0-9][a-z0-9_-]{0,63}$(?!\n)", error="Only a-z, 0-9, _ and -, at most 64.")
#: The workers' Redis user reads whatever is called `…:events`; what begins like a key of ours or kombu's is not theirs.
_PREFIX: Final = (
    validate.Regexp(
        r"^([a-z0-9_-]+:)+$(?!\n)", error="Only a-z, 0-9, _ and -, in parts that each end with a colon, like billing:"
    ),
    validate.Length(max=64),
    validate.Regexp(
        r"^(?!router:|events|_kombu|unacked|celery)", error="Must not begin as keys of the router, kombu or Celery do."
    ),
)


@dataclasses.dataclass(frozen=True)
class Publisher:
    """One of them."""

    name: str  #: the source of its events
    prefix: str = ""  #: what its Redis user may write begins so; "" = it shares the list of all others
    per_second: float | None = None  #: events above it wait; None = no quota
    burst: int = 1  #: events that may come at once after a pause


@dataclasses.dataclass(frozen=True)
class Publishers:
    """Those that the file names; others may publish too, without quota and list."""

    known: Mapping[str, Publisher] = dataclasses.field(default_factory=dict)
    #: Names of sources that send over HTTP, with a secret: who publishes must not give itself out as one.
    sources: frozenset[str] = frozenset()

    def lists(self) -> dict[str, str | None]:
        """The lists that are read → whose they are; None = of everybody, who say themselves who they are."""
        own = {f"{each.prefix}{QUEUE}": each.name for each in self.known.values() if each.prefix}
        return {QUEUE: None, **own}

    @functools.cached_property
    def reserved(self) -> frozenset[str]:
        """Names that nobody may claim on the list of all: who has them proves it by a secret, or by a list."""
        return self.sources | {each.name for each in self.known.values() if each.prefix}


def keys_of(list_: str) -> tuple[str, ...]:
    """The keys in which kombu keeps a list, the most urgent first."""
    return tuple(f"{list_}{step}" for step in STEPS)


def wrong_prefix(prefix: str) -> str | None:
    """What is wrong with the form of a prefix, if anything is."""
    try:
        validate.And(*_PREFIX)(prefix)
    except ValidationError as error:
        return " ".join(map(str, error.messages))
    return None


class _QuotaSchema(Schema):
    per_second = fields.Float(
        required=True, allow_nan=False, validate=validate.Range(0, _MOST_PER_SECOND, min_inclusive=False)
    )
    burst = fields.Integer(strict=True, validate=validate.Range(1, 1_000_000))


class _EntrySchema(Schema):
    prefix = fields.String(load_default="", validate=_PREFIX)
    quota = fields.Nested(_QuotaSchema)


class _FileSchema(Schema):
    version = fields.Integer(required=True, strict=True, validate=validate.Equal(1))
    publishers = fields.Dict(keys=fields.String(validate=_NAME), values=fields.Raw(allow_none=True), allow_none=True)


def load(path: Path, sources: Iterable[str] = ()) -> Publishers:
    """Publishers out of a file; `sources` are the names of sources.yaml, which none of them may have.

    Raises ConfigurationRefused with every problem: file, line, key, and what to write instead.
    """
    file = read(path)
    problems: list[str] = []
    try:
        _FileSchema().load(file.data if file.data is not None else {})
    except ValidationError as error:
        problems += file.problems(_of_keys(error.normalized_messages()))
    taken = frozenset(sources)
    entries = file.data.get("publishers") if isinstance(file.data, dict) else None
    known: dict[str, Publisher] = {}
    whose: dict[str, str] = {}
    for name, entry in entries.items() if isinstance(entries, dict) else ():
        one = _publisher(file, str(name), entry, problems)
        if name in taken:
            problems.append(file.problem(("publishers", name), "is the name of a source in the sources file"))
        if one.prefix and whose.setdefault(one.prefix, one.name) != one.name:
            text = f"is the prefix of {whose[one.prefix]} already"
            problems.append(file.problem(("publishers", name, "prefix"), text))
        known[one.name] = one
    if problems:
        raise ConfigurationRefused(tuple(problems))
    return Publishers(known, taken)


def _publisher(file: YamlFile, name: str, entry: Any, problems: list[str]) -> Publisher:
    try:
        data = _EntrySchema().load(entry if entry is not None else {})
    except ValidationError as error:
        problems.extend(file.problems(error.normalized_messages(), ("publishers", name)))
        return Publisher(name)
    quota = data.get("quota")
    if quota is None:
        return Publisher(name, data["prefix"])
    # What comes within a second in a heap is still at the rate.
    burst = quota.get("burst", math.ceil(quota["per_second"]))
    return Publisher(name, data["prefix"], quota["per_second"], burst)


def _of_keys(messages: dict[str, Any]) -> dict[str, Any]:
    """What marshmallow says of a key that it refuses stands one level deeper than what the key has."""
    entries = messages.get("publishers")
    if not isinstance(entries, dict):
        return messages
    plain = {name: said["key"] if isinstance(said, dict) and "key" in said else said for name, said in entries.items()}
    return {**messages, "publishers": plain}
