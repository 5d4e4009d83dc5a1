"""What `event-router events show` tells: where an event is, what it waits for, and nothing of people."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from bench import Bench, api, route, sends
from builders import EMAIL, accept, envelope

from cli.events import refused, text, told, waiting
from cli.reveal import Cover
from config.settings import load
from tasks.contract import published
from tasks.dead_letter import DeadLetters
from tasks.envelope import Rejected, id_without_address
from tasks.errors import DestinationRejected, DestinationUnavailable
from tasks.ledger import Ledger
from tasks.messages import Call
from tasks.routing import Routes

COVER = Cover(load({"PSEUDONYM_KEY": "the key"}))


@pytest.fixture
def bench() -> Bench:
    return Bench()


def shown(ledger: Ledger, id_: str = "e1", cover: Cover | None = COVER) -> dict[str, Any]:
    event = ledger.event(id_)
    assert event is not None
    return told(ledger, event, cover)


def one_of(ledger: Ledger, id_: str = "e1") -> dict[str, Any]:
    (delivery,) = shown(ledger, id_)["deliveries"]
    assert isinstance(delivery, dict)
    return delivery


def test_delivered(bench: Bench) -> None:
    """Who sent it, when it was taken and when it ended, and each attempt."""
    accept(bench.ledger, "e1", source="billing", type="users.tag", name="users.tag")
    bench.work()

    found = shown(bench.ledger)
    assert {name: found[name] for name in ("id", "label", "state", "source", "envelope", "until")} == {
        "id": "e1", "label": "billing · users.tag", "state": "delivered", "source": "billing",
        "envelope": None, "until": None,
    }  # fmt: skip
    assert found["accepted_at"] <= found["ended_at"]
    delivery = one_of(bench.ledger)
    assert (delivery["route"], delivery["state"], delivery["dead_letter"]) == ("a", "delivered", None)
    assert [attempt["outcome"] for attempt in delivery["attempts"]] == ["delivered"]
    assert text(found).startswith(
        "event     billing · users.tag  e1\nstate     delivered\nsource    billing\naccepted "
    )


def test_retrying(bench: Bench) -> None:
    """When it is due, why, and how often it was tried."""
    api(bench).answers = [DestinationUnavailable("answered 503")]
    accept(bench.ledger, "e1")
    bench.work()

    found, delivery = shown(bench.ledger), one_of(bench.ledger)
    assert found["state"] == "retrying"
    assert found["until"] == delivery["due_at"] > found["accepted_at"]
    assert (delivery["state"], delivery["reason"], len(delivery["attempts"])) == ("retrying", "unavailable", 1)
    assert delivery["error"] == "DestinationUnavailable: answered 503"
    assert f"state     retrying, is due at {found['until']}\n" in text(found)


def test_dead(bench: Bench) -> None:
    """It names its dead letters, as `dead show` and `dead replay` take them; people are hidden in error and payload."""
    api(bench).answers = [DestinationRejected(f"says that {EMAIL} is unknown")]
    accept(bench.ledger, "e1")
    bench.work()

    delivery = one_of(bench.ledger)
    assert (delivery["reason"], delivery["dead_letter"]) == ("rejected", "e1:a")
    assert EMAIL not in text(shown(bench.ledger))
    assert EMAIL not in json.dumps(shown(bench.ledger))
    revealed = shown(bench.ledger, cover=None)
    assert revealed["envelope"]["event"]["user"]["email"] == EMAIL
    assert EMAIL in revealed["deliveries"][0]["error"]
    assert EMAIL in text(revealed)


def test_in_line(bench: Bench) -> None:
    """How many of its subject go before it."""
    bench.accept_line(3)

    assert [(shown(bench.ledger, id_)["ahead"], shown(bench.ledger, id_)["line"]) for id_ in ("e1", "e2", "e3")] == [
        (0, 3),
        (1, 3),
        (2, 3),
    ]
    assert "line      2 of its subject's 3 events go before it\n" in text(shown(bench.ledger, "e3"))
    accept(bench.ledger, "alone", subject=None)
    assert shown(bench.ledger, "alone")["ahead"] is None


def test_held(bench: Bench) -> None:
    """Behind how many deliveries of its subject to the same destination it is held."""
    bench.routes = Routes((route("a", sends("hello"), order="hold"),))
    api(bench).answers = [DestinationUnavailable("answered 503")]
    bench.accept_line(3)
    bench.work("e1")

    assert [one_of(bench.ledger, id_)["ahead"] for id_ in ("e1", "e2", "e3")] == [None, 1, 2]
    assert "held behind 2" in text(shown(bench.ledger, "e3"))


def test_unidentified(bench: Bench) -> None:
    """Until when it waits for somebody to say whom it is about."""
    bench.queue.accept([envelope(id="e1", subject=None, correlation=["order:1"])])

    found = shown(bench.ledger)
    assert found["state"] == "unidentified"
    assert f"state     unidentified, goes on without a person at {found['until']}\n" in text(found)


def test_at_a_gate(bench: Bench) -> None:
    """Which gate it waits at."""
    bench.ledger.pause("api", "somebody")
    accept(bench.ledger, "e1")
    bench.work()

    assert one_of(bench.ledger)["gate"] == "api"
    assert "parked at api" in text(shown(bench.ledger))


def test_a_payload_that_is_none(bench: Bench) -> None:
    """Whatever stands in the ledger, something is told."""
    accept(bench.ledger, "e1")
    bench.ledger.client.hset("router:event:e1", "env", b"\xff{")

    assert shown(bench.ledger)["envelope"] is None
    assert "state     accepted" in text(shown(bench.ledger))


def test_those_that_wait(bench: Bench) -> None:
    """State by state, those first whose turn comes first; of one source, if that is asked for."""
    api(bench).answers = [DestinationUnavailable("answered 503")]
    accept(bench.ledger, "e1", source="billing")
    bench.work()
    bench.accept_line(2, start=2)

    def ids(state: str | None = None, source: str | None = None) -> list[str]:
        return [event.id for _, event in waiting(bench.ledger, state, source)]

    assert ids() == ["e2", "e1", "e3"]
    assert ids(source="billing") == ids(state="retrying") == ["e1"]
    assert ids(state="running") == []


@pytest.mark.parametrize("id_", ["invoice-1", "glob[*]?\\", "x" * 190, f"for-{EMAIL}"])
def test_bug_a_refused_call_was_not_found_by_its_own_id(bench: Bench, id_: str) -> None:
    """Its dead letter has an id of its own, so that the mended call may have this one; both are told."""
    now = datetime.now(UTC)
    for tag in (5, 6):
        call = Call("users.tag", f"t-{tag}", [], {"tag": tag, "email": EMAIL, "event_id": id_})
        (bad,) = published(call, None, now).events
        assert isinstance(bad, Rejected)
        bench.ledger.reject([bad])
    accept(bench.ledger, f"{id_}-other")
    known_as = id_without_address(id_)

    found = refused(bench.ledger, known_as)
    assert len(found) == 2
    for each in found:
        assert shown(bench.ledger, each)["state"] == "dead"
        assert DeadLetters(bench.ledger).get(f"{each}:-") is not None
    assert refused(bench.ledger, "invoice") == refused(bench.ledger, "*") == []
    told_ = {**shown(bench.ledger, found[0]), "invalid": [f"{found[0]}:-"]}
    assert f"invalid   was refused under this id: event-router dead show {found[0]}:-\n" in text(told_)
