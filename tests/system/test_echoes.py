"""Encharge reports what we wrote; the report does not make us write again."""

import time
from collections.abc import Callable
from pathlib import Path

from conftest import SECRET, Router, numbered, wait

ROUTES = """
version: 1
routes:
  - {name: mirror, trigger: 'event = "updatedUser" or event = "newUser"', action: identify_user,
     mapping: {email: {"@path": $.user.email}, user: {mirroredAt: {"@path": $.envelope.received_at}}}}
  - {name: stepped, trigger: 'match(event, "performed-step:*")', action: identify_user,
     mapping: {email: {"@path": $.user.email}, user: {lastStepAt: {"@path": $.envelope.received_at}}}}
  - {name: tag, trigger: 'match(event, "added-tag-*")', action: tag_user,
     mapping: {email: {"@path": $.user.email}, tag: {"@path": $.properties.tag}}}
"""


def test_identify_updated_user_identify_is_cut(make_router: Callable[..., Router], tmp_path: Path) -> None:
    """A route that writes to the person on every change comes to rest; a change made elsewhere still passes."""
    routes = tmp_path / "routes.yaml"
    routes.write_text(ROUTES)
    router = make_router(ROUTES_FILE=str(routes), SANDBOX_ACTIVITY_STREAM_SECRET=SECRET)
    address = f"{router.web_url}/webhooks/encharge"
    router.start_all("--activity-stream", address)
    router.post_many(numbered(5))
    ledger = router.connection.ledger

    def at_rest() -> bool:
        sizes = ledger.sizes()
        return not (sizes["unclaimed"] or sizes["running"] or sizes["retrying"])

    # newUser of each person is mirrored once; the update that this makes is an echo.
    wait(lambda: router.counts("route", "mirror").get("filtered", 0) >= 5 and at_rest(), 20, "the echoes are cut")
    first = router.counts("source", "encharge")["accepted"]
    time.sleep(2)
    assert router.counts("source", "encharge")["accepted"] == first
    assert at_rest()

    # A change that somebody else makes is no echo: it is mirrored, and that again is cut.
    mirrored = router.counts("route", "mirror")["delivered"]
    person = {"email": "person-1@example.com"}
    router.session.post(
        f"{router.sandbox_url}/ingest/v1/",
        json={"name": "identify", "user": {**person, "plan": "Pro", "tags": "with-a-dash"}},
        headers={"X-Encharge-Token": "system-test-key"},
        timeout=5,
    )
    wait(lambda: router.counts("route", "mirror").get("delivered", 0) == mirrored + 1, 10, "the change is mirrored")
    wait(lambda: router.counts("route", "tag").get("filtered", 0) == 1 and at_rest(), 10, "the tag is not sent back")
    time.sleep(1)
    assert router.counts("route", "mirror")["delivered"] == mirrored + 1
    assert router.counts("route", "tag").get("delivered", 0) == 0
    router.assert_equation()
