"""Text by a Liquid template, within the limits that Segment has for `@liquid`, and without a clock.

Source: github.com/segmentio/action-destinations, packages/core/src/mapping-kit/liquid-directive.ts. Segment stops a
template after half a second. Here nothing is measured in time: there are no loops, and no text, list or number grows
beyond a size, so that what a template can do is bounded, and the same on every machine.
"""

import datetime as dt
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TextIO

from liquid import BoundTemplate, Environment, RenderContext, TokenStream, Undefined
from liquid.ast import Node
from liquid.builtin.filters import misc, string
from liquid.builtin.output import Output, OutputNode
from liquid.builtin.tags.echo_tag import EchoNode, EchoTag
from liquid.exceptions import LiquidError, LiquidSyntaxError
from liquid.filter import math_filter, with_context
from liquid.tag import Tag

#: Characters of a template; of what it makes, and of any value on the way; of a format for dates.
MOST_SOURCE: Final = 1000
MOST_TEXT: Final = 65_536
_MOST_FORMAT: Final = 100
_MOST_NUMBER: Final = 10**308  # beyond that JavaScript has only Infinity

DISABLED_TAGS: Final = ("case", "for", "include", "layout", "render", "tablerow")
# fmt: off
DISABLED_FILTERS: Final = (
    "array_to_sentence_string", "concat", "find", "find_exp", "find_index", "find_index_exp", "group_by",
    "group_by_exp", "has", "has_exp", "map", "newline_to_br", "reject", "reject_exp", "reverse", "sort", "sort_natural",
    "uniq", "where_exp", "type",
)
# fmt: on

Text = Callable[[Any], str]


class LiquidRefused(Exception):
    """A template that could never be rendered."""


class LiquidFailed(Exception):
    """A template that could not be rendered with these values; says nothing of them."""


class _TooMuch(LiquidError):
    """A value outgrew what it may be."""


@dataclass(frozen=True, slots=True)
class LiquidTemplate:
    """A template, ready to be rendered."""

    #: What it reads of the payload, as keys.
    paths: tuple[tuple[str, ...], ...]
    _template: BoundTemplate

    def render(self, payload: Any) -> str:
        """The text for this payload. Raises LiquidFailed."""
        try:
            return self._template.render(payload if isinstance(payload, dict) else {})
        except _TooMuch as error:
            raise LiquidFailed(str(error.message)) from None
        except Exception as error:  # noqa: BLE001 - of an odd value a filter may make any exception
            # Not its message, which may quote the event.
            raise LiquidFailed(f"could not be rendered ({type(error).__name__})") from None


class Liquid:
    """Segment's dialect. `text` and `json` write values as JavaScript does."""

    def __init__(self, text: Text, json: Text) -> None:
        self._environment = _environment(_Values(text, json))

    def compiled(self, source: str) -> LiquidTemplate:
        """A template out of its text. Raises LiquidRefused."""
        if len(source) > MOST_SOURCE:
            raise LiquidRefused(f"liquid template values are limited to {MOST_SOURCE} characters")
        try:
            template = self._environment.from_string(source)
            found = template.analyze()
        except (LiquidError, RecursionError) as error:
            raise LiquidRefused(_told(error)) from None
        for name in found.filters:
            if name in DISABLED_FILTERS:
                raise LiquidRefused(f'filter "{name}" is disabled')
            if name not in self._environment.filters:
                raise LiquidRefused(f'there is no filter "{name}"')
        read = (variable.segments for variables in found.globals.values() for variable in variables)
        return LiquidTemplate(tuple(dict.fromkeys(_keys(segments) for segments in read)), template)


def _told(error: Exception) -> str:
    if not isinstance(error, LiquidError):
        return "is nested too deeply"
    message = str(error.message)
    if error.token is None or error.token.start_index < 0:
        return message
    return f"{message} (at character {error.token.start_index + 1})"


def _keys(segments: list[Any]) -> tuple[str, ...]:
    """The keys that are known before an event is there; a variable in brackets is not."""
    known: list[str] = []
    for segment in segments:
        if not isinstance(segment, str | int):
            break
        known.append(str(segment))
    return tuple(known)


# --- values --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Values:
    """How values are written."""

    text: Text
    json: Text

    def written(self, value: Any) -> str:
        """A value as a template puts it out."""
        if not value and not isinstance(value, bool | int | float | dict):
            return ""  # null, undefined, empty text, empty list
        if isinstance(value, list):
            return "".join(self.written(item) for item in value)
        if isinstance(value, range):
            return f"{value.start}..{value.stop - 1}"
        return self.text(value)

    def for_text(self, value: Any) -> Any:
        """A value for a filter of texts, which would write these as Python does."""
        return self.written(value) if isinstance(value, bool | list | dict) else value


def _whole(value: Any) -> Any:
    """JavaScript knows no difference between 2 and 2.0."""
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < _MOST_NUMBER else value


def _small(*values: Any) -> None:
    """Raises _TooMuch when a value is beyond measure."""
    for value in values:
        if isinstance(value, str | range | dict):
            size = len(value)
        elif isinstance(value, list):
            size = len(value) + sum(len(item) for item in value if isinstance(item, str))
        else:
            size = MOST_TEXT + 1 if isinstance(value, int) and abs(value) > _MOST_NUMBER else 0
        if size > MOST_TEXT:
            raise _TooMuch(f"makes or reads a value that is longer than {MOST_TEXT}", token=None)


