"""ActivatePro, Segment and a webhook, by real processes: delivered, retried, refused, and shown."""

import base64
import json
from collections.abc import Callable
from pathlib import Path

from conftest import Router, numbered

EVENTS = 12
PROPERTIES = {"@path": "$.properties"}
TOKEN, SEGMENT_KEY = "activatepro-77aa", "segment-77bb"
SECRET, PREVIOUS = ("whsec_" + base64.b64encode(bytes([number]) * 24).decode() for number in (1, 2))
ROUTES = """
version: 1
webhooks:
  crm: {{url: "{sandbox}/webhook", secrets: [CRM_SECRET, CRM_SECRET_PREVIOUS], allow: [127.0.0.1]}}
  inside: {{url: "https://localhost/", secrets: [CRM_SECRET]}}
destinations: {{webhook-crm: {{concurrency: 2}}}}
routes:
  - {{name: to-activatepro, action: upload_event,
     mapping: {{event: Message Viewed, id: {{"@path": $.user.id}}, properties: {{"@path": $.properties}}}}}}
  - {{name: to-segment, action: send_to_segment,
     mapping: {{type: track, event: Step, userId: {{"@path": $.user.id}}, properties: {{"@path": $.properties}}}}}}
  - {{name: to-crm, action: send_webhook,
     mapping: {{to: crm, type: step.performed, data: {{"@path": $.properties}}}}}}
  - {{name: unheard-of, trigger: properties.number = 0, action: upload_event,
     mapping: {{event: Unheard Of, id: {{"@path": $.user.id}}}}}}
  - {{name: to-ourselves, trigger: properties.number = 1, action: send_webhook,
     mapping: {{to: inside, type: step.performed, data: {{"@path": $.properties}}}}}}
"""


def test_three_ways_out(make_router: Callable[..., Router], tmp_path: Path) -> None:
    """Each event once at each; what failed for a while came later, what was refused is a dead letter that says why."""
    router = make_router(
        ACTIVATEPRO_TOKEN=TOKEN,
        SEGMENT_WRITE_KEY=SEGMENT_KEY,
        CRM_SECRET=SECRET,
        CRM_SECRET_PREVIOUS=PREVIOUS,
        # The receiver knows only the old one: both sign.
        SANDBOX_WEBHOOK_SECRET=PREVIOUS,
        SANDBOX_ACTIVATEPRO_EVENTS="Message Viewed",
        ROUTES_FILE=str(tmp_path / "routes.yaml"),
        RETRY_BASE_S="0.2",
        # Without Encharge: no route needs its key.
        ENCHARGE_WRITE_KEY="",
        ENCHARGE_API_KEY="",
    )
    router.environ |= {
        "ACTIVATEPRO_URL": f"{router.sandbox_url}/activatepro",
        "SEGMENT_URL": f"{router.sandbox_url}/segment/v1",
    }
    (tmp_path / "routes.yaml").write_text(ROUTES.format(sandbox=router.sandbox_url))
    router.start_all()
    router.faults(
        {"status": 503, "count": 2, "path": "/activatepro"},
        {"status": 429, "count": 1, "path": "/segment"},
        {"status": 502, "count": 2, "path": "/webhook"},
    )

    ids = router.post_many(numbered(EVENTS))
    router.settled(ids, 30)

    calls = router.session.get(f"{router.sandbox_url}/_sandbox/events", timeout=5).json()["events"]
    for begin in ("ActivatePro: ", "Segment: ", "Webhook: "):
        bodies = [call["body"] for call in calls if call["effects"][0].startswith(begin)]
        numbers = [(body.get("properties") or body["data"])["number"] for body in bodies]
        assert sorted(numbers) == list(range(EVENTS)), begin
    letters = {letter.route: letter for letter in router.connection.letters.find()}
    assert {name: letter.reason for name, letter in letters.items()} == {
        "unheard-of": "rejected",
        "to-ourselves": "rejected",
    }
    assert "answered 400 (event: UNKNOWN_VALUE)" in letters["unheard-of"].error
    assert "not sent: the name leads to" in letters["to-ourselves"].error
    router.assert_equation()
    texts = [str(letters), *(log.read_text() for log in router.folder.glob("*.log"))]
    assert not [secret for secret in (TOKEN, SEGMENT_KEY, SECRET, PREVIOUS) for text in texts if secret in text]


def test_what_waits_of_one_person_goes_out_together(make_router: Callable[..., Router], tmp_path: Path) -> None:
    """Of 120 events that nobody worked on yet, 50 and 50 and 20 are one request each, in their order."""
    routes = {
        "name": "up",
        "action": "upload_event",
        "mapping": {"event": "Seen", "id": "me", "properties": PROPERTIES},
    }
    (tmp_path / "routes.yaml").write_text(json.dumps({"version": 1, "routes": [routes]}))
    router = make_router(ACTIVATEPRO_TOKEN=TOKEN, ROUTES_FILE=str(tmp_path / "routes.yaml"))
    router.environ["ACTIVATEPRO_URL"] = f"{router.sandbox_url}/activatepro"
    router.start_sandbox()
    router.start_web()
    ids = [router.post(event).json()["ids"][0] for event in numbered(120, user={"id": "me"})]
    router.start_worker()
    router.settled(ids, 20)

    calls = router.session.get(f"{router.sandbox_url}/_sandbox/calls", timeout=5).json()["calls"]
    groups = [[each["properties"]["number"] for each in json.loads(call["body"])["events"]] for call in calls]
    assert [len(group) for group in groups] == [50, 50, 20]
    assert [number for group in groups for number in group] == list(range(120))
    router.assert_equation()
