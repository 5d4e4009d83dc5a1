"""The torture program's chance: the seed says it all."""

import itertools
import random
from collections import defaultdict

from torture.events import EXPECTED, WAYS, posts, way_of
from torture.plan import Kind, plan
from torture.senders import Secrets, ids_of, sending

KINDS = (
    Kind("a", ("one", "two"), (1, 4), after_s=3),
    Kind("b", ("two",), (0, 0)),
    Kind("c", ("three",), (2, 2)),
)
SECRETS = Secrets("stream", "write-key", "hook")


def test_the_same_seed_is_the_same_run() -> None:
    """Another one is another."""
    runs = [(plan(random.Random(s), KINDS, 60), posts(random.Random(s), 100, 7)) for s in (1, 1, 2)]
    assert runs[0] == runs[1]
    assert runs[0][0] != runs[2][0]
    assert runs[0][1] != runs[2][1]


def test_faults_of_one_target_follow_each_other() -> None:
    """With the time in between that its part needs to start; all end in time, and every kind comes."""
    kinds = {kind.name: kind for kind in KINDS}
    planned = plan(random.Random(5), KINDS, 120)
    of_target = defaultdict(list)
    for fault in planned:
        of_target[fault.target].append(fault)
    for some in of_target.values():
        for one, next_ in itertools.pairwise(some):
            assert next_.at_s >= one.at_s + one.hold_s + kinds[one.kind].after_s - 0.01
    assert max(fault.at_s + fault.hold_s for fault in planned) <= 120.01
    assert {fault.kind for fault in planned} == set(kinds)


def test_some_overlap_and_there_is_calm() -> None:
    """Several at a time, and again and again none that begins."""
    planned = plan(random.Random(5), KINDS, 300)
    assert any(next_.at_s < one.at_s + one.hold_s for one, next_ in itertools.pairwise(planned))
    assert not any(24 < fault.at_s % 30 < 30 for fault in planned)


def test_events_of_a_subject_are_numbered_without_gaps_and_keep_to_one_way() -> None:
    """All of them, over all ways, to all places."""
    made = posts(random.Random(1), 500, 20)
    numbers = defaultdict(list)
    for post in made:
        assert post.way == way_of(post.subject)
        assert len(post.events) <= WAYS[post.way][1]
        numbers[post.subject] += [event.number for event in post.events]
    assert all(found == list(range(len(found))) for found in numbers.values())
    assert sum(map(len, numbers.values())) == 500
    assert {post.way for post in made} == set(WAYS)
    assert {event.name for post in made for event in post.events} == set(EXPECTED)


def test_ids_differ_between_events_and_runs() -> None:
    """Only the Activity Stream's are the router's to say."""
    for post in posts(random.Random(1), 50, 10):
        one, other = sending(post, "r1", SECRETS), sending(post, "r2", SECRETS)
        assert one.body != other.body
        if post.way == "stream":
            assert ids_of(one, {"ids": ["enc-1"]}) == ("enc-1",)
        else:
            assert len({*one.ids, *other.ids}) == 2 * len(post.events)
