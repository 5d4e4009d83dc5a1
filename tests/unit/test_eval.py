"""The commands that try one trigger or one mapping on one event."""

import json
from pathlib import Path
from typing import Any

import pytest
from builders import envelope_data
from click.testing import CliRunner, Result

from cli.main import main

EVENT = {"type": "track", "event": "Signed Up", "properties": {"plan": "pro", "seats": 3, "none": None}}


def run(*args: str, event: Any = EVENT) -> Result:
    text = event if isinstance(event, str) else json.dumps(event)
    return CliRunner().invoke(main, ["eval", *args, "--event", "-"], input=text)


def mapped(folder: Path, mapping: str, event: Any = EVENT) -> Result:
    (folder / "mapping").write_text(mapping)
    return run("mapping", str(folder / "mapping"), event=event)


@pytest.mark.parametrize(
    ("text", "event", "verdict"),
    [
        ('type = "track"', EVENT, "true"),
        ('type = "track" and properties.seats > 3', EVENT, "false"),
        ('\\envelope.type = "newUser"', envelope_data(), "true"),
        ('\\envelope.type = "newUser"', EVENT, "false"),
    ],
)
def test_trigger(text: str, event: Any, verdict: str) -> None:
    """The verdict, status 0 either way; of an envelope the event and what we add to it."""
    done = run("trigger", text, event=event)

    assert (done.exit_code, done.stdout) == (0, f"{verdict}\n")


def test_a_refused_trigger() -> None:
    """The message with the place, on stderr; even when the event is unreadable."""
    done = run("trigger", "type = 'track'", event="")

    assert (done.exit_code, done.stdout) == (2, "")
    assert "single quotes" in done.stderr
    assert "       ^" in done.stderr


@pytest.mark.parametrize("event", ["", "{", "5", "[]", [EVENT, EVENT], envelope_data(id=5)])
def test_not_one_event(event: Any, tmp_path: Path) -> None:
    """Both ask for one object."""
    assert run("trigger", 'type = "track"', event=event).exit_code == 2
    assert mapped(tmp_path, "{}", event=event).exit_code == 2


@pytest.mark.parametrize(
    ("mapping", "printed"),
    [
        ('{"plan": {"@path": "$.properties.plan"}, "none": {"@path": "$.missing"}}', '{"plan": "pro"}\n'),
        ('{\n\t"@path": "$.properties.seats"\n}', "3\n"),
        ('"@template": "{{event}}!"', '"Signed Up!"\n'),
        ('{"@path": "$.properties.none"}', "null\n"),
        ('{"@path": "$.missing"}', ""),
    ],
)
def test_mapping(tmp_path: Path, mapping: str, printed: str) -> None:
    """JSON of what it gives, written as JSON or YAML; null is a value, and no value prints nothing."""
    done = mapped(tmp_path, mapping)

    assert (done.exit_code, done.stdout) == (0, printed)


def test_a_refused_mapping(tmp_path: Path) -> None:
    """Every problem with its place, status 2; so for a file that is neither JSON nor YAML."""
    done = mapped(tmp_path, '{"a": {"@pth": "x"}, "b": {"@case": 5}}')

    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        "Error: /a has an invalid directive: @pth.",
        "/b/@case should be an object but it is a number.",
    ]
    assert mapped(tmp_path, "a: [").exit_code == 2


def test_a_mapping_that_fails(tmp_path: Path) -> None:
    """Status 1 with the message."""
    done = mapped(tmp_path, '{"@path": {"@path": "$.properties.seats"}}')

    assert (done.exit_code, done.stdout) == (1, "")
    assert "expected string, got number" in done.stderr
