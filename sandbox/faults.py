"""Faults on demand: which request misbehaves and how. Decides only; the gate carries it out."""

import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from sandbox.records import Json

KEPT_LOG = 5_000
#: Waits when the rule names none.
_DEFAULT_DELAY_S = {"status": 0.0, "reset": 0.0, "hang": 60.0, "delay": 1.0}
_MAX_DELAY_S = 3_600
_STATUSES = range(200, 600)


class InvalidRule(ValueError):
    """The message names the rule and the key."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One fault. `declared` is what the operator wrote."""

    kind: str
    statuses: tuple[int, ...]
    rate: float
    count: int | None
    retry_after: str | None
    delay_s: float
    after: bool
    path: str
    email: str
    body: Any
    declared: Mapping[str, Any]

    def matches(self, path: str, emails: Callable[[], Sequence[str]]) -> bool:
        """Whether the request is meant; the e-mails are asked for only when they matter."""
        return path.startswith(self.path) and (not self.email or self.email in emails())


@dataclass(frozen=True, slots=True)
class Fault:
    """What one request gets: the rule, its number in the list, and the status that was drawn."""

    rule: Rule
    number: int
    status: int | None


@dataclass(slots=True)
class _Hits:
    rule: Rule
    hits: int = 0

    def spent(self) -> bool:
        return self.rule.count is not None and self.hits >= self.rule.count


@dataclass(slots=True)
class Faults:
    """The active rules, their dice and the log of what they hit."""

    _rules: list[_Hits] = field(default_factory=list)
    _seed: int | None = None
    _dice: random.Random = field(default_factory=random.Random)
    _log: deque[Json] = field(default_factory=lambda: deque(maxlen=KEPT_LOG))
    _lock: Lock = field(default_factory=Lock)

    def replace(self, rules: Sequence[Rule], seed: int | None = None) -> None:
        """Take these rules instead, unused, with fresh dice."""
        with self._lock:
            self._rules = [_Hits(rule) for rule in rules]
            self._seed = seed
            self._dice = random.Random(seed)  # noqa: S311 - a fault's dice guard nothing

    def clear_log(self) -> None:
        """Forget what was hit."""
        with self._lock:
            self._log.clear()

    def decide(self, path: str, emails: Callable[[], Sequence[str]]) -> Fault | None:
        """The first rule that is meant, not spent, and favoured by the dice."""
        with self._lock:
            for number, entry in enumerate(self._rules):
                rule = entry.rule
                if entry.spent() or not rule.matches(path, emails) or not self._dice_say_yes(rule.rate):
                    continue
                entry.hits += 1
                status = self._dice.choice(rule.statuses) if rule.kind == "status" else None
                return Fault(rule, number, status)
        return None

    def log(self, entry: Json) -> None:
        """Keep what happened to one request."""
        with self._lock:
            self._log.append(entry)

    def as_json(self) -> Json:
        """{"rules": [{…as declared, "hits"}], "seed", "log": [{"at", "path", "email", "rule", …}]}."""
        with self._lock:
            rules = [{**entry.rule.declared, "hits": entry.hits} for entry in self._rules]
            return {"rules": rules, "seed": self._seed, "log": list(self._log)}

    def _dice_say_yes(self, rate: float) -> bool:
        # A sure thing throws no dice, so adding one does not change what the others draw.
        return rate >= 1 or (rate > 0 and self._dice.random() < rate)


def parse_rules(document: object) -> list[Rule]:
    """A JSON list of rules, every key optional except "status" when the kind is "status".

    [{"kind": "status"|"reset"|"hang"|"delay", "status": 503 or [503, 429], "rate": 0.3, "count": 10,
      "retry_after": 2, "delay_s": 0.5, "after": false, "path": "/api/v1/tags", "email": "a@example.com",
      "body": "raw text or JSON"}]

    Raises InvalidRule.
    """
    if not isinstance(document, list):
        raise InvalidRule("the body must be a JSON list of rules")
    return [_parse_rule(number, value) for number, value in enumerate(document)]


def _parse_rule(number: int, value: object) -> Rule:
    if not isinstance(value, dict):
        raise InvalidRule(f"rule {number}: must be an object")
    unknown = value.keys() - _READERS.keys()
    if unknown:
        raise InvalidRule(f"rule {number}: unknown key {min(unknown)!r}; known are {', '.join(_READERS)}")
    read: Json = {}
    for key, (reader, default) in _READERS.items():
        try:
            read[key] = default if value.get(key) is None else reader(value[key])
        except ValueError as error:
            raise InvalidRule(f"rule {number}: {key} {error}") from None
    if read["kind"] == "status" and not read["status"]:
        raise InvalidRule(f'rule {number}: status is required when kind is "status"')
    if read["delay_s"] is None:
        read["delay_s"] = _DEFAULT_DELAY_S[read["kind"]]
    return Rule(statuses=read.pop("status"), declared=dict(value), **read)


def _kind(value: object) -> str:
    if not isinstance(value, str) or value not in _DEFAULT_DELAY_S:
        raise ValueError(f"must be one of {', '.join(_DEFAULT_DELAY_S)}, not {value!r}")
    return value


def _statuses(value: object) -> tuple[int, ...]:
    statuses = tuple(value) if isinstance(value, list) else (value,)
    if not statuses or not all(type(one) is int and one in _STATUSES for one in statuses):
        raise ValueError(f"must be a status from 200 to 599 or a list of them, not {value!r}")
    return statuses


def _number(value: object, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ValueError(f"must be a number from {low} to {high}, not {value!r}")
    return float(value)


def _rate(value: object) -> float:
    return _number(value, 0, 1)


def _delay(value: object) -> float:
    return _number(value, 0, _MAX_DELAY_S)


def _count(value: object) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"must be a whole number, not {value!r}")
    return value


def _retry_after(value: object) -> str:
    """Seconds or any text: a client must survive a header that is neither seconds nor a date."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:g}" if isinstance(value, float) else str(value)
    if not isinstance(value, str) or not value.isascii() or not value.isprintable():
        raise ValueError(f"must be seconds or a date as HTTP writes it, not {value!r}")
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"must be true or false, not {value!r}")  # noqa: TRY004 - named like the other refusals
    return value


def _path(value: object) -> str:
    if not isinstance(value, str) or not value.startswith("/"):
        raise ValueError(f'must be a path that starts with "/", not {value!r}')
    return value


def _email(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"must be a string, not {value!r}")  # noqa: TRY004 - named like the other refusals
    return value.casefold()


def _any(value: object) -> object:
    return value


_READERS: Mapping[str, tuple[Callable[[object], Any], Any]] = {
    "status": (_statuses, ()),
    "kind": (_kind, "status"),
    "rate": (_rate, 1.0),
    "count": (_count, None),
    "retry_after": (_retry_after, None),
    "delay_s": (_delay, None),
    "after": (_flag, False),
    "path": (_path, ""),
    "email": (_email, ""),
    "body": (_any, None),
}
