"""Keeps what is about a person from those who have not asked for it. Pure.

Twice: by key, at any depth, with all that is below it; and by value: a text that stands under such a key is taken out
wherever else it appears, also inside longer texts, percent-encoded, escaped as in JSON or HTML, in capitals, or cut
off at their end. So requests, answers, error texts and tracebacks tell no more than the event itself.

Values of three characters or fewer go only where they are all there is.
"""

import dataclasses
import functools
import hmac
import html
import json
import re
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Any, Final
from urllib.parse import quote, quote_plus

from config import personal
from tasks.personal import (
    ANY,
    EVERYWHERE,
    IDENTIFYING,
    LEAST_INSIDE,
    about_anybody,
    keys_of,
    plain,
    tells,
    told,
)  # fmt: skip

HIDDEN: Final = "…"
#: Nobody cuts a text shorter.
_LEAST_CUT: Final = 80
_HEX_DIGITS: Final = 12

#: Like an e-mail address. Looked for only where a word begins: from each letter, a long word would take its square.
_ADDRESS: Final = re.compile(r"(?<![\w.+-])[\w.+-]++(?:@|%40)[\w.-]+", re.IGNORECASE)
_HOST: Final = re.compile(r"(?:https?://[^/?#]*)?", re.IGNORECASE)


def without(text: str, event: Mapping[str, Any], listed: Sequence[str] = ()) -> str:
    """A text for logs and Flower, without what stands under a personal key of its event, whoever sent it.

    `listed` = keys beside those that are personal in any event.
    """
    if not listed and "pii" not in event:
        holds = tells(text, event, about_anybody)
    else:
        keys = keys_of(event, listed) | ANY
        holds = tells(text, event, lambda key: plain(key) in keys)
    if not holds:
        return text
    return hiding(event, keys_of(event, (*personal.ANY, *listed)), lambda _: HIDDEN).text(text)


def pseudonyms(secret: bytes) -> Callable[[str], str]:
    """A function from what identifies a person to what stands for it: the same for the same, whatever its case.

    https://www.rfc-editor.org/rfc/rfc2104 (HMAC), with SHA-256, cut to 48 bits.
    """

    def pseudonym(text: str) -> str:
        digest = hmac.new(secret, text.strip().casefold().encode("utf-8", "surrogatepass"), sha256).hexdigest()
        return f"person:{digest[:_HEX_DIGITS]}"

    return pseudonym


def hiding(data: object, keys: frozenset[str], pseudonym: Callable[[str], str]) -> "Hiding":
    """How to hide what stands under these keys (out of `keys_of`) in `data`, and in whatever was made of it."""
    found: dict[str, bool] = {}
    for text, identifies in told(data, keys):
        found[text] = found.get(text, False) or identifies
    return Hiding(keys, pseudonym, {text: pseudonym(text) if ids else HIDDEN for text, ids in found.items()})


