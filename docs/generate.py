"""Writes the pages of docs/ that follow from the code: JSON Schemas, AsyncAPI, and the tables.

`make docs` writes them; tests/unit/test_generated_docs.py fails when they are not what the code says.
"""

import dataclasses
import json
import runpy
from pathlib import Path
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin

from config.metrics import METRICS, MOST_NAMES, OTHER, PREFIX
from config.settings import Settings
from tasks.action import Action
from tasks.actions import ACTIONS
from tasks.actions.segment import DEFINITIONS, defaults
from tasks.envelope import EnvelopeSchema
from tasks.errors import REASONS
from tasks.vocabulary import CHANNELS, DETAILS, System, vocabulary

HERE = Path(__file__).parent


def envelope_schema() -> str:
    """JSON Schema (2020-12) of the envelope; OpenAPI 3.1 uses the same dialect."""
    plugin = MarshmallowPlugin()
    spec = APISpec("event router", "1", "3.1.0", plugins=[plugin])
    spec.components.schema("Envelope", schema=EnvelopeSchema)
    schema = spec.to_dict()["components"]["schemas"]["Envelope"]
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Envelope"}
    return json.dumps({**head, **schema}, indent=2) + "\n"


def action_table(action: Action) -> list[str]:
    """An action's fields, with what `defaults: segment` gives them."""
    lines = ["| field | kind | meaning | in Segment's form |", "| --- | --- | --- | --- |"]
    for name, field in action.fields.items():
        mark = "*" if field.required else "(*)" if field.required_in_segment else ""
        default = action.name in DEFINITIONS and defaults(action.name).get(name)
        given = "".join(f"`{text}`" for text in [default_text(default)] if text)
        lines.append(
            f"| `{name}`{mark} | {field.kind} | {field.doc}{' Segment only.' * field.only_in_segment} | {given} |"
        )
    return lines


def default_text(mapping: Any) -> str:
    """A default mapping in few words."""
    match mapping:
        case {"@path": path}:
            return path
        case {"@if": {"then": then, "else": otherwise}}:
            return f"{default_text(then)}, else {default_text(otherwise)}"
        case dict():
            (prefix,) = {default_text(inner).rpartition(".")[0] for inner in mapping.values()}
            return f"{prefix}.({', '.join(mapping)})"
    return mapping or ""


def reference() -> str:
    """Settings, actions, reasons and metrics as tables."""
    lines = ["# Reference", "", "Generated from the code by `make docs`.", "", "## Settings", ""]
    lines += ["| variable | default | meaning |", "| --- | --- | --- |"]
    for field in dataclasses.fields(Settings):
        meta = field.metadata
        default = meta["default"].replace(str(HERE.parent) + "/", "") or "(not set)"
        secret = " Secret: shown as set or unset only." if meta["secret"] else ""
        lines.append(f"| `{meta['env']}` | `{default}` | {meta['doc']}{secret} |")
    lines += [
        "",
        "The secrets of sources and webhooks are variables too; sources.yaml and routes.yaml name them.",
        "",
    ]
    lines += ["## Actions", "", "`*` = required, `(*)` = required in the form of Segment's Encharge destination.", ""]
    for action in ACTIONS.values():
        lines += [f"### `{action.name}`", "", action.doc, ""]
        lines += action_table(action)
        lines.append("")
    lines += ["## Reasons of dead letters", "", "| reason | means |", "| --- | --- |"]
    lines += [f"| `{reason}` | {meaning} |" for reason, meaning in REASONS.items()]
    lines += ["", "## Metrics", "", "[metrics.md](metrics.md)"]
    return "\n".join(lines) + "\n"


METRICS_HEAD = """\
# Metrics

Generated from `config/metrics.py` by `make docs`. Where they are served, and to whom:
[operations.md](operations.md#what-to-watch). Rules for Prometheus that name them:
[deploy/alerts.yml](../deploy/alerts.yml). What is counted where, and what a killed process takes along:
[adr/0024](adr/0024-metrics.md).

Every process that is asked tells the same numbers, read from Redis at that moment; those marked *web* are told by web
processes alone, and `event_router_spooled…` are those of the machine that is asked. So scrape one web process of each
machine, or one worker where streams and spools are not asked for; and sum nothing over those that are scraped.

Label values come from files (sources, routes, destinations, gates, doors) or from short lists in the code (states,
reasons, verdicts, statuses). Publishers name themselves: the first {names} that no file names keep their name for good,
all others count together as `{other}`. `-` stands for none.
"""


