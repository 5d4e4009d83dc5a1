"""What the commands say would happen is what happens; in processes of their own."""

import json
from collections.abc import Callable
from pathlib import Path

from conftest import Router, numbered

ROUTES = """version: 1
routes:
  - name: steps
    source: encharge
    trigger: match(event, "performed-step:*")
    action: track_event
    mapping: {email: {"@path": $.user.email}, event: Step, properties: {"@path": $.properties}}
  - name: typo
    source: encharge
    trigger: event = "email-open" and event = "email-click"
    action: tag_user
    mapping: {email: {"@path": $.user.emial}, tag: reader}
"""


def test_explained_is_what_is_sent(make_router: Callable[..., Router], tmp_path: Path) -> None:
    """A file before, the stored events after: the same requests, and what arrived; then check knows the events."""
    routes = tmp_path / "routes.yaml"
    routes.write_text(ROUTES)
    router = make_router(ROUTES_FILE=str(routes))
    events = numbered(25)
    file = tmp_path / "events.jsonl"
    file.write_text("".join(json.dumps(event) + "\n" for event in events))

    before = [json.loads(line) for line in router.command("explain", "--event", str(file), "--json").splitlines()]
    assert [[route["route"] for route in each["routes"]] for each in before] == [["steps"]] * 25
    assert router.counts("source", "encharge") == {}
    bodies = [each["routes"][0]["requests"][0]["body"] for each in before]

    router.start_all()
    ids = router.post_many(events)
    router.settled(ids, 30)
    sent = router.session.get(f"{router.sandbox_url}/_sandbox/events?since=0", timeout=10).json()["events"]
    by_number = {each["body"]["properties"]["number"]: each["body"] for each in sent}
    assert [by_number[number] for number in range(25)] == bodies

    after = [json.loads(line) for line in router.command("explain", "--last", "100", "--reveal", "--json").splitlines()]
    found = [each["routes"][0]["requests"][0]["body"] for each in after]
    assert sorted(found, key=lambda body: body["properties"]["number"]) == bodies
    assert len(router.command("explain", "--last", "3", "--json").splitlines()) == 3

    other = tmp_path / "other.yaml"
    other.write_text(ROUTES.replace("event: Step", "event: Another step"))
    summary = json.loads(router.command("explain", "--last", "25", "--diff", str(other), "--json").splitlines()[-1])
    assert summary["summary"]["changed"] == 25
    warnings = json.loads(router.command("check", "--json"))["warnings"]
    assert [warning.removeprefix(f"{routes}:") for warning in warnings] == [
        '10: routes.1.trigger: can never be true: event = "email-open" and event = "email-click" exclude each other',
        "12: routes.1.mapping: none of the last 25 events has user.emial",
    ]
