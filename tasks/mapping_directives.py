"""Does what a mapping's directives say, with JavaScript's idea of values, on which Segment's mappings rely.

Source: github.com/segmentio/action-destinations, packages/core/src/mapping-kit. Every directive is compiled
once into a function of the payload. Three things are as in Python on purpose: whole numbers below 1e21 keep all
their digits, keys that are whole numbers keep their place, and `ignorecase` compares letters as Python does.
"""

import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import Enum
from typing import Any, Final, Literal

from tasks.errors import MappingFailed
from tasks.liquid_template import Liquid, LiquidFailed, LiquidRefused
from tasks.vocabulary import CHANNELS, SYSTEMS, event_for, name_for, properties_for


class Undefined(Enum):
    """JavaScript's undefined: no value, which is something else than null."""

    UNDEFINED = "undefined"

    def __bool__(self) -> Literal[False]:
        return False

    def __repr__(self) -> str:
        return "UNDEFINED"


UNDEFINED: Final = Undefined.UNDEFINED

Resolver = Callable[[Any], Any]
Place = tuple[str, ...]

# --- values as JavaScript has them ---------------------------------------------------------------------

TYPES: Final[dict[type, str]] = {
    type(None): "null",
    Undefined: "undefined",
    bool: "boolean",
    int: "number",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
}
SPECIAL_NUMBERS: Final = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
PLAIN_DIGITS: Final = 21  # numbers below 1e21 are written without exponent
SMALLEST_PLAIN: Final = -6


def type_name(value: Any) -> str:
    return TYPES.get(type(value), type(value).__name__)


def truthy(value: Any) -> bool:
    return bool(value) or isinstance(value, list | dict)


def absent(value: Any) -> bool:
    return value is None or value is UNDEFINED


def number_text(number: float) -> str:
    """A number as JavaScript writes it: 9.5, 1, 1e+21."""
    if isinstance(number, int) and abs(number) < 10**PLAIN_DIGITS:
        return str(number)
    try:
        written = repr(float(number))
    except OverflowError:
        return "Infinity" if number > 0 else "-Infinity"
    return SPECIAL_NUMBERS.get(written) or decimal_text(Decimal(written))


def decimal_text(number: Decimal) -> str:
    number = number.normalize()
    sign, digit_tuple, exponent = number.as_tuple()
    if number == 0:
        return "0"
    digits, minus = "".join(map(str, digit_tuple)), "-" * sign
    point = len(digits) + int(exponent)
    if not SMALLEST_PLAIN < point <= PLAIN_DIGITS:
        fraction = f".{digits[1:]}" if len(digits) > 1 else ""
        return f"{minus}{digits[0]}{fraction}e{point - 1:+d}"
    return format(number, "f")


