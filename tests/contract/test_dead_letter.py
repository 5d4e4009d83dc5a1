"""Dead letters and quarantine: one list, one look."""

import re
from typing import Any

import pytest
from builders import EMAIL, accept, balanced, counts, envelope_data, fake_ledger, settled

from tasks.dead_letter import DeadLetter, DeadLetters, Filter
from tasks.ledger import MESSAGES, Ledger, Result
from tasks.replay import plan

RAW = b'{"a": 1}\xff\x00\r\n'
RECORD = {
    "reason": "rejected",
    "error": "DestinationRejected: answered 400",
    "attempts": [{"number": 1}],
    "request": {"method": "POST"},
    "response": {"status": 400},
    "traceback": None,
}


@pytest.fixture
def ledger() -> Ledger:
    return fake_ledger()


@pytest.fixture
def letters(ledger: Ledger) -> DeadLetters:
    found = DeadLetters(ledger)
    accept(ledger, "e1")
    settled(ledger, "e1", Result("a", "dead", RECORD), Result("b", "delivered", {}))
    accept(ledger, "e2", source="shop", type="order", name="order")
    settled(ledger, "e2", Result("a", "dead", {"reason": "poison"}))
    found.quarantine(RAW, "undecodable", "not JSON in UTF-8", "message")
    return found


def ids(letters: DeadLetters, **wanted: str) -> list[str]:
    return [re.sub("quarantine:.*", "quarantine", letter.id) for letter in letters.find(Filter(**wanted))]


def quarantined(letters: DeadLetters) -> DeadLetter:
    (letter,) = letters.find(Filter(source=MESSAGES))
    return letter


def test_a_letter_has_everything(letters: DeadLetters) -> None:
    """What happened, what was sent, what came back, and the event to try it again with."""
    letter = letters.get("e1:a")

    assert letter is not None
    assert letter.died_at.endswith("Z")
    assert letter == DeadLetter(
        id="e1:a",
        reason="rejected",
        error="DestinationRejected: answered 400",
        source="encharge",
        route="a",
        type="newUser",
        died_at=letter.died_at,
        attempts=({"number": 1},),
        envelope=envelope_data(),
        request={"method": "POST"},
        response={"status": 400},
    )
    assert next(letters.find()) == letter


@pytest.mark.parametrize("id_", ["e1:b", "e1:c", "e9:a", "e1", "", "quarantine:", "quarantine:x"])
def test_no_such_letter(letters: DeadLetters, id_: str) -> None:
    """Delivered, unknown or misspelt: there is none, and nothing to discard."""
    assert letters.get(id_) is None
    assert not letters.discard(id_)
    assert len(ids(letters)) == 3


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, ["e1:a", "e2:a", "quarantine"]),
        ({"reason": "poison"}, ["e2:a"]),
        ({"reason": "undecodable"}, ["quarantine"]),
        ({"source": "encharge"}, ["e1:a"]),
        ({"source": "queue"}, ["quarantine"]),
        ({"route": "a"}, ["e1:a", "e2:a"]),
        ({"route": "-"}, ["quarantine"]),
        ({"type": "order"}, ["e2:a"]),
        ({"type": "message"}, ["quarantine"]),
        ({"route": "a", "reason": "rejected"}, ["e1:a"]),
        ({"since": "2000-01-01T00:00:00Z"}, ["e1:a", "e2:a", "quarantine"]),
        ({"since": "2999-01-01T00:00:00Z"}, []),
        ({"until": "2000-01-01T00:00:00Z"}, []),
        ({"until": "2999-01-01T00:00:00Z"}, ["e1:a", "e2:a", "quarantine"]),
        ({"source": "nobody"}, []),
    ],
)
def test_find(letters: DeadLetters, wanted: dict[str, str], found: list[str]) -> None:
    """Each filter by itself, and together."""
    assert ids(letters, **wanted) == found


def test_since_a_whole_second() -> None:
    """What died within the second that is named is not before it."""
    letter = DeadLetter(
        id="e1:a",
        reason="bug",
        error="",
        source="encharge",
        route="a",
        type="newUser",
        died_at="2026-01-02T03:04:05.500000Z",
    )

    assert Filter(since="2026-01-02T03:04:05Z").takes(letter)


def test_more_than_a_page(ledger: Ledger) -> None:
    """Letters are read in pages, and none is left out."""
    names = [f"e{index}" for index in range(201)]
    accept(ledger, *names)
    for event in ledger.claim(names, "worker"):
        ledger.settle(event, [Result("a", "dead", {})])

    assert sorted(ids(DeadLetters(ledger))) == sorted(f"{name}:a" for name in names)


def test_discard(ledger: Ledger, letters: DeadLetters) -> None:
    """Gone from the list, and still counted."""
    assert letters.discard("e1:a")
    assert not letters.discard("e1:a")
    assert ids(letters) == ["e2:a", "quarantine"]
    assert counts(ledger) == {"accepted": 1, "dead": 1, "discarded": 1}


def test_quarantine(ledger: Ledger, letters: DeadLetters) -> None:
    """Bytes that are no text are shown escaped, and kept as they are."""
    letter = quarantined(letters)

    assert (letter.reason, letter.error, letter.route, letter.type) == (
        "undecodable",
        "not JSON in UTF-8",
        "-",
        "message",
    )
    assert letter.raw == '{"a": 1}\\xff\x00\r\n'
    assert letters.get(letter.id) == letter
    assert counts(ledger, name=MESSAGES) == {"accepted": 1, "dead": 1}
    assert balanced(ledger)


def test_release(ledger: Ledger, letters: DeadLetters) -> None:
    """Back onto the queue, byte for byte, once."""
    id_ = quarantined(letters).id.partition(":")[2]
    before = ledger.client.llen("events")

    assert letters.release(id_)
    assert not letters.release(id_)
    assert ledger.client.lindex("events", 0) == RAW
    assert ledger.client.llen("events") == before + 1
    assert ids(letters) == ["e1:a", "e2:a"]
    assert counts(ledger, name=MESSAGES) == {}


def test_discard_a_message(ledger: Ledger, letters: DeadLetters) -> None:
    """For good; it stays counted as dead."""
    id_ = quarantined(letters).id

    assert letters.discard(id_)
    assert not letters.discard(id_)
    assert letters.get(id_) is None
    assert counts(ledger, name=MESSAGES) == {"accepted": 1, "dead": 1, "discarded": 1}


def test_an_envelope_that_is_no_json(ledger: Ledger, letters: DeadLetters) -> None:
    """A letter is readable though its envelope is not."""
    ledger.client.hset("router:event:e1", "env", b"\xff{")

    letter = letters.get("e1:a")

    assert letter is not None
    assert letter.envelope == "\\xff{"


def test_no_address_in_a_letters_id(letters: DeadLetters) -> None:
    """Ids are made of the event's id and the route's name."""
    assert all(EMAIL not in letter.id for letter in letters.find())


@pytest.mark.parametrize("wanted", [{}, {"reason": "poison"}])
def test_what_is_found_can_be_planned(ledger: Ledger, letters: DeadLetters, wanted: dict[str, Any]) -> None:
    """A plan has every letter that was found."""
    found = list(letters.find(Filter(**wanted)))

    assert plan(ledger, found).ids == tuple(letter.id for letter in found)
