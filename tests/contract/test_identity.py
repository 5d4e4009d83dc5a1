"""Events that name nobody learn whom they are about from those that share a key with them."""

import random
from typing import Any

import pytest
from builders import accept, back, balanced, claim, counts, envelope, fake_ledger, settled, state_of
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks import ledger as ledgers
from tasks import verify
from tasks.envelope import Envelope, decode
from tasks.ledger import Ledger, Result
from tasks.queue import RedisQueue

MAIL = "message:foo:m1"
EXPERIENCE = "experience:foo:x1"


@pytest.fixture
def ledger() -> Ledger:
    return fake_ledger()


def named(id_: str, *keys: str, email: str = "a@example.com", **changes: Any) -> Envelope:
    """An event that says whom it is about."""
    return envelope(id=id_, subject=f"mail:{email}", person={"email": email}, correlation=keys, **changes)


def nameless(id_: str, *keys: str, **changes: Any) -> Envelope:
    """An event that does not."""
    return envelope(id=id_, subject=None, correlation=keys, **changes)


def take(ledger: Ledger, *envelopes: Envelope) -> list[bool]:
    return RedisQueue(ledger).accept(envelopes)


def seen(ledger: Ledger, id_: str) -> tuple[str | None, Any]:
    """Subject and person as a worker sees them."""
    stored = ledger.event(id_)
    assert stored is not None
    found = decode(stored.envelope or b"")
    assert (stored.subject == "") == (found.subject is None)
    return found.subject, found.person


def too_late(ledger: Ledger, *ids: str) -> list[str]:
    """What the sweeper does when these have waited long enough."""
    for id_ in ids:
        back(ledger, ledgers.UNIDENTIFIED, id_, 3600)
    return ledger.wake_early(ledger.overdue(5).early)


def test_a_later_event_is_about_the_same_person(ledger: Ledger) -> None:
    """It gets subject and person, and its place in the person's line; nothing else of its envelope changes."""
    take(ledger, named("e1", MAIL))
    take(ledger, nameless("e2", MAIL, event={"note": 'a "subject":null, in a text'}))

    assert (state_of(ledger, "e1"), state_of(ledger, "e2")) == ("accepted", "lined")
    assert seen(ledger, "e2") == ("mail:a@example.com", {"email": "a@example.com"})
    stored = ledger.event("e2")
    assert stored is not None
    assert decode(stored.envelope or b"").event == {"note": 'a "subject":null, in a text'}
    assert balanced(ledger)


def test_an_early_event_waits_and_costs_no_worker(ledger: Ledger) -> None:
    """No ticket, no claim, and it comes behind the event that names its person."""
    take(ledger, nameless("e1", MAIL), nameless("e2", MAIL))
    assert ledger.client.llen(ledger.queue) == 0
    assert ledger.claim(["e1", "e2"], "somebody") == []
    assert counts(ledger)["waiting"] == 2

    take(ledger, named("e3", MAIL))

    assert [state_of(ledger, id_) for id_ in ("e3", "e1", "e2")] == ["accepted", "lined", "lined"]
    assert settled(ledger, "e3", Result("a", "delivered", {})) == "delivered"
    assert (state_of(ledger, "e1"), state_of(ledger, "e2")) == ("accepted", "lined")
    assert seen(ledger, "e1") == ("mail:a@example.com", {"email": "a@example.com"})
    assert verify.walk(ledger).findings == frozenset()


def test_what_nobody_tells_goes_on_without_subject_and_is_counted(ledger: Ledger) -> None:
    """After its time; it is worked on as any event without subject."""
    take(ledger, nameless("e1", MAIL))
    assert ledger.overdue(5).early == []

    assert too_late(ledger, "e1") == ["e1"]

    assert state_of(ledger) == "accepted"
    assert seen(ledger, "e1") == (None, None)
    assert counts(ledger)["unidentified"] == 1
    assert settled(ledger, "e1", Result("a", "delivered", {})) == "delivered"
    take(ledger, named("e2", MAIL))
    assert (state_of(ledger, "e2"), balanced(ledger)) == ("accepted", True)