def metrics_page() -> str:
    """The metrics as a table, and what to be woken for."""
    head = METRICS_HEAD.format(names=MOST_NAMES, other=OTHER)
    lines = [*head.splitlines(), "", *table_head("name", "kind", "labels", "meaning")]
    for name, metric in METRICS.items():
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        lines.append(table_row(f"`{PREFIX}{name}`", metric.kind + " (web)" * metric.web, labels, metric.doc))
    lines += ["", "## When to look", "", *table_head("metric", "look when")]
    lines += [table_row(f"`{PREFIX}{name}`", metric.alert) for name, metric in METRICS.items() if metric.alert]
    lines += ["", "## Buckets", "", "Upper bounds in seconds.", "", *table_head("histogram", "bounds")]
    lines += [
        table_row(f"`{PREFIX}{name}`", ", ".join(f"{bound:g}" for bound in metric.bounds))
        for name, metric in METRICS.items()
        if metric.bounds
    ]
    lines += ["", "## Reasons", "", *table_head("`reason`", "means")]
    lines += [table_row(f"`{reason}`", meaning) for reason, meaning in REASONS.items()]
    return "\n".join(lines) + "\n"


#: Channel → what people call it.
CHANNEL_TITLES = {"email": "e-mail", "sms": "SMS", "push": "push"}


def word_cell(cell: dict[str, Any]) -> str:
    """What a system calls a state: "`email-open` (e-mail)"; a dash where it has no word."""
    words = dict.fromkeys(cell[channel] for channel in CHANNELS if cell[channel])
    texts = []
    for word in words:
        channels = [CHANNEL_TITLES[channel] for channel in CHANNELS if cell[channel] == word]
        texts.append(f"`{word}`" + (f" ({', '.join(channels)})" if len(channels) < len(CHANNELS) else ""))
    return ", ".join(texts) or "-"


def vocabulary_page() -> str:
    """The words of all systems, what they lack and why, and how details are called."""
    known = vocabulary()
    systems = known.systems.values()
    lines = ["# What messages go through, in four systems' words", ""]
    lines += ["Generated from `config/vocabulary.yaml` by `make docs`. [Routes](routes.md#messages) use it.", ""]
    lines += table_head("`message.state`", "means", *(system.title for system in systems))
    for state, row in known.table.items():
        lines.append(table_row(f"`{state}`", row["means"], *(word_cell(row[name]) for name in known.systems)))
    lines += [
        "",
        "In brackets: the channels that the name is for, where it is not for all of e-mail, SMS and push.",
        "",
    ]
    lines += ["## Details", "", "What triggers and mappings see of a message, and where each system has it.", ""]
    lines += table_head("`message.…`", *(system.title for system in systems))
    lines += [table_row(f"`{detail}`", *(detail_cell(system, detail) for system in systems)) for detail in DETAILS]
    lines += [table_row("`channel`", *(quoted(system.channel_property) for system in systems)), ""]
    lines += [f"- **{system.title}** ([its page]({system.page})). {system.note}" for system in systems]
    lines += [
        "",
        "## What a system cannot say",
        "",
        *table_head("state", "system", "channels", "why; what else to know"),
    ]
    for state, row in known.table.items():
        for name, system in known.systems.items():
            cell = row[name]
            missing = ", ".join(CHANNEL_TITLES[channel] for channel in CHANNELS if cell[channel] is None)
            told = " ".join(cell[key] for key in ("because", "note") if key in cell)
            lines += [table_row(f"`{state}`", system.title, missing, told)] if told else []
    return "\n".join(lines) + "\n"


def table_head(*titles: str) -> list[str]:
    return [table_row(*titles), table_row(*["---"] * len(titles))]


def table_row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def quoted(text: str | None) -> str:
    return f"`{text}`" if text else "-"


def detail_cell(system: System, detail: str) -> str:
    """The property that a detail is read from and written to; or the path that it is only read from."""
    also = next((".".join(path) for name, path in system.paths if name == detail), None)
    return quoted(system.properties.get(detail)) if detail in system.properties or not also else f"`{also}` (read only)"


PAGES = {
    "envelope.schema.json": envelope_schema,
    "reference.md": reference,
    "metrics.md": metrics_page,
    "vocabulary.md": vocabulary_page,
    **runpy.run_path(str(HERE / "contract/generate.py"))["PAGES"],
}

if __name__ == "__main__":
    for page, make in PAGES.items():
        (HERE / page).write_text(make())
