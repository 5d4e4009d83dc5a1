"""What is about a person, and that nothing of it is left where it was hidden."""

import json
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.sources import KINDS
from config import personal
from tasks.envelope import Envelope
from tasks.hiding import hiding, pseudonyms, without
from tasks.personal import IN_ANSWERS, about_anybody, folded, held, keys_of, plain, told
from tasks.spellings import HIDDEN

PSEUDONYM = pseudonyms(b"a key")
MARKER = "Marker-7f3é/\"'&"
KEYS = st.sampled_from(["email", "First Name", "traits", "note", "products", "pii", "id", "deep"])
VALUES = st.sampled_from([MARKER, f"so {MARKER} said", MARKER.upper(), "plain", "abc", 12345, 1, True, None])
JSON = st.recursive(
    VALUES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


def hidden(event: Any, *listed: str) -> Any:
    return hiding(told(event, keys := keys_of(listed, event)), keys, PSEUDONYM)


@settings(max_examples=150)
@given(JSON, JSON, st.sampled_from(["email", "First Name", "traits", "nobody's"]))
def test_nothing_under_a_personal_key_survives(event: Any, other: Any, key: str) -> None:
    """Not in the event, and not in anything else that says it: in other keys, longer texts, capitals, JSON in JSON."""
    event = {"said": event, key: {"anything": [MARKER, event]}}
    shown = hidden(event, "traits", "nobody's").data([event, other, json.dumps(other), {MARKER: other}])

    assert "marker-7f3" not in json.dumps(shown).lower()


@pytest.mark.parametrize(
    "value", [MARKER, "+49 151 2345", "Österreich Straße", "a.b+c@example.com", "x\\y\n z", "7777"]
)
@pytest.mark.parametrize(
    "write",
    [
        str.upper,
        str.lower,
        json.dumps,
        lambda value: json.dumps(value, ensure_ascii=False),
        lambda value: json.dumps({"error": json.dumps({"note": value})}),
        repr,
        quote,
        lambda value: quote(value, safe=""),
        lambda value: urlencode({"note": value}),
        lambda value: f"https://api.example.com/people?{urlencode({'people[0][note]': json.dumps([value])})}",
        lambda value: f"<p>{value.replace('&', '&amp;').replace('<', '&lt;')}</p>",
    ],
)
def test_a_value_is_found_however_it_is_written(value: str, write: Any) -> None:
    """In answers, error texts, addresses."""
    text = f"refused {write(value)}, try again"
    shown = hidden({"traits": {"note": value}}, "traits").text(text)

    assert shown.startswith("refused ")
    assert shown.endswith(", try again")
    assert write(value) not in shown
    for form in (value, value.upper(), quote(value), json.dumps(value)[1:-1]):
        assert form not in shown


def test_what_was_cut_off_is_found_too() -> None:
    """An answer is kept up to a length, which may be in the middle of a value."""
    long = "the whole body of a letter " * 10
    text = f"{'x' * 80} could not send: {long}"[:150]

    assert hidden({"body": long}, "body").text(text) == f"{'x' * 80} could not send: …"


def test_short_values_go_only_where_they_are_all_there_is() -> None:
    """Else every third word would be gone."""
    hide = hidden({"firstName": "Al"})

    assert hide.data({"first": "al", "note": "already"}) == {"first": HIDDEN, "note": "already"}


def test_the_same_person_is_the_same_hash() -> None:
    """Whoever looks sees that two events are about one person, by whatever names her; and not whom."""
    event = {"user": {"id": "u-1", "email": "Anna@example.com", "shoe size": 39}, "properties": {"by": "u-1", "n": 1}}

    assert hidden(event, "user").data(event) == {
        "user": {"id": PSEUDONYM("u-1"), "email": PSEUDONYM("anna@example.com "), HIDDEN: HIDDEN},
        "properties": {"by": PSEUDONYM("U-1"), "n": 1},
    }
    assert pseudonyms(b"another key")("u-1") != PSEUDONYM("u-1")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("KeyError: 'bob@example.com'", "KeyError: '…'"),
        ("{'email': 'bob', 'n': 1}", "{'email':…, 'n': 1}"),
        ('{"firstName": "Bob", "cut": "of', '{"firstName":…, "cut": "of'),
        ('{\\"first_name\\": \\"Bob\\", \\"n\\": 1}', '{\\"first_name\\":…, \\"n\\": 1}'),
        ("/people?email=bob%40example.com&force=true", "/people?email=…&force=true"),
        ("tag_user: nothing identifies the person: none of email, userId", None),
        ("subject: Missing data; email: is no text", None),
    ],
)
def test_people_whom_the_event_does_not_know(text: str, shown: str | None) -> None:
    """Answers and error texts may tell of others; our own messages stay."""
    assert hidden({}).by(IN_ANSWERS).text(text) == (text if shown is None else shown)


def test_an_answer_that_was_cut_off_is_hidden() -> None:
    """Its words for a person stand too far from what they hold."""
    answer = json.dumps({"message": "no", "batch": [{"traits": {"shoe size": "39"}}]})
    hide = hidden({}).by(IN_ANSWERS)

    assert json.loads(hide.answer(answer)) == {"message": "no", "batch": [{"traits": {HIDDEN: HIDDEN}}]}
    assert hide.answer(answer[:60]) == HIDDEN


def test_an_events_own_list() -> None:
    """`pii` names keys, at any depth, or paths."""
    event = {"pii": ["shoeSize", "data.hobby", 7], "data": {"shoe_size": 39, "hobby": "chess", "n": 1}}

    assert hidden(event).data(event)["data"] == {"shoe_size": HIDDEN, "hobby": HIDDEN, "n": 1}


@given(JSON, st.text(max_size=6) | st.sampled_from([MARKER, f"added {MARKER}", "abc", "12345"]))
def test_the_quick_look_finds_what_the_thorough_one_does(event: Any, text: str) -> None:
    """Flower's names are looked at for each event; that must be quick, and right."""
    event = {"event": event}
    text = folded(text)
    values = [folded(value) for value, _ in told(event, frozenset(filter(about_anybody, map(plain, _keys(event)))))]
    holds = {value for value in values if value in text and (len(value) >= 4 or value == text)}

    assert held(text, event, about_anybody) == holds
    assert holds or without(text, event) == text


def _keys(value: Any) -> set[str]:
    if isinstance(value, list):
        return {key for item in value for key in _keys(item)}
    return set(value).union(*map(_keys, value.values())) if isinstance(value, dict) else set()


def test_each_kind_has_its_keys() -> None:
    """The table is of the kinds that there are."""
    assert {name: kind.personal for name, kind in KINDS.items()} == personal.KINDS


def test_names_for_flower() -> None:
    """A tag that says whom it is for is shown without; what the source or the event lists counts as well."""

    def shown(name: str, event: dict[str, Any], *listed: str) -> str:
        at = "2026-01-02T03:04:05Z"
        envelope = Envelope(
            id="1", source="s", format="encharge", type="added-tag", name=f"added-tag-{name}", subject=None,
            received_at=at, occurred_at=at, event=event, personal=listed,
        )  # fmt: skip
        return envelope.shown.removeprefix("s · added-tag-")

    assert shown("for-anna-only", {"user": {"firstName": "Anna"}}) == "for-…-only"
    assert shown("vip", {"user": {"firstName": "Anna"}}) == "vip"
    assert shown("chess", {"properties": {"hobby": "chess"}}) == "chess"
    assert shown("chess", {"properties": {"hobby": "chess"}}, "hobby") == HIDDEN
    assert shown("chess", {"pii": ["hobby"], "properties": {"hobby": "chess"}}) == HIDDEN
