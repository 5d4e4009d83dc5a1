r"""Decides whether an event is for a route, as Segment decides wherever both read the same condition.

The language is FQL (https://segment.com/docs/api/public-api/fql/); verdicts on Segment's seven fields follow
github.com/segmentio/action-destinations, packages/destination-subscriptions, and all other fields follow the
rules for `properties`: `!= "x"` is true for what is missing but `!= 5` is not, numbers compare with numbers
only, `= null` means that there is no value, and `!contains` and `!match` are false for what is no text. What
Segment reads otherwise than a person is refused: `and` beside `or` without parentheses, `!(`, `not`, `AND`,
`!= true`, bare words, fields that it skips, and on its seven fields single quotes, escapes, `in`, and globs
other than `abc*` and `*abc`. In text, `\"`, `\'` and `\\` are escapes; any other backslash stays, for globs.
"""

import operator
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from tasks.errors import TriggerRefused
from tasks.mapping_directives import UNDEFINED, encode, number_text, walk
from tasks.trigger_syntax import (
    Call,
    Comparison,
    Condition,
    Field,
    Group,
    Literal,
    Membership,
    Operand,
    Parser,
    Predicate,
    fields_of,
    operands_of,
    refusal,
)

Event = dict[str, Any]
Reader = Callable[[Event], Any]
Check = Callable[[Event], bool]

ORDER: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
NUMBER: Final = (int, float)
TYPES: Final[dict[type, str]] = {
    str: "string",
    int: "number",
    float: "number",
    bool: "bool",
    list: "list",
    dict: "object",
}
#: Field → kinds of values that Segment turns into text before it compares.
COMPARED_AS_TEXT: Final[dict[str, tuple[type, ...]]] = {
    "type": (type(None), bool, int, float),
    "event": (type(None), bool, int, float),
    "name": (bool, int, float),
    "userId": (int, float),
}


@dataclass(frozen=True, slots=True)
class Trigger:
    """A condition on events, ready to be asked."""

    text: str
    #: What it reads of an event, as dotted paths.
    paths: frozenset[str]
    condition: Condition
    _leaves: tuple[tuple[str, Check], ...]
    _check: Check

    def matches(self, event: Event) -> bool:
        return self._check(event)

    def explain(self, event: Event) -> list[tuple[str, bool]]:
        """Every single condition with its verdict, in the order of the text."""
        return [(text, check(event)) for text, check in self._leaves]

    def __str__(self) -> str:
        return str(self.condition)


def parse(text: str) -> Trigger:
    """A trigger out of its text.

    Raises TriggerRefused, which shows the line and the place, what is wrong there and what to write.
    """
    if not isinstance(text, str):
        raise TriggerRefused(f"a trigger is text, not {type(text).__name__}; write it in quotes")
    condition = Parser(text).whole()
    leaves: list[tuple[str, Check]] = []
    check = compiled(text, condition, leaves)
    paths = {".".join(found.names) for operand in operands_of(condition) for found in fields_of(operand)}
    return Trigger(text, frozenset(paths), condition, tuple(leaves), check)


def compiled(text: str, condition: Condition, leaves: list[tuple[str, Check]]) -> Check:
    """The condition as one function; every leaf is added to the list."""
    if isinstance(condition, Group):
        checks = [compiled(text, child, leaves) for child in condition.children]
        return joined(condition.joiner, checks)
    if isinstance(condition, Comparison):
        check = comparison(condition)
    elif isinstance(condition, Membership):
        check = membership(condition)
    else:
        check = predicate(text, condition)
    leaves.append((str(condition), check))
    return check


def joined(joiner: str, checks: list[Check]) -> Check:
    settled = joiner == "or"  # the verdict of one that decides for all

    def check(event: Event) -> bool:
        for child in checks:
            if child(event) is settled:
                return settled
        return not settled

    return check


def comparison(condition: Comparison) -> Check:
    read = reader(condition.left)
    compare = ORDER[condition.operator]
    wanted = as_compared(condition.left, condition.operator, condition.right)
    if isinstance(wanted, bool):
        return lambda event: read(event) is wanted
    if isinstance(wanted, int | float):
        return lambda event: type(value := read(event)) in NUMBER and compare(value, wanted)
    # Only text equals a text, and only no value equals None, so that types need no look here.
    return lambda event: compare(read(event), wanted)


def as_compared(left: Operand, sign: str, right: Literal) -> Any:
    """The value to compare with: text in place of other values where Segment makes it so."""
    value: Any = right.value
    if not isinstance(left, Field) or left.own or sign not in {"=", "!="}:
        return value
    if type(value) not in COMPARED_AS_TEXT.get(left.names[0], ()):
        return value
    return number_text(value) if type(value) in NUMBER else str(right)


def membership(condition: Membership) -> Check:
    read = reader(condition.left)
    if isinstance(condition.right, tuple):
        allowed = frozenset(distinct(literal.value) for literal in condition.right)
        return lambda event: distinct(read(event)) in allowed
    read_list = reader(condition.right)

    def check(event: Event) -> bool:
        values = read_list(event)
        wanted = distinct(read(event))
        return isinstance(values, list) and any(distinct(value) == wanted for value in values)

    return check


def distinct(value: Any) -> tuple[str, Any]:
    """Something that is equal, and can be looked up, for values equal in JSON only (`true` is not 1)."""
    if isinstance(value, list | dict):
        return ("container", id(value))
    return (typeof(value), value)


