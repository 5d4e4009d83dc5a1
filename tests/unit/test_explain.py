"""What would happen to an event, without doing it: outcomes, differences, and the command that reads events."""

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from builders import EMAIL, SAMPLES, envelope, envelope_data
from click.testing import CliRunner, Result

from app.sources import KINDS
from cli import incoming_events
from cli.main import main
from config.settings import load as settings_of
from tasks import trigger
from tasks.action import Request
from tasks.destinations import destinations
from tasks.explaining import Explainer, Outcome, as_json, changes, failing
from tasks.routing import load

ROUTES = """version: 1
routes:
  - name: created
    source: encharge
    trigger: event = "newUser"
    action: tag_user
    mapping: {email: {"@path": $.user.email}, tag: new}
  - name: shop-only
    source: shop
    action: tag_user
    mapping: {email: {"@path": $.user.email}, tag: shop}
  - name: tagged
    trigger: match(event, "added-tag-*")
    action: tag_user
    mapping: {email: {"@path": $.user.email}, tag: {"@path": $.properties.tag}}
"""
NEW = {"event": "newUser", "user": {"id": "1", "email": EMAIL}, "properties": {}, "timestamp": 1562914373005}
TAGGED = {**NEW, "event": "added-tag-vip", "properties": {"tag": "vip"}}
REQUEST = {
    "method": "POST",
    "url": "https://ingest.encharge.io/v1/",
    "headers": {
        "X-Encharge-Token": "(the key)",
        "Accept": "application/json",
        "User-Agent": "event-router",
        "Content-Type": "application/json",
    },
    "body": {"name": "identify", "user": {"email": EMAIL, "tags": "new"}},
}
SOURCES = """version: 1
sources:
  encharge: {kind: encharge, secrets: [NOT_SET]}
  shop: {kind: encharge, secrets: [NOT_SET]}
  site: {kind: segment, write_keys: {web: NOT_SET}}
  hook: {kind: segment_webhook, secrets: [NOT_SET]}
"""
PRESETS = "version: 1\npresets: segment\n"


def write(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def explainer(folder: Path, text: str = ROUTES) -> Explainer:
    return Explainer(load(Path(write(folder, "routes.yaml", text))), destinations(settings_of({})))


def run(folder: Path, *args: str, routes: str = ROUTES, stdin: str = "", **environ: str) -> Result:
    files = {
        "ROUTES_FILE": write(folder, "routes.yaml", routes),
        "SOURCES_FILE": write(folder, "sources.yaml", SOURCES),
    }
    return CliRunner().invoke(main, ["explain", *args], input=stdin, env={**files, "REDIS_URL": "", **environ})


def explained(folder: Path, events: Any, *args: str, **more: str) -> Any:
    text = events if isinstance(events, str) else json.dumps(events)
    done = run(folder, "--event", "-", "--json", *args, stdin=text, **more)
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.stdout.splitlines()]


# --- outcomes --------------------------------------------------------------------------------------------------------


def test_outcomes(tmp_path: Path) -> None:
    """One request as it would be sent; a source that differs and a trigger that is not true, told apart."""
    outcomes = explainer(tmp_path).explain(envelope())

    assert json.loads(f"{{{as_json(outcomes)}}}") == {
        "routes": [{"route": "created", "action": "tag_user", "requests": [REQUEST]}],
        "filtered": [
            {
                "route": "shop-only",
                "action": "tag_user",
                "reason": "source: the route is for shop, the event is of encharge",
                "failed": [],
            },
            {
                "route": "tagged",
                "action": "tag_user",
                "reason": 'trigger: not true: match(event, "added-tag-*")',
                "failed": ['match(event, "added-tag-*")'],
            },
        ],
    }


def test_a_route_that_matches_and_sends_nothing(tmp_path: Path) -> None:
    """An echo of our own doing is filtered, and said to match."""
    event = {"event": "added-tag-vip", "user": {"email": EMAIL}, "properties": {"tag": "vip"}}
    found = explainer(tmp_path).explain(envelope(event=event, type="added-tag", name="added-tag-vip"))[2]

    assert (found.route, found.matches, found.sends, found.requests) == ("tagged", True, False, ())
    assert found.reason is not None
    assert "a loop is cut" in found.reason


def test_a_mapping_that_fails(tmp_path: Path) -> None:
    """The dead letter that it would become, in its route."""
    found = explainer(tmp_path).explain(envelope(event={"event": "newUser"}))[0]

    assert found.as_data() == {
        "route": "created",
        "action": "tag_user",
        "requests": [],
        "error": {
            "reason": "unmappable",
            "message": (
                "MappingFailed: No user ID, email, or anonymous ID provided. "
                "(nothing identifies the person: none of email, userId, segmentAnonymousId has a value)"
            ),
        },
    }


