"""Sources out of their file, secrets out of the environment."""

from pathlib import Path

import pytest
from builders import REPOSITORY

from app.source import Source, load
from app.sources import KINDS
from config.problems import ConfigurationRefused

ENVIRON = {"ONE": "first", "TWO": "second"}


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "sources.yaml"
    path.write_text(text)
    return path


def sources(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> dict[str, Source]:
    return load(write(tmp_path, text), ENVIRON if environ is None else environ, KINDS)


def problems(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigurationRefused) as caught:
        sources(tmp_path, text, environ)
    return [problem.removeprefix(f"{tmp_path}/") for problem in caught.value.problems]


GOOD = """\
version: 1
sources:
  main:
    kind: encharge
    secrets: [ONE, TWO, THREE]
  second-one:
    kind: encharge
    secrets: [TWO]
    secret_header: X-Key
    secret_parameter: key
    max_body_bytes: 4096
    max_depth: 8
    order: false
    when_full: refuse
"""


def test_good(tmp_path: Path) -> None:
    """Those secrets that are set, in their order; options as declared, or by default."""
    main, second = sources(tmp_path, GOOD).values()

    assert main == Source(name="main", unwrap=KINDS["encharge"].unwrap, secrets=("first", "second"))
    assert second == Source(
        "second-one",
        KINDS["encharge"].unwrap,
        ("second",),
        secret_header="X-Key",
        secret_parameter="key",
        max_body_bytes=4096,
        max_depth=8,
        order=False,
        when_full="refuse",
    )


@pytest.mark.parametrize("environ", [{}, {"TWO": ""}, {"TWO": "  "}])
def test_a_source_without_a_secret_is_open_to_all(tmp_path: Path, environ: dict[str, str]) -> None:
    """So it is refused; empty is not set."""
    assert problems(tmp_path, GOOD, environ) == [
        "sources.yaml:5: sources.main.secrets: none of ONE, TWO, THREE is set in the environment; anyone could send",
        "sources.yaml:8: sources.second-one.secrets: none of TWO is set in the environment; anyone could send",
    ]


def test_no_secret_in_a_problem(tmp_path: Path) -> None:
    """Whoever wrote the secret itself where its name belongs does not find it in the log."""
    text = "version: 1\nsources:\n  main:\n    kind: encharge\n    secrets: [my-s3cret]\n"

    assert "my-s3cret" not in str(problems(tmp_path, text))


def test_all_problems_at_once(tmp_path: Path) -> None:
    """Each with its line and key."""
    text = """\
version: 2
sources:
  Main:
    kind: encharge
    secrets: [ONE]
  main:
    kind: letters
    secrets: []
    max_depth: 1000
    order: "no"
    when_full: drop
    secret_header: "X Key"
    colour: red
  other:
    secrets: ONE
"""

    assert problems(tmp_path, text) == [
        "sources.yaml:1: version: Must be equal to 1.",
        "sources.yaml:3: sources.Main: Only a-z, 0-9, _ and -, at most 64.",
        f"sources.yaml:7: sources.main.kind: No kind of this name; there are: {', '.join(KINDS)}.",
        "sources.yaml:8: sources.main.secrets: Name at least one environment variable.",
        "sources.yaml:9: sources.main.max_depth: Must be greater than or equal to 4 and less than or equal to 500.",
        "sources.yaml:10: sources.main.order: Not a valid boolean.",
        "sources.yaml:11: sources.main.when_full: Must be spool or refuse.",
        "sources.yaml:12: sources.main.secret_header: Not a header's name.",
        "sources.yaml:13: sources.main.colour: Unknown field.",
        "sources.yaml:14: sources.other.kind: Missing data for required field.",
        "sources.yaml:15: sources.other.secrets: Not a valid list.",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "sources.yaml:1: version: Missing data for required field."),
        ("[]", "sources.yaml:1: (top): Invalid input type."),
        ("version: 1\nsources: null\n", "sources.yaml:2: sources: Field may not be null."),
        ("version: 1\nsources: {a: {kind: [}}\n", "sources.yaml:2: (syntax): "),
    ],
)
def test_other_files(tmp_path: Path, text: str, problem: str) -> None:
    """Files of another shape are refused as well."""
    assert problems(tmp_path, text)[0].startswith(problem)


def test_the_default_file() -> None:
    """It needs one secret, and is good then."""
    path = REPOSITORY / "config/sources.yaml"

    assert load(path, {"ENCHARGE_WEBHOOK_SECRET": "x"}, KINDS)["encharge"].secrets == ("x",)
    with pytest.raises(ConfigurationRefused):
        load(path, {}, KINDS)
