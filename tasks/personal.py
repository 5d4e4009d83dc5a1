"""What of an event is about a person: which of its keys, and what stands below them. Pure."""

import functools
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from config import personal

#: Shorter values are found in every other text.
LEAST_INSIDE: Final = 4
#: Longer keys are nobody's words, and the memory of `plain` is not for them.
_LONGEST_KEY: Final = 100
_ALL_BUT_LETTERS: Final = re.compile(r"[\W_]+")
#: What a field is called, if not by a word of ours. A key of another look may itself be what must not be told.
_FIELD: Final = re.compile(r"[a-z][A-Za-z]*(?:[_-][A-Za-z]+)*")


def plain(key: str) -> str:
    """A key without what differs from house to house: `First Name`, `first_name` → `firstname`."""
    return _plain(key) if len(key) <= _LONGEST_KEY else key


@functools.lru_cache(4096)
def _plain(key: str) -> str:
    return _ALL_BUT_LETTERS.sub("", key.casefold())


def plain_all(keys: Iterable[str]) -> frozenset[str]:
    """Keys as they are compared."""
    return frozenset(filter(None, map(plain, keys)))


#: An `id` is a person's where it is personal at all: below a personal key, as in `user.id`, or listed as one.
IDENTIFYING: Final = plain_all((*personal.IDENTIFYING, "id"))
EVERYWHERE: Final = plain_all(personal.EVERYWHERE)
#: What is personal in any event, whoever sent it.
ANY: Final = EVERYWHERE | plain_all(personal.ANY)

#: What is in a destination's answer: other people's data too, where one request carried several events.
IN_ANSWERS: Final = ANY - plain_all(personal.ANSWERS)


def folded(text: str) -> str:
    """A text as values are compared in names: no blanks around it, case folded, accents part of their letters."""
    text = text.strip()
    return text.casefold() if text.isascii() else unicodedata.normalize("NFC", text).casefold()


def keys_of(listed: Iterable[str], *events: object) -> frozenset[str]:
    """The personal keys of an event, as `plain` writes them: those listed for its source, and its own.

    Its own are the top-level array `pii`, which names keys (or paths, of which the last part counts). Of an event that
    was converted, the original may have it.
    """
    own = [event["pii"] for event in events if isinstance(event, dict) and isinstance(event.get("pii"), list)]
    named = [key for keys in own for key in keys if isinstance(key, str)]
    return EVERYWHERE | plain_all((*listed, *named, *(key.rpartition(".")[2] for key in named)))


def told(value: Any, keys: frozenset[str], identifies: bool | None = None) -> Iterator[tuple[str, bool]]:
    """Every text, and number of four digits or more, under these keys, and whether it says who the person is.

    Also each key below them that no field is called by.

    `identifies` None = the value is not under any of them.
    """
    if isinstance(value, dict):
        for key, item in value.items():
            name = plain(str(key))
            below = identifies is not None or name in keys
            if identifies is not None and not _is_field(str(key)) and (text := str(key).strip()):
                yield text, False
            yield from told(item, keys, name in IDENTIFYING if below else None)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from told(item, keys, identifies)
    elif identifies is not None and (text := _text(value)):
        yield text, identifies


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value.strip()
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return text if is_number and len(text := digits(value)) >= LEAST_INSIDE else ""


def digits(number: float) -> str:
    """A number as text: 12345.0 is 12345."""
    return str(number).removesuffix(".0")


@functools.lru_cache(4096)
def about_anybody(key: str) -> bool:
    """Whether a key is personal in any event."""
    return plain(key) in ANY


def _is_field(key: str) -> bool:
    return _FIELD.fullmatch(key) is not None or about_anybody(key)


def held(text: str, event: Mapping[str, Any], about: Callable[[str], bool]) -> set[str]:
    """What a text, which is `folded`, holds of what stands under one of the keys `about` a person; folded too.

    Finds what `told` does, at a quarter of its price: the endpoint asks this of each event.
    """
    found: set[str] = set()
    pending: list[tuple[Mapping[str, Any], bool]] = [(event, False)]
    while pending:
        holder, under = pending.pop()
        for key, value in holder.items():
            kind = value.__class__
            if under and not _is_field(key) and _holds(text, said := folded(key)):
                found.add(said)
            if kind is str:
                if (under or about(key)) and _holds(text, said := folded(value)):
                    found.add(said)
            elif kind is dict:
                pending.append((value, under or about(key)))
            elif kind is list:
                below = under or about(key)
                pending += [(item if item.__class__ is dict else {key: item}, below) for item in value]
            elif (kind is int or kind is float) and (under or about(key)) and _holds(text, said := _text(value)):
                found.add(said)
    return found


def _holds(text: str, value: str) -> bool:
    return value in text and (len(value) >= LEAST_INSIDE or value == text != "")
