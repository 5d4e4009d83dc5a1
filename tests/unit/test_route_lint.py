"""Warnings about valid routes that cannot be meant so: never one too many."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from builders import REPOSITORY, SAMPLES, envelope
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from cli.main import main
from config.yaml_file import read
from tasks import trigger
from tasks.envelope import Envelope
from tasks.route_lint import ENOUGH_EVENTS, contradiction, has, warnings
from tasks.routing import load


def warned(folder: Path, routes: str, stored: Sequence[Envelope] = ()) -> list[str]:
    path = folder / "routes.yaml"
    path.write_text(f"version: 1\nroutes:\n{routes}")
    sources = ["encharge", "shop"]
    return [each.removeprefix(f"{path}:") for each in warnings(read(path), load(path, sources), sources, stored)]


def events(count: int = ENOUGH_EVENTS, **changes: Any) -> list[Envelope]:
    return [envelope(id=f"e{number}", **changes) for number in range(count)]


def route(name: str, trigger_text: str = "", **more: str) -> str:
    lines = {
        "name": name,
        "trigger": f"'{trigger_text}'",
        "action": "tag_user",
        "mapping": "{email: a, tag: b}",
        **more,
    }
    given = [f"{key}: {value}" for key, value in lines.items() if trigger_text or key != "trigger"]
    return "".join(f"  {' ' if number else '-'} {line}\n" for number, line in enumerate(given))


# --- never true ------------------------------------------------------------------------------------------------------

NEVER = [
    'type = "track" and type = "page"',
    'type = "track" and event = "a" and type = "page"',
    'type = "track" and type != "track"',
    'event = "a" and match(event, "b*")',
    'event = "a" and contains(event, "b")',
    'event = "a" and !contains(event, "a")',
    'event = "a" and event = null',
    "properties.n = 1 and properties.n = 2",
    "properties.n = 1 and properties.n > 1",
    'properties.n = 1 and properties.n = "1"',
    "properties.n = true and properties.n = 1",
    '\\user.plan = "a" and \\user.plan in ["b", "c"]',
    '\\a = "b" and lowercase(\\a) = "c"',
    '(type = "track" and type = "page") or (event = "a" and event = "b")',
    'type = "track" and (type = "page" or type = "screen")',
    'type = "track" and (type = "page" or (event = "a" and event = "b"))',
]
PERHAPS = [
    'type = "track"',
    'type = "track" or type = "page"',
    'type = "track" and event = "track"',
    'type = "track" and type = "track"',
    'type = "track" and (type = "page" or type = "track")',
    'type = "track" and (type = "page" or event = "a")',
    "properties.n = 1 and properties.n = 1.0",
    "properties.n = 1 and properties.n <= 1",
    'event != "a" and event != "b"',
    'event = "a" and match(event, "*a")',
    'event = "a" and properties.event = "b"',
    'type = 5 and type = "5"',
    'name = null and name = null and name != "a"',
    "properties.n > 5 and properties.n < 3",  # never true, and beyond this simple look
    '\\a = "b" and \\a in \\list',
]


@pytest.mark.parametrize("text", NEVER)
def test_never_true(text: str) -> None:
    """One value excludes what another condition asks of the same field."""
    assert contradiction(trigger.parse(text).condition)


@pytest.mark.parametrize("text", PERHAPS)
def test_perhaps_true(text: str) -> None:
    """No warning where an event might do, or where only more than a simple look would tell."""
    assert contradiction(trigger.parse(text).condition) is None


LEAVES = st.sampled_from(
    [
        '\\a = "x"', '\\a = "y"', "\\a = 1", "\\a = null", "\\a = true", '\\a != "x"', "\\a != null", "\\a > 0",
        "\\a <= 0", '\\a in ["x", 1]', "\\a in \\b", 'contains(\\a, "x")', '!contains(\\a, "x")', 'match(\\a, "y*")',
        "bool(\\a)", "!bool(\\a)", '\\b = "x"', "\\b = 1", '\\b.c = "x"', "\\b.c = null", 'typeof(\\a) = "number"',
        "length(\\a) = 1", 'string(\\a) = "1"', "number(\\a) = 1", "\\b.\\0 = 1", "\\b.length = 2",
    ]
)  # fmt: skip
CONDITIONS = st.recursive(
    LEAVES,
    lambda inner: st.tuples(st.sampled_from([" and ", " or "]), st.lists(inner, min_size=2, max_size=3)).map(
        lambda joined: "(" + joined[0].join(joined[1]) + ")"
    ),
    max_leaves=6,
)
VALUES = st.sampled_from([None, "x", "y", "1", "", 1, 1.0, 2, True, False, [], [1, "x"], {}, {"c": "x"}, {"c": None}])


@given(CONDITIONS, st.dictionaries(st.sampled_from(["a", "b"]), VALUES))
def test_no_false_alarm(text: str, event: dict[str, Any]) -> None:
    """What is said to be never true is true for no event."""
    asked = trigger.parse(text)

    if contradiction(asked.condition):
        assert not asked.matches(event)


def test_the_warning_names_the_place(tmp_path: Path) -> None:
    """File, line, key and both conditions; a route that is switched off is not looked at."""
    text = 'type = "track" and type = "page"'

    assert warned(tmp_path, route("one") + route("two", text)) == [
        '7: routes.1.trigger: can never be true: type = "track" and type = "page" exclude each other'
    ]
    assert warned(tmp_path, route("two", text, enabled="false")) == []


# --- repeated --------------------------------------------------------------------------------------------------------


def test_repeated(tmp_path: Path) -> None:
    """The same source, trigger, action and mapping, however they are spelled."""
    first = route("one", 'type = "track"', source="[shop, encharge]")
    second = route("two", '(type   =   "track")', source="[encharge, shop]", mapping="{tag: b, email: a}")

    assert warned(tmp_path, first + second) == [
        "8: routes.1.name: does the same as the earlier route one: everything is done twice"
    ]


@pytest.mark.parametrize(
    "changed",
    [
        {"source": "shop"},
        {"trigger": "'type = \"page\"'"},
        {"action": "untag_user"},
        {"mapping": "{email: a, tag: c}"},
        {"enabled": "false"},
    ],
)
def test_not_repeated(tmp_path: Path, changed: dict[str, str]) -> None:
    """Anything else makes another route of it."""
    assert warned(tmp_path, route("one", 'type = "track"') + route("two", 'type = "track"', **changed)) == []


# --- fields that no event has had ------------------------------------------------------------------------------------


def test_unknown_fields(tmp_path: Path) -> None:
    """Those of trigger and mapping that none of the stored events of the source has."""
    mapping = '{email: {"@path": $.user.emial}, tag: {"@template": "{{user.id}} {{envelope.type}} {{properties.x.y}}"}}'
    text = route("one", '\\user.plan = "a" and \\user.email != null', source="encharge", mapping=mapping)

    assert warned(tmp_path, text, events()) == [
        "4: routes.0.trigger: none of the last 20 events has user.plan",
        "6: routes.0.mapping: none of the last 20 events has properties.x.y, user.emial",
    ]
    one_has_all = {"user": {"emial": None, "plan": None, "email": "a"}, "properties": {"x": {"y": 0}}}
    assert warned(tmp_path, text, [*events(), envelope(event=one_has_all)]) == []


def test_presets_and_defaults_are_nobodys_slip(tmp_path: Path) -> None:
    """Of a route that begins with Segment's defaults only what is written out is looked at."""
    text = route("one", source="encharge", defaults="segment", mapping='{tag: {"@path": $.properties.tga}}')
    path = tmp_path / "routes.yaml"
    path.write_text(f"version: 1\npresets: segment\nroutes:\n  - name: segment-page\n    source: encharge\n{text}")
    found = warnings(read(path), load(path, ["encharge"]), ["encharge"], events(type="page"))

    assert [each.rpartition(" has ")[2] for each in found] == ["type", "properties.tga"]