def text_of(value: Any) -> str:
    """String(value)."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return number_text(value)
    if isinstance(value, list):
        return ",".join("" if absent(item) else text_of(item) for item in value)
    return "[object Object]" if isinstance(value, dict) else type_name(value)


def encode(value: Any) -> Any:
    """JSON.stringify(value); UNDEFINED stays."""
    if value is UNDEFINED:
        return UNDEFINED
    if isinstance(value, str):
        written = json.dumps(value, ensure_ascii=False)
        return re.sub(r"[\ud800-\udfff]", lambda found: f"\\u{ord(found[0]):x}", written)
    if isinstance(value, list):
        return "[" + ",".join("null" if item is UNDEFINED else encode(item) for item in value) + "]"
    if isinstance(value, dict):
        members = (f"{encode(key)}:{encode(item)}" for key, item in value.items() if item is not UNDEFINED)
        return "{" + ",".join(members) + "}"
    if isinstance(value, float) and not math.isfinite(value):
        return "null"
    return text_of(value)


def decode(text: str) -> Any:
    """JSON.parse(text); what is no JSON stays as it is."""
    try:
        return json.loads(text, parse_float=decoded_float, parse_constant=refuse_constant)
    except ValueError:
        return text


def decoded_float(written: str) -> float | None:
    """1.0 is 1; what is beyond all numbers would be written as null."""
    number = float(written)
    if math.isinf(number):
        return None
    return int(number) if number.is_integer() and abs(number) < 10**PLAIN_DIGITS else number


def refuse_constant(written: str) -> Any:
    raise ValueError(written)  # NaN and Infinity are no JSON, whatever Python's parser thinks


def units_of(text: str) -> list[str]:
    """The elements that JavaScript finds in a text: UTF-16 units."""
    if text.isascii():
        return list(text)
    raw = text.encode("utf-16-le", "surrogatepass")
    return [raw[at : at + 2].decode("utf-16-le", "replace") for at in range(0, len(raw), 2)]


def cleaned(value: Any, hole: Any = None) -> Any:
    """A copy that shares nothing with the event: no UNDEFINED in objects, the given hole for it in arrays."""
    if isinstance(value, dict):
        return {key: cleaned(item, hole) for key, item in value.items() if item is not UNDEFINED}
    if isinstance(value, list):
        return [hole if item is UNDEFINED else cleaned(item, hole) for item in value]
    return value


# --- paths ---------------------------------------------------------------------------------------------

PATH_SEPARATOR: Final = re.compile(r"""\[(?=["'0-9])|\.|(?<=["'0-9])\]+""")
INDEX: Final = re.compile(r"0|[1-9][0-9]{0,14}")


def keys_of(path: str) -> list[str]:
    """The keys along a path; none for the whole object."""
    parts = [part for part in PATH_SEPARATOR.split(path) if part]
    return [re.sub("[\"']", "", part) for part in parts]


def walk(value: Any, keys: list[str]) -> Any:
    """The value at the end of the keys, or the first falsy one on the way, as `a && a[key]` finds it."""
    for key in keys:
        if isinstance(value, dict):
            value = value.get(key, UNDEFINED)
        elif isinstance(value, list) or (value and isinstance(value, str)):
            value = element(value, key)
        else:
            return UNDEFINED if value else value
    return value


def element(value: list[Any] | str, key: str) -> Any:
    """Arrays and texts have a length, and elements with whole numbers for keys."""
    items = units_of(value) if isinstance(value, str) else value
    if key == "length":
        return len(items)
    return items[int(key)] if INDEX.fullmatch(key) and int(key) < len(items) else UNDEFINED


# --- compiling -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Compiler:
    """Turns the parts of a mapping into functions, and notes what it finds on the way."""

    problems: list[str]
    paths: set[str]
    place: Place = ()
    #: What stands before the paths that are read here; None when they do not lead into the event.
    prefix: str | None = ""

    def value(self, mapping: Any, *keys: str) -> Resolver:
        """The function for any part of a mapping, which stands under the keys."""
        here = replace(self, place=(*self.place, *keys))
        if isinstance(mapping, dict):
            return here.directive(mapping) if is_directive(mapping) else here.members(mapping)
        if isinstance(mapping, list):
            items = [here.value(item, str(index)) for index, item in enumerate(mapping)]
            return lambda payload: [item(payload) for item in items]
        return lambda _payload: mapping

    def members(self, mapping: dict[str, Any]) -> Resolver:
        members = [(key, self.value(item, key)) for key, item in mapping.items()]
        return lambda payload: {key: item(payload) for key, item in members}

    def directive(self, mapping: dict[str, Any]) -> Resolver:
        name = next(key for key in mapping if key.startswith("@"))
        build = DIRECTIVES.get(name)
        if build is None:
            return self.problem(f"{name} is not a valid directive, got undefined")
        return build(replace(self, place=(*self.place, name)), mapping[name])

    def options(self, name: str, argument: Any, *required: str) -> dict[str, Any]:
        """The options of a directive, of which Segment wants some to be truthy."""
        if not isinstance(argument, dict):
            self.problem(f"{name} requires an object with options, got {type_name(argument)}")
            return dict.fromkeys(required)
        for key in required:
            if not truthy(argument.get(key)):
                self.problem(f'{name} requires a "{key}" key')
        return {**dict.fromkeys(required), **argument}

    def problem(self, message: str) -> Resolver:
        self.problems.append(f"/{'/'.join(self.place)} {message}.")
        return nothing

    def failure(self, message: str) -> MappingFailed:
        return MappingFailed(f"/{'/'.join(self.place)} {message}.")

    def path(self, path: str) -> Resolver:
        keys = keys_of(path)
        if self.prefix is not None:
            self.paths.add(self.event_path(keys))
        return lambda payload: walk(payload, keys)

    def event_path(self, keys: list[str]) -> str:
        return ".".join([self.prefix, *keys] if self.prefix else keys)


def nothing(_payload: Any) -> Any:
    return UNDEFINED


def is_directive(mapping: dict[str, Any]) -> bool:
    keys = [key for key in mapping if key != "_metadata"]
    return bool(keys) and all(key.startswith("@") for key in keys)


# --- directives ----------------------------------------------------------------------------------------


def literal(compiler: Compiler, argument: Any) -> Resolver:
    return compiler.value(argument)


def path(compiler: Compiler, argument: Any) -> Resolver:
    if isinstance(argument, str):
        return compiler.path(from_root(argument))
    return from_text(compiler, "@path", argument, lambda found, payload: walk(payload, keys_of(from_root(found))))


def from_root(path: str) -> str:
    return path.replace("$.", "", 1)


def template(compiler: Compiler, argument: Any) -> Resolver:
    if not isinstance(argument, str):
        return from_text(compiler, "@template", argument, rendered)
    texts, paths = split_template(argument, 3)
    if paths:
        for inner in (*paths, *split_template("".join(texts), 2)[1]):
            compiler.path(inner)
        return lambda payload: rendered(argument, payload)
    texts, paths = split_template(argument, 2)
    readers = [compiler.path(inner) for inner in paths]
    first, *others = texts

    def resolve(payload: Any) -> str:
        parts = (inserted(read(payload)) + text for read, text in zip(readers, others, strict=True))
        return first + "".join(parts)

    return resolve


def from_text(compiler: Compiler, name: str, argument: Any, use: Callable[[str, Any], Any]) -> Resolver:
    """For a directive whose text is itself the result of a directive."""
    inner = compiler.value(argument)

    def resolve(payload: Any) -> Any:
        found = inner(payload)
        if not isinstance(found, str):
            raise compiler.failure(f"{name}: expected string, got {type_name(found)}")
        return use(found, payload)

    return resolve


def inserted(value: Any) -> str:
    return "" if absent(value) else text_of(value)


def rendered(text: str, payload: Any) -> str:
    """The text with triple placeholders filled in, then the double ones, even those that values brought."""
    for width in (3, 2):
        (first, *others), paths = split_template(text, width)
        values = (inserted(walk(payload, keys_of(inner))) for inner in paths)
        text = first + "".join(value + other for value, other in zip(values, others, strict=True))
    return text


def split_template(text: str, width: int) -> tuple[list[str], list[str]]:
    """What stands around the matches of `{{([^}]+)}}`, and the paths in them.

    By hand, because the expression takes quadratic time on many opening brackets.
    """
    texts, paths, done = [], [], 0
    start = text.find("{" * width)
    while start >= 0 and (end := text.find("}", start + width)) >= 0:
        inner = text[start + width : end]
        following = end if inner else start + 1
        if inner and text.startswith("}" * width, end):
            following = end + width
            texts.append(text[done:start])
            paths.append(inner.strip())
            done = following
        start = text.find("{" * width, following)
    return [*texts, text[done:]], paths


def choice(compiler: Compiler, argument: Any) -> Resolver:
    """@if; `blank` is misnamed: its `then` is for what is not blank."""
    options = compiler.options("@if", argument)
    if not truthy(options.get("exists")) and not truthy(options.get("blank")):
        return compiler.problem('@if requires an "exists" key or a "blank" key')
    key = "exists" if "exists" in options else "blank"
    tested = compiler.value(options[key], key)
    then = compiler.value(options["then"], "then") if "then" in options else nothing
    otherwise = compiler.value(options["else"], "else") if truthy(options.get("else")) else nothing
    fails = absent if key == "exists" else blank
    return lambda payload: otherwise(payload) if fails(tested(payload)) else then(payload)


def blank(value: Any) -> bool:
    """Absent, or loosely equal to the empty text, as `0 == ''` is."""
    if isinstance(value, list):
        return text_of(value) == ""
    return absent(value) or (not value and not isinstance(value, dict))


def case(compiler: Compiler, argument: Any) -> Resolver:
    options = compiler.options("@case", argument, "operator")
    change = {"lower": str.lower, "upper": str.upper}.get(str(options.get("operator")))
    if not truthy(options.get("value")):
        return nothing
    inner = compiler.value(options["value"], "value")

    def resolve(payload: Any) -> Any:
        value = inner(payload)
        if not isinstance(value, str):
            return value
        if change is None:
            raise compiler.failure('operator key should have a value of "lower" or "upper"')
        return change(value)

    return resolve


def replacement(compiler: Compiler, argument: Any) -> Resolver:
    """@replace."""
    options = compiler.options("@replace", argument, "pattern")
    if not truthy(options.get("value")):
        return nothing
    inner = compiler.value(options["value"], "value")
    flags = re.IGNORECASE if options.get("ignorecase") else re.NOFLAG
    count = 1 if options.get("global") is False else 0
    pairs = [(options.get(f"pattern{n}"), options.get(f"replacement{n}")) for n in ("", "2")]
    steps = [(re.compile(re.escape(str(old)), flags), expander(str(new or ""))) for old, new in pairs if old]

    def resolve(payload: Any) -> str:
        value = inner(payload)
        if not isinstance(value, str | bool | int | float):
            return ""
        text = text_of(value)
        for pattern, expand in steps:
            text = pattern.sub(expand, text, count=count)
        return text

    return resolve


def expander(template_text: str) -> Callable[[re.Match[str]], str]:
    """JavaScript's replacement text, in which four signs after a dollar stand for something."""
    if "$" not in template_text:
        return lambda _found: template_text
    meanings: dict[str, Callable[[re.Match[str]], str]] = {
        "$$": lambda _found: "$",
        "$&": lambda found: found[0],
        "$`": lambda found: found.string[: found.start()],
        "$'": lambda found: found.string[found.end() :],
    }
    return lambda found: re.sub(r"\$[$&`']", lambda sign: meanings[sign[0]](found), template_text)


def array_path(compiler: Compiler, argument: Any) -> Resolver:
    """@arrayPath, with each element as the payload of the shape."""
    if not isinstance(argument, list):
        return compiler.problem(f"@arrayPath expected array, got {type_name(argument)}")
    first = argument[0] if argument else None
    shape = argument[1] if len(argument) > 1 else None
    root = compiler.path(from_root(first)) if isinstance(first, str) else compiler.value(first, "0")
    if not isinstance(shape, dict) or not shape:
        return root
    prefix = None
    if isinstance(first, str) and compiler.prefix is not None:
        prefix = compiler.event_path(keys_of(from_root(first))) + "[]"
    item = replace(compiler, prefix=prefix).value(shape, "1")

    def resolve(payload: Any) -> Any:
        found = root(payload)
        if not isinstance(found, list | dict):
            return found
        return [item(element) for element in (found if isinstance(found, list) else [found])]

    return resolve


def flatten(compiler: Compiler, argument: Any) -> Resolver:
    options = compiler.options("@flatten", argument, "separator")
    separator = compiler.value(options.get("separator"), "separator")
    inner = compiler.value(options["value"], "value") if "value" in options else nothing
    kinds: tuple[type, ...] = (dict,) if truthy(options.get("omitArrays")) else (dict, list)

    def resolve(payload: Any) -> dict[str, Any]:
        joint = separator(payload)
        if not isinstance(joint, str):
            raise compiler.failure("@flatten requires a string separator")
        return dict(flat_members(inner(payload), "", joint, kinds))

    return resolve


def flat_members(value: Any, prefix: str, joint: str, kinds: tuple[type, ...]) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, kinds):
        yield prefix, value
        return
    for key, item in members_of(value):
        yield from flat_members(item, f"{prefix}{joint}{key}" if prefix else key, joint, kinds)


def members_of(value: Any) -> list[tuple[str, Any]]:
    """Keys and values of an object, an array, or a text; other things have none."""
    if isinstance(value, dict):
        return list(value.items())
    if isinstance(value, str):
        value = units_of(value)
    return [(str(index), item) for index, item in enumerate(value)] if isinstance(value, list) else []


def json_text(compiler: Compiler, argument: Any) -> Resolver:
    """@json; a mode in capitals is let pass and gives nothing, as at Segment."""
    options = compiler.options("@json", argument, "mode", "value")
    inner = compiler.value(options.get("value"), "value")
    if options.get("mode") == "encode":
        return lambda payload: encode(inner(payload))
    if options.get("mode") == "decode":
        return lambda payload: decode(value) if isinstance(value := inner(payload), str) else value
    return nothing


def merge(compiler: Compiler, argument: Any) -> Resolver:
    options = compiler.options("@merge", argument, "direction", "objects")
    direction = compiler.value(options.get("direction"), "direction")
    if not isinstance(options["objects"], list):
        return compiler.problem(f"@merge: expected opts.array, got {type_name(options['objects'])}")
    objects = [compiler.value(part, "objects", str(index)) for index, part in enumerate(options["objects"])]

    def resolve(payload: Any) -> dict[str, Any]:
        found = [part(payload) for part in objects]
        merged: dict[str, Any] = {}
        for part in reversed(found) if direction(payload) == "left" else found:
            merged.update(members_of(part))
        return merged

    return resolve


def transform(compiler: Compiler, argument: Any) -> Resolver:
    options = compiler.options("@transform", argument, "apply", "mapping")
    apply = compiler.value(options.get("apply"), "apply")
    inner = replace(compiler, prefix=None).value(options.get("mapping"), "mapping")
    return lambda payload: inner(cleaned(apply(payload), UNDEFINED))


def exclude_when_null(compiler: Compiler, argument: Any) -> Resolver:
    inner = compiler.value(argument)
    return lambda payload: without_null(inner(payload))


def without_null(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_null(item) for key, item in value.items() if item is not None}
    return UNDEFINED if value is None else value


LIQUID: Final = Liquid(text_of, encode)


def liquid(compiler: Compiler, argument: Any) -> Resolver:
    if not isinstance(argument, str):
        return compiler.problem(f"should be a string but it is {type_name(argument)}")
    try:
        template = LIQUID.compiled(argument)
    except LiquidRefused as error:
        return compiler.problem(str(error))
    if compiler.prefix is not None:
        compiler.paths.update(compiler.event_path(list(keys)) for keys in template.paths)

    def resolve(payload: Any) -> str:
        try:
            return template.render(payload)
        except LiquidFailed as error:
            raise compiler.failure(str(error)) from None

    return resolve


GIVES: Final[dict[str, Callable[[Any, str, str | None], Any]]] = {
    "name": name_for,
    "properties": properties_for,
    "event": event_for,
}


def message(compiler: Compiler, argument: Any) -> Resolver:
    """@message, which is ours: what a system calls what became of the event's message (docs/vocabulary.md)."""
    options = {"to": argument} if isinstance(argument, str) else compiler.options("@message", argument, "to")
    allowed = {"to": SYSTEMS, "give": tuple(GIVES), "channel": CHANNELS}
    before = len(compiler.problems)
    for key, value in options.items():
        if key not in allowed:
            compiler.problem(f'@message has no "{key}", only {", ".join(allowed)}')
        elif value not in allowed[key] and not (key == "to" and absent(value)):
            compiler.problem(f"@message: {key} should be one of {', '.join(allowed[key])} but it is {encode(value)}")
    if len(compiler.problems) > before:
        return nothing
    give, to, channel = GIVES[options.get("give", "name")], options["to"], options.get("channel")
    read = compiler.path("message")
    if compiler.prefix is not None:
        compiler.paths.add(compiler.event_path(["message", "state"]))

    def resolve(payload: Any) -> Any:
        found = give(read(payload), to, channel)
        return UNDEFINED if found is None else found

    return resolve


DIRECTIVES: Final[dict[str, Callable[[Compiler, Any], Resolver]]] = {
    "@arrayPath": array_path,
    "@case": case,
    "@excludeWhenNull": exclude_when_null,
    "@flatten": flatten,
    "@if": choice,
    "@json": json_text,
    "@liquid": liquid,
    "@literal": literal,
    "@merge": merge,
    "@message": message,
    "@path": path,
    "@replace": replacement,
    "@template": template,
    "@transform": transform,
}
