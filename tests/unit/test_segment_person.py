"""Whom Segment's events name."""

from datetime import UTC, datetime
from typing import Any

import pytest
from builders import EMAIL

from app.sources.segment import unwrap_webhook

RECEIVED = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    ("event", "person"),
    [
        ({"userId": "u-1"}, {"userId": "u-1"}),
        ({"userId": "u-1", "context": {"traits": {"email": EMAIL}}}, {"userId": "u-1", "email": EMAIL}),
        ({"traits": {"email": EMAIL}, "context": {"traits": {"email": "old@example.com"}}}, {"email": EMAIL}),
        ({"properties": {"email": EMAIL}}, None),
        ({"anonymousId": "a-1"}, None),
        ({"userId": 5, "traits": {"email": ["x"]}}, None),
        ({"userId": "x" * 501, "traits": "x", "context": []}, None),
    ],
)
def test_the_person(event: dict[str, Any], person: dict[str, str] | None) -> None:
    """The user's id, and the address among the traits; an address among the properties may be of anybody."""
    (envelope,) = unwrap_webhook("shop", {"type": "track", "event": "E", **event}, None, RECEIVED)

    assert envelope.person == person
