"""docs/moving-from-segment.md, done as it says."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from conftest import HERE, Router

PAGE = (HERE.parent.parent / "docs/moving-from-segment.md").read_text()
EXPORT = {
    "data": {
        "subscriptions": [
            {
                "name": "Track Event",
                "trigger": 'type = "track"',
                "actionSlug": "trackEvent",
                "enabled": True,
                "settings": {"event": {"@path": "$.event"}, "userId": {"@path": "$.userId"}, "type": "track"},
            },
            {
                "name": "Tag the paying",
                "trigger": 'type = "identify" and traits.plan = "pro"',
                "actionSlug": "addTag",
                "enabled": True,
                "settings": {"tag": "paying", "userId": {"@path": "$.userId"}},
            },
        ]
    }
}
EVENT = {"type": "track", "event": "Order Completed", "userId": "u1", "messageId": "moved-1"}


def test_the_page_works(make_router: Callable[..., Router], tmp_path: Path) -> None:
    """Its files load, each of its commands ends well, and an event sent to the new host arrives at Encharge."""
    sources, presets, deletion = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    presets = presets.replace("routes: []\n", deletion)
    (tmp_path / "sources.yaml").write_text(sources)
    (tmp_path / "presets.yaml").write_text(presets)
    (tmp_path / "other-routes.yaml").write_text(presets)
    (tmp_path / "export.json").write_text(json.dumps(EXPORT))
    (tmp_path / "event.json").write_text(json.dumps(EVENT))
    router = make_router(
        SEGMENT_WRITE_KEY_WEB="the-key",
        SOURCES_FILE=str(tmp_path / "sources.yaml"),
        ROUTES_FILE=str(tmp_path / "presets.yaml"),
    )
    commands = [line.strip() for line in PAGE.splitlines() if line.startswith("    event-router ")]
    assert len(commands) == 4
    for command in [*commands, "event-router explain --event event.json --diff other-routes.yaml --routes routes.yaml"]:
        done = subprocess.run(
            [sys.executable, "-c", "from cli.main import main; main()", *shlex.split(command)[1:]],
            cwd=tmp_path,
            env=router.environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)
    assert "paying" in (tmp_path / "routes.yaml").read_text()

    router.start_all()
    answer = router.session.post(f"{router.web_url}/v1/track", json={**EVENT, "writeKey": "the-key"}, timeout=5)
    assert answer.json() == {"success": True}
    assert router.settled(["moved-1"], 20)[0].state == "delivered"
    state = router.session.get(f"{router.sandbox_url}/_sandbox/events?since=0", timeout=5).json()
    assert state["events"][0]["body"]["name"] == "Order Completed"
