"""Finds values in texts, however they are written there. Pure.

A text is looked at as it is and as often as something in it is escaped or encoded: as in JSON, Python, HTML, or an
address. Always in small letters, with one blank where there are several, or a + (which is one in a query), and with
accents as part of their letters. Values are never made into patterns, which `re` would keep, and try one by one.
"""

import bisect
import dataclasses
import functools
import html
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final
from urllib.parse import unquote

from tasks.personal import LEAST_INSIDE

HIDDEN: Final = "…"
#: Nobody cuts a text shorter.
_LEAST_CUT: Final = 80
#: What cutting leaves of a letter that was encoded or escaped, and what is put behind a text that was cut.
_CUT_OFF: Final = re.compile(r"(?:%[\da-f]{0,2}|\\u?[\da-f]{0,3}|&#?\w{0,8}|\ufffd|…|\.{3}|[\"'])+$")
_LONGEST_CUT_OFF: Final = 32
#: Letters that are compared in one text, about: one made to cost more is hidden from where that shows.
_MOST_COMPARED: Final = 2_000_000
#: An address in JSON in JSON in a traceback.
_MOST_TIMES_ESCAPED: Final = 4
_LEAST_PHONE: Final = 7

_UNEVEN: Final = re.compile(r"[\s+]{2,}|[^\S ]|\+|[^\W\d_][\u0300-\u036f]+")
_ESCAPED: Final = re.compile(
    r"\\u[dD][89abAB][\da-fA-F]{2}\\u[dD][c-fC-F][\da-fA-F]{2}|\\u[\da-fA-F]{4}|\\U000[\da-fA-F]{5}|\\x[\da-fA-F]{2}"
    r"""|\\["'\\/bfnrt]|%[c-fC-F][\da-fA-F](?:%[89abAB][\da-fA-F])+|%[\da-fA-F]{2}|&(?:#\w{1,7}|[a-zA-Z]{2,8});"""
)
_PHONE: Final = re.compile(r"(?<!\w)\+?\(?\d[\d ()./-]{5,22}\d(?!\w)")
_NO_DIGIT: Final = re.compile(r"\D+")

_View = tuple[str, Sequence[int]]  # a text, and where in the first text each of its characters begins, and the end
_Span = tuple[int, int, str]  # from, to, what stands there instead


