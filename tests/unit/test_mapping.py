"""The language of mappings: what each directive gives, what is refused, and that nothing else can happen."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks import mapping
from tasks.errors import MappingFailed, MappingRefused
from tasks.mapping import UNDEFINED
from tasks.mapping_directives import DIRECTIVES, keys_of, number_text

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "mapping_kit.json").read_text(encoding="utf-8"))
DATA: dict[str, Any] = VECTORS["data"]
few = settings(max_examples=80, deadline=None, database=None)


def resolved(source: Any, event: dict[str, Any] | None = None) -> Any:
    return mapping.compile(source).resolve(DATA if event is None else event)


def problems(source: Any) -> tuple[str, ...]:
    with pytest.raises(MappingRefused) as refused:
        mapping.compile(source)
    return refused.value.problems


# --- Segment's results


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["name"])
def test_vector(case: dict[str, Any]) -> None:
    """Every mapping gives what Segment's own mapping-kit gives, or fails with its words."""
    if "error" not in case:
        found = resolved(case["mapping"])
        assert json.dumps(found, sort_keys=True) == json.dumps(case["output"], sort_keys=True)
        return
    with pytest.raises((MappingRefused, MappingFailed)) as failed:
        resolved(case["mapping"])
    assert all(message in str(failed.value) for message in case["error"])


@pytest.mark.parametrize(
    ("path", "keys"),
    [
        ("a.b", ["a", "b"]),
        ("a[0].b", ["a", "0", "b"]),
        ("a['k'].b", ["a", "k", "b"]),
        ('a["k l"]', ["a", "k l"]),
        ("[txt] non", ["[txt] non"]),
        ("a['x.y']", ["a", "x", "y"]),
        ("..a..", ["a"]),
        ("", []),
    ],
)
def test_path_keys(path: str, keys: list[str]) -> None:
    """Points cut, brackets cut before and behind quotes and digits, and quotes vanish."""
    assert keys_of(path) == keys


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("$", UNDEFINED),
        (".", {"s": "a😀", "l": [[]], "n": 5, "t": True}),
        ("s.length", 3),
        ("s[0]", "a"),
        ("s[9]", UNDEFINED),
        ("l.length", 1),
        ("l[0].length", 0),
        ("l.-1", UNDEFINED),
        ("n.x", UNDEFINED),
        ("t.length", UNDEFINED),
        ("x.y.z", UNDEFINED),
        ("a$.s", UNDEFINED),
    ],
)
def test_walks_like_javascript(path: str, expected: Any) -> None:
    """Texts and arrays have length and elements, numbers have nothing, and what is missing stays missing."""
    assert resolved({"@path": path}, {"s": "a😀", "l": [[]], "n": 5, "t": True}) == expected


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (1.0, "1"),
        (9.5, "9.5"),
        (-0.0, "0"),
        (1e21, "1e+21"),
        (1e-7, "1e-7"),
        (1.5e-7, "1.5e-7"),
        (0.000001, "0.000001"),
        (123456789012345680000.0, "123456789012345680000"),
        (10**21, "1e+21"),
        (-(10**400), "-Infinity"),
        (float("nan"), "NaN"),
    ],
)
def test_numbers_are_written_like_javascript(number: float, text: str) -> None:
    """No `.0`, and an exponent only from 1e21 up and 1e-7 down."""
    assert number_text(number) == text


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ({"@template": "{{{properties.nested}}}-{{ e }}-{{d}}-{{nope}}-{{$.b}}-{{}}"}, "[object Object]-false----{{}}"),
        ({"@template": {"@path": "$.b"}}, "Hello World"),
        ({"@template": "{{{b}}} {{a}}"}, "Hello World 1"),
        ({"@if": {"exists": False, "blank": "x", "then": 1, "else": 2}}, 1),
        ({"@if": {"blank": {"@path": "$.nope"}, "else": {"@literal": None}}}, None),
        ({"@if": {"blank": {"@literal": [[None]]}, "then": 1, "else": 2}}, 2),
        ({"@case": {"operator": "lower", "value": {"@path": "$.nope"}}}, UNDEFINED),
        ({"@case": {"operator": "lower", "value": ""}}, UNDEFINED),
        ({"@replace": {"pattern": "l", "replacement": "$$[$`|$']", "global": False, "value": "alb"}}, "a$[a|b]b"),
        ({"@replace": {"pattern": "a", "replacement": "$1$", "value": "aa"}}, "$1$$1$"),
        ({"@replace": {"pattern": "a", "pattern2": "B", "replacement2": "c", "value": "aAB"}}, "Ac"),
        ({"@replace": {"pattern": "5", "replacement": "6", "value": {"@path": "$.properties.price"}}}, "9.6"),
        ({"@replace": {"pattern": "a", "value": {"@path": "$.properties.list"}}}, ""),
        ({"@arrayPath": ["$.b", {"x": 1}]}, "Hello World"),
        ({"@arrayPath": [{"@path": "$.traits.tags"}, {"@path": "$.length"}]}, [2, 2]),
        ({"@flatten": {"value": {"@path": "$.properties.arr"}, "separator": "/"}}, {"0/id": 1, "0/q": 2, "1/id": 2}),
        (
            {"@flatten": {"value": {"a": [1], "b": {"c": None, "d": {}}}, "separator": "_", "omitArrays": True}},
            {"a": [1], "b_c": None},
        ),
        ({"@json": {"mode": "decode", "value": '{"a":1.0,"b":[1e2,2.5]}'}}, {"a": 1, "b": [100, 2.5]}),
        ({"@json": {"mode": "decode", "value": "NaN"}}, "NaN"),
        ({"@json": {"mode": "decode", "value": {"@path": "$.a"}}}, 1),
        (
            {"@json": {"mode": "encode", "value": {"b": 1.0, "a": [{"@path": "$.nope"}, "\ud800"]}}},
            '{"b":1,"a":[null,"\\ud800"]}',
        ),
        ({"@merge": {"direction": {"@literal": "left"}, "objects": [{"a": 1}, {"a": 2}, [7], None]}}, {"0": 7, "a": 1}),
        ({"@excludeWhenNull": {"@path": "$.d"}}, UNDEFINED),
        (
            {"@transform": {"apply": {"l": [{"@path": "$.no"}]}, "mapping": [{"@path": "$.l[0]"}, {"@path": "$.a"}]}},
            [None, None],
        ),
        ([{"@path": "$.a", "other": 1}], [{"@path": "$.a", "other": 1}]),
        ([{"@path": "$.a", "@literal": 2}], [1]),
        ("text", "text"),
    ],
)
def test_fine_points_of_directives(source: Any, expected: Any) -> None:
    """What Segment's code does beyond the vectors."""
    found = resolved(source)
    assert found == expected
    assert isinstance(expected, str) or json.dumps(found, default=repr) == json.dumps(expected, default=repr)


