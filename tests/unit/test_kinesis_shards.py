"""Which shards may be read, whose they are, and how records become pieces."""

from datetime import UTC, datetime

import pytest
from builders import envelope
from hypothesis import given
from hypothesis import strategies as st

from app.kinesis.reader import MOST_BYTES, MOST_EVENTS, pieces
from app.kinesis.shards import Plan, Record, Shard, plan, share, workable

NAMES = st.integers(0, 40).map("shard-{:03}".format)
NOW = datetime(2026, 1, 2, tzinfo=UTC)

SPLIT = [Shard("a"), Shard("b"), Shard("a1", ("a",)), Shard("a2", ("a",))]
MERGED = [Shard("a"), Shard("b"), Shard("c", ("a", "b")), Shard("d", ("c",))]


@pytest.mark.parametrize(
    ("listed", "finished", "may"),
    [
        (SPLIT, set(), ["a", "b"]),
        (SPLIT, {"a"}, ["a1", "a2", "b"]),
        (SPLIT, {"b"}, ["a"]),
        (SPLIT[2:], set(), ["a1", "a2"]),
        (MERGED, {"a"}, ["b"]),
        (MERGED, {"a", "b"}, ["c"]),
        (MERGED, {"a", "b", "c"}, ["d"]),
        (MERGED[1:], set(), ["b"]),
        (MERGED[3:], set(), ["d"]),
        ([], {"a"}, []),
    ],
)
def test_children_come_after_their_parents(listed: list[Shard], finished: set[str], may: list[str]) -> None:
    """All of them, unless a parent has left the stream together with its records."""
    assert workable(listed, finished) == may


@given(st.sets(NAMES, min_size=1), st.integers(0, 100))
def test_shares_are_fair_and_complete(consumers: set[str], shards: int) -> None:
    """Together they are all shards; nobody has two more than another."""
    shares = [share(each, consumers, shards) for each in consumers]

    assert sum(shares) == shards
    assert max(shares) - min(shares) <= 1


def test_a_consumer_that_is_not_known_yet_counts() -> None:
    """Whoever asks takes part."""
    assert share("new", {"old"}, 4) == 2


@pytest.mark.parametrize(
    ("mine", "owners", "wanted", "expected"),
    [
        (set(), {}, 2, Plan(take=["a", "b"])),
        (set(), {"a": "other"}, 2, Plan(take=["b", "c"])),
        ({"a"}, {"a": "me", "b": "other"}, 2, Plan(take=["c"])),
        ({"a", "b", "c"}, {"a": "me", "b": "me", "c": "me"}, 1, Plan(give_back=["b", "c"])),
        ({"a", "b"}, {"a": "me", "b": "me"}, 2, Plan(take=[])),
        ({"a"}, {}, 2, Plan(take=["b"])),
    ],
)
def test_plan(mine: set[str], owners: dict[str, str], wanted: int, expected: Plan) -> None:
    """What is free is taken, what is too much given back; never both."""
    assert plan(["a", "b", "c"], owners, mine, wanted) == expected


@given(st.integers(0, 60), st.integers(1, 6), st.data())
def test_consumers_come_to_rest(shards: int, consumers: int, data: st.DataObject) -> None:
    """From any beginning, after a few turns every shard has one reader and nothing is moved any more."""
    may = [f"shard-{number:03}" for number in range(shards)]
    names = [f"consumer-{number}" for number in range(consumers)]
    owners = {shard: data.draw(st.sampled_from([*names, "dead"])) for shard in may}
    owners = {shard: owner for shard, owner in owners.items() if owner != "dead"}
    for _ in range(3):
        for me in names:
            mine = {shard for shard, owner in owners.items() if owner == me}
            step = plan(may, owners, mine, share(me, names, len(may)))
            owners = {shard: owner for shard, owner in owners.items() if shard not in step.give_back}
            owners |= dict.fromkeys(step.take, me)

    assert sorted(owners) == may
    assert all(
        plan(may, owners, {shard for shard, owner in owners.items() if owner == me}, share(me, names, len(may)))
        == Plan(take=[])
        for me in names
    )


@given(st.lists(st.tuples(st.integers(0, 700), st.integers(0, MOST_BYTES // 2)), max_size=20))
def test_pieces_are_bounded_and_complete(sizes: list[tuple[int, int]]) -> None:
    """Each event is in one piece, in order; a piece's last record is complete with it."""
    numbers = iter(range(100_000))
    records = [
        (Record(str(at), b"x" * size, NOW), [envelope(id=f"{at}-{next(numbers)}") for _ in range(events)])
        for at, (events, size) in enumerate(sizes)
    ]
    found = list(pieces(records))

    assert [event for piece in found for event in piece.events] == [event for _, events in records for event in events]
    assert all(len(piece.events) <= MOST_EVENTS for piece in found)
    assert sum(piece.records for piece in found) == len(records)
    seen: set[str] = set()
    for piece in found:
        seen |= {event.id for event in piece.events}
        if piece.last is not None:
            until = int(piece.last) + 1
            assert seen == {event.id for _, events in records[:until] for event in events}
    assert not found or found[-1].last == str(len(records) - 1)
