"""Routes: their file, its problems, and where each sample goes."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from builders import EMAIL, REPOSITORY, SAMPLES, envelope

from app.sources.encharge import unwrap
from config.problems import ConfigurationRefused
from tasks.action import Request
from tasks.actions import ACTIONS
from tasks.envelope import Envelope
from tasks.errors import MappingFailed
from tasks.loop import MARK
from tasks.routing import Routes, load, source_names

DEFAULT = load(REPOSITORY / "config/routes.yaml", ["encharge"])
RECEIVED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "routes.yaml"
    path.write_text(text)
    return path


def routes(tmp_path: Path, text: str) -> Routes:
    return load(write(tmp_path, text), ["encharge", "shop"])


def problems(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(ConfigurationRefused) as caught:
        routes(tmp_path, text)
    return [problem.removeprefix(f"{tmp_path}/") for problem in caught.value.problems]


def sample(name: str) -> Envelope:
    (found,) = unwrap("encharge", next(event for event in SAMPLES if event["event"] == name), None, RECEIVED)
    return found


@pytest.fixture
def handlers(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module of a team's own."""
    module = ModuleType("team_handlers")
    vars(module).update(
        one=lambda event: [Request("encharge_ingest", "POST", "", {"name": event.name})],
        nothing=lambda _: None,
        several=lambda _: [Request("webhook-crm", "POST", "", {}, id=id_) for id_ in ("", "", "own")],
        number=5,
    )
    monkeypatch.setitem(sys.modules, "team_handlers", module)
    return module


GOES = {
    "newUser": ["new-user"],
    "updatedUser": ["updated-user"],
    "unsubscribedUser": ["unsubscribed"],
    "added-tag-vip-customer": ["tag-added"],
    "removed-tag-on-trial": ["tag-removed"],
    "page-visited": ["page-visited"],
    "form-submitted": ["form-fields", "form-submitted"],
    "sms-sent": ["sms-sent"],
    "sms-failed": ["sms-failed"],
    "email-delivered": ["email-delivered"],
    "email-open": ["email-opened"],
    "email-click": ["email-clicked"],
    "email-reply": ["email-replied"],
    "email-blocked": ["email-soft-bounced"],
    "email-bounce": ["email-bounced"],
    "email-dropped": ["email-dropped"],
    "email-spamreport": ["email-spam-reported"],
    "performed-step:771": ["step-performed"],
    "errored-step:772": ["step-failed"],
    "newObject-company": ["object-created"],
    "updatedObject-company": ["object-updated"],
    "deletedObject-company": ["object-deleted"],
    "newAssociation-123": ["association-created"],
    "deletedAssociation-123": ["association-deleted"],
}


@pytest.mark.parametrize("name", [event["event"] for event in SAMPLES])
def test_every_sample_goes_somewhere(name: str) -> None:
    """The default routes leave no documented event out, and each gives a request."""
    matched = DEFAULT.match(sample(name))

    assert [route.name for route in matched] == GOES[name]
    assert all(route.requests(sample(name)) for route in matched)


