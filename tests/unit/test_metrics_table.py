"""The table of metrics: whoever tells a number, or names a metric, finds it there."""

import re
from pathlib import Path

import pytest
import yaml

from config.metrics import METRICS, PREFIX
from tasks.families import Families
from tasks.metrics import stored_rows

REPOSITORY = Path(__file__).resolve().parents[2]
NAMED = re.compile(rf"{PREFIX}([a-z_]+)")
#: What Prometheus calls the parts of a histogram.
PARTS = re.compile("_(bucket|sum|count)$")


def declared(name: str) -> bool:
    return name in METRICS or (PARTS.sub("", name) in METRICS and METRICS[PARTS.sub("", name)].kind == "histogram")


@pytest.mark.parametrize("name", METRICS)
def test_as_prometheus_has_them(name: str) -> None:
    """Counters end in _total, histograms in seconds, with bounds that rise; labels are words."""
    metric = METRICS[name]
    assert (metric.kind == "counter") == name.endswith("_total")
    assert (metric.kind == "histogram") == bool(metric.bounds)
    assert metric.kind != "histogram" or name.endswith("_seconds")
    assert sorted(set(metric.bounds)) == list(metric.bounds)
    assert all(re.fullmatch("[a-z]+", label) and label not in {"le", "quantile"} for label in metric.labels)
    assert metric.doc.endswith(".")


def test_nothing_undeclared_is_told() -> None:
    """Another name, other labels, another kind: each raises."""
    families = Families(web=True)
    with pytest.raises(KeyError):
        families.add("of_my_own", 1)
    with pytest.raises(ValueError, match="labels"):
        families.add("source_waiting", 1)
    with pytest.raises(ValueError, match="labels"):
        families.add("running", 1, "encharge")
    with pytest.raises(TypeError):
        families.add("accept_seconds", 1, "encharge")
    with pytest.raises(TypeError):
        families.observed("running", {"inf": 1})
    with pytest.raises(KeyError):
        Families(web=False).add("spooled", 1)


def test_a_histogram_adds_up() -> None:
    """Each bucket holds those below it; what was counted under bounds of before goes into the next larger one."""
    families = Families(web=False)
    families.observed("request_seconds", {"0.05": 2, "0.07": 1, "30": 1, "31": 1, "inf": 1, "sum": 65_250_000}, "api")
    (family,) = [each for each in families.all() if each.name == f"{PREFIX}request_seconds"]
    found = {sample.labels.get("le", sample.name): sample.value for sample in family.samples}
    assert found["0.025"] == 0
    assert (found["0.05"], found["0.1"], found["10.0"], found["30.0"], found["+Inf"]) == (2, 3, 3, 4, 6)
    assert (found[f"{PREFIX}request_seconds_count"], found[f"{PREFIX}request_seconds_sum"]) == (6, 65.25)


def test_what_another_version_counted_is_left_out() -> None:
    """A newer worker beside an older web process: its numbers are not told, and nothing fails."""
    rows = stored_rows({"quarantined_total/bug": 1, "of_a_newer_one/x": 2, "quarantined_total/bug/extra": 3, "": 4})
    assert {name: row for name, row in rows.items() if row} == {"quarantined_total": {(("bug",), ""): 1}}


def test_the_ledgers_scripts_count_what_is_declared() -> None:
    """By name, and with as many labels."""
    text = "\n".join(path.read_text() for path in sorted((REPOSITORY / "tasks/ledger").rglob("*.lua")))
    calls = re.findall(r"(?:measure\(|'HINCRBY', [^,]+, |delivery_bounds\(\), )'([a-z]+_[a-z_]+)/?'(.*?)\)\n", text)
    assert len(calls) >= 8
    for name, arguments in calls:
        assert name in METRICS, name
        flat = re.sub(r"\([^()]*\)", "", arguments)
        labels = flat.count("..") // 2 + 1 if flat.strip().startswith("..") else flat.count(",")
        assert labels == len(METRICS[name].labels), (name, arguments)


def test_documents_and_alerts_name_what_is_declared() -> None:
    """In docs/ and in the rules for Prometheus, with labels that the metric has."""
    pages = [*(REPOSITORY / "docs").rglob("*.md"), REPOSITORY / "README.md", REPOSITORY / "deploy/alerts.yml"]
    named = {(page.name, name) for page in pages for name in NAMED.findall(page.read_text())}
    assert len(named) > 30
    assert [(page, name) for page, name in sorted(named) if not declared(name) and name] == []

    (group,) = yaml.safe_load((REPOSITORY / "deploy/alerts.yml").read_text())["groups"]
    for rule in group["rules"]:
        assert rule["annotations"]["summary"]
        names = NAMED.findall(rule["expr"])
        assert names, rule["alert"]
        labels = {
            label for name in names for label in METRICS[PARTS.sub("", name) if name not in METRICS else name].labels
        }
        by = re.findall(r"by \(([a-z, ]+)\)", rule["expr"])
        used = {label.strip() for each in by for label in each.split(",")}
        used |= set(re.findall(r"([a-z]+)=~?\"", rule["expr"]))
        used |= set(re.findall(r"\$labels\.([a-z]+)", rule["annotations"]["summary"]))
        assert used <= labels | {"le", "instance"}, rule["alert"]