def test_the_own_key_counts_first_and_the_others_when_time_is_up(ledger: Ledger) -> None:
    """An experience may write to more than one person: its first is believed only when the message tells nobody."""
    take(ledger, named("e1", MAIL, EXPERIENCE, email="customer@example.com"))
    take(ledger, nameless("e2", "message:foo:m2", EXPERIENCE), nameless("e3", "message:foo:m3", EXPERIENCE))
    take(ledger, nameless("e4", EXPERIENCE))
    assert seen(ledger, "e4")[1] == {"email": "customer@example.com"}
    assert (state_of(ledger, "e2"), state_of(ledger, "e3")) == ("unidentified", "unidentified")

    assert too_late(ledger, "e3") == ["e3"]
    assert seen(ledger, "e3")[1] == {"email": "customer@example.com"}

    take(ledger, named("e5", "message:foo:m2", EXPERIENCE, email="agent@example.com"))
    assert seen(ledger, "e2")[1] == {"email": "agent@example.com"}
    assert "unidentified" not in counts(ledger)


def test_what_one_learns_others_learn_from_it(ledger: Ledger) -> None:
    """The experience is known by the message that was known by its recipient, through an event that names nobody."""
    take(ledger, nameless("e1", EXPERIENCE))
    take(ledger, nameless("e2", MAIL, EXPERIENCE))
    take(ledger, named("e3", MAIL))

    assert {seen(ledger, id_)[0] for id_ in ("e1", "e2", "e3")} == {"mail:a@example.com"}
    assert verify.walk(ledger).findings == frozenset()


def test_sources_do_not_tell_each_other(ledger: Ledger) -> None:
    """Whoever may post to one source could else name the people of another one."""
    take(ledger, named("e1", MAIL))
    take(ledger, nameless("e2", MAIL, source="other"))

    assert state_of(ledger, "e2") == "unidentified"


def test_without_order_a_person_is_known_all_the_same(ledger: Ledger) -> None:
    """A source with `order: false` gives its events no subject."""
    take(ledger, envelope(id="e1", subject=None, person={"email": "a@example.com"}, correlation=[MAIL]))
    take(ledger, nameless("e2", MAIL))

    assert seen(ledger, "e2") == (None, {"email": "a@example.com"})
    assert state_of(ledger, "e2") == "accepted"


def test_a_duplicate_teaches_nothing_and_waits_for_nothing(ledger: Ledger) -> None:
    """The same event again is counted, and that is all."""
    assert take(ledger, nameless("e1", MAIL)) == [True]
    assert take(ledger, nameless("e1", MAIL)) == [False]
    assert ledger.client.zcard(ledgers.UNIDENTIFIED) == 1
    assert accept(ledger, "e1") == [False]
    assert balanced(ledger)


def test_it_is_forgotten_after_its_time() -> None:
    """Memory is not for ever."""
    ledger = fake_ledger()
    take(ledger, named("e1", MAIL))
    (key,) = ledger.client.keys("router:person:*")
    assert 0 < ledger.client.ttl(key) <= 604_800


def test_bug_a_subject_of_its_own_lost_its_line(ledger: Ledger) -> None:
    """Whoever publishes an event with a subject wants it in that line, with or without a person."""
    take(ledger, envelope(id="e1", subject="team:1", correlation=[MAIL]), envelope(id="e2", subject="team:1"))

    assert (state_of(ledger, "e1"), state_of(ledger, "e2")) == ("accepted", "lined")


