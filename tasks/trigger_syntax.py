r"""Reads the text of a trigger into conditions, and refuses what Segment would read as something else.

The grammar is that of https://segment.com/docs/api/public-api/fql/, held against the parser that decides
about subscriptions (github.com/segmentio/action-destinations, packages/destination-subscriptions), which has
seven fields, no precedence, no nesting and no escapes. A condition on one of those seven fields is "judged":
it must mean the same to both readers, or it is refused. Every other field has the whole of FQL, and so has a
field written with a backslash in front (`\event in ["a", "b"]`), for events that never saw Segment.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from tasks.errors import TriggerRefused

#: The fields that Segment's subscriptions can see; those that are containers need a name behind a dot.
JUDGED: Final = {
    "type": False,
    "event": False,
    "name": False,
    "userId": False,
    "context": True,
    "properties": True,
    "traits": True,
}
#: Fields of Segment's events that its subscriptions skip in silence: the condition counts for nothing.
SKIPPED: Final = frozenset(
    (
        "anonymousId",
        "groupId",
        "integrations",
        "messageId",
        "originalTimestamp",
        "previousId",
        "receivedAt",
        "sentAt",
    )
)
#: Function → number of arguments.
FUNCTIONS: Final = {
    "contains": 2,
    "match": 2,
    "length": 1,
    "lowercase": 1,
    "uppercase": 1,
    "snakecase": 1,
    "kebabcase": 1,
    "titlecase": 1,
    "typeof": 1,
    "bool": 1,
    "string": 1,
    "number": 1,
}
#: Functions that are a condition by themselves.
TESTS: Final = frozenset({"contains", "match", "bool"})
JOINERS: Final = frozenset({"and", "or"})
CONSTANTS: Final[dict[str, bool | None]] = {"true": True, "false": False, "null": None}
COMPARISONS: Final = frozenset({"=", "!=", "<", "<=", ">", ">="})
MAX_DEPTH: Final = 32
MAX_DIGITS: Final = 300
EXCERPT: Final = 60

TOKEN: Final = re.compile(
    r"""(?P<space>[ \t\n]++)
      | (?P<word>(?:[A-Za-z_]|\\.)(?:[A-Za-z0-9_-]|\\.)*+)
      | (?P<number>[+-]?[0-9][0-9.]*+)
      | (?P<text>"[^"\\]*+(?:\\.[^"\\]*+)*+"|'[^'\\]*+(?:\\.[^'\\]*+)*+')
      | (?P<operator>!=|<=|>=|[=<>!])
      | (?P<mark>[.,()\[\]])""",
    re.VERBOSE | re.DOTALL,
)
ILLEGAL: Final = {
    "\r": "a carriage return, at which Segment loses the rest; end lines with a line feed only",
    "&": "`&` is no operator; write `and`",
    "|": "`|` is no operator; write `or`",
    ";": "a trigger is one expression without `;`; remove it",
    '"': 'text without closing quote; write `"` behind it',
    "'": 'text without closing quote; write it between `"` and `"`',
}
NO_NUMBER: Final = (
    "not a number that Segment reads; write digits with at most one point, or in a name a backslash before them"
)
NEEDS_SPACE: Final = frozenset({"!=", "<=", ">="})


def refusal(text: str, at: int, problem: str) -> TriggerRefused:
    """What to raise: the problem, its line, and a caret under its place."""
    number = text.count("\n", 0, at) + 1
    start = text.rfind("\n", 0, at) + 1
    end = text.find("\n", start)
    line = text[start : end if end >= 0 else len(text)]
    column = at - start
    cut = max(0, column - EXCERPT)
    shown = "".join(c if c.isprintable() else " " for c in line[cut : column + EXCERPT])
    place = f"line {number}, column {column + 1}"
    return TriggerRefused(f"{place}: {problem}\n    {shown}\n    {' ' * (column - cut)}^")


@dataclass(frozen=True, slots=True)
class Token:
    kind: str  # word, number, text, operator, mark, end
    text: str
    at: int
    end: int


def tokens_of(text: str) -> Iterator[Token]:
    """Words, numbers, texts, operators and marks, then one token of kind `end`."""
    at = 0
    while at < len(text):
        found = TOKEN.match(text, at)
        if found is None:
            character = text[at]
            advice = f"`{character}` has no meaning here; in a name, write `\\{character}`"
            raise refusal(text, at, ILLEGAL.get(character, advice))
        if found.lastgroup != "space":
            token = Token(str(found.lastgroup), found[0], at, found.end())
            check_end(text, token)
            yield token
        at = found.end()
    yield Token("end", "", at, at)


def check_end(text: str, token: Token) -> None:
    """Segment reads on over the end of some tokens when nothing separates them from the next."""
    following = text[token.end : token.end + 1]
    if following in {"", " ", "\t", "\n", ",", "]", ")"}:
        return
    if following in ILLEGAL and following not in {'"', "'"}:
        raise refusal(text, token.end, ILLEGAL[following])
    if token.kind == "text":
        raise refusal(text, token.end, "Segment reads text on beyond this quote; write a space behind the quote")
    if token.kind == "number":
        raise refusal(text, token.at, NO_NUMBER)
    if token.text in NEEDS_SPACE:
        problem = f"Segment misreads `{token.text}` without a space behind it; write `{token.text} {following}`"
        raise refusal(text, token.at, problem)


@dataclass(frozen=True, slots=True)
class Literal:
    """A value written in the trigger."""

    value: str | float | bool | None
    at: int = field(compare=False)
    #: Double quotes and no escapes: read alike by Segment.
    plain: bool = field(default=True, compare=False)

    def __str__(self) -> str:
        if isinstance(self.value, str):
            escaped = re.sub(r"\\(?=[\\\"']|\Z)", r"\\\\", self.value)
            return '"' + escaped.replace('"', '\\"') + '"'
        if self.value is None or isinstance(self.value, bool):
            return {None: "null", True: "true", False: "false"}[self.value]
        return format(Decimal(repr(self.value)), "f")


@dataclass(frozen=True, slots=True)
class Field:
    r"""A path into the event; `own` when it was written with a backslash in front."""

    names: tuple[str, ...]
    own: bool
    at: int = field(compare=False)

    @property
    def judged(self) -> bool:
        return not self.own and self.names[0] in JUDGED

    def __str__(self) -> str:
        first, *rest = (escaped_name(name) for name in self.names)
        if self.own and not first.startswith("\\"):
            first = "\\" + first
        return ".".join([first, *("\\" + name if name in {"and", "or", "null"} else name for name in rest)])


def escaped_name(name: str) -> str:
    escaped = re.sub(r"[^A-Za-z0-9_-]", lambda found: "\\" + found[0], name)
    return escaped if re.match(r"[A-Za-z_\\]", escaped) else "\\" + escaped


@dataclass(frozen=True, slots=True)
class Call:
    name: str
    arguments: tuple["Operand", ...]
    at: int = field(compare=False)

    def __str__(self) -> str:
        return f"{self.name}({', '.join(map(str, self.arguments))})"


Operand = Literal | Field | Call


@dataclass(frozen=True, slots=True)
class Comparison:
    left: Field | Call
    operator: str
    right: Literal

    def __str__(self) -> str:
        return f"{self.left} {self.operator} {self.right}"


@dataclass(frozen=True, slots=True)
class Membership:
    left: Operand
    right: tuple[Literal, ...] | Operand

    def __str__(self) -> str:
        right = f"[{', '.join(map(str, self.right))}]" if isinstance(self.right, tuple) else str(self.right)
        return f"{self.left} in {right}"


@dataclass(frozen=True, slots=True)
class Predicate:
    """A function that is a condition by itself, perhaps negated."""

    call: Call
    negated: bool

    def __str__(self) -> str:
        return f"{'!' * self.negated}{self.call}"


@dataclass(frozen=True, slots=True)
class Group:
    joiner: str
    children: tuple["Condition", ...]

    def __str__(self) -> str:
        parts = (f"({child})" if isinstance(child, Group) else str(child) for child in self.children)
        return f" {self.joiner} ".join(parts)


Condition = Comparison | Membership | Predicate | Group


def grouped(joiner: str, children: list[Condition]) -> Condition:
    """One group, without groups inside it that say the same joiner again."""
    flat: list[Condition] = []
    for child in children:
        flat += child.children if isinstance(child, Group) and child.joiner == joiner else [child]
    return Group(joiner, tuple(flat)) if len(flat) > 1 else flat[0]


class Parser:
    """Recursive descent, one method per rule of the grammar."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = tuple(tokens_of(text))
        self.index = 0

    @property
    def token(self) -> Token:
        return self.tokens[self.index]

    def take(self) -> Token:
        token = self.token
        self.index += token.kind != "end"
        return token

    def refuse(self, where: Token | Operand, problem: str) -> TriggerRefused:
        return refusal(self.text, where.at, problem)

    def expect(self, mark: str, problem: str) -> Token:
        if self.token.text != mark or self.token.kind != "mark":
            raise self.refuse(self.token, problem)
        return self.take()

    def is_word(self, *words: str) -> bool:
        return self.token.kind == "word" and self.token.text in words

    def whole(self) -> Condition:
        if self.token.kind == "end":
            raise self.refuse(self.token, 'the trigger is empty; write a condition like `type = "track"`')
        condition = self.expression(0)
        if self.token.kind != "end":
            raise self.refuse(self.token, self.surplus())
        self.check_cuts(condition)
        return condition

    def surplus(self) -> str:
        word = self.token.text
        if word == ")":
            return "no `(` belongs to this `)`; remove it"
        if word.lower() in JOINERS:
            return f"Segment skips `{word}`; write `{word.lower()}`"
        return "two conditions need `and` or `or` between them; write one of them here"

    def expression(self, depth: int) -> Condition:
        """Conditions joined by one and the same word."""
        if depth > MAX_DEPTH:
            raise self.refuse(self.token, f"parentheses deeper than {MAX_DEPTH}; write fewer")
        children = [self.condition(depth)]
        joiner = ""
        while self.is_word(*JOINERS):
            token = self.take()
            self.check_joiner(token, joiner)
            joiner = token.text
            children.append(self.condition(depth))
        return grouped(joiner, children)

    def check_joiner(self, token: Token, before: str) -> None:
        if before not in {"", token.text}:
            problem = f"Segment takes the last of `and` and `or` for all of them; put the part with `{before}`"
            raise self.refuse(token, f"{problem} or the part with `{token.text}` in parentheses")
        if self.token.text == "(" and self.token.at == token.end:
            raise self.refuse(token, f"Segment skips `{token.text}(`; write `{token.text} (`")

    def condition(self, depth: int) -> Condition:
        token = self.token
        if token.text == "(":
            self.take()
            inside = self.expression(depth + 1)
            self.expect(")", "a `)` is missing; write it here")
            return inside
        if token.text == "!":
            self.take()
            return self.negation(depth)
        left = self.operand(depth)
        if self.token.kind == "operator":
            return self.comparison(left, self.take())
        if self.is_word("in"):
            self.take()
            return self.membership(left, depth)
        if isinstance(left, Call) and left.name in TESTS:
            return self.predicate(left, negated=False)
        raise self.refuse(self.token, f"`{left}` alone is no condition; compare it, as in `{left} != null`")

    def negation(self, depth: int) -> Condition:
        token = self.token
        if token.text == "(":
            advice = "write the opposite: `!=` for `=`, `or` for `and`, `!contains(...)` for `contains(...)`"
            raise self.refuse(token, f"Segment ignores `!` before a parenthesis; {advice}")
        if token.text in TESTS:
            left = self.operand(depth)
            if isinstance(left, Call):
                return self.predicate(left, negated=True)
        advice = "write `!=` in place of `=`, or `!contains(...)`"
        raise self.refuse(token, f"Segment ignores `!` before anything but contains and match; {advice}")

    def comparison(self, left: Operand, operator: Token) -> Comparison:
        if operator.text not in COMPARISONS:
            raise self.refuse(operator, "`!` stands before a function only; write `!=` to compare")
        if self.token.text == "=" and self.token.at == operator.end:
            raise self.refuse(operator, f"`{operator.text}=` is no operator; write `=` once")
        if isinstance(left, Literal):
            raise self.refuse(left, "Segment skips a value on the left; write the field first, then the value")
        right = self.value()
        self.refuse_condition(left)
        self.check_types(left, operator, right)
        if isinstance(left, Field) and left.judged:
            self.check_plain(left, right)
        return Comparison(left, operator.text, right)

    def check_types(self, left: Operand, operator: Token, right: Literal) -> None:
        if operator.text not in {"=", "!="} and (isinstance(right.value, str | bool) or right.value is None):
            raise self.refuse(right, f"`{operator.text}` compares numbers; write a number without quotes")
        if operator.text == "!=" and isinstance(right.value, bool):
            other = str(not right.value).lower()
            problem = f"Segment compares `!= {right}` as text, which is true for every boolean"
            raise self.refuse(
                operator, f"{problem}; write `{left} = {other}`, or `({left} = {other} or {left} = null)`"
            )

    def refuse_condition(self, operand: Operand) -> None:
        """Segment forgets everything around contains and match, so neither is a value to go on with."""
        if isinstance(operand, Call) and operand.name in {"contains", "match"}:
            problem = f"`{operand.name}(...)` is a condition, and Segment skips what stands around it"
            raise self.refuse(operand, f"{problem}; write `{operand}` or `!{operand}` alone")

    def membership(self, left: Operand, depth: int) -> Membership:
        self.refuse_condition(left)
        if isinstance(left, Field) and left.judged:
            problem = f'`in` is never true at Segment; write `({left} = "a" or {left} = "b")`'
            raise self.refuse(left, problem + self.hatch(left))
        if self.token.text != "[":
            right = self.operand(depth)
            if not isinstance(right, Field):
                raise self.refuse(right, f"`in` looks into a list; write `[{right}]`, or a field that holds one")
            return Membership(left, right)
        self.take()
        values = [] if self.token.text == "]" else [self.value()]
        while self.token.text == ",":
            self.take()
            values.append(self.value())
        self.expect("]", "a list ends with `]`, its values stand apart by `,`; write one of them here")
        return Membership(left, tuple(values))

    def predicate(self, call: Call, *, negated: bool) -> Predicate:
        if call.name != "bool":
            subject, wanted = call.arguments
            if not isinstance(wanted, Literal) or not isinstance(wanted.value, str):
                raise self.refuse(wanted, f'{call.name} looks for a text; write it in double quotes: "{wanted}"')
            judged = next(judged_fields(subject), None)
            if judged is not None:
                self.check_judged(call, judged, wanted)
        return Predicate(call, negated)

    def check_judged(self, call: Call, judged: Field, wanted: Literal) -> None:
        if judged.names == ("type",) or judged is not call.arguments[0]:
            problem = f"Segment skips {call.name}({call.arguments[0]}, ...); compare the field with `=`"
            raise self.refuse(call, problem + self.hatch(judged))
        self.check_plain(judged, wanted)
        pattern = str(wanted.value)
        middle = pattern.removesuffix("*") if pattern.endswith("*") else pattern.removeprefix("*")
        if call.name == "match" and (middle == pattern or re.search(r"[*?\[\\]", middle)):
            problem = 'Segment knows only one `*`, first or last; write "abc*" or "*abc", or use `=` or contains'
            raise self.refuse(wanted, problem + self.hatch(judged))

    def check_plain(self, judged: Field, literal: Literal) -> None:
        if not literal.plain:
            problem = "Segment takes single quotes and escapes for part of the text"
            raise self.refuse(literal, f"{problem}; use double quotes, without escapes{self.hatch(judged)}")

    def hatch(self, judged: Field) -> str:
        return f"; for events that never saw Segment, `\\{judged}` is read as full FQL"

    def operand(self, depth: int) -> Operand:
        token = self.token
        if token.kind != "word" or token.text in CONSTANTS:
            return self.value()
        if token.text.lower() in {"and", "or", "not"}:
            raise self.refuse(token, self.misplaced(token.text))
        self.take()
        if self.token.text == "(":
            return self.call(token, depth)
        return self.path(token)

    def misplaced(self, word: str) -> str:
        if word.lower() == "not":
            return f"Segment skips `{word}`; write `!=` in place of `=`, or `!contains(...)`"
        return f"a condition is missing at `{word}`; write it, or remove `{word}`"

    def call(self, name: Token, depth: int) -> Call:
        wanted = FUNCTIONS.get(name.text)
        if wanted is None:
            raise self.refuse(name, f"no function `{name.text}`; write one of {', '.join(FUNCTIONS)}")
        if depth > MAX_DEPTH:
            raise self.refuse(name, f"calls deeper than {MAX_DEPTH}; write fewer")
        self.take()
        arguments = [] if self.token.text == ")" else [self.operand(depth + 1)]
        while self.token.text == ",":
            self.take()
            arguments.append(self.operand(depth + 1))
        self.expect(")", "a `)` is missing; write it here")
        if len(arguments) != wanted:
            example = {1: f"{name.text}(properties.plan)", 2: f'{name.text}(event, "text")'}[wanted]
            raise self.refuse(name, f"{name.text} takes {wanted} arguments, not {len(arguments)}; write `{example}`")
        for argument in arguments:
            self.refuse_condition(argument)
        return Call(name.text, tuple(arguments), name.at)

    def path(self, first: Token) -> Field:
        words = [first.text]
        while self.token.text == ".":
            self.take()
            if self.token.kind != "word" or self.token.text in {"and", "or", "null"}:
                word = self.token.text or "name"
                raise self.refuse(self.token, f"a name is missing; one like this needs a backslash: `\\{word}`")
            words.append(self.take().text)
        if self.token.text == "[" and self.token.at == self.tokens[self.index - 1].end:
            raise self.refuse(self.token, "no brackets in paths; write `.\\0` for the first element")
        names = tuple(re.sub(r"\\(.)", r"\1", word, flags=re.DOTALL) for word in words)
        result = Field(names, first.text.startswith("\\"), first.at)
        self.check_field(result)
        return result

    def check_field(self, found: Field) -> None:
        first, *rest = found.names
        if first in SKIPPED and not found.own:
            problem = f"Segment skips conditions on `{first}`, as if they were not there; decide on another field"
            raise self.refuse(found, f"{problem}, or write `\\{found}` to have it read here")
        if not found.judged:
            return
        if JUDGED[first] and not rest:
            raise self.refuse(found, f"Segment needs a name in `{first}`; write `{first}.x`{self.hatch(found)}")
        if rest and not JUDGED[first]:
            raise self.refuse(found, f"Segment reads only `{first}` of this; write `{first}`{self.hatch(found)}")
        if any(re.search(r"[.\[\]]", name) for name in rest):
            problem = "Segment cuts names at points and brackets, escaped or not; decide on another field"
            raise self.refuse(found, problem + self.hatch(found))

    def value(self) -> Literal:
        """A text, number, true, false or null."""
        token = self.take()
        if token.kind == "text":
            value = re.sub(r"\\([\\\"'])", r"\1", token.text[1:-1])
            return Literal(value, token.at, plain=token.text == f'"{value}"')
        if token.kind == "number":
            return Literal(self.number(token), token.at)
        if token.kind == "word" and token.text in CONSTANTS:
            return Literal(CONSTANTS[token.text], token.at)
        raise self.refuse(token, self.no_value(token))

    def no_value(self, token: Token) -> str:
        if token.kind == "end":
            return "the end comes too early; write a value or condition here, or remove what asks for one"
        if token.kind == "word":
            return f'Segment may take a bare word for text; write `"{token.text}"`'
        return f"a field or value is missing before `{token.text}`; write it"

    def number(self, token: Token) -> float:
        if not re.fullmatch(r"[+-]?[0-9]+(\.[0-9]+)?", token.text) or len(token.text) > MAX_DIGITS:
            raise self.refuse(token, NO_NUMBER)
        number = float(token.text) if "." in token.text else int(token.text)
        return int(number) if math.floor(number) == number else number

    def check_cuts(self, condition: Condition) -> None:
        """Segment closes a group at the first `)`, even that of a function, and joins the rest by one word."""
        groups = list(groups_of(condition))
        if len({group.joiner for group in groups}) < len(JOINERS):
            return
        for group in groups[1:]:
            for child in group.children[:-1]:
                if isinstance(child, Predicate) and child.call.name != "bool" and next(judged_fields(child.call), None):
                    problem = f"Segment ends the group with this call; write `{child}` last in it, or"
                    raise self.refuse(child.call, f"{problem} distribute: `(a and c) or (b and c)`")


def groups_of(condition: Condition) -> Iterator[Group]:
    if isinstance(condition, Group):
        yield condition
        for child in condition.children:
            yield from groups_of(child)


def operands_of(condition: Condition) -> Iterator[Any]:
    """The values on both sides of every condition, lists left out."""
    if isinstance(condition, Group):
        for child in condition.children:
            yield from operands_of(child)
    elif isinstance(condition, Predicate):
        yield condition.call
    else:
        yield from (side for side in (condition.left, condition.right) if not isinstance(side, tuple))


def fields_of(operand: Operand) -> Iterator[Field]:
    if isinstance(operand, Field):
        yield operand
    elif isinstance(operand, Call):
        for argument in operand.arguments:
            yield from fields_of(argument)


def judged_fields(operand: Operand) -> Iterator[Field]:
    return (found for found in fields_of(operand) if found.judged)