@pytest.mark.parametrize(
    ("name", "route", "body"),
    [
        ("newUser", "new-user", {"name": "Person created", "user": {"email": EMAIL}, "properties": {}}),
        (
            "added-tag-vip-customer",
            "tag-added",
            {
                "name": "identify",
                "user": {
                    "email": EMAIL,
                    "lastTagAdded": "vip-customer",
                    "lastTagAddedAt": "2019-07-12T06:52:53.008Z",
                    MARK: sample("added-tag-vip-customer").id,
                },
            },
        ),
        ("email-bounce", "email-bounced", {"name": "identify", "user": {"email": EMAIL, "tags": "email-bounced"}}),
        (
            "form-submitted",
            "form-fields",
            {
                "name": "identify",
                "user": {
                    "email": EMAIL,
                    "firstName": "Someone",
                    "company": "Acme",
                    "lastFormAt": "2019-07-12T06:52:53.011Z",
                    MARK: sample("form-submitted").id,
                },
            },
        ),
        (
            "email-dropped",
            "email-dropped",
            {
                "name": "Email dropped",
                "user": {"email": EMAIL},
                "properties": {
                    "emailId": 59969,
                    "emailName": "Welcome email",
                    "flowId": "48918",
                    "flowName": "Onboarding",
                    "reason": "unsubscribed",
                },
            },
        ),
        (
            "page-visited",
            "page-visited",
            {
                "name": "Page View",
                "type": "page",
                "user": {"email": EMAIL},
                "properties": {"url": "https://www.example.com/pricing"},
            },
        ),
        (
            "newObject-company",
            "object-created",
            {
                "name": "group",
                "type": "group",
                "objectType": "company",
                "properties": {
                    "id": "8a6e1f0e-6f3f-4d0a-9a64-0b1f6a7f1c11",
                    "externalId": "acme-1",
                    "name": "Acme",
                    "domain": "acme.example.com",
                    "plan": "Pro",
                },
                "user": {"email": EMAIL},
            },
        ),
    ],
)
def test_what_is_sent(name: str, route: str, body: dict[str, Any]) -> None:
    """Sample and route give exactly this body."""
    found = DEFAULT.get(route)

    assert found is not None
    assert found.requests(sample(name)) == (Request("encharge_ingest", "POST", "", body),)


def test_our_own_update_goes_nowhere() -> None:
    """UpdatedUser with our mark matches its route, and is cut there."""
    event = {"event": "updatedUser", "user": {"email": EMAIL}, "properties": {"changedFields": {MARK: {}}}}
    (echo,) = unwrap("encharge", event, None, RECEIVED)

    (route,) = DEFAULT.match(echo)

    assert route.requests(echo) == ()


def test_other_sources_do_not_match() -> None:
    """A route is for its sources only."""
    assert DEFAULT.match(envelope(source="shop")) == []


def test_a_mapping_without_a_person(tmp_path: Path) -> None:
    """An event that lacks what its action needs is unmappable."""
    found = routes(tmp_path, "version: 1\nroutes: [{name: a, action: tag_user, mapping: {tag: x}}]\n").get("a")

    assert found is not None
    with pytest.raises(MappingFailed):
        found.requests(envelope())


def test_sources_of_a_route(tmp_path: Path) -> None:
    """One name, a list, or all."""
    text = """\
version: 1
routes:
  - {name: one, source: shop, action: tag_user, mapping: {tag: x}}
  - {name: both, source: [shop, encharge], action: tag_user, mapping: {tag: x}}
  - {name: all, action: tag_user, mapping: {tag: x}}
"""
    found = routes(tmp_path, text)

    assert [route.name for route in found.match(envelope(source="encharge"))] == ["both", "all"]
    assert [route.name for route in found.match(envelope(source="shop"))] == ["one", "both", "all"]
    assert [route.name for route in found.match(envelope(source="third"))] == ["all"]
    assert found.get("nobody") is None


def test_a_handler(tmp_path: Path, handlers: ModuleType) -> None:
    """A function of a team's own takes the envelope and gives requests, or none."""
    text = """\
version: 1
routes:
  - {name: one, handler: "team_handlers:one"}
  - {name: none, handler: "team_handlers:nothing", trigger: event = "newUser"}
"""
    one, none = routes(tmp_path, text).match(envelope())

    assert one.requests(envelope()) == (Request("encharge_ingest", "POST", "", {"name": "newUser"}, id="e1:one:0"),)
    assert none.requests(envelope()) == ()
    assert (one.does, DEFAULT.routes[0].does) == ("handler", "track_event")


def test_bug_two_requests_of_handlers_with_the_same_body_had_one_id(tmp_path: Path, handlers: ModuleType) -> None:
    """Their receiver took the second for the first, come again. An id that a handler gives stays."""
    text = 'version: 1\nroutes: [{name: a, handler: "team_handlers:several"}]\n'
    (route,) = routes(tmp_path, text).routes

    ids = [request.id for event in ("e1", "e2") for request in route.requests(envelope(id=event))]
    assert ids == ["e1:a:0", "e1:a:1", "own", "e2:a:0", "e2:a:1", "own"]


