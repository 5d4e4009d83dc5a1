"""The rows of a feed, whole and broken, however the file comes in pieces."""

import json
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.feed_rows import MOST_OF_A_ROW, Row, _Text, rows

DEPTH = 64


def read_all(chunks: Iterator[bytes]) -> list[Row]:
    return list(rows(chunks, DEPTH))


def read(text: str | bytes, chunk: int = 1000) -> list[Row]:
    data = text.encode() if isinstance(text, str) else text
    return read_all(data[at : at + chunk] for at in range(0, len(data), chunk))


def good(found: list[Row]) -> list[Any]:
    return [row.value for row in found if row.value is not None]


def bad(found: list[Row]) -> list[tuple[int, int, str]]:
    return [(row.line, row.until, row.error) for row in found if row.value is None]


ROW = st.dictionaries(
    st.text(max_size=5),
    st.recursive(
        st.none() | st.integers() | st.text(max_size=9) | st.just('},{"id":1},\n{'),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
        max_leaves=4,
    ),
    max_size=4,
)
LAYOUTS = st.sampled_from(
    [
        ("[", ",", "]"),
        ("[\n", ",\n", "\n]\n"),
        ("[\r\n  ", ",\r\n  ", "\r\n]"),
        ("[ ", " , ", " ]"),
        ("[\n", "\n,", "\n]"),
        ("", "\n", "\n"),
        ("", "\n\n", ""),
        ("\ufeff[\n", ",\n", "\n]"),
    ]
)


@given(
    values=st.lists(ROW, max_size=6),
    layout=LAYOUTS,
    indent=st.sampled_from([None, 2]),
    ascii_=st.booleans(),
    chunk=st.integers(1, 40),
)
def test_every_row_is_found(
    values: list[Any], layout: tuple[str, str, str], indent: int | None, ascii_: bool, chunk: int
) -> None:
    """In a list or one after the other, on lines of their own or not, cut anywhere, in the middle of a letter too."""
    begin, between, end = layout
    texts = [json.dumps(value, indent=indent, ensure_ascii=ascii_) for value in values]
    # Lone surrogates are no UTF-8, but with a backslash.
    text = (begin + between.join(texts) + end).encode("utf-8", "replace")
    expected = [json.loads(each.encode("utf-8", "replace")) for each in texts]

    found = read(text, chunk)

    assert good(found) == expected
    assert bad(found) == []
    assert [row.number for row in found] == list(range(1, len(values) + 1))
    whole = text.decode("utf-8-sig")
    assert [row.line for row in found] == [1 + each.count("\n") for each in beginnings(whole, begin, between, texts)]


def beginnings(whole: str, begin: str, between: str, texts: list[str]) -> list[str]:
    """What stands before each row."""
    befores, before = [], begin.removeprefix("\ufeff")
    for text in texts:
        befores.append(before)
        before += text + between
    return befores


BROKEN = st.sampled_from(
    [
        '{"id": "1", "event": "x"',
        '{"id": "1, "event": "x"}',
        '{"id": "1", "event": }',
        '{"id": 1,}',
        '{"a": [',
        '{"a": [{"b": 1}, {"c": 2}',
        '{"a": {"b": {',
        '{"a": "x',
        '{"a": NaN}',
        '{"a": 1e999}',
        "{'a': 1}",
        '{"a": "\tx"}',
        '"text"',
        "text\ntext",
        "5",
        "null",
        "nonsense",
        "<html>",
        "]]",
        '{"a": ' + "[" * 2000,
        '{"a": ' + "[" * 70 + "]" * 70 + "}",
    ]
)


@given(
    before=st.lists(ROW, max_size=3),
    broken=st.lists(BROKEN, min_size=1, max_size=2),
    after=st.lists(ROW, max_size=3),
    layout=st.sampled_from([("[\n", ",\n", "\n]"), ("", "\n", "\n"), ("[\n  ", "  ,\n\t", "]")]),
    chunk=st.sampled_from([7, 1000]),
)
@example(before=[{}], broken=['{"a": ['], after=[{"b": 1}], layout=("[\n", ",\n", "\n]"), chunk=7)
def test_good_rows_around_broken_ones_survive(
    before: list[Any], broken: list[str], after: list[Any], layout: tuple[str, str, str], chunk: int
) -> None:
    """Where rows stand on lines of their own, a broken one costs itself alone, and is named by its line."""
    begin, between, end = layout
    texts = [*map(json.dumps, before), *broken, *map(json.dumps, after)]
    found = read(begin + between.join(texts) + end, chunk)

    assert good(found)[: len(before)] == before
    values = good(found)[len(before) :]
    assert values[len(values) - len(after) :] == after
    first = len(before) + 1 + begin.count("\n")
    assert any(row.line == first and row.value is None for row in found)