def test_too_few_events_say_nothing(tmp_path: Path) -> None:
    """Below the number, and of a route's sources as long as one has too few."""
    trigger_text = '\\user.plan = "a"'
    ours = route("one", trigger_text, source="encharge")
    everybody = route("one", trigger_text)

    assert warned(tmp_path, ours, events(ENOUGH_EVENTS - 1)) == []
    assert warned(tmp_path, ours, events(source="shop")) == []
    assert warned(tmp_path, everybody, events()) == []
    assert len(warned(tmp_path, everybody, [*events(), *events(source="shop")])) == 1
    assert warned(tmp_path, everybody, [*events(), *events(source="shop", event={"user": {"plan": 1}})]) == []


@pytest.mark.parametrize(
    ("path", "there"),
    [
        ("a", True),
        ("a.b", True),
        ("a.c", False),
        ("list", True),
        ("list[].b", True),
        ("list[].c", False),
        ("list.1.b", True),
        ("list.2", False),
        ("none", True),
        ("b[].c", False),
        ("a[].b", True),
    ],
)
def test_has(path: str, there: bool) -> None:
    """As mappings read: elements of lists by number, each of them with [], an object as a list of one."""
    event = {"a": {"b": None}, "list": [{"a": 1}, {"b": 1}], "none": None}

    assert has(event, tuple(path.split("."))) == there


