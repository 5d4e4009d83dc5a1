"""The directive @liquid: what it gives, what it refuses, and that nothing grows without end."""

from typing import Any

import pytest
from builders import envelope
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks import mapping
from tasks.errors import MappingFailed, MappingRefused
from tasks.liquid_template import DISABLED_FILTERS, DISABLED_TAGS, MOST_TEXT

EVENT: dict[str, Any] = {
    "event": "Order",
    "properties": {
        "world": "earth",
        "total": 9.5,
        "whole": 9.0,
        "vip": True,
        "none": None,
        "tags": ["a", "b"],
        "thing": {"a": 1},
        "html": "<b>Tom & 'Jerry'</b><script>1 < 2</script>!",
        "at": "2024-05-01T10:00:00.250Z",
        "secret": "someone@example.com",
    },
}
few = settings(max_examples=100, deadline=None, database=None)


def rendered(text: str, event: dict[str, Any] | None = None) -> Any:
    return mapping.compile({"x": {"@liquid": text}}).resolve(EVENT if event is None else event)["x"]


def refused(text: Any) -> str:
    with pytest.raises(MappingRefused) as found:
        mapping.compile({"x": {"@liquid": text}})
    return str(found.value)


def failed(text: str, event: dict[str, Any] | None = None) -> str:
    with pytest.raises(MappingFailed) as found:
        rendered(text, event)
    return str(found.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("test", "test"),
        ("", ""),
        ("Hello, {{ properties.world }} !", "Hello, earth !"),
        ("HELLO {{ properties.world | upcase }}", "HELLO EARTH"),
        ('{% if properties.world == "earth" %}Hello {{ event }}{% else %} no {% endif %}', "Hello Order"),
        ("{{ properties.missing.deep }}{{ properties.none }}{{ nil }}", ""),
        ("{{ properties.total }} {{ properties.whole }} {{ properties.vip }}", "9.5 9 true"),
        ("{{ properties.tags }} {{ properties.thing }} {{ (1..3) }}", "ab [object Object] 1..3"),
        ("{{ properties.tags | join: '-' }} {{ properties.tags[1] }} {{ properties.tags.size }}", "a-b b 2"),
        ("{{ properties.thing | json }} {{ properties.missing | json }}", '{"a":1} '),
        ("{{ properties.vip | append: '!' }} {{ properties.whole | append: '!' }}", "true! 9!"),
        ("{{ 'x' | append: properties.vip | append: properties.missing }}", "xtrue"),
        ("{{ 10 | divided_by: 4 }} {{ 10 | divided_by: 5 }} {{ 8.5 | round }} {{ 1.256 | round: 2 }}", "2.5 2 9 1.26"),
        ("{{ properties.missing | default: 'none' | capitalize }}", "None"),
        ("{{ properties.html | strip_html }}", "Tom & 'Jerry'!"),
        ("{{ 'a < b' | strip_html }}", "a < b"),
        ("{{ properties.html | slice: 0, 3 | escape }} {{ '\"' | escape }}", "&lt;b&gt; &#34;"),
        ("{{ properties.at | date: '%Y-%m-%d %H:%M %L %s' }}", "2024-05-01 10:00 250 1714557600"),
        ("{{ 1714557600 | date: '%Y %H' }} {{ '1714557600' | date: '%H' }}", "2024 10 10"),
        ("{{ properties.world | date: '%Y' }}", "earth"),
        ("{% assign a = 1 | plus: 2 %}{% echo a %}{% capture b %}<{{ a }}>{% endcapture %}{{ b }}", "3<3>"),
        ("{% liquid\n assign a = 5.0\n echo a %}", "5"),
        ("{% comment %}{{ a | nope }}{% endcomment %}{% raw %}{{ a }}{% endraw %}", "{{ a }}"),
        ("{% unless properties.vip %}a{% else %}b{% endunless %}", "b"),
    ],
)
def test_gives(text: str, expected: str) -> None:
    """Values are written as JavaScript writes them, and what is missing is nothing."""
    assert rendered(text) == expected


def test_now_is_when_the_event_came() -> None:
    """A retry says the same as the first attempt; without an envelope there is no now."""
    text = "{{ 'now' | date: '%Y-%m-%dT%H:%M' }}"

    assert rendered(text, envelope().view) == "2026-01-02T03:04"
    assert failed(text).endswith('does not know what time is "now" here.')


def test_paths() -> None:
    """What a template reads of the event is known at load."""
    compiled = mapping.compile(
        {"@liquid": "{% assign a = b.c %}{{ a }}{{ d['e f'][g.h] }}{% if i contains j[0] %}{% endif %}"}
    )

    assert compiled.paths == {"b.c", "d.e f", "g.h", "i", "j.0"}


def test_inside_other_directives() -> None:
    """It reads what is there at its place, and nothing where that is no object."""
    source = {"@arrayPath": ["$.properties.tags", {"n": {"@liquid": "<{{ a }}>"}}]}
    assert mapping.compile(source).resolve(EVENT) == [{"n": "<>"}, {"n": "<>"}]
    applied = {"@transform": {"apply": {"k": {"@path": "$.event"}}, "mapping": {"@liquid": "{{ k }}{{ event }}"}}}
    assert mapping.compile(applied).resolve(EVENT) == "Order"


# --- at load


@pytest.mark.parametrize(
    ("value", "kind"), [(123, "a number"), ({}, "an object"), ([], "an array"), (True, "a boolean"), (None, "a null")]
)
def test_only_text(value: Any, kind: str) -> None:
    """In Segment's words."""
    assert refused(value) == f"/x/@liquid should be a string but it is {kind}."