@pytest.mark.parametrize("chunk", [3, 1000])
def test_a_broken_row_in_a_file_of_one_line(chunk: int) -> None:
    """There the next row begins behind the end of one."""
    found = read('[{"a": 1},{"b": [1}, {"c": 3},{"d": 4}]', chunk)

    assert good(found) == [{"a": 1}, {"c": 3}, {"d": 4}]
    assert bad(found) == [(1, 1, "not JSON: Expecting ',' delimiter (character 9 of the row)")]


FAKE = '{"event": "Fake"}'
TRUE = [{"event": "True"}]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (
            f'[\n  {{\n    "a": [\n      {FAKE},\n      {FAKE}\n    ],\n    "b": oops\n  }},\n  {{"event": "True"}}\n]',
            2,
        ),
        (f'[{{\n  "a": [\n    {FAKE}\n  ], "b": oops\n}}, {{\n  "event": "True"\n}}]', 1),
        (f'[{{"id": oops, "a": [{FAKE}, {FAKE}]}}, {{"event": "True"}}]', 1),
        (f'[{{"id": oops, "t": "}}, {{\\"", "a": [{FAKE}, {FAKE}]}}, {{"event": "True"}}]', 1),
        (f'[{{"id": "oops, "a": [{FAKE}, {FAKE}]}},\n {{"event": "True"}}]', 1),
        (f'[[{FAKE}, {FAKE}], {{"event": "True"}}]', 1),
        (f'["text, {FAKE}", {{"event": "True"}}]', 1),
    ],
)
@pytest.mark.parametrize("chunk", [1, 1000])
def test_bug_what_is_in_a_broken_row_was_taken_for_rows(text: str, lines: int, chunk: int) -> None:
    """An event that never happened. Where a row's end cannot be told, the rest of its line is given up."""
    found = read(text, chunk)

    assert good(found) == TRUE
    assert [line for line, _, _ in bad(found)] == [lines]


def test_bug_broken_rows_took_the_longer_the_more_there_were() -> None:
    """An error counts the lines before it: what was left behind must not stay there."""
    text = _Text(iter([b"\n{" * 5_000]))
    places = []
    while text.skip_between():
        text.to_next_row()
        places.append(text.at)

    assert len(places) == 5_000
    assert max(places) < 5_000


def test_nothing_that_is_broken_is_quoted() -> None:
    """What is wrong, and where; never what it says."""
    found = read('[\n{"email": "someone@example.com" "id": 1},\n"someone@example.com",\n{"id": 2}\n]')

    assert good(found) == [{"id": 2}]
    assert bad(found) == [
        (2, 2, "not JSON: Expecting ',' delimiter (character 33 of the row)"),
        (3, 3, "not a JSON object"),
    ]


def test_a_file_that_was_cut_off_says_so() -> None:
    """An upload that goes on, perhaps: what is there is taken."""
    found = read('[\n{"id": 1},\n{"id": 2},\n')
    assert good(found) == [{"id": 1}, {"id": 2}]
    assert bad(found) == [(4, 4, "the file ends before its list does; is it complete?")]

    cut = read('[\n{"id": 1},\n{"id": "2')
    assert good(cut) == [{"id": 1}]
    assert [line for line, _, _ in bad(cut)] == [3, 3]


def test_what_is_not_utf_8_spoils_its_own_row() -> None:
    """The others are read."""
    found = read(b'[\n{"a": "\xff"},\n{"a": "\xc3\xa9"},\n{"a": "\xc3"}\n]', 5)

    assert good(found) == [{"a": "\u00e9"}]
    assert bad(found) == [(2, 2, "not UTF-8"), (4, 4, "not UTF-8")]


def test_what_is_skipped_is_told() -> None:
    """From a broken row to the next line that begins with an object: a row of several lines is one row."""
    found = read('{"a": 1,\n "b": x,\n "c": {\n  "d": 1}\n}\nnonsense\n{"b": 1}\n5')

    assert good(found) == [{"b": 1}]
    assert [(line, until) for line, until, _ in bad(found)] == [(1, 6), (8, 8)]


def test_nothing_at_all() -> None:
    """No rows, and nothing wrong."""
    assert read("") == read("[]") == read(" \n[\n]\n") == []


def test_no_more_is_held_than_a_row_may_have() -> None:
    """A row that does not end is given up, and passed over without being kept."""
    asked = 0

    def endless() -> Iterator[bytes]:
        nonlocal asked
        yield b'[\n{"a": "'
        for asked in range(300):  # noqa: B007 - it is read outside
            yield b"x" * 50_000
        yield b'"},\n{"b": 1}\n]'

    tracemalloc.start()
    found = read_all(endless())
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert asked == 299
    assert good(found) == [{"b": 1}]
    assert [line for line, _, _ in bad(found)] == [2]
    assert most < 6 * MOST_OF_A_ROW