def test_disabled(tmp_path: Path) -> None:
    """A disabled route is checked and left out."""
    text = "version: 1\nroutes: [{name: a, enabled: false, action: tag_user, mapping: {tag: x}}]\n"

    assert routes(tmp_path, text) == Routes(())
    assert problems(tmp_path, text.replace("tag: x", "tog: x"))


def test_problems_of_shape(tmp_path: Path) -> None:
    """What the schema finds, all at once, each with line and key."""
    text = """\
version: 2
routes:
  - name: A b
    action: fly
  - action: tag_user
    mapping: [1]
    colour: red
  - name: both
    action: tag_user
    handler: a:b
  - name: neither
  - name: unmapped
    action: tag_user
  - name: handled
    handler: a:b
    mapping: {}
  - name: odd
    handler: a.b
    enabled: perhaps
    trigger: 5
"""

    assert problems(tmp_path, text) == [
        "routes.yaml:1: version: Must be equal to 1.",
        "routes.yaml:3: routes.0.name: Only a-z, 0-9, _ and -, at most 64.",
        f"routes.yaml:4: routes.0.action: No action of this name; there are: {', '.join(ACTIONS)}.",
        "routes.yaml:5: routes.1.name: Missing data for required field.",
        "routes.yaml:6: routes.1.mapping: Not a valid mapping type.",
        "routes.yaml:7: routes.1.colour: Unknown field.",
        "routes.yaml:8: routes.2: A route needs either an action or a handler.",
        "routes.yaml:11: routes.3: A route needs either an action or a handler.",
        "routes.yaml:12: routes.4.mapping: An action needs a mapping.",
        "routes.yaml:16: routes.5.mapping: A handler takes the whole event, not a mapping.",
        "routes.yaml:20: routes.6.trigger: Not a valid string.",
        "routes.yaml:18: routes.6.handler: Must be module:function.",
        "routes.yaml:19: routes.6.enabled: Not a valid boolean.",
    ]


def test_problems_of_meaning(tmp_path: Path, handlers: ModuleType) -> None:
    """What only a closer look finds, all at once, each with line and key."""
    text = """\
version: 1
routes:
  - name: a
    source: nobody
    trigger: event =
    action: tag_user
    mapping:
      tog: x
  - name: a
    source: 5
    handler: no_such_module_anywhere:f
  - name: b
    source: [shop, other, another]
    handler: team_handlers:no_such_function
  - name: c
    handler: team_handlers:number
"""

    found = problems(tmp_path, text)

    starts = [
        "routes.yaml:8: routes.0.mapping.tog: tag_user has no field tog; it has: tag, email, userId",
        "routes.yaml:7: routes.0.mapping: tag_user needs the field tag",
        "routes.yaml:4: routes.0.source: no source of the name nobody in the sources file, and no publisher",
        "routes.yaml:5: routes.0.trigger: ",
        "routes.yaml:10: routes.1.source: must be the name of a source, or a list of names",
        "routes.yaml:11: routes.1.handler: cannot import no_such_module_anywhere: ",
        "routes.yaml:13: routes.2.source: no source of the name another, other in the sources file, and no publisher",
        "routes.yaml:14: routes.2.handler: team_handlers has no no_such_function",
        "routes.yaml:16: routes.3.handler: team_handlers:number is not a function",
        "routes.yaml:9: routes.1.name: the name a is taken by an earlier route",
    ]
    assert [text[: len(start)] for text, start in zip(found, starts, strict=True)] == starts


def test_problems_of_a_mapping(tmp_path: Path) -> None:
    """A directive that does not exist is found at load."""
    text = 'version: 1\nroutes:\n  - name: a\n    action: tag_user\n    mapping:\n      tag: {"@nothing": 1}\n'

    (problem,) = problems(tmp_path, text)

    assert problem.startswith("routes.yaml:5: routes.0.mapping: ")
    assert "@nothing" in problem