def test_root_wrapper_takes_the_other_keys_as_its_mapping() -> None:
    """`__segment_internal_directive` is replaced by its directive, which maps the other keys."""
    wrapper = {"@transform": {"apply": {"p": {"@path": "$.a"}}}}
    assert resolved({"__segment_internal_directive": wrapper, "x": {"@path": "$.p"}, "y": 2}) == {"x": 1, "y": 2}


# --- refusals


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ({"x": {"@path": "a", "raw": 1}}, "/x should only have one @-prefixed key but it has 2 keys."),
        ({"x": {"@nope": 1}}, "/x has an invalid directive: @nope."),
        ({"@template": False}, "/@template should be a string or a mapping directive but it is a boolean."),
        ({"h": {"@template": {"a": 1}}}, "/h/@template should be a string or a mapping directive but it is an object."),
        ({"@if": "x"}, "/@if should be an object but it is a string."),
        ({"@if": {"@path": "a"}}, '/@if shouldn\'t have directive (@-prefixed) keys but it has "@path".'),
        ({"@replace": {"value": "a"}}, '/@replace should have field "pattern" but it doesn\'t.'),
        ({"@replace": {"pattern": "", "value": "a"}}, "/@replace/pattern should be a string of length 1 or greater."),
        (
            {"@replace": {"pattern": "a" * 11, "value": "a"}},
            "/@replace/pattern should be a string of length 10 or less.",
        ),
        (
            {"@replace": {"pattern": "a", "value": "a", "global": "x"}},
            "/@replace/global should be a boolean but it is a string.",
        ),
        ({"@json": {"mode": "zip", "value": 1}}, '/@json/mode should be one of encode, decode but it is "zip".'),
        ({"@json": {"mode": "encode", "value": 0}}, '/@json @json requires a "value" key.'),
        ({"@arrayPath": "x"}, "/@arrayPath should be an array but it is a string."),
        ({"@case": {"value": "x"}}, '/@case @case requires a "operator" key.'),
        ({"@flatten": {"separator": ""}}, '/@flatten @flatten requires a "separator" key.'),
        ({"x": {"@liquid": 5}}, "/x/@liquid should be a string but it is a number."),
        ({"x": [{"@liquid": "{{ a"}]}, "/x/0/@liquid expected '}}', found end of file (at character 1)."),
        (
            {"x": [{"@merge": {"direction": "left", "objects": "a"}}]},
            "/x/0/@merge @merge: expected opts.array, got string.",
        ),
        ({"x": {1: 2}}, "/x has a key that is no text: 1."),
        ({"x": {3, 4}}, "/x should be a mapping directive or a JSON value but it is a set."),
        (
            {"__segment_internal_directive": {"@transform": {}, "@merge": {}}},
            "/__segment_internal_directive The root mapping must only have a single directive object.",
        ),
        (
            {"__segment_internal_directive": {"@transform": 1}},
            "/__segment_internal_directive The root directive must be an object.",
        ),
    ],
)
def test_refusal_names_the_place(source: Any, expected: str) -> None:
    """A mapping that could only fail is refused at load, in Segment's words."""
    assert expected in problems(source)


