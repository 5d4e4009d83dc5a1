"""What other teams publish."""

import json

import pytest
from builders import REPOSITORY, envelope_data, fake_ledger

from tasks import routing
from tasks.dead_letter import DeadLetters
from tasks.envelope import Envelope, decode
from tasks.ledger import Ledger
from tasks.publishing import Publishing
from tasks.queue import RedisQueue


@pytest.fixture
def ledger() -> Ledger:
    return fake_ledger()


def published(ledger: Ledger, **data: object) -> Envelope:
    Publishing(RedisQueue(ledger), DeadLetters(ledger)).take([envelope_data(**data)])
    (id_,) = ledger.client.zrange("router:accepted", 0, -1)
    event = ledger.event(id_.decode())
    assert event is not None
    return decode(event.envelope or b"")


def test_bug_a_published_type_lost_what_was_personal(ledger: Ledger) -> None:
    """And then no route knew it."""
    routes = routing.load(REPOSITORY / "config/routes.yaml")
    event = {"kind": "experience-start", "tenantId": "t", "data": {}, "customContext": {"stage": "start"}}
    envelope = published(
        ledger, format="activity_sync", type="experience-start", name="experience-start", event=event,
        person={"userId": "u1"}, raw=None,
    )  # fmt: skip

    assert (envelope.type, envelope.shown) == ("experience-start", "encharge · experience-…")
    assert list(routes.match(envelope)) != []


@pytest.mark.parametrize("id_", ["msg-a@example.com", "msg-a%40example.com"])
def test_bug_an_id_with_an_address_was_shown(ledger: Ledger, id_: str) -> None:
    """Its hash stands for it, the same each time; the label, the log and the tickets have that."""
    first, again = published(ledger, id=id_), published(ledger, id=id_)

    assert first == again
    assert first.id.startswith("id-")
    assert len(first.id) == 43
    assert "example.com" not in json.dumps([first.id, *map(repr, ledger.client.keys())])
