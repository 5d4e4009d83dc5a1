"""Publishers out of their file: what is right, what is wrong, and where."""

import json
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest
from builders import REPOSITORY
from click.testing import CliRunner
from kombu.transport.redis import PRIORITY_STEPS, Channel

from cli.main import main
from config.problems import ConfigurationRefused
from tasks import publishers, routing, worker
from tasks.publishers import Publisher, Publishers, load

FILE = """\
version: 1
publishers:
  billing:
    prefix: "billing:"
    quota: {per_second: 50, burst: 200}
  shop:
    quota: {per_second: 0.5}
  crm: {prefix: "teams:crm:"}
  published:
"""
ROUTE = """\
version: 1
routes:
  - {name: invoices, source: [billing, shop], action: forward_event, mapping: {name: Paid, user: {"@path": $.user}}}
"""
CHARACTERS = "Only a-z, 0-9, _ and -, in parts that each end with a colon, like billing:"
OURS = "Must not begin as keys of the router, kombu or Celery do."


def write(folder: Path, text: str, name: str = "publishers.yaml") -> Path:
    (folder / name).write_text(text)
    return folder / name


def problems(folder: Path, text: str, *sources: str) -> list[str]:
    with pytest.raises(ConfigurationRefused) as caught:
        load(write(folder, text), sources)
    return [problem.replace(f"{folder}/", "") for problem in caught.value.problems]


def test_good(tmp_path: Path) -> None:
    """Names, lists and quotas; a burst that is not given is a second's worth."""
    found = load(write(tmp_path, FILE), ["encharge"])

    assert list(found.known.values()) == [
        Publisher("billing", "billing:", 50, 200),
        Publisher("shop", per_second=0.5, burst=1),
        Publisher("crm", "teams:crm:"),
        Publisher("published"),
    ]
    assert found.lists() == {"events": None, "billing:events": "billing", "teams:crm:events": "crm"}


def test_names_that_are_somebodys(tmp_path: Path) -> None:
    """On the list of all, nobody goes by the name of a source with a secret, or of a publisher with its own list."""
    found = load(write(tmp_path, FILE), ["encharge"])
    assert found.reserved == {"encharge", "billing", "crm"}
    assert Publishers().reserved == frozenset()


def test_check_shows_them(tmp_path: Path) -> None:
    """Quotas, and lists with whose they are; what lies there only Redis knows."""
    write(tmp_path, FILE)
    files = {**environ(tmp_path), "ROUTES_FILE": "", "ENCHARGE_WEBHOOK_SECRET": "x", "SPOOL_MAX_BYTES": "0"}
    people = CliRunner().invoke(main, ["check", "--offline"], env=files)
    programs = json.loads(CliRunner().invoke(main, ["check", "--offline", "--json"], env=files).stdout)

    assert "publisher billing: 50 events a second, 200 at once\n" in people.stdout
    assert "publisher crm: no quota\n" in people.stdout
    assert "list events: of everybody\nlist billing:events: of billing\n" in people.stdout
    assert programs["publishers"][1] == {"name": "shop", "prefix": "", "per_second": 0.5, "burst": 1}
    assert programs["lists"][1] == {"list": "billing:events", "publisher": "billing", "messages": None}


@pytest.mark.parametrize("text", ["version: 1\n", "version: 1\npublishers:\n", "version: 1\npublishers: {}\n"])
def test_nobody(tmp_path: Path, text: str) -> None:
    """A file may name nobody; the list of all is read all the same."""
    assert load(write(tmp_path, text)).lists() == {"events": None}


def test_the_file_that_comes_along() -> None:
    """It names nobody, but its examples are right."""
    path = REPOSITORY / "config/publishers.yaml"
    assert load(path).known == {}


def test_its_examples(tmp_path: Path) -> None:
    """What stands there in comments is right."""
    lines = (REPOSITORY / "config/publishers.yaml").read_text().splitlines(keepends=True)
    found = load(write(tmp_path, "".join(line.replace("  # ", "  ").replace("  #\n", "\n") for line in lines)))
    assert list(found.known) == ["billing", "shop"]


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("version: 1", "version: 2", "1: version: Must be equal to 1."),
        ("  shop:", "  Shop:", "6: publishers.Shop: Only a-z, 0-9, _ and -, at most 64."),
        ('"billing:"', "billing", f"4: publishers.billing.prefix: {CHARACTERS}"),
        ('"billing:"', '"Billing:"', f"4: publishers.billing.prefix: {CHARACTERS}"),
        ('"billing:"', '":"', f"4: publishers.billing.prefix: {CHARACTERS}"),
        ('"billing:"', '"bill*:"', f"4: publishers.billing.prefix: {CHARACTERS}"),
        ('"billing:"', '"router:"', f"4: publishers.billing.prefix: {OURS}"),
        ('"billing:"', '"router:event:"', f"4: publishers.billing.prefix: {OURS}"),
        ('"billing:"', '"_kombu:"', f"4: publishers.billing.prefix: {OURS}"),
        ('"billing:"', '"unacked:"', f"4: publishers.billing.prefix: {OURS}"),
        ('"billing:"', '"celery-task-meta-x:"', f"4: publishers.billing.prefix: {OURS}"),
        ('"billing:"', '"events:"', f"4: publishers.billing.prefix: {OURS}"),
        ('"billing:"', '"teams:crm:"', "8: publishers.crm.prefix: is the prefix of billing already"),
        ("per_second: 50, ", "", "5: publishers.billing.quota.per_second: Missing data for required field."),
        ("per_second: 50", "per_second: 0", "5: publishers.billing.quota.per_second: Must be greater than 0 and"),
        ("per_second: 50", "per_second: .nan", "5: publishers.billing.quota.per_second: Special numeric values"),
        ("burst: 200", "burst: 0", "5: publishers.billing.quota.burst: Must be greater than or equal to 1"),
        ("burst: 200", "bursts: 200", "5: publishers.billing.quota.bursts: Unknown field."),
        ("  shop:\n    quota: {per_second: 0.5}", "  shop: 7", "6: publishers.shop: Invalid input type."),
        ("  crm:", "  shop:", "8: publishers.shop: this key stands twice"),
    ],
)
def test_bad(tmp_path: Path, old: str, new: str, problem: str) -> None:
    """File, line, key, and what is wrong."""
    assert FILE.count(old) == 1
    (found,) = problems(tmp_path, FILE.replace(old, new))
    assert found.startswith(f"publishers.yaml:{problem}")


