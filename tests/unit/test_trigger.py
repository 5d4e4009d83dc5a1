"""The language of triggers: what matches, what is refused, and that nothing else can happen."""

import copy
import json
import time
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.errors import TriggerRefused
from tasks.trigger import Trigger, glob, parse

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "fql.json").read_text(encoding="utf-8"))
EVENT: dict[str, Any] = VECTORS["event"]
few = settings(max_examples=60, deadline=None, database=None)


def verdict(text: str, event: dict[str, Any] | None = None) -> bool:
    return parse(text).matches(EVENT if event is None else event)


def parsed(text: str) -> Trigger | TriggerRefused:
    try:
        return parse(text)
    except TriggerRefused as refused:
        return refused


def refusal(text: str) -> str:
    with pytest.raises(TriggerRefused) as refused:
        parse(text)
    return str(refused.value)


# --- Segment's verdicts


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["fql"])
def test_vector(case: dict[str, Any]) -> None:
    """Plain conditions get Segment's verdict; misread ones get it or are refused; invalid ones may be read as FQL."""
    trigger = parsed(case["fql"])
    if isinstance(trigger, TriggerRefused):
        assert case["kind"] != "plain", trigger
    else:
        assert trigger.matches(EVENT) == case["matches"] or case["kind"] == "invalid"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("event = true", False),
        ("event != null", True),
        ("userId = 5", False),
        ('userId != "u2"', True),
        ("properties.premium = true", True),
        ("properties.missing != 5", False),
        ('properties.missing != "5"', True),
        ("properties.str > 99", False),
        ("properties.premium >= 1", False),
        ("properties.empty.deeper = null", False),
        ('properties.empty.deeper = ""', True),
        ("properties.name.length = 8", True),
        (r'properties.list.\0 = "x"', True),
        (r"properties.product\ 1.price = 2", True),
        ('match(event, "*")', True),
        ('!match(event, "*Removed")', True),
    ],
)
def test_fine_points_on_segments_fields(text: str, expected: bool) -> None:
    """What Segment's table of operators says beyond the vectors."""
    assert verdict(text) is expected


def test_segments_text_fields_compare_as_text() -> None:
    """type, event, name and userId turn numbers into text; type and event do so with true and null too."""
    event = {"event": "5", "type": "null", "name": "true", "userId": "2.5"}
    assert verdict('event = 5 and type = null and name = true and userId = 2.5 and event = "5"', event)


# --- FQL for events of other senders


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('match(event, "added-tag-*")', True),
        ('event = "email-open" or event = "email-click"', False),
        ('(user.email = "a@example.com" or user.email = "b@example.com") and !contains(user.id, "z")', True),
        ('user.email in ["a@example.com", "c@example.com"]', True),
        ("user.email in ['b@example.com']", False),
        ('"vip" in user.tags', True),
        ("user.missing in [null]", True),
        ("user.one in [true]", False),
        ('match(user.email, "?@*.[a-d]om")', True),
        ('contains(lowercase(user.name), "ann")', True),
        (r'match(\event, "added-*-vip")', True),
        (r'\event in ["added-tag-vip"] and \type = null', True),
        (r'user.odd\.key = "x"', True),
        ("length(user.tags) = 2 and length(user.name) = 6", True),
        ('typeof(user.tags) = "list" and typeof(user.nothing) = "null" and typeof(user.one) = "number"', True),
        ('snakecase(user.name) = "Änn_B" and kebabcase(user.name) = "Änn-B"', True),
        ('titlecase("big red car") = "Big Red Car" and uppercase("ab") = "AB"', True),
        ('number("12.5") > 12 and string(user.one) = "1" and number("x") = null', True),
        ('bool(user.one) and !bool(user.nothing) and bool(user.tags) and !bool("false")', True),
        ('string(user.tags) = "[\\"vip\\",\\"new\\"]" and lowercase(user.nothing) = null', True),
        ("((timestamp > 1700000000000))", True),
    ],
)
def test_full_language_on_other_fields(text: str, expected: bool) -> None:
    """Fields that Segment's subscriptions do not know have lists, functions, globs, grouping and both quotes."""
    user = {
        "id": "1",
        "email": "a@example.com",
        "tags": ["vip", "new"],
        "one": 1,
        "name": "Änn B",
        "nothing": None,
        "odd.key": "x",
    }
    event = {"event": "added-tag-vip", "user": user, "timestamp": 1700000000001}
    assert verdict(text.replace('"ann"', '"änn"'), event) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("match('abcd', 'a*d')", True),
        ("match('', '*')", True),
        ("match('abc', 'ab')", False),
        ("match('abcd', 'a??d')", True),
        ("match('abcd', '*d')", True),
        (r"match('ab*d', 'ab\*d')", True),
        (r"match('abcd', 'ab\*d')", False),
        ("match('abCd', 'ab[cC]d')", True),
        ("match('abcd', 'ab[a-z]d')", True),
        ("match('abcd', 'ab[A-Z]d')", False),
        ("'x' in properties.list", True),
        ("'y' in properties.list", False),
    ],
)
def test_documented_examples(text: str, expected: bool) -> None:
    """The rows of Segment's FQL page that its subscriptions do not contradict."""
    assert verdict(text) is expected


