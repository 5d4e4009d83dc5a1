"""Makes an action's fields out of an event, so that the mappings of a Segment destination work here too.

Source: github.com/segmentio/action-destinations, packages/core/src/mapping-kit.
What could only fail later is refused at load, also inside arrays, which Segment does not look into before it
runs them.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from tasks.errors import MappingFailed, MappingRefused
from tasks.mapping_directives import (
    DIRECTIVES,
    UNDEFINED,
    Compiler,
    Place,
    Resolver,
    cleaned,
    nothing,
    type_name,
)

__all__ = ["UNDEFINED", "Mapping", "compile"]

ROOT_KEY: Final = "__segment_internal_directive"
MAX_DEPTH: Final = 64
MAX_PATTERN: Final = 10  # characters, also of replacements


@dataclass(frozen=True, slots=True)
class Mapping:
    """A mapping, ready to be applied."""

    #: What it reads of an event, as dotted paths; `a[].b` is read in each element of `a`.
    paths: frozenset[str]
    _resolve: Resolver

    def resolve(self, event: dict[str, Any]) -> Any:
        """The mapped value, which shares nothing with the event, or UNDEFINED.

        Raises MappingFailed.
        """
        if not isinstance(event, dict):
            raise MappingFailed(f"data must be an object, got {type_name(event)}")
        try:
            return cleaned(self._resolve(event))
        except RecursionError:
            raise MappingFailed("the event is nested too deeply") from None


def compile(mapping: Any) -> Mapping:  # noqa: A001 - what it does
    """Checks a mapping and turns it into functions, once.

    Raises MappingRefused with every problem and its place.
    """
    problems = json_problems(mapping) or root_problems(mapping)
    if not problems:
        mapping = without_wrapper(mapping)
        problems = value_problems(mapping, ())
    compiler = Compiler(problems, set())
    resolve = nothing if problems else compiler.value(mapping)
    if problems:
        raise MappingRefused(tuple(dict.fromkeys(problems)))
    return Mapping(frozenset(compiler.paths), resolve)


def root_problems(mapping: Any) -> list[str]:
    """A root wrapper is an object with one directive, whose argument is an object."""
    if not isinstance(mapping, dict) or ROOT_KEY not in mapping:
        return []
    root = mapping[ROOT_KEY]
    if isinstance(root, dict) and len(root) > 1:
        return problem((ROOT_KEY,), "The root mapping must only have a single directive object")
    if not isinstance(root, dict) or not all(isinstance(argument, dict) for argument in root.values()) or not root:
        return problem((ROOT_KEY,), "The root directive must be an object")
    return []


def without_wrapper(mapping: Any) -> Any:
    """The directive in the root wrapper, which takes all other keys as its `mapping`."""
    if not isinstance(mapping, dict) or ROOT_KEY not in mapping:
        return mapping
    others = {key: value for key, value in mapping.items() if key != ROOT_KEY}
    return {name: {**argument, "mapping": others} for name, argument in mapping[ROOT_KEY].items()}


# --- validation ----------------------------------------------------------------------------------------

Validator = Callable[[Any, Place], list[str]]


def problem(place: Place, text: str) -> list[str]:
    return [f"/{'/'.join(place)} {text}."]


def with_article(kind: str) -> str:
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def wrong_kind(place: Place, wanted: str, value: Any) -> list[str]:
    return problem(place, f"should be {wanted} but it is {with_article(kind_of(value))}")


def kind_of(value: Any) -> str:
    """The JSON type, or `directive` for an object with a directive's key."""
    return "directive" if isinstance(value, dict) and directive_keys(value) else type_name(value)


def directive_keys(value: dict[str, Any]) -> list[str]:
    return [key for key in value if key.startswith("@")]


def json_problems(mapping: Any) -> list[str]:
    """What no JSON text could hold (YAML can), and nesting beyond measure."""
    pending: list[tuple[Any, Place]] = [(mapping, ())]
    found: list[str] = []
    while pending:
        value, place = pending.pop()
        if len(place) > MAX_DEPTH:
            return problem(place[:4], f"is nested deeper than {MAX_DEPTH}")
        if isinstance(value, dict):
            found += [
                p
                for key in value
                if not isinstance(key, str)
                for p in problem(place, f"has a key that is no text: {key!r}")
            ]
            pending += [(item, (*place, str(key))) for key, item in value.items()]
        elif isinstance(value, list):
            pending += [(item, (*place, str(index))) for index, item in enumerate(value)]
        elif not isinstance(value, str | int | float | None):
            found += wrong_kind(place, "a mapping directive or a JSON value", value)
    return found


def value_problems(value: Any, place: Place) -> list[str]:
    """Any part of a mapping. Arrays are left to the compiler."""
    kind = kind_of(value)
    if kind == "directive":
        return directive_problems(value, place)
    return object_problems(value, place) if kind == "object" else []