def test_all_at_once(tmp_path: Path) -> None:
    """Whoever mends the file sees everything that is wrong with it; a source has its name for itself."""
    text = FILE.replace('"billing:"', "b").replace("burst: 200", "burst: x").replace("version: 1", "version: x")
    assert [problem.split(": ")[1] for problem in problems(tmp_path, text, "encharge", "shop")] == [
        "version",
        "publishers.billing.prefix",
        "publishers.billing.quota.burst",
        "publishers.shop",
    ]


def test_kombus_lists() -> None:
    """A list is kept in a key for each of kombu's steps of priority."""
    keys = publishers.keys_of("events")
    assert keys[0] == "events"
    assert {f"events{sep}{step}" for sep in [Channel.sep] for step in PRIORITY_STEPS[1:]} < {*keys}


def environ(folder: Path, **changes: str) -> dict[str, Any]:
    files = {"PUBLISHERS_FILE": str(folder / "publishers.yaml"), "ROUTES_FILE": str(folder / "routes.yaml")}
    return {"ENCHARGE_WRITE_KEY": "key", **files, **changes}


def test_routes_name_publishers(tmp_path: Path) -> None:
    """A route's source may be a publisher; an unknown name is still one."""
    write(tmp_path, FILE)
    write(tmp_path, ROUTE, "routes.yaml")
    _, routes = worker.configuration(environ(tmp_path))
    assert routes.routes[0].sources == {"billing", "shop"}

    write(tmp_path, FILE.replace("shop", "store"))
    with pytest.raises(
        ConfigurationRefused, match=r"routes.0.source: no source of the name shop in the sources file, and"
    ):
        worker.configuration(environ(tmp_path))


def test_start_up_refuses_a_publisher_with_a_sources_name(tmp_path: Path) -> None:
    """One problem, and not also one for each route that names a publisher."""
    write(tmp_path, FILE.replace("crm:", "encharge:"))
    write(tmp_path, ROUTE, "routes.yaml")
    with pytest.raises(ConfigurationRefused) as caught:
        worker.configuration(environ(tmp_path))
    (problem,) = caught.value.problems
    assert problem.endswith("publishers.yaml:8: publishers.encharge: is the name of a source in the sources file")
    assert routing.names(REPOSITORY / "config/sources.yaml", REPOSITORY / "config/publishers.yaml") == ["encharge"]


def test_the_pages_files_load(tmp_path: Path) -> None:
    """What docs/ shows as a publishers.yaml can be copied as it stands there."""
    found = []
    for page in sorted((REPOSITORY / "docs").glob("*.md")):
        text = page.read_text()
        indented = re.findall(r"(?<=\n\n)(?:    .*\n)+", text)
        fenced = re.findall(r"^```ya?ml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        for block in [*map(textwrap.dedent, indented), *fenced]:
            if re.search(r"^publishers:", block, re.MULTILINE):
                assert "billing" in load(write(tmp_path, block)).known, page.name
                found.append(page.name)
    assert found == ["operations.md", "security.md"]


@pytest.mark.parametrize(("prefix", "why"), [("biling:", "No publisher has this prefix."), ("billing", CHARACTERS)])
@pytest.mark.parametrize("options", [[], ["--dry-run"]])
def test_a_list_that_nobody_reads_is_not_published_to(
    tmp_path: Path, prefix: str, why: str, options: list[str]
) -> None:
    """What were pushed there would lie there for ever; the prefixes that there are are named."""
    environ = {"PUBLISHERS_FILE": str(write(tmp_path, FILE))}
    event = '{"type": "invoice-paid", "event": {}}'
    done = CliRunner().invoke(main, ["publish", "--prefix", prefix, *options], env=environ, input=event)
    assert done.exit_code == 2
    assert f"'{prefix}'. {why} There are: billing:, teams:crm: (PUBLISHERS_FILE: " in done.stderr

    known = CliRunner().invoke(main, ["publish", "--prefix", "billing:", "--dry-run"], env=environ, input=event)
    assert "1 would be sent" in known.stderr