# --- refusals


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("", 1, "empty"),
        ('type = "a" or type = "b" and event = "c"', 26, "parentheses"),
        ('type = "a" AND event = "c"', 12, "write `and`"),
        ('not type = "a"', 1, "`!=`"),
        ('!(type = "a")', 2, "Segment ignores"),
        ('!type = "a"', 2, "`!=`"),
        ('type == "a"', 6, "`=` once"),
        ("type = 'a'", 8, "double quotes"),
        ('event = "say \\"hi\\""', 9, "escapes"),
        ("type = track", 8, 'write `"track"`'),
        ('type in ["a"]', 1, '(type = "a" or type = "b")'),
        ('match(event, "a*b")', 14, '"abc*" or "*abc"'),
        ('match(event, "abc")', 14, "use `=`"),
        ('contains(type, "a")', 1, "`=`"),
        ('contains(lowercase(event), "a")', 1, "lowercase(event)"),
        ("contains(event)", 1, "2 arguments"),
        ("contains(event, name)", 17, '"name"'),
        ('contains(event, "a") = true', 1, "alone"),
        ("anonymousId != null", 1, r"\anonymousId"),
        ('properties = "x"', 1, "properties.x"),
        ('event.name = "x"', 1, r"\event.name"),
        ("properties.on != true", 15, "properties.on = false"),
        ('properties.price > "9"', 20, "without quotes"),
        ("properties.price >=9", 18, "`>= 9`"),
        ("properties.price = 1e2", 20, "digits"),
        ("properties.list[0] = 1", 16, r".\0"),
        ("properties.2x = 1", 12, "backslash"),
        ('type = "a"and event = "b"', 11, "space"),
        ('type = "a" or(event = "b")', 12, "`or (`"),
        ('type = "a" event = "b"', 12, "`and` or `or`"),
        ('type = "a" and', 15, "too early"),
        ('and type = "a"', 1, "missing"),
        ('(type = "a"', 12, "`)`"),
        ('type = "a")', 11, "remove"),
        ("properties.on", 14, "compare it"),
        ('"a" = type', 1, "field first"),
        ('type = "a" && event = "b"', 12, "write `and`"),
        ('type = "a";', 11, "remove"),
        ('event = "a\\"', 9, "closing quote"),
        ('size(a) = 1 and type = "a"', 1, "length"),
        ('match(user.x, "[a")', 15, "]"),
        ('match(user.x, "[!a]")', 15, "not negated"),
        ('match(user.x, "[z-a]")', 15, "a-z"),
        ('a in "b"', 6, "list"),
        ("é = 1", 1, r"\é"),
        ('type = "identify" and (contains(event, "z") or event = "P")', 24, "last"),
    ],
)
def test_refusal_shows_place_and_remedy(text: str, place: int, words: str) -> None:
    """The message has line and column, the line itself, a caret under the place, and what to write."""
    heading, line, caret = refusal(text).split("\n")
    assert heading.startswith(f"line 1, column {place}: ")
    assert words in heading
    assert line.strip() == text.strip()
    assert caret == " " * (place + 3) + "^"


def test_refusal_shows_the_line_of_several() -> None:
    """In a trigger of several lines only the line at fault is shown."""
    heading, line, _caret = refusal('type = "track"\nand event = Added\nand userId != null').split("\n")
    assert heading.startswith("line 2, column 13: ")
    assert line == "    and event = Added"


def test_carriage_return_is_refused() -> None:
    """Segment loses everything behind a carriage return."""
    assert "carriage return" in refusal('type = "track"\r\nand event = "x"')


def test_deep_nesting_is_refused() -> None:
    """No depth of parentheses or calls overflows the parser."""
    assert "deeper than" in refusal("(" * 10_000 + "a = 1")
    assert "deeper than" in refusal("length(" * 1_000)


@pytest.mark.parametrize("value", [None, True, 5, ["type"], {"type": "track"}, b"type"])
def test_only_text_is_a_trigger(value: Any) -> None:
    """What YAML may give in place of text is refused like a bad text."""
    assert "a trigger is text" in refusal(value)


# --- the parsed trigger


def test_text_paths_and_normal_form() -> None:
    """A trigger keeps its text, names what it reads, and prints itself without what is superfluous."""
    text = "((type='track')) and (a.b in ['x',1,null] and (a=1.50 or !match( c.d , '*\\\\*' )))"
    trigger = parse(text.replace("type=", "kind="))
    assert trigger.text == text.replace("type=", "kind=")
    assert str(trigger) == r'kind = "track" and a.b in ["x", 1, null] and (a = 1.5 or !match(c.d, "*\*"))'
    assert trigger.paths == {"kind", "a.b", "a", "c.d"}