@dataclasses.dataclass(frozen=True)
class Hiding:
    """Takes what is personal out of anything that an event became."""

    keys: frozenset[str]
    pseudonym: Callable[[str], str]
    values: Mapping[str, str]  #: text under a personal key → what stands for it

    def data(self, value: Any) -> Any:
        """A JSON value without it."""
        try:
            return self._data(value)
        except RecursionError:
            return HIDDEN

    def text(self, text: str) -> str:
        """A text without it; one that is JSON, with the keys that it has in mind too."""
        if (whole := self._whole.get(text.strip().casefold())) is not None:
            return whole
        if text[:1] in {"{", "["} and (parsed := _parsed(text)) is not None:
            return json.dumps(self.data(parsed), ensure_ascii=False)
        return _ADDRESS.sub(HIDDEN, _KEY_IN_TEXT.sub(_key_and_nothing, self._without_values(text)))

    def url(self, url: str) -> str:
        """An address without it; the host stays."""
        host = _HOST.match(url)
        end = host.end() if host else 0
        return url[:end] + self.text(url[end:])

    def answered(self) -> "Hiding":
        """For what a destination answers: its words are its own, so only the keys that mean a person everywhere."""
        return dataclasses.replace(self, keys=EVERYWHERE)

    def _data(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {self._key(key): self._under(key, item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._data(item) for item in value]
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return self._whole.get(str(value), value)
        return value

    def _key(self, key: Any) -> Any:
        return self.text(key) if isinstance(key, str) else key

    def _under(self, key: Any, value: Any) -> Any:
        name = plain(str(key))
        return self._hidden(value, name in IDENTIFYING) if name in self.keys else self._data(value)

    def _hidden(self, value: Any, identifies: bool) -> Any:
        """A value below a personal key: its shape, as far as it is in words that are known here."""
        if value is None or value in ("", [], {}):
            return value
        if isinstance(value, dict):
            return dict(self._entry(plain(str(key)), key, item) for key, item in value.items())
        if isinstance(value, list | tuple):
            return [self._hidden(item, identifies) for item in value]
        return self.pseudonym(str(value)) if identifies and not isinstance(value, bool) else HIDDEN

    def _entry(self, name: str, key: Any, value: Any) -> tuple[Any, Any]:
        if name in self.keys or name in IDENTIFYING:
            return key, self._hidden(value, name in IDENTIFYING)
        return HIDDEN, HIDDEN

    def _without_values(self, text: str) -> str:
        if self._pattern is None:
            return text
        text = self._pattern.sub(lambda match: self._spellings.get(match[0].casefold(), HIDDEN), text)
        return self._without_cut(text) if len(text) >= _LEAST_CUT else text

    def _without_cut(self, text: str) -> str:
        """Where a text was cut to a length, a value's beginning may be its end."""
        folded = text.casefold()
        if len(folded) != len(text):
            return text  # places in the one are not places in the other
        for spelling in self._spellings:
            begin = spelling[:LEAST_INSIDE]
            at = folded.find(begin)
            while at >= 0:
                if spelling.startswith(folded[at:]):
                    return text[:at] + HIDDEN
                at = folded.find(begin, at + 1)
        return text

    @functools.cached_property
    def _whole(self) -> dict[str, str]:
        """What stands for a text that is a value and nothing else, by the value case-folded."""
        return {value.casefold(): instead for value, instead in self.values.items()}

    @functools.cached_property
    def _spellings(self) -> dict[str, str]:
        """Every way to write a value that is long enough → what stands for it."""
        return {
            spelling.casefold(): instead
            for value, instead in self.values.items()
            if len(value) >= LEAST_INSIDE
            for spelling in _spelled(value)
        }

    @functools.cached_property
    def _pattern(self) -> re.Pattern[str] | None:
        # The longest first: of two values that begin alike, the whole one is to go.
        known = sorted(self._spellings, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, known)), re.IGNORECASE) if known else None


def _spelled(value: str) -> set[str]:
    """A text as requests, answers and error texts write it: escaped and encoded, also twice."""
    # Case-folding of a search knows one letter for one; and %C3%BC is not %C3%9C.
    words = {value, value.lower(), value.upper(), value.casefold(), value.title()}
    if all(word.isascii() and word.isalnum() for word in words):
        return {value}
    once = {write(word) for word in words for write in _WRITTEN}
    return once | {write(word) for word in once for write in _WRITTEN}


def _in_json(text: str) -> str:
    return json.dumps(text)[1:-1]


def _in_readable_json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _in_python(text: str) -> str:
    return repr(text)[1:-1]


def _in_url(text: str) -> str:
    return quote(text, safe="", errors="replace")


def _in_path(text: str) -> str:
    return quote(text, errors="replace")


def _in_query(text: str) -> str:
    return quote_plus(text, errors="replace")


_WRITTEN: Final[tuple[Callable[[str], str], ...]] = (
    str,
    _in_json,
    _in_readable_json,
    _in_python,
    _in_url,
    _in_path,
    _in_query,
    html.escape,
)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _key_pattern() -> re.Pattern[str]:
    """A personal key and its value inside a text that is no JSON: cut-off JSON, Python's repr, a query."""
    keys = sorted((re.sub(r"(?<=[a-z])(?=[A-Z])", "[_ -]?", key) for key in personal.EVERYWHERE), key=len, reverse=True)
    quoted = r"""\s*(?:"(?:[^"\\]|\\.)*+"?|'(?:[^'\\]|\\.)*+'?|\\+(["']).*?(?:\\+\2|$)|\d+)"""
    bare = r"""[^\s,;&}\])"'\\{\[]++"""  # not behind a blank: `email: is missing` is a message of ours
    return re.compile(rf"""(\b(?:{"|".join(keys)})\\*["']?\s*[:=])(?:{quoted}|{bare})""", re.IGNORECASE)


_KEY_IN_TEXT: Final = _key_pattern()


def _key_and_nothing(match: re.Match[str]) -> str:
    return match[1] + HIDDEN
