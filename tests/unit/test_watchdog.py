"""When a worker counts as dead."""

import threading
from collections.abc import Callable

import pytest

from tasks.errors import QueueUnavailable
from tasks.sweeper import Loop
from tasks.watchdog import Limits, Pulse, Watchdog, Work

IDLE = Work(begun=5, running=0, threads=16)
BUSY = Work(begun=5, running=16, threads=16)


class Bed:
    """A watchdog with a clock that is moved by hand, and what it did."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.work = IDLE
        self.answers: Callable[[], None] = lambda: None
        self.told: list[float] = []
        self.ended = False
        self.pulse = Pulse(lambda: self.now)
        self.dog = Watchdog(
            pulse=self.pulse, limits=Limits(30, 600), work=lambda: self.work, beat=self._beat, end=self._end
        )
        self.dog.look()

    def _beat(self, silent_s: float) -> None:
        self.answers()
        self.told.append(silent_s)

    def _end(self) -> None:
        self.ended = True

    def pass_s(self, seconds: int, each: Callable[[], None] = lambda: None) -> None:
        """Look every 5 s for so long."""
        for _ in range(seconds // 5):
            self.now += 5
            each()
            self.dog.look()


@pytest.fixture
def bed() -> Bed:
    return Bed()


def test_silence_ends_it(bed: Bed) -> None:
    """Nothing came back for longer than 30 s."""
    bed.pass_s(30)
    assert not bed.ended
    assert bed.told[-1] == 30
    bed.pass_s(5)
    assert bed.ended


def test_a_heartbeat_that_comes_back_is_life(bed: Bed) -> None:
    """However long it goes on."""
    bed.pass_s(300, bed.pulse.felt)

    assert not bed.ended
    assert bed.told[-1] == 0


@pytest.mark.parametrize("change", [Work(6, 1, 16), Work(5, 1, 16)])
def test_a_task_that_begins_or_ends_is_life(bed: Bed, change: Work) -> None:
    """One in half a minute will do."""
    bed.pass_s(30)
    bed.work = change
    bed.pass_s(30)

    assert not bed.ended


def test_a_worker_all_of_whose_threads_work_has_more_time(bed: Bed) -> None:
    """There is nothing to take messages for; after `busy_s` it counts as hung all the same."""
    bed.work = BUSY
    bed.pass_s(600)
    assert not bed.ended
    assert bed.told[60] == 0, "to others it looks alive"
    bed.pass_s(10)
    assert bed.ended


@pytest.mark.parametrize("error", [ConnectionError(), QueueUnavailable()])
def test_redis_away_is_no_reason(bed: Bed, error: Exception) -> None:
    """However long; once it is back, the worker has its 30 s."""

    def fails() -> None:
        raise error

    def survives() -> None:
        bed.answers = fails
        bed.now += 5
        if isinstance(error, QueueUnavailable):
            bed.dog.look()
        else:
            with pytest.raises(ConnectionError):
                bed.dog.look()

    for _ in range(100):
        survives()
    bed.answers = lambda: None
    bed.pass_s(30)
    assert not bed.ended
    bed.pass_s(5)
    assert bed.ended


def test_a_process_that_stood_still_is_not_dead(bed: Bed) -> None:
    """Stopped for an hour, nobody could have consumed; afterwards it has its 30 s."""
    bed.now += 3600
    bed.dog.look()
    bed.pass_s(25)

    assert not bed.ended


def test_looks_are_frequent_enough() -> None:
    """Several within the time, and never rarer than each 5 s."""
    assert Limits(30, 600).between_s == 5
    assert Limits(3, 600).between_s == 0.5
    assert Limits(300, 600).between_s == 5


def test_bug_a_worker_was_unknown_until_its_second_heartbeat() -> None:
    """The first look is at once, not after the time between two."""
    looked = threading.Event()
    loop = Loop("looking", 3600, looked.set, at_once=True)
    loop.start()
    assert looked.wait(10)
    loop.stop()