def test_explain_gives_the_verdict_of_each_condition() -> None:
    """Every leaf is judged, also those behind the one that decides."""
    trigger = parse('type = "page" and (properties.price > 5 or !contains(event, "Added"))')
    assert trigger.explain(EVENT) == [
        ('type = "page"', False),
        ("properties.price > 5", True),
        ('!contains(event, "Added")', False),
    ]


# --- properties

SOUP = """and or ! in not null true false = != > >= < <= ( ) [ ] , . type event userId properties traits.plan a user.b
    \\event contains match length bool 5 -1.5 1e2 'x' x* \\ & "x" "x*" " ' """.split()  # noqa: SIM905 - read as words
CHARACTERS = "abtype_09 .,()[]=!<>&|+-*?\"'\\\n\t\r\0é😀\u2028"
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(-2, 2) | st.sampled_from(["", "x", "xy", "5"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abx"), inner, max_size=2),
    max_leaves=4,
)
events = st.dictionaries(
    st.sampled_from(["type", "event", "name", "userId", "properties", "a", "user"]), json_values, max_size=5
)
leaves = st.sampled_from(
    [
        'type = "x"',
        "event != 5",
        "name = null",
        "userId = true",
        "properties.a > 1",
        'properties.b != "x"',
        "properties.a.b = null",
        'match(event, "x*")',
        '!contains(properties.a, "x")',
        'a in [\'x\', 1, null, "q\\"\\\\q"]',
        r'\type in ["x"]',
        r"user.\and.\2\ b = 0.5",
        '"x" in properties.a',
        'match(user.a, "[a-y]?*")',
        "bool(a)",
        "length(a) <= 1",
        'typeof(properties.a) = "list"',
        'contains("xyz", "y")',
    ]
)
expressions = st.recursive(
    leaves,
    lambda inner: st.tuples(st.sampled_from([" and ", " or\n"]), st.lists(inner, min_size=1, max_size=3)).map(
        lambda parts: "( " + parts[0].join(parts[1]) + " )"
    ),
    max_leaves=8,
)


@few
@given(
    st.text(CHARACTERS) | st.lists(st.sampled_from(SOUP)).map(" ".join) | st.lists(st.sampled_from(SOUP)).map("".join)
)
def test_any_text_is_read_or_refused(text: str) -> None:
    """No text makes the parser raise anything but a refusal, which shows a place."""
    trigger = parsed(text)
    assert isinstance(trigger, Trigger) or str(trigger).startswith("line ")


@few
@given(expressions, st.lists(events, max_size=4))
def test_printed_trigger_decides_alike(text: str, samples: list[dict[str, Any]]) -> None:
    """What a trigger prints is a trigger with the same verdicts, and deciding leaves the event alone."""
    trigger = parsed(text)
    if isinstance(trigger, TriggerRefused):
        assert "ends the group" in str(trigger)
        return
    again = parse(str(trigger))
    assert str(again) == str(trigger)
    for event in samples:
        before = copy.deepcopy(event)
        assert again.matches(event) is trigger.matches(event)
        assert event == before


def naive(pattern: str, value: str) -> bool:
    """Globs by their definition, one character after the other."""

    @cache
    def at(p: int, v: int) -> bool:
        if p == len(pattern):
            return v == len(value)
        if pattern[p] == "*":
            return at(p + 1, v) or (v < len(value) and at(p, v + 1))
        if v == len(value):
            return False
        if pattern[p] == "[":
            end = pattern.index("]", p)
            return value[v] in {"[ab]": "ab", "[b-d]": "bcd"}[pattern[p : end + 1]] and at(end + 1, v + 1)
        if pattern[p] == "\\":
            return value[v] == pattern[p + 1] and at(p + 2, v + 1)
        return pattern[p] in {"?", value[v]} and at(p + 1, v + 1)

    return at(0, 0)


@settings(few, max_examples=200)
@given(
    st.lists(st.sampled_from(["*", "?", "a", "b", "c", "[ab]", "[b-d]", r"\*", "\n", "."]), max_size=7).map("".join),
    st.text("abcd*\n.", max_size=8),
)
def test_globs_match_by_definition(pattern: str, value: str) -> None:
    """The matcher agrees with the definition, which tries everything."""
    assert glob(pattern)(value) is naive(pattern, value)


def test_no_glob_takes_long() -> None:
    """Many stars on a long value that almost matches cost no more than some passes over it."""
    matches = glob("*a" * 200 + "*[bc]?d")
    started = time.perf_counter()
    assert not matches("a" * 50_000 + "x")
    assert time.perf_counter() - started < 0.5
