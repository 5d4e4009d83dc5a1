"""What a small request may make of itself, and who may read what is served beside the doors."""

import json
from typing import Any

import pytest
from builders import fake_ledger
from flask import Flask
from test_tracking import CALL, NOW

from app import create_app
from app.source import Refusal, Source
from app.sources import encharge, segment
from app.sources.segment import Call
from tasks.envelope import Rejected
from tasks.queue import RedisQueue

OTHER_MACHINE = {"REMOTE_ADDR": "192.0.2.7"}


def app(metrics_token: str = "") -> Flask:
    ledger = fake_ledger()
    sources = {"encharge": Source("encharge", encharge.unwrap, ("s",))}
    return create_app(sources, RedisQueue(ledger), ledger, metrics_token=metrics_token)


@pytest.mark.parametrize(
    ("token", "request_", "status"),
    [
        ("", {}, 200),
        ("", {"environ_overrides": OTHER_MACHINE}, 401),
        ("", {"headers": {"X-Forwarded-For": "127.0.0.1"}}, 401),
        ("", {"headers": {"Forwarded": "for=127.0.0.1"}}, 401),
        ("t0ken", {}, 401),
        ("t0ken", {"headers": {"Authorization": "Bearer wrong"}}, 401),
        ("t0ken", {"headers": {"Authorization": "Basic t0ken"}}, 401),
        ("t0ken", {"headers": {"Authorization": "Bearer \xff"}}, 401),
        ("t0ken", {"headers": {"Authorization": "Bearer t0ken"}, "environ_overrides": OTHER_MACHINE}, 200),
    ],
)
def test_who_reads_metrics(token: str, request_: dict[str, Any], status: int) -> None:
    """Whoever has the token; without one only this machine, and nobody through a proxy."""
    client = app(token).test_client()
    assert client.get("/metrics", **request_).status_code == status
    assert client.get("/livez", environ_overrides=OTHER_MACHINE).status_code == 200
    assert client.get("/readyz", environ_overrides=OTHER_MACHINE).status_code == 200


def test_bug_a_batchs_context_was_copied_into_each_of_2500_events() -> None:
    """450 KB once in a request were a gigabyte in Redis; now the batch is one dead letter without it."""
    call = Call("site", CALL.received_at, context={"x": "y" * 450_000})
    (found,) = segment.unwrap_batch(call, [{}] * 2500)
    assert isinstance(found, Rejected)
    assert found.code == "payload_too_large"
    assert len(json.dumps(found.envelope.event)) < 1000
    small = Call("site", CALL.received_at, context={"x": "y" * 1000})
    assert len(segment.unwrap_batch(small, [{"type": "track", "userId": "1", "event": "e"}] * 100)) == 100


def test_bug_a_signed_webhook_had_no_limit_of_events() -> None:
    """A body within its bytes could carry 87,000 events."""
    assert len(segment.unwrap_webhook("hook", [{}] * 2500, None, NOW)) == 2500
    with pytest.raises(Refusal) as refused:
        segment.unwrap_webhook("hook", [{}] * 2501, None, NOW)
    assert (refused.value.status, refused.value.code) == (413, "too_many_events")


def test_bug_a_webhooks_payload_was_copied_for_each_of_100_people() -> None:
    """Within 4 MiB of copies it is; a quarter of a megabyte for a hundred people is not."""
    people = [{"id": str(number)} for number in range(100)]
    body = {"endUserData": people, "eventPayload": {"note": "x" * 20_000}}
    assert len(encharge.unwrap("encharge", body, "newUser", NOW)) == 100
    with pytest.raises(Refusal) as refused:
        encharge.unwrap("encharge", {**body, "eventPayload": {"note": "x" * 200_000}}, "newUser", NOW)
    assert refused.value.status == 413
    assert len(encharge.unwrap("encharge", {**body, "endUserData": people[:1]}, "newUser", NOW)) == 1
