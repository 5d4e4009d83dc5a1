"""A feed of ActivatePro, imported by a process that is killed in the middle, beside the API with the same events."""

import json
import sys
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from builders import REPOSITORY
from conftest import Router, wait

sys.path.append(str(REPOSITORY / "benchmarks"))
import feed as feed_benchmark

ROWS = 2000
EVERY_BROKEN = 100
EVERY_CLICKED = 20
TOKEN = "the-token-of-the-feed"
IMPORT = [sys.executable, "-c", "from cli.main import main; main()", "import", "activatepro"]


def row(number: int) -> dict[str, object]:
    clicked = number % EVERY_CLICKED == 1
    return {
        "id": f"u{number % 50}",
        "event": "Message Clicked" if clicked else "Message Viewed",
        "timestamp": f"2022-01-11T00:{number // 60 % 60:02d}:{number % 60:02d}Z",
        "channel": "Email",
        "number": number,
    }


def test_killed_in_the_middle_and_started_again(make_router: Callable[..., Router], tmp_path: Path) -> None:
    """Each good row ends once, each bad one is reported once; a second run adds nothing, nor does the API."""
    (tmp_path / "sources.yaml").write_text(feed_benchmark.SOURCES)
    (tmp_path / "routes.yaml").write_text(feed_benchmark.ROUTES)
    rows = [json.dumps(row(number)) if number % EVERY_BROKEN else '{"id": "u' for number in range(ROWS)]
    feed = tmp_path / "event_history_20220111000000.json.zip"
    with zipfile.ZipFile(feed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("event_history_20220111000000.json", "[\n" + ",\n".join(rows) + "\n]\n")
    # Without a worker, the import can go no further than to half of what may wait.
    router = make_router(
        CRM_TOKEN=TOKEN,
        MAX_WAITING="1600",
        SOURCES_FILE=str(tmp_path / "sources.yaml"),
        ROUTES_FILE=str(tmp_path / "routes.yaml"),
    )
    router.start_sandbox()
    router.start("import", [*IMPORT, str(feed)])
    wait(lambda: b"wait for the workers" in router.log("import").read_bytes(), 20, "the import waits")
    router.kill("import")
    held = router.counts("source", "crm")["accepted"]
    assert 0 < held <= 800

    router.start_worker()
    found = json.loads(router.command("import", "activatepro", "--json", str(feed), status=1))
    assert found["source"] == "crm"
    assert 0 < found["before"]["rows"] <= held + ROWS // EVERY_BROKEN
    assert found["before"]["rows"] + found["rows"] == ROWS
    again = json.loads(router.command("import", "activatepro", "--json", str(feed)))
    assert (again["before"]["rows"], again["before"]["done"], again["rows"]) == (ROWS, True, 0)
    assert "imported already" in router.command("import", "activatepro", str(feed))

    report = [json.loads(line) for line in Path(found["report"]).read_text().splitlines()]
    assert [(line["file"], line["line"]) for line in report] == [
        (feed.name, number + 2) for number in range(0, ROWS, EVERY_BROKEN)
    ]
    good = ROWS - len(report)
    wait(lambda: not router.counts("source", "crm")["waiting"], 30, "all have ended")
    counts = Counter(router.counts("source", "crm"))
    clicked = ROWS // EVERY_CLICKED
    assert counts["accepted"] - counts["duplicate"] == good
    assert (counts["delivered"], counts["filtered"], counts["dead"]) == (clicked, good - clicked, 0)
    arrived = router.arrivals()
    assert {number: len(times) for number, times in arrived.items()} == {
        str(number): 1 for number in range(1, ROWS, EVERY_CLICKED)
    }

    router.start_web()
    flat = row(1)
    user, event = {"id": flat.pop("id")}, {"event": flat.pop("event"), "timestamp": flat.pop("timestamp")}
    answer = router.session.post(
        f"{router.web_url}/events",
        json={**user, "events": [{**event, "properties": flat}]},
        headers={"X-XNG-AuthToken": TOKEN, "X-XNG-ApiVersion": "1"},
        timeout=5,
    )
    assert (answer.status_code, answer.content) == (202, b"")
    assert router.counts("source", "crm")["duplicate"] == counts["duplicate"] + 1
    router.assert_equation()
