"""YAML files that can say where each of their values stands, so that a problem names file, line and key."""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from config.problems import ConfigurationRefused

Place = tuple[str | int, ...]


@dataclasses.dataclass(frozen=True)
class YamlFile:
    """A parsed file: its data, and the line (from 1) of each place in it."""

    name: str
    data: Any
    lines: Mapping[Place, int]

    def problem(self, place: Place, text: str) -> str:
        """`file:line: key: text`, with the nearest line known for that place."""
        key = ".".join(str(part) for part in place) or "(top)"
        return f"{self.name}:{self._line(place)}: {key}: {text}"

    def problems(self, messages: Any, place: Place = ()) -> Iterator[str]:
        """Each message of a marshmallow ValidationError as a problem."""
        if isinstance(messages, Mapping):
            for key, inner in messages.items():
                yield from self.problems(inner, place if key == "_schema" else (*place, key))
        elif isinstance(messages, list):
            for inner in messages:
                yield from self.problems(inner, place)
        else:
            yield self.problem(place, str(messages))

    def _line(self, place: Place) -> int:
        while place not in self.lines and place:
            place = place[:-1]
        return self.lines.get(place, 1)


def read(path: Path) -> YamlFile:
    """Read one YAML file.

    Raises ConfigurationRefused when it is not readable, not YAML, or names a key twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationRefused((f"{path}:1: (file): cannot be read: {error}",)) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        what = getattr(error, "problem", None) or "is not YAML"
        raise ConfigurationRefused((f"{path}:{line}: (syntax): {what}",)) from error
    lines: dict[Place, int] = {}
    wrong: list[tuple[Place, int, str]] = []
    if node is not None:
        _note(node, (), lines, wrong, ())
    if wrong:
        raise ConfigurationRefused(
            tuple(f"{path}:{line}: {'.'.join(map(str, place))}: {text}" for place, line, text in wrong)
        )
    return YamlFile(str(path), data, lines)


def _note(
    node: Any, place: Place, lines: dict[Place, int], wrong: list[tuple[Place, int, str]], above: tuple[int, ...]
) -> None:
    lines.setdefault(place, node.start_mark.line + 1)
    if id(node) in above:
        wrong.append((place, node.start_mark.line + 1, "an anchor that contains itself"))
        return
    above = (*above, id(node))
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = (*place, key.value)
            if key.tag == "tag:yaml.org,2002:merge":
                continue
            if inner in lines:
                wrong.append((inner, key.start_mark.line + 1, "this key stands twice"))
            lines[inner] = key.start_mark.line + 1
            _note(value, inner, lines, wrong, above)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _note(value, (*place, index), lines, wrong, above)