def test_what_is_for_others(tmp_path: Path) -> None:
    """A preset is for Segment's events, and integrations say whom an event is for."""
    asked = explainer(tmp_path, PRESETS)
    event = {"type": "track", "event": "A", "userId": "1", "integrations": {"All": False}}

    assert asked.explain(envelope())[0].reason == (
        "format: the route is for events of segment, the event is of encharge"
    )
    assert {each.reason for each in asked.explain(envelope(format="segment", event=event))} == {
        "integrations: the event says that it is not for encharge"
    }


HANDLERS: dict[str, Any] = {
    "fine": lambda event: [Request("encharge_ingest", "POST", "", {"name": event.name})],
    "nothing": lambda _: None,
    "fails": lambda _: 1 / 0,
    "ends": lambda _: sys.exit(1),
    "no_request": lambda _: ["text"],
    "nowhere": lambda _: [Request("nowhere", "POST", "")],
    "no_json": lambda _: [Request("encharge_ingest", "POST", "", {"at": object()})],
}


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("nothing", "matches; the handler gives no request"),
        ("fails", "ZeroDivisionError: division by zero"),
        ("ends", "SystemExit: 1"),
        ("no_request", "TypeError: a handler gave str in place of a Request"),
        ("nowhere", "LookupError: a handler named a destination that there is not: nowhere"),
        ("no_json", "TypeError: Object of type object is not JSON serializable"),
    ],
)
def test_handlers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, found: str) -> None:
    """Whatever a team's handler does is told; nothing ends the command."""
    module = ModuleType("explained_handlers")
    vars(module).update(HANDLERS)
    monkeypatch.setitem(sys.modules, "explained_handlers", module)
    text = "version: 1\nroutes:\n" + "".join(
        f"  - {{name: {each}, handler: 'explained_handlers:{each}'}}\n" for each in ("fine", name)
    )
    fine, other = explainer(tmp_path, text).explain(envelope())

    assert [request["body"] for request in fine.requests] == [{"name": "newUser"}]
    assert fine.action == "handler"
    assert other.reason == found if name == "nothing" else other.error == {"reason": "bug", "message": found}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (r'\a = "1"', []),
        (r'\a = "2"', ['\\a = "2"']),
        (r'\a = "1" and \b = "2"', ['\\b = "2"']),
        (r'\a = "2" or \b = "2"', ['\\a = "2"', '\\b = "2"']),
        (r'(\a = "2" or \b = "1") and \c = "2"', ['\\c = "2"']),
        (r'(\a = "2" and \b = "1") or \c = "2"', ['\\a = "2"', '\\c = "2"']),
        (r'\a = "2" or (\b = "1" and (\c = "2" or \a = "3"))', ['\\a = "2"', '\\c = "2"', '\\a = "3"']),
    ],
)
def test_failing_conditions(text: str, found: list[str]) -> None:
    """Only those that decided: not what is false inside an `or` that is true."""
    event = {"a": "1", "b": "1", "c": "1"}
    parsed = trigger.parse(text)

    assert failing(parsed, parsed.explain(event)) == found
    assert parsed.matches(event) == (not found)


# --- differences -----------------------------------------------------------------------------------------------------


def outcome(route: str, **changed: Any) -> Outcome:
    return dataclasses.replace(Outcome(route, "tag_user", matches=True, requests=({"body": {"a": 1}},)), **changed)


def test_changes() -> None:
    """By name: gone, new, and other; what matched neither before nor after, and order, do not count."""
    missed = outcome("missed", matches=False, requests=(), reason="trigger: not true: x")
    other_reason = dataclasses.replace(missed, reason="trigger: not true: y")
    before = [outcome("same"), outcome("gone"), outcome("other"), missed]
    after = [other_reason, outcome("other", requests=({"body": {"a": 2}},)), outcome("new"), outcome("same")]

    found = changes(before, after)

    assert [(each.kind, each.route) for each in found] == [("removed", "gone"), ("added", "new"), ("changed", "other")]
    assert [line for line in found[2].lines() if line[0] in "+-"] == ['-        "a": 1', '+        "a": 2']
    assert found[0].as_data() == {"route": "gone", "before": outcome("gone").as_data()}
    assert all(line.startswith("+") for line in found[1].lines())
    assert changes(before, before) == []