def test_length() -> None:
    """A thousand characters."""
    assert rendered("a" * 1000) == "a" * 1000
    assert refused("a" * 1001) == "/x/@liquid liquid template values are limited to 1000 characters."


@pytest.mark.parametrize("tag", DISABLED_TAGS)
@pytest.mark.parametrize(
    "form", ["{{% {} %}}", "{{% if true %}}{{%- {} x -%}}{{% endif %}}", "{{% liquid\n {} x\n %}}"]
)
def test_disabled_tags(tag: str, form: str) -> None:
    """Wherever they stand."""
    assert f'tag "{tag}" is disabled' in refused(form.format(tag))


@pytest.mark.parametrize("name", DISABLED_FILTERS)
@pytest.mark.parametrize(
    "form",
    ["{{{{ a | {} }}}}", "{{% assign b = a | {}: 'x' %}}", "{{% if true %}}{{% echo a | upcase | {} %}}{{% endif %}}"],
)
def test_disabled_filters(name: str, form: str) -> None:
    """Wherever they stand."""
    assert refused(form.format(name)) == f'/x/@liquid filter "{name}" is disabled.'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{ a | nope }}", 'there is no filter "nope".'),
        ("{% nope %}", "unexpected tag 'nope' (at character 4)."),
        ("{{ a", "expected '}}', found end of file (at character 1)."),
        ("{% if %}{% endif %}", "(at character"),
        ("{% if a %}", "/x/@liquid expected"),
        ("{{" + "a[" * 400 + "}}", "/x/@liquid "),
        ("{% if a %}" * 40 + "{% endif %}" * 40, "block nesting limit reached"),
    ],
)
def test_refused(text: str, expected: str) -> None:
    """What cannot be read is refused at load with its place."""
    assert expected in refused(text)


# --- at run time

BIG = {
    "a": "x" * 60_000,
    "big": "y" * (MOST_TEXT + 1),
    "none": "",
    "angle": "<" * 60_000,
    "comment": "<!-->" * 12_000,
    "script": "<script>" * 8_000,
}


@pytest.mark.parametrize(
    "text",
    [
        "{{ a }}{{ a }}",
        "{{ a | append: a }}",
        "{{ a | replace: none, a }}",
        "{{ a | replace: 'x', a }}",
        "{{ a | split: none | join: a }}",
        "{{ big | upcase }}",
        "{{ 'a' | append: big }}",
        "{{ big }}",
        "{{ (1..99999999999) | join: 'x' }}",
        "{{ (1..99999999999) | first }}",
        "{% assign n = 999999 %}" + "{% assign n = n | times: n %}" * 30,
        "{% assign a = 'xxxxxxxxxx' %}" + "{% assign a = a | append: a %}" * 30,
        "{% assign a = 'xxxxxxxxxx' %}" + "{% capture a %}{{a}}{{a}}{% endcapture %}" * 22,
        "".join(f"{{% assign {name} = a | append: '{name}' %}}" for name in "bcdef"),
        "{{ 1 | date: a }}",
        "{{ a | date: '%Y' }}",
    ],
)
def test_nothing_grows_without_end(text: str) -> None:
    """Whatever would become too large fails, in one step and not after all of its steps."""
    compiled = mapping.compile({"@liquid": text})
    with pytest.raises(MappingFailed):
        compiled.resolve(BIG)


@pytest.mark.parametrize(
    "text",
    [
        "{{ angle | strip_html" + " | strip_html" * 70 + "}}",
        "{{ comment | strip_html" + " | strip_html" * 70 + "}}",
        "{{ script | strip_html }}" * 38,
        "{{ angle | squish | url_encode | truncatewords: 5, a | size }}",
        "{% assign b = a | split: '' %}" + "{% if b contains 'q' %}{% endif %}" * 28,
        "{{ a" + " | capitalize | upcase | downcase" * 28 + "}}",
    ],
)
def test_the_slowest_that_fits(text: str) -> None:
    """A template full of work on the largest values comes to an end: it is done, or refused for its size."""
    compiled = mapping.compile({"@liquid": text})
    try:
        compiled.resolve(BIG)
    except MappingFailed as found:
        assert "longer than" in str(found)  # noqa: PT017 - it may also succeed


@pytest.mark.parametrize(
    "text",
    [
        "{{ properties.secret | divided_by: 0 }}",
        "{{ 5 | divided_by: properties.secret }}",
        "{{ 5 | plus: properties.secret | at_most }}",
        "{{ properties.secret | truncate: properties.secret }}",
        "{{ properties.secret | base64_decode }}",
        "{{ properties.secret | slice: properties.secret }}",
        "{% break %}",
    ],
)
def test_failures_say_nothing_of_the_event(text: str) -> None:
    """The place, and the kind of the problem."""
    found = failed(text)

    assert found.startswith("/x/@liquid could not be rendered (")
    assert "example.com" not in found


PARTS = st.sampled_from(
    [
        "{{",
        "}}",
        "{%",
        "%}",
        " if ",
        "endif",
        " a ",
        "|",
        "upcase",
        "replace: ",
        "'x'",
        ",",
        "(1..9)",
        "assign b=",
        "-",
        "[",
        "]",
        "\n",
    ]
)


@few
@given(
    st.lists(PARTS | st.text(max_size=3), max_size=20).map("".join),
    st.dictionaries(st.just("a"), st.text() | st.floats()),
)
def test_any_text_is_a_template_or_refused(text: str, event: dict[str, Any]) -> None:
    """No template raises anything but a refusal at load, nor anything but a failure later."""
    try:
        found = mapping.compile({"@liquid": text}).resolve(event)
    except (MappingRefused, MappingFailed) as error:
        found = str(error)
    assert isinstance(found, str)
