"""Which faults come when: decided by the seed alone, before anything starts."""

import dataclasses
import random
from typing import Final

#: Every so often nothing begins for a while, so that work can be seen to get done.
_PERIOD_S: Final = 30.0
_CALM_S: Final = 6.0
#: Mean time between two begins: dense enough for every kind in a short run, and with air in a long one.
_LEAST_GAP_S: Final = 1.4
_MOST_GAP_S: Final = 4.0


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of fault."""

    name: str
    targets: tuple[str, ...]  #: it hits one of them, which nothing else hits meanwhile
    hold_s: tuple[float, float]  #: shortest and longest time from its begin to its end
    after_s: float = 1.0  #: for so long after it the target is left alone, such as while a process starts
    #: Whether an event may arrive twice because of it: what a worker has done cannot be written down then.
    doubles: bool = False
    lingers_s: float = 2.0  #: for so long after its end its consequences may go on


@dataclasses.dataclass(frozen=True)
class Planned:
    """One fault to come. `roll` is its own share of chance."""

    at_s: float
    kind: str
    target: str
    hold_s: float
    roll: float


def plan(dice: random.Random, kinds: tuple[Kind, ...], span_s: float) -> list[Planned]:
    """Faults that are over, and their processes started again, after `span_s` seconds; in the order of their begin.

    Every kind comes before any comes again; several may be on at a time, but never two on one target.
    """
    found: list[Planned] = []
    free_at: dict[str, float] = {}
    deck: list[Kind] = []
    gap_s = min(_MOST_GAP_S, max(_LEAST_GAP_S, span_s / len(kinds)))
    now_s = 0.0
    while now_s < span_s:
        deck = deck or dice.sample(kinds, len(kinds))
        kind = deck.pop()
        target = dice.choice(kind.targets)
        at_s = _out_of_calm(max(now_s, free_at.get(target, 0.0)))
        hold_s = dice.uniform(*kind.hold_s)
        roll = dice.random()
        if at_s + hold_s + kind.after_s <= span_s:
            found.append(Planned(round(at_s, 3), kind.name, target, round(hold_s, 3), roll))
            free_at[target] = at_s + hold_s + kind.after_s
        now_s += gap_s * dice.uniform(0.3, 1.7)
    return sorted(found, key=lambda fault: fault.at_s)


def _out_of_calm(at_s: float) -> float:
    into = at_s % _PERIOD_S
    return at_s if into < _PERIOD_S - _CALM_S else at_s - into + _PERIOD_S