def test_all_problems_are_reported_together() -> None:
    """One refusal carries the problems of the whole mapping."""
    found = problems({"a": {"@template": 1}, "b": {"c": {"@nope": 1}}, "d": {"@replace": {"pattern": 1}}})
    assert [text.split(" ")[0] for text in found] == ["/a/@template", "/b/c", "/d/@replace", "/d/@replace/pattern"]


def test_deep_nesting_is_refused() -> None:
    """No depth of a mapping or an event overflows the stack."""
    source: Any = 1
    for _ in range(100_000):
        source = {"x": source}
    assert "nested deeper" in problems(source)[0]
    with pytest.raises(MappingFailed, match="nested too deeply"):
        mapping.compile({"@path": "$."}).resolve(source)


def test_failure_names_the_place() -> None:
    """What only the event can show fails with the place in the mapping."""
    with pytest.raises(MappingFailed, match="/x/@path @path: expected string, got number"):
        resolved({"x": {"@path": {"@path": "$.a"}}})


@pytest.mark.parametrize("event", [None, [], "x", 5])
def test_event_must_be_an_object(event: Any) -> None:
    """Other JSON has no fields to map."""
    with pytest.raises(MappingFailed, match="data must be an object, got"):
        mapping.compile({"x": 1}).resolve(event)


# --- the compiled mapping


def test_undefined_is_one_falsy_thing() -> None:
    """UNDEFINED is false, is not None, survives copying, and says its name."""
    assert not UNDEFINED
    assert UNDEFINED is not None
    assert copy.deepcopy(UNDEFINED) is UNDEFINED
    assert repr(UNDEFINED) == "UNDEFINED"


def test_paths_say_what_is_read() -> None:
    """Paths are those into the event: of a shape per element, and none into the payload of a transform."""
    source = {
        "a": {"@path": "$.user.email"},
        "b": {"@template": "{{x.y}} {{{z}}}"},
        "c": {
            "@arrayPath": [
                "$.items",
                {"id": {"@path": "$.id"}, "all": {"@arrayPath": ["$.sub", {"n": {"@path": "n"}}]}},
            ]
        },
        "d": {"@transform": {"apply": {"k": {"@path": "$.list[0]"}}, "mapping": {"@path": "$.k"}}},
    }
    expected = {"user.email", "x.y", "z", "items", "items[].id", "items[].sub", "items[].sub[].n", "list.0"}
    assert mapping.compile(source).paths == expected


