"""What the command says of feeds, without Redis."""

import json
from pathlib import Path

from click.testing import CliRunner, Result

from cli.main import main

ROW = {"id": "1", "event": "Message Sent", "timestamp": "2022-01-11T00:00:00Z", "email": "someone@example.com"}
FEED = f'[\n{json.dumps(ROW)},\n{{"email": "someone@example.com" "id"}},\n{json.dumps({**ROW, "email": "x"})}\n]\n'


def run(folder: Path, *args: str, sources: str = "") -> Result:
    (folder / "sources.yaml").write_text("version: 1\nsources:\n" + (sources or "  crm: {kind: activatepro}\n"))
    environ = {"SOURCES_FILE": str(folder / "sources.yaml")}
    return CliRunner().invoke(main, ["import", "activatepro", *args], obj=environ, env=environ)


def write(folder: Path, text: str = FEED, name: str = "event_history_1.json") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def test_a_dry_run_takes_nothing(tmp_path: Path) -> None:
    """It says what would be taken, and ends with 1 when there is something wrong."""
    file = write(tmp_path)
    done = run(tmp_path, "--dry-run", file)

    assert done.exit_code == 1
    assert done.stdout == f"{file}: 3 rows, 1 could be taken, 2 bad\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["event_history_1.json", "sources.yaml"]
    assert run(tmp_path, "--dry-run", write(tmp_path, json.dumps(ROW))).exit_code == 0


def test_the_report_names_places_and_no_values(tmp_path: Path) -> None:
    """File, row, line, reason; a file of that name is added to."""
    file, report = write(tmp_path), tmp_path / "report.jsonl"
    report.write_text("{}\n")
    done = run(tmp_path, "--dry-run", "--json", "--report", str(report), file)

    found = json.loads(done.stdout)
    assert (found["source"], found["rows"], found["taken"], found["bad"]) == ("crm", 3, 1, 2)
    assert found["report"] == str(report)
    _, broken, wrong = [json.loads(line) for line in report.read_text().splitlines()]
    assert (broken["file"], broken["row"], broken["line"]) == ("event_history_1.json", 2, 3)
    assert broken["reason"].startswith("not JSON: Expecting ',' delimiter")
    assert (wrong["row"], wrong["reason"]) == (
        3,
        "email is not what it should be: ActivatePro answers WRONG_FORMAT",
    )
    assert "someone" not in report.read_text() + done.output


def test_bug_a_report_went_on_behind_half_a_line(tmp_path: Path) -> None:
    """Where a run was killed while it wrote, the next one begins a line of its own."""
    file, report = write(tmp_path), tmp_path / "report.jsonl"
    report.write_text('{"file": "event_hist')
    run(tmp_path, "--dry-run", "--report", str(report), file)

    _, *lines = report.read_text().splitlines()
    assert [json.loads(line)["row"] for line in lines] == [2, 3]


def test_a_report_that_cannot_be_written(tmp_path: Path) -> None:
    """Ends the command; what cannot be reported is not passed over."""
    done = run(tmp_path, "--dry-run", "--report", str(tmp_path / "no-folder" / "report"), write(tmp_path))
    assert done.exit_code == 2
    assert "cannot be written: FileNotFoundError; name another file with --report" in done.output


def test_a_file_that_is_no_feed_does_not_hold_the_next(tmp_path: Path) -> None:
    """Said on standard error, and by the status."""
    orders = write(tmp_path, FEED, "order_history_1.json")
    good = write(tmp_path, json.dumps(ROW))
    done = run(tmp_path, "--dry-run", orders, good)

    assert done.exit_code == 2
    assert f"{orders}: a feed of orders, by its name: another format; only events are read" in done.stderr
    assert done.stdout == f"{good}: 1 rows, 1 could be taken\n"


def test_whose_feed_it_is(tmp_path: Path) -> None:
    """The first source of this kind, or the one that is named; nobody else's."""
    file = write(tmp_path, json.dumps(ROW))
    sources = "  main: {kind: encharge}\n  crm: {kind: activatepro}\n  shop: {kind: activatepro}\n"

    def source(*args: str, sources: str = sources) -> str:
        return str(json.loads(run(tmp_path, "--dry-run", "--json", *args, file, sources=sources).stdout)["source"])

    assert source() == "crm"
    assert source("--source", "shop") == "shop"
    assert source("--source", "undeclared") == "undeclared"
    assert source(sources="  main: {kind: encharge}\n") == "activatepro"
    for wrong in ("main", "No Name"):
        assert run(tmp_path, "--dry-run", "--source", wrong, file, sources=sources).exit_code == 2