def test_diff(tmp_path: Path) -> None:
    """What other routes would change, event by event, and the sums."""
    text = ROUTES.replace("tag: new", "tag: newer").replace("name: tagged", "name: renamed")
    other = write(tmp_path, "other.yaml", text)
    found = explained(tmp_path, [NEW, {**NEW, "event": "sms-sent"}, {**TAGGED, "source": "shop"}], "--diff", other)
    (new,) = found[0]["changed"]

    assert [each.get("event") for each in found] == [0, 2, None]
    assert (new["before"]["requests"], new["after"]["requests"][0]["body"]["user"]["tags"]) == ([REQUEST], "newer")
    assert (found[0]["added"], found[0]["removed"]) == ([], [])
    assert [each["route"] for each in (*found[1]["removed"], *found[1]["added"])] == ["tagged", "renamed"]
    assert found[2] == {"summary": {"events": 3, "changed_events": 2, "added": 1, "removed": 1, "changed": 1}}

    shown = run(tmp_path, "--event", "-", "--diff", other, stdin=json.dumps(NEW)).stdout
    assert '-          "tags": "new"\n' in shown
    assert '+          "tags": "newer"\n' in shown
    assert shown.endswith("1 of 1 events change; matches now: 0, matches no more: 0, does something else: 1\n")


# --- the command -----------------------------------------------------------------------------------------------------


def test_one_event_is_one_object(tmp_path: Path) -> None:
    """Exactly routes and filtered, in a file or on standard input, with no secret set and no Redis."""
    file = write(tmp_path, "event.json", json.dumps(NEW, indent=2))

    (found,) = explained(tmp_path, NEW)
    assert list(found) == ["routes", "filtered"]
    assert found["routes"] == [{"route": "created", "action": "tag_user", "requests": [REQUEST]}]
    assert json.loads(run(tmp_path, "--event", file, "--json").stdout) == found
    assert explained(tmp_path, [NEW]) == [found]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps([NEW, TAGGED]),
        json.dumps([NEW, TAGGED], indent=2),
        f"{json.dumps(NEW)}\n\n{json.dumps(TAGGED)}",
        f"\n{json.dumps(NEW)}\r\n{json.dumps(TAGGED)}\r\n",
    ],
)
def test_several_events_are_a_line_each(tmp_path: Path, text: str) -> None:
    """A list, and one a line; each line says which event it is about."""
    found = explained(tmp_path, text)

    assert [list(each) for each in found] == [["event", "routes", "filtered"]] * 2
    assert [each["event"] for each in found] == [0, 1]
    assert [[route["route"] for route in each["routes"]] for each in found] == [["created"], []]


def test_people_see_the_same(tmp_path: Path) -> None:
    """Routes that match with their requests, the others with the reason, and sums."""
    done = run(tmp_path, "--event", "-", stdin=json.dumps([NEW, {**NEW, "event": "ünknown"}]))

    assert done.exit_code == 0
    assert done.stdout.startswith("event 0: encharge · newUser  enc-")
    assert "  → created: tag_user\n      POST https://ingest.encharge.io/v1/\n" in done.stdout
    assert "      X-Encharge-Token: (the key)\n" in done.stdout
    assert '      {"name": "identify", "user": {"email": "someone@example.com", "tags": "new"}}\n' in done.stdout
    assert "  ✗ shop-only: source: the route is for shop, the event is of encharge\n" in done.stdout
    assert '  ✗ created: trigger: not true: event = "newUser"\n' in done.stdout
    assert done.stdout.endswith("2 events, 1 requests\n")


def test_the_key_is_never_shown(tmp_path: Path) -> None:
    """Not even when it is set."""
    done = run(tmp_path, "--event", "-", stdin=json.dumps(NEW), ENCHARGE_WRITE_KEY="a-secret-key")

    assert "(the key)" in done.stdout
    assert "a-secret-key" not in done.output


def test_source(tmp_path: Path) -> None:
    """The first of the sources file whose kind fits, or the one that is named; an unknown name is refused."""
    (first,) = explained(tmp_path, NEW)
    (named,) = explained(tmp_path, NEW, "--source", "shop")
    refused = run(tmp_path, "--event", "-", "--source", "none", stdin=json.dumps(NEW))

    assert [route["route"] for route in first["routes"]] == ["created"]
    assert [route["route"] for route in named["routes"]] == ["shop-only"]
    assert refused.exit_code == 2
    assert "there are: encharge, shop" in refused.output


def test_segment(tmp_path: Path) -> None:
    """Calls, batches and webhooks of Segment are known for what they are; presets take them."""
    call = {"type": "track", "event": "A", "userId": "1"}
    batch = {"batch": [call, {"type": "identify"}, {**call, "type": "alias", "previousId": "2"}]}
    (found,) = explained(tmp_path, call, routes=PRESETS)
    (named,) = explained(tmp_path, {**call, "type": None}, "--source", "site", "--event-name", "page", routes=PRESETS)
    (hook,) = explained(tmp_path, call, "--source", "hook", routes=PRESETS)
    done = run(tmp_path, "--event", "-", "--json", stdin=json.dumps(batch), routes=PRESETS)
    of_batch = [json.loads(line) for line in done.stdout.splitlines()]

    assert [[route["route"] for route in each["routes"]] for each in (found, named, hook)] == [
        ["segment-track"],
        ["segment-page"],
        ["segment-track"],
    ]
    assert done.exit_code == 1
    assert [each["event"] for each in of_batch] == [0, 0, 0]
    assert [each.get("error") for each in of_batch] == [None, "Segment discards such an event as no_user_anon_id", None]
    refused = run(tmp_path, "--event", "-", "--source", "site", stdin="5")
    assert "the source refuses it: the body must be a JSON object" in refused.stdout