def predicate(text: str, condition: Predicate) -> Check:
    call, wanted_verdict = condition.call, not condition.negated
    read = reader(call.arguments[0])
    if call.name == "bool":
        return lambda event: to_bool(read(event)) is wanted_verdict
    wanted = call.arguments[1]
    sought = str(wanted.value) if isinstance(wanted, Literal) else ""
    found = glob(sought, text, wanted.at) if call.name == "match" else (lambda value: sought in value)
    # No text at all is neither a match nor its opposite.
    return lambda event: isinstance(value := read(event), str) and found(value) is wanted_verdict


def reader(operand: Operand) -> Reader:
    """A function from event to value; what is missing is None, as null is."""
    if isinstance(operand, Literal):
        constant = operand.value
        return lambda _event: constant
    if isinstance(operand, Call):
        function, inner = FUNCTIONS[operand.name], reader(operand.arguments[0])
        return lambda event: function(inner(event))
    first, *rest = operand.names
    if not rest:
        return lambda event: event.get(first)

    def read(event: Event) -> Any:
        value = walk(event.get(first), rest)
        return None if value is UNDEFINED else value

    return read


# --- functions -----------------------------------------------------------------------------------------


def typeof(value: Any) -> str:
    return TYPES.get(type(value), "null")


def length(value: Any) -> int | None:
    if isinstance(value, str):
        return len(value.encode("utf-8", "surrogatepass"))
    return 0 if value is None else len(value) if isinstance(value, list) else None


def to_bool(value: Any) -> bool:
    """Empty things, zero and the text "false" are false."""
    return bool(value) and value != "false"


def to_string(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    try:
        return str(encode(value))
    except RecursionError:
        return None


def to_number(value: Any) -> float | None:
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?[0-9]{1,300}(\.[0-9]{1,300})?\s*", value):
        return float(value)
    return value if type(value) in NUMBER else None


def on_text(function: Callable[[str], str]) -> Callable[[Any], str | None]:
    return lambda value: function(value) if isinstance(value, str) else None


FUNCTIONS: Final[dict[str, Callable[[Any], Any]]] = {
    "length": length,
    "lowercase": on_text(str.lower),
    "uppercase": on_text(str.upper),
    "snakecase": on_text(lambda text: text.replace(" ", "_")),
    "kebabcase": on_text(lambda text: text.replace(" ", "-")),
    "titlecase": on_text(lambda text: re.sub(r"(?<![^ ])[^ ]", lambda found: found[0].upper(), text)),
    "typeof": typeof,
    "bool": to_bool,
    "string": to_string,
    "number": to_number,
}


# --- globs ---------------------------------------------------------------------------------------------

GLOB: Final = re.compile(r"(?P<star>\*+)|(?P<any>\?)|(?P<set>\[)|\\(?P<escaped>.)|(?P<plain>.)", re.DOTALL)
SET_MEMBER: Final = re.compile(
    r"(?:\\(?P<escaped>.)|(?P<plain>[^\\\]]))(?:-(?:\\(?P<last>.)|(?P<end>[^\\\]])))?", re.DOTALL
)


def glob(pattern: str, text: str = "", at: int = 0) -> Callable[[str], bool]:
    """A matcher for the whole of a value: `*`, `?`, `[abc]`, `[a-z]`, and a backslash before a literal sign.

    The parts between the stars are looked for one after the other, each at its first place, and never again:
    so the time grows with the length of the value, whatever the pattern. Raises TriggerRefused.
    """
    parts = list(glob_parts(pattern, text, at))
    (head, head_size), (tail, tail_size), middle = parts[0], parts[-1], [part for part, _size in parts[1:-1]]
    if len(parts) == 1:
        return lambda value: head.fullmatch(value) is not None

    def matches(value: str) -> bool:
        end = len(value) - tail_size
        if end < head_size or not head.match(value) or not tail.match(value, end):
            return False
        begin = head_size
        for part in middle:
            found = part.search(value, begin, end)
            if found is None:
                return False
            begin = found.end()
        return True

    return matches


def glob_parts(pattern: str, text: str, at: int) -> Iterator[tuple[re.Pattern[str], int]]:
    """The parts between stars, as expressions that match a fixed number of characters."""
    part, size, place = "", 0, 0
    while place < len(pattern):
        found = GLOB.match(pattern, place)
        if found is None:
            raise refusal(text, at, "the pattern ends with a lone backslash; remove it, or write two")
        place = found.end()
        if found["star"]:
            yield re.compile(part, re.DOTALL), size
            part, size = "", 0
            continue
        if found["set"]:
            piece, place = glob_set(pattern, place, text, at)
        else:
            piece = "." if found["any"] else re.escape(found["escaped"] or found["plain"])
        part, size = part + piece, size + 1
    yield re.compile(part, re.DOTALL), size


def glob_set(pattern: str, place: int, text: str, at: int) -> tuple[str, int]:
    """The set that begins at the place, as an expression, and where it ends."""
    start = place
    members = ""
    while place < len(pattern) and pattern[place] != "]":
        found = SET_MEMBER.match(pattern, place)
        if found is None or (place == start and found["plain"] in {"^", "!"}):
            raise refusal(text, at, "sets are not negated, and end with `]`; write the characters that are meant")
        first, last = found["escaped"] or found["plain"], found["last"] or found["end"]
        if last is not None and last < first:
            raise refusal(text, at, f"the range {first}-{last} is empty; write {last}-{first}")
        members += re.escape(first) + (f"-{re.escape(last)}" if last else "")
        place = found.end()
    if place == start or place == len(pattern):
        raise refusal(text, at, "a set in the pattern is empty or has no `]`; write it as in [abc]")
    return f"[{members}]", place + 1
