"""A worker's threads, shared among destinations."""

import threading

import pytest

from tasks.slots import Slots


def taken(slots: Slots, destination: str, wanted: int) -> int:
    """How many places a destination gets."""
    return sum(slots.enter(destination) for _ in range(wanted))


@pytest.mark.parametrize(
    ("threads", "destinations", "places"),
    [(16, ("a", "b"), 14), (16, ("a", "b", "c"), 12), (4, ("a", "b"), 3), (16, ("a",), 16), (1, ("a", "b"), 1)],
)
def test_one_that_hangs_leaves_threads_for_each_other(threads: int, destinations: tuple[str, ...], places: int) -> None:
    """One in eight, at least one, for each; with fewer threads than destinations nothing can be kept."""
    assert taken(Slots(threads, destinations), "a", 99) == places


def test_two_that_hang_leave_threads_for_the_third() -> None:
    """What is kept for the second is the second's, what is kept for the third stays."""
    slots = Slots(16, ("a", "b", "c"))

    assert taken(slots, "a", 99) == 12
    assert taken(slots, "b", 99) == 2
    assert taken(slots, "c", 99) == 2


def test_bug_a_small_pool_kept_half_of_its_threads_idle() -> None:
    """With as many destinations as threads, keeping any free would leave too few to work."""
    assert taken(Slots(2, ("a", "b")), "a", 9) == 2


def test_a_place_given_back_is_free() -> None:
    slots = Slots(4, ("a", "b"))
    taken(slots, "a", 3)

    slots.leave("a")

    assert slots.enter("a")


def test_a_destination_that_answers_is_waited_for() -> None:
    """Refused at once while it answers nothing; with an answer a moment ago, the next place is worth waiting for."""
    slots = Slots(4, ("a", "b"))
    taken(slots, "a", 3)
    assert not slots.enter("a")
    slots.leave("a")
    assert slots.enter("a")
    leaving = threading.Timer(0.02, slots.leave, ["a"])
    leaving.start()

    assert slots.enter("a")
    leaving.join()


@pytest.mark.parametrize("threads", [1, 2, 4, 16, 64])
@pytest.mark.parametrize("count", [1, 2, 3, 5, 9, 10, 40])
def test_bug_many_destinations_kept_all_threads_from_each_other(threads: int, count: int) -> None:
    """With nine of them, two of sixteen threads each, nobody could send anything."""
    names = [f"webhook-{number}" for number in range(count)]
    slots = Slots(threads, names)

    taken = 0
    while taken < threads and slots.enter(names[0]):
        taken += 1

    assert taken >= max(1, threads // 2)
