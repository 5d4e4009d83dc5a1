"""A Segment export becomes a routes file."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from builders import envelope
from click.testing import CliRunner, Result
from hypothesis import example, given
from hypothesis import strategies as st

from cli.main import main
from config.yaml_file import read
from tasks import routing
from tasks.action import Request
from tasks.importing import NoExport, imported, routes_file, subscriptions

TRACK: dict[str, Any] = {
    "name": "Track Event",
    "partnerAction": "trackEvent",
    "trigger": 'type = "track"',
    "mapping": {"event": {"@path": "$.event"}, "properties": {"@path": "$.properties"}},
    "enabled": True,
}
#: As the Public API lists them.
LISTED: dict[str, Any] = {
    "id": "abc",
    "name": "Tag the paying",
    "actionId": "def",
    "actionSlug": "addTag",
    "trigger": 'type = "track" and event = "Plan: Upgraded #1"',
    "settings": {"tag": "paying", "email": {"@path": "$.properties.email"}},
    "enabled": False,
}


def route_of(entry: dict[str, Any], source: str | None = None) -> dict[str, Any]:
    (found,) = imported([entry], source)
    assert found.problems == ()
    return dict(found.route)


def problems_of(entry: Any) -> str:
    (found,) = imported([entry], None)
    return "\n".join(found.problems)


def run(export: Any, *args: str) -> Result:
    text = export if isinstance(export, str) else json.dumps(export)
    return CliRunner().invoke(main, ["import", "segment", "-", *args], input=text)


def test_a_subscription() -> None:
    """Trigger and mapping as they are, in Segment's form; required fields that it leaves out by Segment's defaults."""
    assert list(route_of(TRACK).items()) == [
        ("name", "track-event"),
        ("trigger", 'type = "track"'),
        ("action", "track_event"),
        ("defaults", "segment"),
        ("mapping", {**TRACK["mapping"], "form": "segment"}),
    ]


def test_as_the_public_api_lists_it() -> None:
    """Under its other names; a tag goes through the REST API, as with Segment; switched off stays so."""
    assert route_of(LISTED, "segment") == {
        "name": "tag-the-paying",
        "source": "segment",
        "trigger": LISTED["trigger"],
        "action": "tag_user",
        "mapping": {**LISTED["settings"], "via": "api"},
        "enabled": False,
    }


@pytest.mark.parametrize(
    ("slug", "action"),
    [
        ("trackEvent", "track_event"),
        ("identifyUser", "identify_user"),
        ("trackPageView", "track_page"),
        ("aliasUser", "alias_user"),
        ("createUpdateObject", "upsert_object"),
        ("addTag", "tag_user"),
        ("removeTag", "untag_user"),
    ],
)
def test_every_action(slug: str, action: str) -> None:
    """Each action of the destination has ours."""
    assert route_of({**TRACK, "partnerAction": slug, "mapping": {}})["action"] == action


def test_a_mapping_as_text() -> None:
    """Some clients keep it so."""
    assert route_of({**TRACK, "mapping": json.dumps(TRACK["mapping"])}) == route_of(TRACK)
    assert route_of({**TRACK, "mapping": None})["mapping"] == {"form": "segment"}


@pytest.mark.parametrize(
    ("titles", "names"),
    [
        (["Track Event", "track  event!", "Track-Event"], ["track-event", "track-event-2", "track-event-3"]),
        (["Ünïcode / odd\nname", "日本語", ""], ["unicode-odd-name", "route", "trackevent"]),
        (["x" * 70, "x" * 80], ["x" * 64, "x" * 62 + "-2"]),
        (["a", "a-2", "a"], ["a", "a-2", "a-3"]),
    ],
)
def test_names(titles: list[str], names: list[str]) -> None:
    """Safe for routes, and each only once."""
    assert [each.route["name"] for each in imported([{**TRACK, "name": title} for title in titles], None)] == names


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({**TRACK, "trigger": 'type = "track" and event = "a" or event = "b"'}, "trigger: line 1, column 32"),
        ({**TRACK, "trigger": None}, "trigger: a trigger is text"),
        ({**TRACK, "partnerAction": "deleteUser"}, "no action deleteUser here; there are: trackEvent"),
        ({**TRACK, "mapping": {"a": {"@pth": "x"}}}, "mapping: /a has an invalid directive: @pth."),
        ({**TRACK, "mapping": {"batch_size": 5}}, "mapping: track_event has no field batch_size"),
        ({**TRACK, "mapping": "no JSON"}, "the mapping is no object"),
        ({}, "the subscription names no action"),
        (5, "the subscription names no action"),
    ],
)
def test_what_needs_a_hand(entry: Any, problem: str) -> None:
    """Each reason is told."""
    assert problem in problems_of(entry)


def test_the_file(tmp_path: Path) -> None:
    """Good routes stand there, others are comments that become routes when the signs are taken away."""
    wrong = {**TRACK, "name": "Two\nlines", "trigger": "type = 'track'"}
    text = routes_file(imported([TRACK, wrong, LISTED], None))

    assert [route["name"] for route in yaml.safe_load(text)["routes"]] == ["track-event", "tag-the-paying"]
    assert "  # Two lines NEEDS A HAND:\n  #   trigger: line 1, column 8: " in text
    commented = text[text.index("  # - name: two-lines") :].split("\n\n")[0]
    (route,) = yaml.safe_load(commented.replace("  # ", "  "))
    assert route == {**route_of(TRACK), "name": "two-lines", "trigger": "type = 'track'"}
    (tmp_path / "routes.yaml").write_text(text)
    assert read(tmp_path / "routes.yaml").data["version"] == 1
    assert yaml.safe_load(routes_file(imported([wrong], None)))["routes"] == []


def test_what_was_imported_is_loaded(tmp_path: Path) -> None:
    """The router takes the file as it is."""
    slugs = ("trackEvent", "identifyUser", "trackPageView", "aliasUser", "createUpdateObject", "addTag", "removeTag")
    mapping = {"userId": {"@path": "$.userId"}}
    every = [{**TRACK, "partnerAction": slug, "mapping": mapping} for slug in slugs]
    every[-2:] = [{**each, "mapping": {**mapping, "tag": "a"}} for each in every[-2:]]
    (tmp_path / "routes.yaml").write_text(routes_file(imported([*every, LISTED], "segment")))

    loaded = routing.load(tmp_path / "routes.yaml", ["segment"])
    assert [route.does for route in loaded.routes] == [route_of(each)["action"] for each in every]
    event = {"type": "track", "event": "A", "userId": "1", "previousId": "2", "groupId": "3"}
    envelope_ = envelope(format="segment", source="segment", event=event)
    found = {route.does: route.requests(envelope_) for route in loaded.routes}
    assert found["tag_user"] == (Request("encharge_api", "POST", "/tags", {"tag": "a", "userId": "1"}),)
    assert all(found.values())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
ENTRIES = st.fixed_dictionaries(
    {},
    optional={
        "name": JSON,
        "partnerAction": st.sampled_from(["trackEvent", "addTag"]) | JSON,
        "trigger": st.just('type = "track"') | st.text(),
        "mapping": JSON,
        "enabled": st.booleans(),
    },
)


@given(st.lists(ENTRIES, max_size=4))
@example([{**TRACK, "mapping": {"event": "\u2028"}}, {**TRACK, "mapping": {"\x85": "\u2028"}, "trigger": "\u2029"}])
def test_any_export_gives_yaml(entries: list[Any]) -> None:
    """Whatever stands in it, the file parses, and its routes are those that were said to be imported."""
    found = imported(entries, None)

    assert yaml.safe_load(routes_file(found))["routes"] == [each.route for each in found if not each.problems]


@pytest.mark.parametrize("data", [[TRACK], {"data": {"subscriptions": [TRACK]}}, {"subscriptions": [TRACK]}])
def test_shapes_of_an_export(data: Any) -> None:
    """Bare, or as the Public API answers."""
    assert subscriptions(data) == [TRACK]


@pytest.mark.parametrize("data", [5, {}, {"data": {}}, {"data": {"subscriptions": {}}}])
def test_no_export(data: Any) -> None:
    """Refused, with what was looked for."""
    with pytest.raises(NoExport):
        subscriptions(data)
    done = run(data)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "neither a list of subscriptions" in done.stderr


def test_the_command() -> None:
    """The file on stdout, the report beside it, status 1 when something needs a hand."""
    done = run([TRACK, LISTED], "--source", "segment")
    assert done.exit_code == 0
    assert [route["source"] for route in yaml.safe_load(done.stdout)["routes"]] == ["segment", "segment"]
    assert "2 imported, 0 need a hand" in done.stderr

    done = run([TRACK, {**LISTED, "trigger": "type ="}])
    assert done.exit_code == 1
    assert "tag-the-paying: trigger: line 1" in done.stderr
    assert "1 imported, 1 need a hand" in done.stderr
    assert run("{broken").exit_code == run("[" * 100_000).exit_code == 2


def test_output(tmp_path: Path) -> None:
    """A new file; one that has something in it is left alone."""
    path = tmp_path / "imported.yaml"

    assert run([TRACK], "--output", str(path)).exit_code == 0
    assert run([LISTED], "--output", str(path)).exit_code == 2
    assert [route["name"] for route in yaml.safe_load(path.read_text())["routes"]] == ["track-event"]