def test_bug_an_experience_was_the_first_ones_it_wrote_to(ledger: Ledger) -> None:
    """When its messages went to two people it is about neither, unless an event of its own says about whom."""
    take(ledger, named("e1", MAIL, EXPERIENCE, email="agent@example.com"))
    take(ledger, named("e2", "message:foo:m2", EXPERIENCE, email="customer@example.com"))
    take(ledger, nameless("e3", EXPERIENCE), nameless("e4", MAIL))
    assert (state_of(ledger, "e3"), seen(ledger, "e4")[1]) == ("unidentified", {"email": "agent@example.com"})

    take(ledger, named("e5", EXPERIENCE, email="customer@example.com"))
    take(ledger, named("e6", "message:foo:m3", EXPERIENCE, email="agent@example.com"))

    assert seen(ledger, "e3")[1] == {"email": "customer@example.com"}
    take(ledger, nameless("e7", EXPERIENCE))
    assert seen(ledger, "e7")[1] == {"email": "customer@example.com"}


def test_bug_thousands_that_waited_for_one_key_held_up_everybody(ledger: Ledger) -> None:
    """Some go on at once, the sweeper brings the others, some at a time; in order, and none twice."""
    ids = [f"w{number:04}" for number in range(4500)]
    big = fake_ledger(max_waiting=9000)
    for at in range(0, len(ids), 500):
        take(big, *(nameless(id_, MAIL if at < 4000 else EXPERIENCE) for id_ in ids[at : at + 500]))
    take(big, named("e1", MAIL), named("e2", EXPERIENCE))
    assert big.client.zcard(ledgers.UNIDENTIFIED) == 2500
    take(big, nameless("late", MAIL), nameless("later", EXPERIENCE))

    rounds = 0
    while early := big.overdue(5).early:
        rounds += 1
        big.wake_early(early)

    assert rounds == 2
    (line,) = big.client.keys("router:line:*")
    order = [id_.decode() for id_ in big.client.lrange(line, 0, -1)]
    assert [id_ for id_ in order if id_ in {"e1", "late", *ids[:4000]}] == ["e1", *ids[:4000], "late"]
    assert [id_ for id_ in order if id_ in {"e2", "later", *ids[4000:]}] == ["e2", *ids[4000:], "later"]
    assert verify.walk(big).findings == frozenset()


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 6), st.integers(), st.sets(st.integers(0, 5)))
def test_in_any_order_everyone_is_known_who_can_be(messages: int, seed: int, missing: set[int]) -> None:
    """Outbound events and those about their messages, shuffled: whoever can be identified is, in the right line."""
    ledger = fake_ledger()
    events = []
    for number in range(messages):
        key = f"message:foo:{number}"
        if number not in missing:
            events.append(named(f"out-{number}", key, f"experience:{number}", email=f"{number}@example.com"))
        events += [nameless(f"{what}-{number}", key, f"experience:{number}") for what in ("sent", "opened")]
        events.append(nameless(f"end-{number}", f"experience:{number}"))
    random.Random(seed).shuffle(events)
    for at in range(0, len(events), 3):
        take(ledger, *events[at : at + 3])

    stuck = {id_.decode() for id_ in ledger.client.zrange(ledgers.UNIDENTIFIED, 0, -1)}
    assert stuck == {event.id for event in events if int(event.id.partition("-")[2]) in missing}
    assert set(too_late(ledger, *stuck)) == stuck
    assert ledger.client.keys("router:early:*") == []
    done = _work(ledger)
    assert sorted(done) == sorted(event.id for event in events)
    for id_, found in done.items():
        number = int(id_.partition("-")[2])
        assert found == (None if number in missing else f"mail:{number}@example.com")
    assert verify.walk(ledger).findings == frozenset()
    assert balanced(ledger)


def _work(ledger: Ledger) -> dict[str, str | None]:
    """Claim and settle until nothing is free. Gives the subject that each event was worked on with."""
    done: dict[str, str | None] = {}
    while ids := [id_.decode() for id_ in ledger.client.zrange(ledgers.ACCEPTED, 0, -1)]:
        for id_ in ids:
            event = claim(ledger, id_)
            done[id_] = decode(event.envelope or b"").subject
            ledger.settle(event, [Result("a", "delivered", {})])
    return done
