"""One run from its seed to what was found: start, storm, calm, settlement, checks."""

import dataclasses
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tasks.ledger import StoredEvent
from tasks.verify import verify
from torture import checks
from torture.arrivals import Arrival, arrivals
from torture.checks import Double, End, Finding
from torture.events import posts
from torture.faults import CLOCK, clock_possible, known
from torture.load import Load, Taken
from torture.parts import NotInTime
from torture.plan import plan
from torture.router import Router
from torture.storm import Record, Storm

#: The load goes on for a while after the last fault: recovery can only be seen where there is something to do.
_CALM_S: Final = 3.0
_LEAST_STORM_S: Final = 5.0
_EVENTS_A_SECOND: Final = 25
#: When for so long not one event has ended, those that are left are stuck.
_PATIENCE_S: Final = 30.0
#: So much longer than asked for may a run take that only is slow.
_MOST_LONGER: Final = 2.0
_A_READ: Final = 500


@dataclasses.dataclass(frozen=True)
class Options:
    """What a run is told."""

    seconds: float
    seed: int
    events: int | None
    subjects: int


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a run found."""

    options: Options
    took_s: float
    settled_s: float  #: from the last fault until every event had ended
    taken: Sequence[Taken]
    came: Sequence[Arrival]
    ends: Mapping[str, End | None]
    counts: Mapping[str, Mapping[str, int]]
    faults: Sequence[Record]
    recovery_s: Mapping[Record, float]
    doubles: Sequence[Double]
    findings: Sequence[Finding]
    answers: Counter[str]
    exits: Sequence[str]


def run(options: Options, folder: Path, machine: Mapping[str, str], say: Callable[[int, str], None]) -> Outcome:
    """`folder` gets logs and data, `say` every second its number and a line of progress.

    Raises NotInTime when the router does not even start.
    """
    begun = time.monotonic()
    dice = random.Random(options.seed)  # noqa: S311 - faults, not secrets
    kinds = known()
    with Router(folder, machine) as router:
        router.know_people(options.subjects)
        span_s = max(_LEAST_STORM_S, options.seconds - _reserve_s(options.seconds))
        planned = plan(dice, tuple(each.kind for each in kinds.values()), span_s)
        if not clock_possible():
            planned = [fault for fault in planned if fault.kind != CLOCK]
        events = options.events or round(span_s * _EVENTS_A_SECOND)
        name = f"t{options.seed}-{time.time_ns() // 1_000_000_000:x}"
        load = Load(router, posts(dice, events, options.subjects), span_s + _CALM_S, name)
        storm = Storm(router, planned, kinds)
        watch = _Watch(router, load, storm, say)
        load.start()
        storm.start()
        while storm.running():
            watch.look()
        calm_at = time.monotonic()
        storm.join()
        deadline = begun + options.seconds * _MOST_LONGER
        while (load.running() or not watch.settled()) and watch.moves() and time.monotonic() < deadline:
            watch.look()
        load.finish(0.0)
        settled_s = time.monotonic() - calm_at
        return _outcome(options, router, watch, time.monotonic() - begun, settled_s)


class _Watch:
    """Follows what goes on: what was taken, how it ended, what arrived."""

    def __init__(self, router: Router, load: Load, storm: Storm, say: Callable[[int, str], None]) -> None:
        self.router = router
        self.load = load
        self.storm = storm
        self.ends: dict[str, End | None] = {}
        self.came: list[Arrival] = []
        self._calls = 0
        self._say = say
        self._begun = self._moved_at = time.monotonic()

    def look(self) -> None:
        """Once a second."""
        time.sleep(1)
        self.storm.supervise()
        self.read_calls()
        on = ", ".join(self.storm.active()) or "calm"
        second = round(time.monotonic() - self._begun)
        done = f"taken {len(self.load.taken)}  arrived {len(self.came)}  faults {len(self.storm.records)}"
        self._say(second, f"{second:4} s  {done}  now: {on}")

    def read_calls(self) -> None:
        """The calls since the last look."""
        calls = self.router.calls(self._calls + 1)
        if calls:
            if calls[0]["seq"] != self._calls + 1:
                raise NotInTime("the sandbox has forgotten calls that were not read yet")
            self._calls = calls[-1]["seq"]
            self._moved_at = time.monotonic()
            self.came += arrivals(calls)

    def moves(self) -> bool:
        """Whether anything has arrived or ended lately."""
        return time.monotonic() - self._moved_at < _PATIENCE_S

    def settled(self) -> bool:
        """Whether every event that was taken has ended; reads those that had not."""
        ids = [each.id for each in list(self.load.taken) if not _has_ended(self.ends.get(each.id))]
        for first in range(0, len(ids), _A_READ):
            some = ids[first : first + _A_READ]
            for id_, event in zip(some, self.router.ledger_events(some), strict=True):
                self.ends[id_] = _end(event)
                if _has_ended(self.ends[id_]):
                    self._moved_at = time.monotonic()
        return all(_has_ended(self.ends[id_]) for id_ in ids)


def _reserve_s(seconds: float) -> float:
    """Of the whole time, what is kept for start and settlement."""
    return min(seconds * 0.35, 20 + seconds / 30)


def _outcome(options: Options, router: Router, watch: _Watch, took_s: float, settled_s: float) -> Outcome:
    watch.settled()
    watch.read_calls()
    load, faults = watch.load, sorted(watch.storm.records, key=lambda each: each.begun_at)
    counts = router.insist(router.connection.ledger.counts)
    doubles = checks.doubles(watch.came, faults)
    recovery_s = checks.recoveries(watch.came, faults)
    findings = [
        *checks.per_id(load.taken, watch.ends, watch.came),
        *checks.acceptance(load.taken, watch.ends),
        *checks.order(watch.came),
        *checks.unexplained(doubles),
        *checks.equation(counts, load.taken, watch.ends),
        *checks.walked(router.insist(lambda: verify(router.connection.ledger))),
        *(Finding("not survived", f"{fault.kind}({fault.target})", fault.error) for fault in faults if fault.error),
        *(Finding("broken", "senders", error) for error in load.errors),
        *(Finding("refused", post.events[0].tag, f"never taken, by {post.way}") for post in load.never),
    ]
    return Outcome(
        options=options,
        took_s=took_s,
        settled_s=settled_s,
        taken=load.taken,
        came=watch.came,
        ends=watch.ends,
        counts={f"{kind} {name}": row for (kind, name), row in counts.items()},
        faults=faults,
        recovery_s=recovery_s,
        doubles=doubles,
        findings=findings,
        answers=load.answers,
        exits=router.exits,
    )


def _end(event: StoredEvent | None) -> End | None:
    if event is None:
        return None
    deliveries: dict[str, tuple[str, Any]] = {
        route: (each.state, each.record.get("reason") or "") for route, each in event.deliveries.items()
    }
    return End(event.state, deliveries, event.accepted_at)


def _has_ended(end: End | None) -> bool:
    return end is not None and end.settled