@dataclasses.dataclass(frozen=True)
class Spellings:
    """Values that must not be told, and what stands for each."""

    values: Mapping[str, str]

    def whole(self, text: str) -> str | None:
        """What stands for a text that is a value and nothing else; None when it is not."""
        return self._instead.get(_even(text))

    def replaced(self, text: str) -> str:
        """The text without the values in it."""
        spans = [span for view in _views(text) for span in self._spans(view, cut=len(text) >= _LEAST_CUT)]
        text = _with(text, sorted(spans, key=lambda span: (span[0], -span[1]))) if spans else text
        return _PHONE.sub(self._phone, text) if self._phones else text

    def _spans(self, view: _View, *, cut: bool) -> Iterator[_Span]:
        text, starts = _folded(view)
        for begin, end, instead in self._found(text, cut=cut):
            after = end
            while after < len(text) and starts[after] == starts[end - 1]:
                after += 1  # one character of the first text may have become several
            yield starts[begin], starts[after], instead

    def _found(self, text: str, *, cut: bool) -> Iterator[_Span]:
        at, compared = 0, 0
        uncut = len(text) - (len(found[0]) if (found := _CUT_OFF.search(text[-_LONGEST_CUT_OFF:])) else 0)
        while at <= len(text) - LEAST_INSIDE:
            lengths = self._lengths.get(text[at : at + LEAST_INSIDE], ())
            compared += sum(lengths)
            if compared > _MOST_COMPARED:
                yield at, len(text), HIDDEN
                return
            # The longest first: of two values that begin alike, the whole one is to go.
            value = next((each for length in lengths if (each := text[at : at + length]) in self._instead), None)
            if value is not None:
                yield at, at + len(value), self._instead[value]
            elif cut and lengths and uncut - at < lengths[0] and self._begins(text[at:uncut]):
                yield at, len(text), HIDDEN
                return
            at += len(value or " ")

    def _begins(self, rest: str) -> bool:
        """Whether a value begins so: where a text was cut to a length, its end may be a value's beginning."""
        at = bisect.bisect_left(self._sorted, rest)
        return at < len(self._sorted) and self._sorted[at].startswith(rest)

    def _phone(self, match: re.Match[str]) -> str:
        return self._phones.get(_digits(match[0]), match[0])

    @functools.cached_property
    def _instead(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for value, instead in self.values.items():
            found |= {_folded(view)[0].strip(): instead for view in _views(value.strip())}
        for value in self.values:
            local, at, _ = value.partition("@")
            if at and not local.isalpha():  # somebody's, not one plain word such as `info`
                found.setdefault(_even(local), HIDDEN)
        found.pop("", None)
        return found

    @functools.cached_property
    def _sorted(self) -> list[str]:
        return sorted(value for value in self._instead if len(value) >= LEAST_INSIDE)

    @functools.cached_property
    def _lengths(self) -> dict[str, list[int]]:
        """How values begin → how long those are that begin so."""
        found: dict[str, set[int]] = {}
        for value in self._sorted:
            found.setdefault(value[:LEAST_INSIDE], set()).add(len(value))
        return {begin: sorted(lengths, reverse=True) for begin, lengths in found.items()}

    @functools.cached_property
    def _phones(self) -> dict[str, str]:
        """By their digits: everybody sets blanks and dashes as they like."""
        phones = {_digits(value): instead for value, instead in self.values.items() if _PHONE.fullmatch(value)}
        return {digits: instead for digits, instead in phones.items() if len(digits) >= _LEAST_PHONE}


def _digits(text: str) -> str:
    return _NO_DIGIT.sub("", text).lstrip("0")


def _even(text: str) -> str:
    return _folded((text, range(len(text) + 1)))[0].strip()


def _views(text: str) -> Iterator[_View]:
    """The text as it is, then as often unescaped as it can be."""
    view: _View = (text, range(len(text) + 1))
    yield view
    for _ in range(_MOST_TIMES_ESCAPED):
        view, before = _rewritten(view, _ESCAPED, _unescaped), view
        if view is before:
            return
        yield view


def _rewritten(view: _View, pattern: re.Pattern[str], write: Callable[[str], str]) -> _View:
    text, starts = view
    pieces: list[str] = []
    places: list[int] = []
    end = 0
    for match in pattern.finditer(text):
        begin, new = match.start(), write(match[0])
        pieces += (text[end:begin], new)
        places += starts[end:begin]
        places += [starts[begin]] * len(new)
        end = match.end()
    return ("".join((*pieces, text[end:])), [*places, *starts[end:]]) if end else view


def _folded(view: _View) -> _View:
    text, starts = _rewritten(view, _UNEVEN, _evened)
    folded = text.casefold()
    if len(folded) != len(text):  # ß is two letters then
        starts = [start for letter, start in zip(text, starts, strict=False) for _ in letter.casefold()] + [starts[-1]]
    return folded, starts


def _evened(piece: str) -> str:
    return unicodedata.normalize("NFC", piece) if piece[0].isalpha() else " "


def _unescaped(piece: str) -> str:
    if piece[0] == "%":
        return unquote(piece, errors="replace")
    if piece[0] == "&":
        return html.unescape(piece)
    if piece == "\\/":
        return "/"
    pair = piece.encode("ascii").decode("unicode_escape")
    return pair.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _with(text: str, spans: Sequence[_Span]) -> str:
    """The text with something else in these places, sorted; of those that overlap, what stands for the first."""
    pieces: list[str] = []
    end = 0
    for begin, to, instead in spans:
        if begin >= end:
            pieces += (text[end:begin], instead)
        end = max(end, to)
    return "".join((*pieces, text[end:]))