# --- the file that comes with it, and the command --------------------------------------------------------------------


def test_events_of_the_format_that_is_asked_for(tmp_path: Path) -> None:
    """What only events of another format lack is no slip; nor are the fields that we add to some."""
    asked = route("one", 'envelope.format = "activity_sync" and \\data.endpoint != null', source="encharge")
    ours = route("one", "message.url != null and envelope.person.userId != null", source="encharge")
    theirs = [envelope(format="activity_sync", event={"data": {"endPoint": "x"}})]

    assert warned(tmp_path, asked, events()) == []
    assert [each.partition(" has ")[2] for each in warned(tmp_path, asked, [*events(), *theirs])] == ["data.endpoint"]
    assert warned(tmp_path, ours, events()) == []
    assert len(warned(tmp_path, ours.replace("message.url", "message.link"), events())) == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('message.state = "open"', 'message.state is never "open"; it is one of queued, sent, delivered, opened'),
        ('message.state in ["opened", "click"]', 'message.state is never "click"; it is one of queued'),
        ('event = "x" and message.channel != "mail"', 'message.channel is never "mail"; it is one of email, sms, push'),
        ('message.state = "opened" or message.channel = null', None),
        ('properties.message.state = "open"', None),
    ],
)
def test_words_that_there_are_not(text: str, says: str | None, tmp_path: Path) -> None:
    """A state that is spelled otherwise would never be there."""
    found = warned(tmp_path, route("one", text))

    assert [each for each in found if "is never" in each] == found
    assert (says is None) == (not found)
    assert says is None or says in found[0]


def test_the_default_routes_are_clean() -> None:
    """No warning, even with one stored event of every kind."""
    path = REPOSITORY / "config/routes.yaml"
    names = ("firstName", "lastName", "name", "company", "title", "phone", "website", "country")
    form = {"event": "form-submitted", "properties": {"form": dict.fromkeys(names, "x")}}
    stored = [envelope(event=event, type=event["event"]) for event in [*SAMPLES, form]]

    assert len(stored) > ENOUGH_EVENTS
    assert warnings(read(path), load(path, ["encharge"]), ["encharge"], stored) == []


def test_check_shows_warnings(tmp_path: Path) -> None:
    """They change nothing about the status, and are there for programs too."""
    (tmp_path / "routes.yaml").write_text("version: 1\nroutes:\n" + route("one") + route("two"))
    environ = {
        "ROUTES_FILE": str(tmp_path / "routes.yaml"),
        "ENCHARGE_WEBHOOK_SECRET": "secret",
        "ENCHARGE_WRITE_KEY": "key",
    }
    people = CliRunner().invoke(main, ["check", "--offline"], env=environ)
    programs = CliRunner().invoke(main, ["check", "--offline", "--json"], env=environ)

    assert (people.exit_code, programs.exit_code) == (0, 0)
    assert "\nwarnings:\n  " in people.stdout
    assert "no problems found" in people.stdout
    assert '"problems": []' in programs.stdout
    assert "does the same as the earlier route one" in programs.stdout