# --- filters -------------------------------------------------------------------------------------------


def _limited(name: str, made: Callable[..., Any], values: _Values) -> Callable[..., Any]:
    """A filter that takes and gives no more than it may, and sees values as JavaScript has them."""
    of_texts = made.__module__ == string.__name__ and name != "slice"

    @functools.wraps(made)
    def limited(*given: Any, **named: Any) -> Any:
        arguments = [values.for_text(_whole(value)) if of_texts else _whole(value) for value in given]
        _small(*arguments, *named.values())
        if name in _GROWING:
            _small(range(_GROWING[name](*arguments)))
        result = _whole(made(*arguments, **named))
        _small(result)
        return result

    return limited


def _replaced_length(text: Any, old: Any = "", new: Any = "", *_: Any) -> int:
    return len(str(text)) + str(text).count(str(old)) * len(str(new))


def _joined_length(items: Any, between: Any = " ", *_: Any) -> int:
    return len(items) * len(str(between)) if isinstance(items, list) else 0


#: Filters whose result can be the product of what they are given: measured before it is made.
_GROWING: Final[dict[str, Callable[..., int]]] = {"replace": _replaced_length, "join": _joined_length}


@math_filter
def _divided_by(number: float, other: Any) -> float:
    """Without Ruby's whole numbers: 10 divided by 4 is 2.5, as in JavaScript."""
    return number / float(other)


@math_filter
def _rounded(number: float, digits: Any = 0) -> float:
    """Halves go up, as in JavaScript."""
    factor = 10 ** int(digits or 0)
    return float((number * factor + 0.5) // 1 / factor)


_ESCAPES: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&#34;", "'": "&#39;"})


def _without_tags(text: str) -> str:
    """Tags, comments, and what stands in script and style; by hand, because the library's parser can be slow."""
    lower, kept, done, unclosed = text.lower(), [], 0, set()
    while (start := text.find("<", done)) >= 0:
        closing = next((end for begin, end in _ENCLOSED if lower.startswith(begin, start)), ">")
        end = -1 if closing in unclosed else lower.find(closing, start)
        if end < 0:
            unclosed.add(closing)  # to look for it again and again would take quadratic time
            closing, end = ">", text.find(">", start)
        if end < 0:
            break
        kept.append(text[done:start])
        done = end + len(closing)
    return "".join([*kept, text[done:]])


_ENCLOSED: Final = (("<script", "</script>"), ("<style", "</style>"), ("<!--", "-->"))


@with_context
def _date(value: Any, form: Any = None, *_: Any, context: RenderContext) -> Any:
    """A date in a form of strftime; now is when the event was received, so that a retry says the same."""
    if value in ("now", "today"):
        value = context.get(["envelope", "received_at"], token=None, default="")
        if not value:
            raise _TooMuch('does not know what time is "now" here', token=None)
    form = str(form) if form else "%a, %b %e, %Y, %H:%M"
    if len(form) > _MOST_FORMAT or len(str(value)) > _MOST_FORMAT:
        raise _TooMuch(f"has a date or a form for it that is longer than {_MOST_FORMAT}", token=None)
    if isinstance(value, int | float) or (isinstance(value, str) and value.isdecimal()):
        moment: Any = dt.datetime.fromtimestamp(float(value), dt.UTC)
    else:
        moment = misc._to_date(value) if isinstance(value, str) else None  # noqa: SLF001 - the library's own reading
    if moment is None:
        return value
    moment = moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
    for sign, number in (("%s", int(moment.timestamp())), ("%L", f"{moment.microsecond // 1000:03}")):
        form = form.replace(sign, str(number))
    return moment.strftime(form)


def _own_filters(values: _Values) -> dict[str, Callable[..., Any]]:
    """Those that the library does not have, or has otherwise."""
    return {
        "date": _date,
        "divided_by": _divided_by,
        "escape": lambda text: values.written(text).translate(_ESCAPES),
        "json": lambda value, *_: "" if isinstance(value, Undefined) else values.json(value),
        "raw": lambda value: value,
        "round": _rounded,
        "strip_html": lambda text: _without_tags(values.written(text)),
    }


# --- the dialect ---------------------------------------------------------------------------------------


class _DisabledTag(Tag):
    def parse(self, stream: TokenStream) -> Node:
        raise LiquidSyntaxError(f'tag "{stream.current.value}" is disabled', token=stream.current)


class _Limited(Environment):
    output_stream_limit = MOST_TEXT
    local_namespace_limit = 4 * MOST_TEXT


def _environment(values: _Values) -> Environment:
    environment = _Limited()
    for name in DISABLED_TAGS:
        environment.tags[name] = _DisabledTag(environment)
    for name in DISABLED_FILTERS:
        environment.filters.pop(name, None)
    for name, made in {**environment.filters, **_own_filters(values)}.items():
        environment.filters[name] = _limited(name, made, values)
    for tag, node in ((Output, OutputNode), (EchoTag, EchoNode)):
        _write_with(environment, tag, node, values)
    return environment


def _write_with(environment: Environment, tag: type[Tag], node: type[OutputNode], values: _Values) -> None:
    def render(self: OutputNode, context: RenderContext, buffer: TextIO) -> int:
        return buffer.write(values.written(_whole(self.expression.evaluate(context))))

    written_node = type(node.__name__, (node,), {"__slots__": (), "render_to_output": render})
    environment.add_tag(type(tag.__name__, (tag,), {"node_class": written_node}))
