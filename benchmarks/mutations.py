"""Seeded damage to bytes and to JSON values: what a fuzzer feeds doors and parsers with."""

import json
import random
from collections.abc import Callable
from typing import Any, Final

#: What has broken programs before: ends of strings and lines, encodings, numbers at their limits, our own words.
TOKENS: Final = (
    *(b"\x00", b"\r\n", b"\n", b"\r", b"\xff\xfe", b"\xc3\x28", b"\xed\xa0\x80", b"\\ud800", b"\\u0000", b'"', b"\\"),
    *(b"[" * 70, b'{"a":' * 70, b"]", b"}", b"NaN", b"-Infinity", b"1e999", b"-0", b"9" * 5000, b"0x10", b"null"),
    *(b"%00", b"%ff", b"%2e%2e%2f", b"..", b"//", b"?secret=", b"&" * 200, b"A" * 9000, b"\xf0\x9f\x92\xa9" * 50),
    *(b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"quarantine:", b"enc-", b"{{$.a}}", b"${jndi:x}"),
)
#: Values that stand where another kind is expected.
ODD: Final[tuple[Any, ...]] = (
    *(None, True, False, 0, -1, 1.5, 1e308, 2**53 + 1, 10**4000, "", " ", "\x00", "\ud800", "\u202e", "x" * 70_000),
    *(
        [],
        {},
        [[]],
        [None] * 300,
        {"": ""},
        {"__proto__": {}},
        {"$ref": "#"},
        "quarantine:1",
        "../../etc",
        "a@b\r\nc: d",
    ),
    *("9999-12-31T23:59:59.999999Z", "0001-01-01T00:00:00+14:00", "-", 253402300800000, -1e18, "1e5", "٣", "\u2028"),
)


#: A longer list is not repeated: writing it down would take the fuzzer longer than the door needs to refuse it.
_MOST_REPEATED: Final = 20_000


def damaged_bytes(dice: random.Random, data: bytes) -> bytes:
    """One to four of: a bit turned, a piece cut out, doubled, moved, or one of TOKENS put in."""
    for _ in range(dice.randint(1, 4)):
        first = dice.randint(0, len(data))
        last = min(len(data), first + dice.choice((1, 2, 8, 64)))
        what = dice.random()
        if what < 0.3 and first < len(data):
            data = data[:first] + bytes([data[first] ^ (1 << dice.randrange(8))]) + data[first + 1 :]
        elif what < 0.5:
            data = data[:first] + data[last:]
        elif what < 0.6:
            data = data[:last] + data[first:last] * dice.choice((1, 3, 30)) + data[last:]
        else:
            data = data[:first] + dice.choice(TOKENS) + data[first:]
    return data


def damaged_often(dice: random.Random, value: Any) -> Any:
    """A JSON value damaged in none to three places."""
    for _ in range(dice.choice((0, 1, 1, 2, 3))):
        value = damaged_value(dice, value)
    return value


def damaged_value(dice: random.Random, value: Any) -> Any:
    """A copy of a JSON value in which one place was replaced, left out, doubled, nested or filled from elsewhere."""
    if isinstance(value, dict) and value and dice.random() < 0.85:
        key = dice.choice(list(value))
        copy = dict(value)
        what = dice.random()
        if what < 0.12:
            del copy[key]
        elif what < 0.2:
            copy[str(dice.choice(ODD))[:9000]] = copy[key]
        else:
            copy[key] = damaged_value(dice, copy[key])
        return copy
    if isinstance(value, list) and value and dice.random() < 0.8:
        index = dice.randrange(len(value))
        if dice.random() < 0.15 and len(written(value)) < _MOST_REPEATED:
            return value * dice.choice((0, 2, max(1, 2600 // len(value))))
        return [*value[:index], damaged_value(dice, value[index]), *value[index + 1 :]]
    if dice.random() < 0.12:
        return nested(dice.choice((10, 60, 66, 250, 990)), value)
    return dice.choice(ODD)


def nested(depth: int, value: Any) -> Any:
    """A value inside of so many lists or objects."""
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    return value


def written(value: Any) -> bytes:
    """As JSON, whatever Python's own limits say of it."""
    try:
        return json.dumps(value).encode()
    except RecursionError:
        return b"[" * 2000
    except ValueError:  # longer digits than Python writes
        return b"[" + b"9" * 10_000 + b"]"


def one_of(dice: random.Random, *ways: tuple[float, Callable[[], Any]]) -> Any:
    """What one of the ways gives, chosen by weight."""
    (way,) = dice.choices([way for _, way in ways], [weight for weight, _ in ways])
    return way()
