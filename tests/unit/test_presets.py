"""Segment's presets and defaults in a routes file, and events that are not for Encharge."""

import json
from pathlib import Path
from typing import Any

import pytest
from builders import EMAIL, REPOSITORY, envelope
from click.testing import CliRunner

from cli.check import check
from config.problems import ConfigurationRefused
from tasks.actions import ACTIONS
from tasks.actions.segment import DEFINITIONS
from tasks.envelope import Envelope
from tasks.integrations import excluded
from tasks.routing import Routes, load

PRESETS = ["segment-track", "segment-identify", "segment-page", "segment-alias", "segment-group"]
FIELDS = ACTIONS["track_event"].fields
ON = "version: 1\npresets: segment\n"


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "routes.yaml"
    path.write_text(text)
    return path


def routes(tmp_path: Path, text: str) -> Routes:
    return load(write(tmp_path, text), ["site", "shop"])


def problems(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(ConfigurationRefused) as caught:
        routes(tmp_path, text)
    return [problem.removeprefix(f"{tmp_path}/") for problem in caught.value.problems]


def call(type_: str = "track", source: str = "site", format_: str = "segment", **event: Any) -> Envelope:
    """An event as a Segment source takes it in."""
    said = {"type": type_, "event": "Order", "userId": "u1", **event}
    return envelope(source=source, format=format_, type=type_, name="Order", event=said)


def names(found: Routes, event: Envelope) -> list[str]:
    return [route.name for route in found.match(event)]


def body(found: Routes, event: Envelope) -> Any:
    """What the only route that takes the event sends."""
    (route,) = found.match(event)
    (request,) = route.requests(event)
    return request.body


# --- presets


def test_one_line_switches_five_routes_on(tmp_path: Path) -> None:
    """Each call has its route, screen and delete have none, and other formats are nobody's."""
    found = routes(tmp_path, ON)

    assert [route.name for route in found.routes] == PRESETS
    for name, type_ in zip(PRESETS, ["track", "identify", "page", "alias", "group"], strict=True):
        assert names(found, call(type_)) == [name]
    assert names(found, call("screen")) == names(found, call("delete")) == []
    assert names(found, call(format_="encharge")) == []


def test_presets_have_segments_triggers_and_actions(tmp_path: Path) -> None:
    """What is switched on is what stands in the table of Segment's actions."""
    found = routes(tmp_path, ON)

    assert {route.does: str(route.trigger) for route in found.routes} == {
        name: definition.trigger for name, definition in DEFINITIONS.items() if definition.trigger
    }


def test_what_a_preset_sends(tmp_path: Path) -> None:
    """Segment's body, with the name that the Ingest API asks for."""
    assert body(routes(tmp_path, ON), call(properties={"total": 1})) == {
        "name": "Order",
        "event": "Order",
        "properties": {"total": 1},
        "type": "track",
        "userId": "u1",
        "context": {"campaign": {}, "page": {}, "location": {}},
        "user": {"userId": "u1"},
    }


def test_presets_for_some_sources(tmp_path: Path) -> None:
    """Named sources take the place of the format."""
    found = routes(tmp_path, "version: 1\npresets: {segment: [shop]}\n")

    assert names(found, call(source="shop")) == names(found, call(source="shop", format_="other")) == ["segment-track"]
    assert names(found, call(source="site")) == []


def test_a_route_overrides_single_fields_of_a_preset(tmp_path: Path) -> None:
    """The rest stays the preset's; switched off, it is gone; a null takes a field away."""
    text = """\
routes:
  - name: segment-track
    trigger: type = "track" and event != "Noise"
    mapping:
      event: {"@template": "Shop {{event}}"}
      campaign: null
  - name: segment-page
    enabled: false
  - name: segment-group
    source: shop
"""
    found = routes(tmp_path, ON + text)

    assert names(found, call("page")) == names(found, call(event="Noise")) == names(found, call("group")) == []
    assert names(found, call("group", source="shop")) == ["segment-group"]
    assert names(found, call(format_="encharge")) == []
    sent = body(found, call())
    assert sent["name"] == sent["event"] == "Shop Order"
    assert sent["context"] == {"page": {}, "location": {}}


def test_a_directive_gives_all_fields_of_a_preset(tmp_path: Path) -> None:
    """Nothing is mixed into it."""
    text = 'routes: [{name: segment-track, mapping: {"@path": $.fields}}]\n'

    assert body(routes(tmp_path, ON + text), call(fields={"event": "Other", "email": EMAIL})) == {
        "name": "Other",
        "user": {"email": EMAIL},
    }


def test_names_of_presets_are_free_without_them(tmp_path: Path) -> None:
    """Then such a route is one like any other."""
    text = "version: 1\nroutes: [{name: segment-track, action: tag_user, mapping: {tag: x}}]\n"

    assert names(routes(tmp_path, text), call(format_="encharge")) == ["segment-track"]


def test_problems_of_presets(tmp_path: Path) -> None:
    """Each with file, line and key."""
    text = """\
routes:
  - name: segment-track
    action: tag_user
    mapping: {tag: x}
  - name: segment-page
    handler: a:b
  - name: segment-identify
    mapping: {usr: 1}
  - name: segment-alias
    trigger: type =
"""
    found = problems(tmp_path, ON + text)

    starts = [
        "routes.yaml:4: routes.0: the preset of this name does track_event",
        "routes.yaml:7: routes.1: the preset of this name does track_page",
        "routes.yaml:10: routes.2.mapping.usr: identify_user has no field usr",
        "routes.yaml:12: routes.3.trigger: ",
    ]
    assert [problem[: len(start)] for problem, start in zip(found[:2], starts, strict=False)] == starts[:2]
    fixed = ON + text.replace("    action: tag_user\n    mapping: {tag: x}\n", "").replace("    handler: a:b\n", "")
    assert len(problems(tmp_path, fixed)) == 2


@pytest.mark.parametrize("value", ["encharge", "5", "[segment]", "{segment: []}", "{segment: site}", "{other: [site]}"])
def test_other_presets(tmp_path: Path, value: str) -> None:
    """There is one set of presets."""
    (found, *_) = problems(tmp_path, f"version: 1\nroutes: []\npresets: {value}\n")

    assert found == "routes.yaml:3: presets: must be segment, or segment with a list of sources"


def test_presets_for_an_unknown_source(tmp_path: Path) -> None:
    """Said once, not for each of the five."""
    assert problems(tmp_path, "version: 1\npresets: {segment: [nobody]}\n") == [
        "routes.yaml:2: presets.segment.source: no source of the name nobody in the sources file, and no publisher"
    ]


# --- defaults and forms


def test_defaults_leave_only_what_differs(tmp_path: Path) -> None:
    """A tag of one's own, the rest as Segment has it."""
    text = "version: 1\nroutes: [{name: a, action: tag_user, defaults: segment, mapping: {tag: vip}}]\n"
    (route,) = routes(tmp_path, text).routes
    (request,) = route.requests(call(anonymousId="a1"))

    assert (request.destination, request.path) == ("encharge_api", "/tags")
    assert request.body == {"tag": "vip", "userId": "u1", "segmentAnonymousId": "a1"}


def test_defaults_alone(tmp_path: Path) -> None:
    """A route may differ in nothing but its trigger."""
    text = 'version: 1\nroutes: [{name: a, action: track_event, defaults: segment, trigger: event = "Order"}]\n'

    assert body(routes(tmp_path, text), call())["event"] == "Order"


def test_problems_of_defaults(tmp_path: Path) -> None:
    """For Segment's actions only, and only Segment's."""
    text = """\
version: 1
routes:
  - {name: a, action: archive_user, defaults: segment, mapping: {email: x}}
  - {name: b, action: tag_user, defaults: mine, mapping: {tag: x}}
  - {name: c, handler: "a:b", defaults: segment}
"""
    assert [problem.partition(";")[0] for problem in problems(tmp_path, text)] == [
        f"routes.yaml:3: routes.0: Segment has no defaults for archive_user, only for {', '.join(DEFINITIONS)}",
        "routes.yaml:4: routes.1.defaults: Must be segment.",
        "routes.yaml:5: routes.2.defaults: A handler takes the whole event, not a mapping.",
    ]


def test_the_form_follows_from_the_mapping(tmp_path: Path) -> None:
    """A mapping that names what only Segment has is in Segment's form, also where an event lacks it."""
    text = """\
version: 1
routes:
  - name: a
    action: alias_user
    mapping: {userId: {"@path": $.userId}, previousUserId: {"@path": $.previousId}, messageId: {"@path": $.messageId}}
"""
    assert body(routes(tmp_path, text), call("alias", previousId="u0"))["userId"] == "u1"


def test_a_root_directive_of_segment(tmp_path: Path) -> None:
    """A mapping moved from Segment may stand under its wrapper; the other keys are the action's fields."""
    text = """\
version: 1
routes:
  - name: a
    action: track_event
    mapping:
      __segment_internal_directive: {"@transform": {"apply": {"e": {"@path": $.event}}}}
      event: {"@path": $.e}
      email: someone@example.com
"""
    assert body(routes(tmp_path, text), call())["name"] == "Order"
    assert problems(tmp_path, text.replace("      event:", "      evnt:")) == [
        f"routes.yaml:7: routes.0.mapping.evnt: track_event has no field evnt; it has: {', '.join(FIELDS)}",
        "routes.yaml:5: routes.0.mapping: track_event needs the field event",
    ]


def test_problems_of_segments_form(tmp_path: Path) -> None:
    """What Segment requires has to be there at load."""
    text = """\
version: 1
routes:
  - {name: a, action: track_event, mapping: {event: x, groupId: y}}
  - {name: b, action: tag_user, mapping: {tag: x, via: mail}}
  - {name: c, action: upsert_object, mapping: {objectType: x, form: other}}
"""
    assert problems(tmp_path, text) == [
        "routes.yaml:3: routes.0.mapping: track_event needs the field type",
        "routes.yaml:4: routes.1.mapping.via: must be ingest or api",
        "routes.yaml:5: routes.2.mapping.form: must be segment",
    ]


# --- how many


def many(count: int) -> str:
    return "version: 1\nroutes:\n" + "".join(
        f"  - {{name: r{index}, action: tag_user, mapping: {{tag: x}}}}\n" for index in range(count)
    )


def test_many_routes_are_a_warning(tmp_path: Path) -> None:
    """As many as Segment allows are fine, one more is still taken."""
    assert routes(tmp_path, many(50)).warnings == ()
    found = routes(tmp_path, many(51))
    assert len(found.routes) == 51
    assert [warning.removeprefix(f"{tmp_path}/") for warning in found.warnings] == [
        "routes.yaml:2: routes: 51 routes go to encharge; Segment allows 50 for one destination"
    ]


def test_check_shows_warnings(tmp_path: Path) -> None:
    """The command says so, and ends well."""
    environ = {
        "ROUTES_FILE": str(write(tmp_path, many(51))),
        "SOURCES_FILE": str(REPOSITORY / "config/sources.yaml"),
        "ENCHARGE_WRITE_KEY": "key",
        "ENCHARGE_WEBHOOK_SECRET": "a-secret-of-some-length",
    }
    done = CliRunner().invoke(check, ["--offline"], obj=environ)
    as_json = CliRunner().invoke(check, ["--offline", "--json"], obj=environ)

    assert (done.exit_code, as_json.exit_code) == (0, 0)
    assert "routes: 51 routes go to encharge" in done.stdout
    assert "routes: 51 routes go to encharge" in json.loads(as_json.stdout)["warnings"][0]


# --- whom an event is for


@pytest.mark.parametrize(
    ("chosen", "out"),
    [
        ({}, False),
        (None, False),
        ("no", False),
        ({"All": True}, False),
        ({"All": False}, True),
        ({"All": False, "Encharge": True}, False),
        ({"All": False, "Encharge (Actions)": True}, False),
        ({"All": False, "Encharge": {"option": 1}}, False),
        ({"All": False, "Encharge": {}}, False),
        ({"All": False, "Other": True}, True),
        ({"Encharge": False}, True),
        ({"Encharge (Actions)": False}, True),
        ({"All": True, "Encharge": False}, True),
        ({"Encharge": True, "Encharge (Actions)": False}, True),
        ({"Other": False}, False),
    ],
)
def test_integrations(tmp_path: Path, chosen: Any, out: bool) -> None:
    """An event that names its receivers goes along no route to others."""
    event = call(integrations=chosen)

    assert excluded(event, "encharge") is out
    assert names(routes(tmp_path, ON), event) == ([] if out else ["segment-track"])


def test_integrations_are_segments(tmp_path: Path) -> None:
    """Other senders may have a field of this name; a handler is not Encharge."""
    text = "version: 1\nroutes: [{name: own, handler: 'json:dumps'}, {name: a, action: tag_user, mapping: {tag: x}}]\n"
    found = routes(tmp_path, text)

    assert names(found, call(format_="encharge", integrations={"All": False})) == ["own", "a"]
    assert names(found, call(integrations={"All": False})) == ["own"]
    assert not excluded(call(integrations={"Encharge": False}), "other")
