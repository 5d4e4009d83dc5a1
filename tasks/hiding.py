"""Keeps what is about a person from those who have not asked for it. Pure.

Twice: by key, at any depth, with all that is below it; and by value: a text that stands under such a key is taken out
wherever else it appears, also inside longer texts, percent-encoded, escaped as in JSON or HTML, in capitals, or cut
off at their end. So requests, answers, error texts and tracebacks tell no more than the event itself.

Values of three characters or fewer go only where they are all there is.
"""

import dataclasses
import hmac
import itertools
import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from hashlib import sha256
from typing import Any, Final
from urllib.parse import unquote

from config import personal
from tasks.personal import ANY, IDENTIFYING, about_anybody, digits, held, keys_of, plain
from tasks.spellings import HIDDEN, Spellings

_HEX_DIGITS: Final = 12
_PSEUDONYM: Final = re.compile(rf"""[\s"'\\]*person:[0-9a-f]{{{_HEX_DIGITS}}}[\s"'\\]*""")

#: An @ in other words: percent-encoded, once or more often, or as HTML spells it.
#: https://html.spec.whatwg.org/multipage/named-characters.html
SPELLED_AT: Final = r"(?:%(?:25){0,4}40|&(?:#0{0,6}64|#[xX]0{0,6}40|commat);?)"
#: The @ itself, also full width and small (U+FF20, U+FE6B): what stands in a class of characters.
AT_SIGNS: Final = r"@\uFF20\uFE6B"
AT: Final = rf"(?:[{AT_SIGNS}]|{SPELLED_AT})"
#: Like an e-mail address. Looked for only where a word begins: from each letter, a long word would take its square.
_ADDRESS: Final = re.compile(rf"(?<![\w.+-])[\w.+-]++{AT}[\w.-]+")
_HOST: Final = re.compile(r"(?:https?://[^/?#]*)?", re.IGNORECASE)


def without(text: str, event: Mapping[str, Any], listed: Sequence[str] = ()) -> str:
    """A name for logs and Flower, without what stands under a personal key of its event, whoever sent it.

    `listed` = keys beside those that are personal in any event. The endpoint asks this of every event, so it costs a
    look through the event and no more, whatever is in it.
    """
    about: Callable[[str], bool] = about_anybody
    if listed or "pii" in event:
        keys = keys_of(listed, event) | ANY
        about = lambda key: plain(key) in keys  # noqa: E731 - one of two
    shown = _without(text, event, about)
    if "%" in shown and (said := unquote(shown)) != shown and (without_it := _without(said, event, about)) != said:
        return without_it
    return shown


def _without(text: str, event: Mapping[str, Any], about: Callable[[str], bool]) -> str:
    whole = text if text.isascii() else unicodedata.normalize("NFC", text)
    folded = whole.casefold()
    values = held(folded, event, about)
    return _with_gaps(whole, folded, values) if values else text


def _with_gaps(text: str, folded: str, values: AbstractSet[str]) -> str:
    marks = bytearray(len(folded))
    for value in values:
        at = folded.find(value)
        while at >= 0:
            marks[at : at + len(value)] = b"\1" * len(value)
            at = folded.find(value, at + len(value))
    # Folded, a letter may be two: ß.
    places = (place for place, letter in enumerate(text) for _ in letter.casefold())
    hidden = {place for place, mark in zip(places, marks, strict=True) if mark}
    pieces = itertools.groupby(enumerate(text), lambda letter: letter[0] in hidden)
    return "".join(HIDDEN if gap else "".join(letter for _, letter in piece) for gap, piece in pieces)


def pseudonyms(secret: bytes) -> Callable[[str], str]:
    """A function from what identifies a person to what stands for it: the same for the same, whatever its case.

    https://www.rfc-editor.org/rfc/rfc2104 (HMAC), with SHA-256, cut to 48 bits.
    """

    def pseudonym(text: str) -> str:
        digest = hmac.new(secret, text.strip().casefold().encode("utf-8", "surrogatepass"), sha256).hexdigest()
        return f"person:{digest[:_HEX_DIGITS]}"

    return pseudonym


def hiding(told: Iterable[tuple[str, bool]], keys: frozenset[str], pseudonym: Callable[[str], str]) -> "Hiding":
    """How to hide what stands under these keys (out of `keys_of`), and what is `told` (of tasks.personal) anywhere."""
    found: dict[str, bool] = {}
    for text, identifies in told:
        found[text] = found.get(text, False) or identifies
    values = {text: pseudonym(text) if ids else HIDDEN for text, ids in found.items()}
    return Hiding(keys, pseudonym, Spellings(values))


@dataclasses.dataclass(frozen=True)
class Hiding:
    """Takes what is personal out of anything that an event became."""

    keys: frozenset[str]
    pseudonym: Callable[[str], str]
    values: Spellings  #: texts under a personal key, and what stands for them

    def data(self, value: Any) -> Any:
        """A JSON value without it."""
        try:
            return self._data(value)
        except RecursionError:
            return HIDDEN

    def text(self, text: str) -> str:
        """A text without it; one that is JSON, with the keys that it has in mind too."""
        if (whole := self.values.whole(text)) is not None:
            return whole
        if text[:1] in {"{", "["} and (parsed := _parsed(text)) is not None:
            return json.dumps(self.data(parsed), ensure_ascii=False)
        return _ADDRESS.sub(HIDDEN, _KEY_IN_TEXT.sub(_key_and_nothing, self.values.replaced(text)))

    def url(self, url: str) -> str:
        """An address without it; the host stays."""
        host = _HOST.match(url)
        end = host.end() if host else 0
        return url[:end] + self.text(url[end:])

    def by(self, keys: frozenset[str]) -> "Hiding":
        """For what has other words: requests and answers."""
        return dataclasses.replace(self, keys=keys)

    def answer(self, body: str) -> str:
        """The body of an answer. JSON that was cut off is hidden whole: its keys no longer say what they hold."""
        if body.lstrip()[:1] in {"{", "["} and _parsed(body) is None:
            return HIDDEN
        return self.text(body.lstrip())

    def _data(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {self._key(key): self._under(key, item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._data(item) for item in value]
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, int | float) and not isinstance(value, bool):
            instead = self.values.whole(digits(value))
            return value if instead is None else instead
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
    """The key with … for its value; a hash that stands there already stays."""
    return match[0] if _PSEUDONYM.fullmatch(match[0].removeprefix(match[1])) else match[1] + HIDDEN
