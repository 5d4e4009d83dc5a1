"""The default routes do with every sample what docs/default-routes.md says; so does the example in docs/routes.md."""

import dataclasses
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from builders import EMAIL, REPOSITORY, default_routes

from app.sources import KINDS, segment
from tasks import routing
from tasks.envelope import Envelope

RECEIVED = datetime(2026, 1, 2, 3, 4, 5, 678_900, UTC)
ROUTES = routing.load(REPOSITORY / "config/routes.yaml")
SEGMENT = (
    "Email Delivered",
    "Email Opened",
    "Email Link Clicked",
    "Email Bounced",
    "Email Marked as Spam",
    "Unsubscribed",
)


TOLD = default_routes()


def samples() -> Iterator[Envelope]:
    """Every sample of every kind as its source takes it, and Segment's e-mail events."""
    for file in sorted((REPOSITORY / "cli/samples").glob("*.json")):
        unwrap = KINDS[file.stem].unwrap
        assert unwrap is not None
        for body in json.loads(file.read_text()):
            for found in unwrap(file.stem, body, None, RECEIVED, None):
                assert isinstance(found, Envelope)
                yield found
    for name in SEGMENT:
        body = {"type": "track", "event": name, "userId": "u-1", "context": {"traits": {"email": EMAIL}}}
        yield from segment.unwrap_webhook("shop", body, None, RECEIVED)


ALL = list(samples())
OTHERS = [each for each in ALL if each.format != "encharge"]


def row_of(name: str) -> str:
    (row,) = (event for event in TOLD if re.fullmatch(re.escape(event).replace("…", ".*"), name))
    return row


def taken(envelope: Envelope, routes: routing.Routes = ROUTES) -> set[str]:
    return {route.name for route in routes.match(envelope)}


@pytest.mark.parametrize("envelope", ALL, ids=lambda envelope: envelope.shown)
def test_the_page_says_what_happens(envelope: Envelope) -> None:
    """Of somebody who is known by an e-mail address; every route has something to send."""
    known = dataclasses.replace(envelope, person={"email": EMAIL})

    assert taken(known) == TOLD[row_of(envelope.name)]
    assert all(route.requests(known) for route in ROUTES.match(known))


def test_the_page_tells_nothing_else() -> None:
    """Each of its rows has a sample, and each route a row, but for the two that it names."""
    assert {row_of(envelope.name) for envelope in ALL} == set(TOLD)
    assert {route.name for route in ROUTES.routes} - set().union(*TOLD.values()) == {
        "message-replied",
        "message-dropped",
    }


@pytest.mark.parametrize("person", [None, {"phone": "+61491570006"}])
@pytest.mark.parametrize("envelope", OTHERS, ids=lambda envelope: envelope.shown)
def test_who_is_unknown_to_encharge_is_filtered(envelope: Envelope, person: dict[str, str] | None) -> None:
    """No dead letters for want of an address."""
    assert taken(dataclasses.replace(envelope, person=person)) == set()


@pytest.mark.parametrize("person", [{"email": EMAIL}, {"userId": "u-1"}, {"userId": "u-1", "email": EMAIL}])
@pytest.mark.parametrize("envelope", OTHERS, ids=lambda envelope: envelope.shown)
def test_either_of_two_ids_is_enough(envelope: Envelope, person: dict[str, str]) -> None:
    """And what is sent names the person by what is known."""
    for route in ROUTES.match(dataclasses.replace(envelope, person=person)):
        (request,) = route.requests(dataclasses.replace(envelope, person=person))
        assert request.body["user"].items() >= person.items()


def test_no_text_of_a_message_is_sent() -> None:
    """Neither what people wrote, nor what was written to them, nor a reason that may be about them."""
    for envelope in (each for each in ALL if each.format == "activity_sync"):
        known = dataclasses.replace(envelope, person={"userId": "u-1"})
        sent = json.dumps([dataclasses.asdict(each) for route in ROUTES.match(known) for each in route.requests(known)])
        data = envelope.event["data"]
        for key in KINDS["activity_sync"].personal:
            assert not (data.get(key) and json.dumps(data[key]) in sent), key


# --- the example of docs/routes.md --------------------------------------------------------------------------------


def example(folder: Path) -> routing.Routes:
    page = (REPOSITORY / "docs/routes.md").read_text()
    (text,) = re.findall(r"```yaml\n(version: 1\nroutes:\n  - name: opened-in-encharge.*?)```", page, re.DOTALL)
    (folder / "routes.yaml").write_text(text)
    return routing.load(folder / "routes.yaml")


@pytest.mark.parametrize("envelope", [each for each in ALL if (each.view["message"] or {}).get("state") == "opened"],
                         ids=lambda envelope: envelope.shown)  # fmt: skip
def test_any_message_opened_whoever_says_so(envelope: Envelope, tmp_path: Path) -> None:
    """A date on the person in Encharge; Message Viewed in ActivatePro, but for what it said itself."""
    routes = example(tmp_path)
    known = dataclasses.replace(envelope, person={"userId": "u-1", "email": EMAIL})
    made: dict[str, Any] = {route.name: route.requests(known)[0].body for route in routes.match(known)}

    user = made.pop("opened-in-encharge")["user"]
    assert user["email"] == EMAIL
    assert user["lastOpenedAt"] == envelope.occurred_at
    if envelope.format != "activatepro":
        body = made.pop("opened-in-activatepro")
        assert body["id"] == "u-1"
        (event,) = body["events"]
        assert event["event"] == "Message Viewed"
        assert event["timestamp"] == envelope.occurred_at
        assert event["properties"].get("channel") == (None if envelope.format == "activity_sync" else "Email")
    assert made == {}


def test_the_example_takes_nothing_else(tmp_path: Path) -> None:
    """Four systems say that something was opened, and many other things."""
    routes = example(tmp_path)
    opened = {"email-open", "message-opened", "Message Viewed", "Email Opened"}

    names = {envelope.name for envelope in ALL if taken(dataclasses.replace(envelope, person={"userId": "1"}), routes)}
    assert names == opened
