"""Whatever happens to the processes and to Redis, in whichever order: no event is lost, none overtakes another."""

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from builders import envelope, fake_ledger
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from app.drainer import Drainer
from app.intake import Intake
from app.pressure import Pressure
from app.spool import Spool, spooled
from tasks.envelope import Envelope
from tasks.errors import QueueFull, QueueUnavailable

MIB = 1024 * 1024
FATES = st.sampled_from(["taken", "away", "full", "taken without a word"])


class Redis:
    """Takes events or not, as the plan says for each call; knows duplicates by their id, as the ledger does."""

    key = "events.tickets"

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.plan: list[str] = []

    def accept(self, envelopes: Sequence[Envelope]) -> list[bool]:
        fate = self.plan.pop(0) if self.plan else "taken"
        if fate == "away":
            raise QueueUnavailable("ConnectionError")
        if fate == "full":
            raise QueueFull("full")
        fresh = [each.id not in self.ids for each in envelopes]
        self.ids += [each.id for each, new in zip(envelopes, fresh, strict=True) if new]
        if fate == "taken without a word":
            raise QueueUnavailable("TimeoutError")
        return fresh

    def ticket(self, *_: str) -> bytes:
        return b""

    def publish(self, ids: Sequence[str]) -> None:
        pass


class SpoolStates(RuleBasedStateMachine):
    """Two web processes on one folder."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.redis = Redis()
        self.ledger = fake_ledger()
        self.pressure = Pressure()
        self.spools = [Spool(self.folder, MIB) for _ in range(2)]
        self.answered: list[str] = []

    @rule(process=st.integers(0, 1), many=st.integers(1, 5), fate=FATES)
    def post(self, process: int, many: int, fate: str) -> None:
        ids = [str(len(self.answered) + number) for number in range(many)]
        self.redis.plan = [fate]
        intake = Intake(self.redis, self.ledger, self.spools[process], self.pressure)
        intake.accept([envelope(id=id_) for id_ in ids])
        self.answered += ids

    @rule(process=st.integers(0, 1), plan=st.lists(FATES, max_size=4))
    def drain(self, process: int, plan: list[str]) -> None:
        self.redis.plan = plan
        Drainer(self.spools[process], self.redis, self.ledger, self.pressure, quick_s=10).drain()

    @rule(process=st.integers(0, 1), most=st.integers(1, 5))
    def die_between_feeding_and_forgetting(self, process: int, most: int) -> None:
        self.redis.plan = []
        if rows := self.spools[process].head(most, MIB):
            self.redis.accept([row.envelope for row in rows])
        self.die(process)

    @rule(process=st.integers(0, 1))
    def die(self, process: int) -> None:
        self.spools[process].close()
        self.spools[process] = Spool(self.folder, MIB)

    @rule()
    def lose_the_mark_with_the_power(self) -> None:
        (self.folder / "holding").unlink(missing_ok=True)
        for process in range(2):
            self.die(process)

    @rule(high=st.booleans())
    def memory(self, *, high: bool) -> None:
        self.pressure.high = high

    @invariant()
    def nothing_is_lost_or_overtaken(self) -> None:
        waiting = [row.envelope.id for row in spooled(self.folder)]
        assert list(dict.fromkeys([*self.redis.ids, *waiting])) == self.answered
        assert self.spools[0].size().events == len(waiting)

    @invariant()
    def what_waits_is_marked(self) -> None:
        assert self.spools[0].holding() or not spooled(self.folder)

    def teardown(self) -> None:
        self.pressure.high = False
        self.redis.plan = []
        assert Drainer(self.spools[0], self.redis, self.ledger, self.pressure, quick_s=10).drain()
        assert self.redis.ids == self.answered
        for spool in self.spools:
            spool.close()
        shutil.rmtree(self.folder)


TestSpoolStates = SpoolStates.TestCase
TestSpoolStates.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