def test_a_directive_may_give_all_fields(tmp_path: Path) -> None:
    """Then nobody can say at load which are missing."""
    text = 'version: 1\nroutes: [{name: a, action: tag_user, mapping: {"@path": $.properties}}]\n'
    found = routes(tmp_path, text).get("a")

    assert found is not None
    assert found.requests(envelope(event={"properties": {"tag": "x", "email": EMAIL}}))[0].body == {
        "name": "identify",
        "user": {"email": EMAIL, "tags": "x"},
    }


def test_a_handler_with_a_relative_name(tmp_path: Path) -> None:
    """A problem like any other."""
    problems(tmp_path, "version: 1\nroutes: [{name: a, handler: '..a:b'}]\n")


def test_a_handler_whose_module_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a team's module raises at import is reported with the other problems."""
    (tmp_path / "failing_team_module.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)

    problems(tmp_path, "version: 1\nroutes: [{name: a, handler: 'failing_team_module:b'}]\n")


def test_a_route_for_no_source(tmp_path: Path) -> None:
    """An empty list of sources is refused; it does not mean all of them."""
    with pytest.raises(ConfigurationRefused, match=r"routes.0.source: must be the name of a source"):
        routes(tmp_path, "version: 1\nroutes: [{name: a, source: [], action: tag_user, mapping: {tag: x}}]\n")


@pytest.mark.parametrize("text", ["", "[]", "version: 1\nroutes: null\n"])
def test_other_files(tmp_path: Path, text: str) -> None:
    """Files of another shape are refused as well."""
    assert problems(tmp_path, text)


def test_source_names(tmp_path: Path) -> None:
    """The worker needs the names alone, not the secrets."""
    assert source_names(REPOSITORY / "config/sources.yaml") == ["encharge"]
    assert source_names(write(tmp_path, "[]")) == []
    assert source_names(write(tmp_path, "sources: []")) == []


ORDERED = """version: 1
routes:
- {name: a, action: tag_user, mapping: {tag: x, email: y}}
- {name: b, action: tag_user, mapping: {tag: x, email: y}, order: hold}
- {name: c, action: tag_user, mapping: {tag: x, email: y}, order: off}
destinations:
  encharge_api: {requests_per_s: 2.5}
  encharge_ingest: {concurrency: 7}
"""


def test_order_and_limits(tmp_path: Path) -> None:
    """Order is kept unless a route says otherwise; a destination has the limits that are given."""
    found = routes(tmp_path, ORDERED.replace("off}", '"off"}'))

    assert [route.order for route in found.routes] == ["pass", "hold", "off"]
    assert found.limits == {"encharge_api": (2.5, None), "encharge_ingest": (None, 7)}


def test_a_problem_of_order(tmp_path: Path) -> None:
    """With the place."""
    (found,) = problems(tmp_path, ORDERED.replace("order: hold", "order: never"))

    assert found == "routes.yaml:4: routes.1.order: Must be pass, hold or off."


def test_off_without_quotes_is_off(tmp_path: Path) -> None:
    """YAML reads it as a boolean."""
    assert routes(tmp_path, ORDERED).routes[2].order == "off"


@pytest.mark.parametrize(
    ("limits", "problem"),
    [
        (
            "  nowhere: {concurrency: 1}",
            "No destination of this name; there are: encharge_ingest, encharge_api, activatepro, segment",
        ),
        ("  encharge_api: {concurrency: 0}", "Must be greater than or equal to 1"),
        ("  encharge_api: {requests_per_s: 0}", "Must be greater than 0"),
        ("  encharge_api: {requests: 5}", "Unknown field"),
    ],
)
def test_problems_of_limits(tmp_path: Path, limits: str, problem: str) -> None:
    """What is wrong, and the line."""
    text = ORDERED.partition("destinations:")[0] + "destinations:\n" + limits + "\n"

    (found,) = problems(tmp_path, text)

    assert found.startswith("routes.yaml:7: destinations")
    assert problem in found
