"""The rows of a feed: JSON objects, in a list or one after the other, found in a text that comes in pieces.

A row that is broken costs that row: reading goes on behind its end, as the brackets outside its texts tell, when that
is on the same line; else at the next line that begins with an object and is indented no deeper than the row was: what
is deeper may be a part of it, and was never an event.
"""

import codecs
import dataclasses
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

from app.body import DECODER
from tasks.json_depth import deeper_than

#: Characters of a row.
MOST_OF_A_ROW: Final = 262_144

_BETWEEN: Final = re.compile(r"[\s,]*")
#: The group is how far it is indented. A row may begin behind the end of the one before it, too.
_NEXT_LINE: Final = re.compile(r"\n([ \t]*+)[ \t\r,]*+(?:\}[ \t\r,]*+)?(?=\{)")
#: What may stand before the first row of a line.
_INDENT: Final = " \t\r,["
#: How something begins → what opens and closes within it, outside of texts. What begins otherwise ends at a comma.
_BRACKETS: Final = {"{": "{}", "[": "[]"}
_STOPS: Final = {first: re.compile(rf'[\n"{re.escape(pair)}]') for first, pair in {**_BRACKETS, "": ","}.items()}
_STOPS_IN_TEXT: Final = re.compile(r'[\n"]|\\[^\n]')
#: Before what is left behind is thrown away: an error in a row counts the lines of all that is kept before it.
_KEPT_BEHIND: Final = 4096
#: What is kept when no row begins in all that was looked through: a beginning may be cut in two.
_TAIL: Final = 256


@dataclasses.dataclass(frozen=True)
class Row:
    """One row, or what stands in its place."""

    number: int  #: from 1, broken ones counted
    line: int  #: in the file, from 1
    until: int  #: the last line that was skipped with it, where it is broken
    value: dict[str, Any] | None  #: None = it is broken
    error: str = ""  #: what is wrong with it; quotes nothing of it
    size: int = 0  #: in characters


def rows(chunks: Iterable[bytes], most_depth: int) -> Iterator[Row]:
    """Bytes of a file in UTF-8 → its rows. Holds a chunk and a row in memory, not more."""
    text = _Text(chunks)
    number, in_list = 0, False
    while text.skip_between():
        mark = text.here()
        if mark == ("]" if in_list else "["):
            in_list = not in_list
            text.go(text.at + 1)
            continue
        number, line = number + 1, text.line
        found = _read(text, most_depth)
        if isinstance(found, str):
            text.to_next_row()
            yield Row(number, line, max(line, text.line - 1), None, found)
            in_list = in_list and not text.ends_with("]")
        else:
            value, end = found
            size = end - text.at
            text.go(end)
            yield Row(number, line, line, value, size=size)
    if in_list:
        yield Row(number + 1, text.line, text.line, None, "the file ends before its list does; is it complete?")


class _Text:
    """As much of the file as is needed. `at` is a place in `now`, `line` its line in the file."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        # What is not UTF-8 spoils its own row alone: each such byte becomes a surrogate, which UTF-8 has not.
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape")
        self._ended = False
        self.now = ""
        self.at = 0
        self.line = 1
        self._before = ""  #: the beginning of that line, as far as it is left behind
        self._last = ""  #: of what is left behind, but for blanks

    def here(self) -> str:
        """The character that comes next."""
        return self.now[self.at]

    def go(self, to: int) -> None:
        """Leave behind what is before that place."""
        left = self.now[self.at : to]
        line = left.rfind("\n") + 1
        self._before = (left[line:] if line else self._before + left)[:_TAIL]
        self._last = left.rstrip()[-1:] or self._last
        self.line += left.count("\n")
        self.at = to

    def more(self) -> bool:
        """Have more of the file; not when it has ended, or when so much is at hand as a row may have.

        At least as much as is at hand already: however small the chunks, what is looked at again is not much.
        """
        at_hand = len(self.now) - self.at
        if self._ended or at_hand > MOST_OF_A_ROW:
            return False
        parts, got = [self.now[self.at :]], 0
        while not self._ended and (not got or got < at_hand):
            chunk = next(self._chunks, b"")
            self._ended = not chunk
            parts.append(self._decoder.decode(chunk, final=self._ended))
            got += len(parts[-1])
        self.now, self.at = "".join(parts), 0
        return True

    def skip_between(self) -> bool:
        """Go to the next character that is part of something; False at the end of the file."""
        while True:
            blank = _BETWEEN.match(self.now, self.at)
            assert blank is not None  # noqa: S101 - it matches nothing, too
            self.go(blank.end())
            if self.at < len(self.now):
                return True
            if not self.more():
                return False

    def to_next_row(self) -> None:
        """Go behind what is here, to where the next row may begin, or to the end of the file."""
        indent = len(self._before) - len(self._before.lstrip(_INDENT))
        if self.at > _KEPT_BEHIND:
            self.now, self.at = self.now[self.at :], 0
        if self._to_its_end():
            return
        while True:
            lines = _NEXT_LINE.finditer(self.now, self.at)
            found = next((each for each in lines if len(each[1]) <= indent), None)
            if found is not None:
                self.go(found.end())
                return
            if not self.more():
                self.go(len(self.now) - (0 if self._ended else _TAIL))
                if self._ended:
                    return

    def _to_its_end(self) -> bool:
        """Go behind the end of what is here. Not when its line ends before: then to where that is."""
        first = self.here() if self.here() in _BRACKETS else ""
        depth, in_text = 1, self.here() == '"'
        self.go(self.at + 1)
        while True:
            found = (_STOPS_IN_TEXT if in_text else _STOPS[first]).search(self.now, self.at)
            if found is None:
                # Half of a pair with a backslash waits for its other half.
                self.go(len(self.now) - (in_text and self.now.endswith("\\", self.at)))
                if not self.more():
                    self.go(len(self.now))
                    return True
                continue
            stop = found[0]
            if stop == "\n":
                self.go(found.start())
                return False
            self.go(found.end())
            if stop == '"':
                in_text = not in_text
            elif not in_text:
                depth += 1 if stop == first else -1
                if not depth:
                    return True

    def ends_with(self, end: str) -> bool:
        """Whether the file has ended, with that."""
        return self._ended and self.at == len(self.now) and self._last == end


def _read(text: _Text, most_depth: int) -> tuple[dict[str, Any], int] | str:
    """The object that begins here, and where it ends; or what is wrong with it."""
    if text.here() != "{":
        return "not a JSON object"
    while True:
        try:
            value, end = DECODER.raw_decode(text.now, text.at)
        except json.JSONDecodeError as error:
            if text.more():
                continue
            return f"not JSON: {error.msg} (character {error.pos - text.at + 1} of the row)"
        except ValueError:
            return "not JSON: NaN, Infinity or a number too large"
        except RecursionError:
            return f"nested deeper than {most_depth}"
        return _problem(text.now[text.at : end], most_depth) or (value, end)


def _problem(row: str, most_depth: int) -> str:
    """What is wrong with a row that is JSON; "" = nothing."""
    if len(row) > MOST_OF_A_ROW:
        return f"longer than {MOST_OF_A_ROW} characters"
    if deeper_than(row, most_depth):
        return f"nested deeper than {most_depth}"
    try:
        row.encode()
    except UnicodeEncodeError:
        return "not UTF-8"
    return ""
