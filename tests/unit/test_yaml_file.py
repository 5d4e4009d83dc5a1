"""YAML files whose problems say where."""

from pathlib import Path

import pytest

from config.problems import ConfigurationRefused
from config.yaml_file import YamlFile, read

TEXT = """\
# a comment
version: 1
shared: &shared
  email: x
routes:
  - name: one
    mapping:
      <<: *shared
      deep: [a, b]

  - name: two
    mapping: *shared
"""


def file(tmp_path: Path, text: str | bytes = TEXT) -> Path:
    path = tmp_path / "file.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def problems(path: Path) -> list[str]:
    with pytest.raises(ConfigurationRefused) as caught:
        read(path)
    return [problem.removeprefix(f"{path}:") for problem in caught.value.problems]


@pytest.fixture
def parsed(tmp_path: Path) -> YamlFile:
    return read(file(tmp_path))


def test_data(parsed: YamlFile) -> None:
    """What PyYAML makes of it, anchors and merges included."""
    assert parsed.data["routes"] == [
        {"name": "one", "mapping": {"email": "x", "deep": ["a", "b"]}},
        {"name": "two", "mapping": {"email": "x"}},
    ]


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ((), 2),
        (("version",), 2),
        (("shared", "email"), 4),
        (("routes",), 5),
        (("routes", 0), 6),
        (("routes", 0, "mapping"), 7),
        (("routes", 0, "mapping", "deep", 1), 9),
        (("routes", 1, "name"), 11),
        (("routes", 1, "mapping"), 12),
        (("routes", 1, "mapping", "email"), 4),
        (("routes", 0, "mapping", "email"), 7),
        (("routes", 9, "name"), 5),
        (("nowhere",), 2),
    ],
)
def test_lines(parsed: YamlFile, place: tuple[str | int, ...], line: int) -> None:
    """A value's line, or that of the nearest thing around it."""
    key = ".".join(map(str, place)) or "(top)"

    assert parsed.problem(place, "wrong") == f"{parsed.name}:{line}: {key}: wrong"


def test_messages_of_a_schema(parsed: YamlFile) -> None:
    """Each message becomes a problem of its own, at its place."""
    messages = {"version": ["a", "b"], "routes": {1: {"name": ["c"], "_schema": ["d"]}}, "_schema": ["e"]}

    assert [problem.removeprefix(f"{parsed.name}:") for problem in parsed.problems(messages)] == [
        "2: version: a",
        "2: version: b",
        "11: routes.1.name: c",
        "11: routes.1: d",
        "2: (top): e",
    ]


def test_keys_that_stand_twice(tmp_path: Path) -> None:
    """YAML would take the last in silence; all are reported, at the second place."""
    text = "a: 1\nb:\n  c: 1\n  d: 2\n  c: 3\na: 2\nlist:\n  - x: 1\n    x: 2\n"

    assert problems(file(tmp_path, text)) == [
        "5: b.c: this key stands twice",
        "6: a: this key stands twice",
        "9: list.0.x: this key stands twice",
    ]


def test_the_same_key_elsewhere_is_none_of_them(tmp_path: Path) -> None:
    """A merged key may be set anew, and other objects have keys of their own."""
    text = "base: &base {a: 1}\nx: {<<: *base, a: 2}\ny: {<<: *base, <<: *base}\n"

    assert read(file(tmp_path, text)).data["x"] == {"a": 2}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: [1\nb: 2\n", 2),
        ("a: 1\n  b: 2\n", 2),
        ("a: *nobody\n", 1),
        ("a: !!python/name:os.system x\n", 1),
        ("\tx", 1),
    ],
)
def test_syntax_errors(tmp_path: Path, text: str, line: int) -> None:
    """The line and PyYAML's own words."""
    (problem,) = problems(file(tmp_path, text))

    assert problem.startswith(f"{line}: (syntax): ")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """Not there, or not UTF-8."""
    assert problems(tmp_path / "nowhere.yaml")[0].startswith("1: (file): cannot be read: ")
    assert problems(file(tmp_path, b"a: \xff\n"))[0].startswith("1: (file): cannot be read: ")


@pytest.mark.parametrize("text", ["", "# only a comment\n"])
def test_an_empty_file(tmp_path: Path, text: str) -> None:
    """Empty is nothing, at line 1."""
    parsed = read(file(tmp_path, text))

    assert parsed.data is None
    assert parsed.problem(("a",), "missing").endswith(":1: a: missing")


def test_an_anchor_within_itself(tmp_path: Path) -> None:
    """Refused, with its line."""
    with pytest.raises(ConfigurationRefused, match=r":1: .*contains itself"):
        read(file(tmp_path, "a: &a [*a]\n"))