def test_result_shares_nothing_with_event_or_mapping() -> None:
    """Who changes a result changes neither the event nor the next result."""
    event = {"user": {"tags": ["a"]}}
    compiled = mapping.compile({"user": {"@path": "$.user"}, "fixed": {"list": [1]}})
    first = compiled.resolve(event)
    first["user"]["tags"].append("b")
    first["fixed"]["list"].append(2)
    assert event == {"user": {"tags": ["a"]}}
    assert compiled.resolve(event) == {"user": {"tags": ["a"]}, "fixed": {"list": [1]}}


def test_values_are_not_read_as_templates() -> None:
    """A value full of opening brackets, which a triple placeholder brings in, costs one pass."""
    assert len(resolved({"@template": "{{{x}}}"}, {"x": "}}" + "{" * 200_000})) == 200_002


# --- properties

OPTIONS = ["exists", "blank", "then", "else", "value", "operator", "separator", "mode", "objects", "direction", "apply"]
KEYS = st.sampled_from(
    [*DIRECTIVES, *OPTIONS, "@nope", "_metadata", "mapping", "pattern", "__segment_internal_directive", "a"]
)
TEXTS = st.sampled_from(
    ["$.a", "a.b[0]", "{{a}} {{{a.b}}}", "lower", "left", "encode", "decode", "$&", ".", ""]
) | st.text("a.[]{}'$&😀", max_size=4)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=10
)
places = st.sampled_from(["$.a", "$.a.b", "$.b[0]", "b.length", "$.", "c"])


def directives(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Mappings that validate, each directive around others."""

    def of(**options: Any) -> st.SearchStrategy[Any]:
        return st.fixed_dictionaries(options)

    filled = inner.filter(lambda value: isinstance(value, dict))
    return st.one_of(
        places.map(lambda place: {"@path": place}),
        places.map(lambda place: {"@template": f"<{{{{{place}}}}}>{{{{{{{place}}}}}}}"}),
        of(**{"@literal": inner}),
        of(**{"@if": of(exists=filled, then=inner, **{"else": inner})}),
        of(**{"@if": of(blank=filled, then=inner)}),
        of(
            **{"@case": of(operator=st.sampled_from(["lower", "upper", "x"]), value=places.map(lambda p: {"@path": p}))}
        ),
        of(**{"@replace": of(pattern=st.sampled_from("ab."), replacement=st.just("$&$`"), value=places)}),
        of(**{"@arrayPath": st.tuples(places, inner).map(list)}),
        of(**{"@flatten": of(separator=st.just("_"), value=inner)}),
        of(**{"@json": of(mode=st.sampled_from(["encode", "decode"]), value=filled)}),
        of(**{"@merge": of(direction=st.sampled_from(["left", "right"]), objects=st.lists(inner, max_size=3))}),
        of(**{"@excludeWhenNull": inner}),
        st.dictionaries(st.sampled_from("xyz"), inner, min_size=1, max_size=2),
        st.lists(inner, max_size=2),
    )


valid = st.recursive(st.just({"@path": "$.a"}) | scalars, directives, max_leaves=8)
events = st.dictionaries(
    st.sampled_from("abc"),
    st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
        max_leaves=6,
    ),
    max_size=3,
)


@few
@given(anything, events)
def test_any_json_is_a_mapping_or_refused(source: Any, event: dict[str, Any]) -> None:
    """No JSON makes compiling raise anything but a refusal, nor resolving anything but a failure."""
    try:
        found = mapping.compile(source).resolve(event)
    except (MappingRefused, MappingFailed) as failed:
        found = str(failed)
    assert found is UNDEFINED or "UNDEFINED" not in repr(found)


@few
@given(valid, events)
def test_resolving_leaves_event_and_mapping_alone(source: Any, event: dict[str, Any]) -> None:
    """The event is as before, the result has no UNDEFINED inside, and a second run gives the same."""
    before = copy.deepcopy((source, event))
    try:
        compiled = mapping.compile(source)
        results = [compiled.resolve(event), compiled.resolve(event)]
    except (MappingRefused, MappingFailed):
        results = ["", ""]
    assert repr((source, event)) == repr(before)
    assert repr(results[0]) == repr(results[1])
    assert results[0] is UNDEFINED or "UNDEFINED" not in repr(results[0])
