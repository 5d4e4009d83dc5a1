"""What the torture program sends, and where each event has to arrive: decided by the seed alone."""

import dataclasses
import random
from collections.abc import Mapping, Sequence
from typing import Any, Final

INGEST: Final = "encharge_ingest"
API: Final = "encharge_api"

#: Event name → destination → route (torture/routes.yaml); how often it is drawn stands in _WEIGHTS.
EXPECTED: Final[Mapping[str, Mapping[str, str]]] = {
    "torture-both": {INGEST: "first-to-ingest", API: "to-api"},
    "torture-ingest": {INGEST: "first-to-ingest"},
    "torture-second": {INGEST: "second-to-ingest"},
    "torture-api": {API: "to-api"},
    "torture-nobody": {},
}
_WEIGHTS: Final = (45, 15, 15, 15, 10)

#: Way in → the source it comes from, and the most events of one post.
WAYS: Final[Mapping[str, tuple[str, int]]] = {
    "stream": ("encharge", 1),
    "track": ("website", 1),
    "batch": ("website", 8),
    "hook": ("shop", 4),
    "task": ("billing", 3),
}
#: Of all posts, those of one subject: a line that is always long.
_HOT: Final = 0.05


@dataclasses.dataclass(frozen=True)
class Event:
    """One event: the `number`-th of its subject, from 0."""

    subject: int
    number: int
    name: str

    @property
    def email(self) -> str:
        return email_of(self.subject)

    @property
    def tag(self) -> str:
        """What tells it apart at the REST API, whose calls carry no properties."""
        return f"{self.subject}-{self.number}"

    @property
    def properties(self) -> dict[str, Any]:
        return {"email": self.email, "tag": self.tag}

    @property
    def expected(self) -> Mapping[str, str]:
        """Destination → route."""
        return EXPECTED[self.name]


@dataclasses.dataclass(frozen=True)
class Post:
    """Events of one subject that are sent together, by its way in."""

    way: str
    events: tuple[Event, ...]

    @property
    def subject(self) -> int:
        return self.events[0].subject

    @property
    def source(self) -> str:
        return WAYS[self.way][0]


def email_of(subject: int) -> str:
    """The person of a subject."""
    return f"subject-{subject}@example.com"


def way_of(subject: int) -> str:
    """Each subject keeps to one way in: order is promised per subject, and its key differs between sources."""
    ways = list(WAYS)
    return ways[subject % len(ways)]


def posts(dice: random.Random, events: int, subjects: int) -> list[Post]:
    """`events` events for `subjects` subjects, in the order in which they are to be sent."""
    made: list[Post] = []
    next_number = [0] * subjects
    left = events
    while left:
        subject = 0 if dice.random() < _HOT else dice.randrange(subjects)
        way = way_of(subject)
        count = min(left, dice.randint(1, WAYS[way][1]))
        first = next_number[subject]
        names: Sequence[str] = dice.choices(list(EXPECTED), _WEIGHTS, k=count)
        made.append(Post(way, tuple(Event(subject, first + n, name) for n, name in enumerate(names))))
        next_number[subject] += count
        left -= count
    return made
