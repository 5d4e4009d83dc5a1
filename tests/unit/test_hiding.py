"""What is about a person, and that nothing of it is left where it was hidden."""

import json
import sys
from datetime import UTC, datetime
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


@pytest.mark.parametrize("end", ["\ufffd", "%C3%", "\\u00", "&szli", "...", "…", "'", '\\u00"'])
def test_bug_a_value_cut_within_a_letter_was_told(end: str) -> None:
    """What an encoding leaves of the letter at the cut, and what is put behind it, hid the beginning of the value."""
    shown = hidden({"address": "Straßenmühle 17, Zürich"}, "address").text(f"{'x' * 100} Straßenm{end}")

    assert "Straßenm" not in shown


def test_bug_values_that_begin_alike_were_compared_for_ever() -> None:
    """So many letters and no more; what stands behind them is hidden."""
    alike = [f"{'a' * length}c" for length in range(4, 700)]
    shown = hidden({"email": alike}).text("a" * 100_000)

    assert shown.endswith(HIDDEN)
    assert len(shown) < 10_000


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


def test_bug_a_name_with_one_value_made_a_pattern_of_all_values() -> None:
    """The endpoint asks for each event: the work grows with the event alone, and nothing is compiled, or kept."""

    def calls(values: int) -> int:
        traits = {"city": "Berlin", **{f"k{number}": f"vé-{number:05d} x" for number in range(values)}}
        event = {"event": "Visited Berlin", "context": {"traits": traits}}
        seen: list[str] = []
        sys.setprofile(lambda frame, *_: seen.append(frame.f_code.co_filename))
        try:
            assert without("Visited Berlin", event) == "Visited …"
            assert hidden(event, "traits").text("to Berlin, by vé-00001 x") == "to …, by …"
        finally:
            sys.setprofile(None)
        assert not any(file.endswith("_compiler.py") for file in seen)
        return len(seen)

    few, more, most = calls(2), calls(200), calls(400)
    assert most - more < 1.2 * (more - few)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("for anna and berta", "for …"),  # two values that overlap
        ("for ANNA, for Anna", "for …, for …"),
        ("for Jo\u0308rg Straße", "for … …"),
        ("for%20j%C3%B6rg", "for …"),
        ("100% STRASSE", "100% …"),
        ("100%25 for nobody", "100%25 for nobody"),
    ],
)
def test_names(name: str, shown: str) -> None:
    """However they write what the event says."""
    assert without(name, {"traits": {"a": ["anna", "anna and", "and berta"], "b": "Jörg", "c": "strasse"}}) == shown


def test_bug_keys_below_personal_keys_were_told_elsewhere() -> None:
    """Some house keeps a person's friends by their names. What a field may be called stays readable."""
    event = {"traits": {"Jane Roe": 1, "First Name": "x", "plan": "pro", "shoeSize": 39}}

    assert hidden(event, "traits").data({"properties": {"Jane Roe": 1}, "error": "KeyError: 'jane roe'"}) == {
        "properties": {HIDDEN: 1},
        "error": f"KeyError: '{HIDDEN}'",
    }
    assert hidden(event, "traits").text("plan, shoeSize and First Name stay") == "plan, shoeSize and First Name stay"
    assert without("Jane Roe signed", event) == "… signed"


@pytest.mark.parametrize(
    ("value", "text", "shown"),
    [
        ("Jörgmann", "no Jo\u0308rgmann here", "no … here"),
        ("Jo\u0308rgmann", "no Jörgmann here", "no … here"),
        ("Jörgmann", "no J&#246;rgmann, no J&#xF6;rgmann", "no …, no …"),
        ("Jörgmann", "/people/j%c3%b6rgmann", "/people/…"),
        ("first line\n second line", "you sent: first line second line.", "you sent: …."),
        ("0151-1234567", "no 0151 1234567, no (0151) 123 45 67", "no …, no …"),
        ("01511234567", "no 0151/1234567 of 2026-01-02", "no … of 2026-01-02"),
        ("jane.roe@example.com", "the box jane.roe is full", "the box … is full"),
        ("info@example.com", "for your info", "for your info"),
        ("👤-anna", "no \\ud83d\\udc64-anna", "no …"),
        ("C:\\new", '{"path": "C:\\\\new', '{"path": "…'),
    ],
)
def test_bug_values_in_other_letters_were_told(value: str, text: str, shown: str) -> None:
    """Who answers or logs writes them as it likes."""
    assert hidden({"note": value}, "note").text(text) == shown


def test_bug_numbers_as_others_write_them_were_told() -> None:
    """JSON knows one kind of number."""
    assert hidden({"phone": 4915112345}).data([4915112345.0, 1.0]) == [PSEUDONYM("4915112345"), 1.0]


def test_bug_types_by_which_routes_go_lost_what_was_personal() -> None:
    """A type is what it is, whatever else the event says; it is hidden where it is shown."""
    at = datetime(2026, 1, 2, tzinfo=UTC)
    bodies: dict[str, dict[str, Any]] = {
        "activatepro": {"id": "u1", "event": "Viewed Product", "properties": {"search": "product"}},
        "activity_sync": {"kind": "experience-start", "tenantId": "t", "customContext": {"stage": "start"}},
        "encharge": {"event": "Viewed Product", "user": {"email": "a@example.com", "lastName": "product"}},
        "segment_webhook": {"type": "Viewed Product", "traits": {"search": "product"}},
    }
    for kind, body in bodies.items():
        unwrap = KINDS[kind].unwrap
        assert unwrap is not None
        (event,) = unwrap("s", body, None, at, None)
        assert isinstance(event, Envelope)
        assert event.type == event.name == body.get("event", body.get("kind", body.get("type")))
        assert event.shown in {"s · Viewed …", "s · experience-…"}