def object_problems(value: Any, place: Place) -> list[str]:
    if kind_of(value) not in {"object", "directive"}:
        return wrong_kind(place, "an object", value)
    if keys := directive_keys(value):
        return problem(place, f'shouldn\'t have directive (@-prefixed) keys but it has "{keys[0]}"')
    return [found for key, item in value.items() for found in value_problems(item, (*place, key))]


def directive_problems(value: dict[str, Any], place: Place) -> list[str]:
    keys = directive_keys(value)
    others = [key for key in value if not key.startswith("@") and key != "_metadata"]
    count = len(keys) if len(keys) > 1 else len(value)
    if len(keys) > 1 or others:
        return problem(place, f"should only have one @-prefixed key but it has {count} keys")
    name = keys[0]
    if name not in DIRECTIVES:
        return problem(place, f"has an invalid directive: {name}")
    return ARGUMENTS[name](value[name], (*place, name))


def text_or_directive(value: Any, place: Place) -> list[str]:
    if isinstance(value, str):
        return []
    if kind_of(value) == "directive":
        return directive_problems(value, place)
    return wrong_kind(place, "a string or a mapping directive", value)


def text_or_options(value: Any, place: Place) -> list[str]:
    """What @message takes; the compiler looks at its words."""
    return [] if isinstance(value, str | dict) else wrong_kind(place, "a string or an object", value)


def raw_or_directive(value: Any, place: Place) -> list[str]:
    return directive_problems(value, place) if kind_of(value) == "directive" else []


def object_or_directive(value: Any, place: Place) -> list[str]:
    return value_problems(value, place) if isinstance(value, dict) else wrong_kind(place, "an object", value)


def text(minimum: int, maximum: int) -> Validator:
    def validate(value: Any, place: Place) -> list[str]:
        if not isinstance(value, str):
            return wrong_kind(place, "a string", value)
        if len(value) < minimum:
            return problem(place, f"should be a string of length {minimum} or greater")
        if len(value) > maximum:
            return problem(place, f"should be a string of length {maximum} or less")
        return []

    return validate


def boolean(value: Any, place: Place) -> list[str]:
    return [] if isinstance(value, bool) else wrong_kind(place, "a boolean", value)


def array(value: Any, place: Place) -> list[str]:
    return [] if isinstance(value, list) else wrong_kind(place, "an array", value)


def one_of(*allowed: str) -> Validator:
    """One of some words; Segment does not mind capitals here, though it does when it runs."""

    def validate(value: Any, place: Place) -> list[str]:
        if not isinstance(value, str):
            return raw_or_directive(value, place) if isinstance(value, dict) else wrong_kind(place, "a string", value)
        if value.lower() in allowed:
            return []
        return problem(place, f'should be one of {", ".join(allowed)} but it is "{value}"')

    return validate


def array_path_arguments(value: Any, place: Place) -> list[str]:
    if not isinstance(value, list):
        return array(value, place)
    first, shape = [*value, None, None][:2] if value else (UNDEFINED, None)
    return text_or_directive(first, place) + value_problems(shape, place)


def options(required: dict[str, Validator], optional: dict[str, Validator]) -> Validator:
    """An object with these keys; others are let pass."""

    def validate(value: Any, place: Place) -> list[str]:
        found = object_problems(value, place)
        if found:
            return found
        missing = (key for key in required if key not in value)
        found += [p for key in missing for p in problem(place, f'should have field "{key}" but it doesn\'t')]
        checks = {**required, **optional}
        return found + [p for key, check in checks.items() if key in value for p in check(value[key], (*place, key))]

    return validate


pattern_text: Final = text(1, MAX_PATTERN)
replacement_text: Final = text(0, MAX_PATTERN)
ARGUMENTS: Final[dict[str, Validator]] = {
    "@arrayPath": array_path_arguments,
    "@case": options({}, {"operator": text(0, sys.maxsize), "value": text_or_directive}),
    "@excludeWhenNull": raw_or_directive,
    "@flatten": options({"separator": text_or_directive}, {"value": raw_or_directive, "omitArrays": boolean}),
    "@if": options({}, dict.fromkeys(("exists", "blank", "then", "else"), raw_or_directive)),
    "@json": options({"mode": one_of("encode", "decode")}, {"value": raw_or_directive}),
    "@liquid": text(0, sys.maxsize),
    "@literal": raw_or_directive,
    "@merge": options({"objects": array}, {"direction": one_of("left", "right")}),
    "@message": text_or_options,
    "@path": text_or_directive,
    "@replace": options(
        {"pattern": pattern_text, "value": text_or_directive},
        {
            "replacement": replacement_text,
            "pattern2": replacement_text,
            "replacement2": replacement_text,
            "ignorecase": boolean,
            "global": boolean,
        },
    ),
    "@template": text_or_directive,
    "@transform": options({"apply": object_or_directive, "mapping": raw_or_directive}, {}),
}
