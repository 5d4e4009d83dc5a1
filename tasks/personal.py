"""What of an event is about a person: which of its keys, and what stands below them. Pure."""

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from config import personal

#: Shorter values are found in every other text.
LEAST_INSIDE: Final = 4
#: Longer keys are nobody's words, and the memory of `plain` is not for them.
_LONGEST_KEY: Final = 100
_ALL_BUT_LETTERS: Final = re.compile(r"[\W_]+")


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


def keys_of(event: object, listed: Iterable[str]) -> frozenset[str]:
    """The personal keys of an event, as `plain` writes them: those listed for its source, and its own.

    Its own are the top-level array `pii`, which names keys (or paths, of which the last part counts).
    """
    own = event.get("pii") if isinstance(event, dict) else None
    named = [key for key in own if isinstance(key, str)] if isinstance(own, list) else []
    return EVERYWHERE | plain_all((*listed, *named, *(key.rpartition(".")[2] for key in named)))


def told(value: Any, keys: frozenset[str], identifies: bool | None = None) -> Iterator[tuple[str, bool]]:
    """Every text, and number of four digits or more, under these keys, and whether it says who the person is.

    `identifies` None = the value is not under any of them.
    """
    if isinstance(value, dict):
        for key, item in value.items():
            name = plain(str(key))
            below = identifies is not None or name in keys
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
    return str(value) if is_number and len(str(value)) >= LEAST_INSIDE else ""


@functools.lru_cache(4096)
def about_anybody(key: str) -> bool:
    """Whether a key is personal in any event."""
    return plain(key) in ANY


def tells(text: str, event: Mapping[str, Any], about: Callable[[str], bool]) -> bool:
    """Whether a text holds what stands under one of the keys `about` a person.

    Finds what `told` does, at a quarter of its price: the endpoint asks this of each event whose name says more than
    its type.
    """
    folded = text.casefold()
    pending: list[tuple[Mapping[str, Any], bool]] = [(event, False)]
    while pending:
        holder, under = pending.pop()
        for key, value in holder.items():
            kind = value.__class__
            if kind is str:
                if (under or about(key)) and _holds(folded, value.strip().casefold()):
                    return True
            elif kind is dict:
                pending.append((value, under or about(key)))
            elif kind is list:
                below = under or about(key)
                pending += [(item if item.__class__ is dict else {key: item}, below) for item in value]
            elif (kind is int or kind is float) and (under or about(key)) and _holds(folded, _text(value)):
                return True
    return False


def _holds(folded: str, value: str) -> bool:
    return value in folded and (len(value) >= LEAST_INSIDE or value == folded != "")
