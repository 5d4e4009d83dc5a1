"""The samples of Activity Sync and ActivatePro, from the webhook door to the routes that take them."""

import json
from typing import Any

import pytest
from builders import EMAIL, REPOSITORY, claim, fake_ledger
from flask.testing import FlaskClient

from app import create_app
from app.source import Source
from app.sources import KINDS
from tasks import routing
from tasks.envelope import decode
from tasks.ledger import Ledger
from tasks.queue import RedisQueue

SECRET = "s3cret-of-the-door"
ROUTES = routing.load(REPOSITORY / "config/routes.yaml")
SYNC: list[dict[str, Any]] = json.loads((REPOSITORY / "cli/samples/activity_sync.json").read_text())
PRO: list[dict[str, Any]] = json.loads((REPOSITORY / "cli/samples/activatepro.json").read_text())
#: What the samples say in a second experience is about people of whom only a phone number is known.
PHONE_ONLY = {"outbound-sms", "inbound-sms-matched", "inbound-sms-unmatched"}


@pytest.fixture
def ledger() -> Ledger:
    return fake_ledger()


@pytest.fixture
def client(ledger: Ledger) -> FlaskClient:
    kinds = {kind: KINDS[kind] for kind in ("activity_sync", "activatepro")}
    sources = {name: Source(name, kind.unwrap, (SECRET,), several=kind.several) for name, kind in kinds.items()}
    return create_app(sources, RedisQueue(ledger), ledger).test_client()


def post(client: FlaskClient, source: str, body: Any) -> dict[str, Any]:
    answer = client.post(f"/webhooks/{source}", json=body, headers={"Authorization": f"Bearer {SECRET}"})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.get_json()
    return found


def worked(ledger: Ledger, ids: list[str]) -> dict[str, tuple[Any, set[str]]]:
    """What a worker sees of each: kind → person and routes."""
    found = {}
    for id_ in ids:
        event = claim(ledger, id_)
        envelope = decode(event.envelope or b"")
        found[envelope.name] = (envelope.person, {route.name for route in ROUTES.match(envelope)})
        ledger.settle(event, [])
    return found


@pytest.mark.parametrize("order", [1, -1])
def test_everyone_is_known_whichever_comes_first(client: FlaskClient, ledger: Ledger, order: int) -> None:
    """The one e-mail that names its receiver names the person of the whole experience, before it and behind it."""
    answers = [post(client, "activity_sync", sample) for sample in SYNC[::order]]
    assert {answer["code"] for answer in answers} == {"accepted"}

    # As a worker may have them: each line in the order in which its events became free.
    ids = [id_ for answer in answers for id_ in answer["ids"]]
    lined = sorted(ids, key=lambda id_: decode(ledger.event(id_).envelope or b"").name != "outbound-email")  # type: ignore[union-attr]
    found = worked(ledger, lined)

    for kind, (person, routes) in found.items():
        assert set(person) == ({"phone"} if kind in PHONE_ONLY else {"email"})
        assert (routes == set()) == (kind in PHONE_ONLY or kind == "outbound-email")
    assert {person.get("email") for person, _ in found.values()} == {EMAIL, None}


@pytest.mark.parametrize(("source", "samples"), [("activity_sync", SYNC), ("activatepro", PRO)])
def test_one_by_one_or_all_at_once_is_the_same(client: FlaskClient, source: str, samples: list[dict[str, Any]]) -> None:
    """A list of events is those events: what came in it is known when it comes again alone."""
    together = post(client, source, samples)
    alone = [post(client, source, sample) for sample in samples]

    assert together["code"] == "accepted"
    assert {answer["code"] for answer in alone} == {"duplicate"}
    assert together["ids"] == [id_ for answer in alone for id_ in answer["ids"]]


def test_a_record_of_version_0_0_that_nobody_knows_is_a_dead_letter(client: FlaskClient, ledger: Ledger) -> None:
    """The sender is not told to send it again; people see its version and kind."""
    (id_,) = post(client, "activity_sync", {"version": "0.0", "kind": "survey", "experienceId": "e-1"})["ids"]
    (dead,) = ledger.event(id_).deliveries.values()  # type: ignore[union-attr]

    assert (dead.state, dead.record["reason"]) == ("dead", "invalid")
    assert dead.record["error"] == "version 0.0, kind survey: no known form in version 1.0"