def test_every_kind_of_source_is_explained() -> None:
    """What the endpoint takes, the command takes."""
    assert set(incoming_events.KINDS) == set(KINDS)


def test_webhook(tmp_path: Path) -> None:
    """A REST webhook of two people is two events, with the name that the address would give."""
    body = {"endUserData": [{"email": "a@example.com"}, {"email": "b@example.com"}], "eventPayload": {}}
    found = explained(tmp_path, body, "--event-name", "newUser")

    assert [each["event"] for each in found] == [0, 0]
    people = [each["routes"][0]["requests"][0]["body"]["user"]["email"] for each in found]
    assert people == ["a@example.com", "b@example.com"]


def test_envelope(tmp_path: Path) -> None:
    """An envelope is taken as it is; one with a mistake is named."""
    (found,) = explained(tmp_path, envelope_data(source="shop"))
    wrong = run(tmp_path, "--event", "-", "--json", stdin=json.dumps(envelope_data(id=5)))

    assert [route["route"] for route in found["routes"]] == ["shop-only"]
    assert wrong.exit_code == 1
    assert json.loads(wrong.stdout)["error"] == "the envelope is invalid: id: Not a valid string."


def test_unreadable_events(tmp_path: Path) -> None:
    """The others are explained; the status says that some were not."""
    lines = [json.dumps(NEW), "{broken", json.dumps({"no": "event"}), "5", json.dumps(TAGGED)]
    done = run(tmp_path, "--event", "-", "--json", stdin="\n".join(lines))
    found = [json.loads(line) for line in done.stdout.splitlines()]

    assert done.exit_code == 1
    assert [each["event"] for each in found] == [0, 1, 2, 3, 4]
    assert ["error" in each for each in found] == [False, True, True, True, False]
    assert found[3]["error"] == "the source refuses it: the body must be one JSON object"
    assert "3 of the events could not be read" in done.stderr
    people = run(tmp_path, "--event", "-", stdin="\n".join(lines))
    assert (people.exit_code, "event 2: the source refuses it" in people.stdout) == (1, True)
    compared = run(tmp_path, "--event", "-", "--diff", str(tmp_path / "routes.yaml"), stdin="5")
    assert (compared.exit_code, "0 of 1 events change" in compared.stdout) == (1, True)


@pytest.mark.parametrize("text", ["", "\n", "{\n", "[1,\n2", "[" * 100_000])
def test_what_is_no_json_at_all(tmp_path: Path, text: str) -> None:
    """Status 2 with a message, no traceback."""
    done = run(tmp_path, "--event", "-", stdin=text)

    assert done.exit_code == 2
    assert done.stderr.startswith("Error: ")


def test_refused_routes(tmp_path: Path) -> None:
    """Status 2 with every problem, for the live routes, those of --routes and those of --diff."""
    wrong = ROUTES.replace('event = "newUser"', "event =").replace("source: shop", "source: nobody")
    other = write(tmp_path, "other.yaml", wrong)
    for done in (
        run(tmp_path, "--event", "-", stdin=json.dumps(NEW), routes=wrong),
        run(tmp_path, "--event", "-", "--routes", other, stdin=json.dumps(NEW)),
        run(tmp_path, "--event", "-", "--diff", other, stdin=json.dumps(NEW)),
        run(tmp_path, "--event", "-", "--routes", "missing.yaml", stdin=json.dumps(NEW)),
    ):
        assert (done.exit_code, done.stdout) == (2, "")
        assert ("routes.0.trigger" in done.stderr and "routes.1.source" in done.stderr) or "missing.yaml" in done.stderr


@pytest.mark.parametrize("args", [(), ("--event", "-", "--last", "2")])
def test_one_place_to_read_from(tmp_path: Path, args: Sequence[str]) -> None:
    """Either a file or the stored events."""
    assert run(tmp_path, *args).exit_code == 2


def test_every_sample_is_explained(tmp_path: Path) -> None:
    """The default routes take each of them."""
    done = CliRunner().invoke(main, ["explain", "--event", "-", "--json"], input=json.dumps(SAMPLES))

    assert done.exit_code == 0
    assert [bool(json.loads(line)["routes"]) for line in done.stdout.splitlines()] == [True] * len(SAMPLES)
