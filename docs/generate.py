"""Writes the pages of docs/ that follow from the code: the envelope's JSON Schema, and docs/reference.md.

`make docs` writes them; tests/unit/test_generated_docs.py fails when they are not what the code says.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin

from config.metrics import METRICS
from config.settings import Settings
from tasks.action import Action
from tasks.actions import ACTIONS
from tasks.actions.segment import DEFINITIONS, defaults
from tasks.envelope import EnvelopeSchema
from tasks.errors import REASONS

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
    lines += ["", "## Metrics", "", "| name | kind | labels | meaning |", "| --- | --- | --- | --- |"]
    for name, (kind, labels, meaning) in METRICS.items():
        lines.append(f"| `{name}` | {kind} | {', '.join(labels)} | {meaning} |")
    return "\n".join(lines) + "\n"


PAGES = {"envelope.schema.json": envelope_schema, "reference.md": reference}

if __name__ == "__main__":
    for page, make in PAGES.items():
        (HERE / page).write_text(make())
