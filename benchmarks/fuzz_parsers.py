"""The parsers under damaged input, in one process: `make fuzz DOOR=parsers`; fuzz_guided.py has coverage to go by."""

import collections
import json
import random
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from mutations import damaged_bytes, damaged_value, one_of, written

from app import body as bodies
from app import feed_rows
from app.source import Refusal
from app.sources import activatepro, encharge, segment
from tasks import envelope, mapping, messages, transport, trigger
from tasks.errors import InvalidEnvelope, MappingFailed, MappingRefused, TriggerRefused

_ROOT: Final = Path(__file__).resolve().parents[1]
_MOST_S: Final = 2.0
_MOST_S_A_BYTE: Final = 1e-5
#: As much as the endpoint reads; a worker reads more, of those who may push tasks.
_MOST_BYTES: Final = 262_144
_NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)
_EVENT: Final = {"event": "newUser", "user": {"id": "1", "email": "one@example.com"}, "properties": {"plan": "pro"}}


def _trigger(data: bytes) -> None:
    trigger.parse(data.decode("utf-8", "replace")).matches(_EVENT)


def _mapping(data: bytes) -> None:
    mapping.compile(_json(data)).resolve(_EVENT)


def _mapped_event(data: bytes) -> None:
    event = _json(data)
    if isinstance(event, dict):
        for made in _MAPPINGS:
            made.resolve(event)


def _liquid(data: bytes) -> None:
    mapping.compile({"@liquid": data.decode("utf-8", "replace")}).resolve(_EVENT)


def _encharge(data: bytes) -> None:
    for path in (None, "added-tag-a"):
        for found in encharge.unwrap("encharge", bodies.parse(data, 64), path, _NOW):
            envelope.load(json.loads(envelope.encode(found)))


def _segment(data: bytes) -> None:
    for found in segment.unwrap_posted("site", bodies.parse(data, 64), "track", _NOW):
        made = found if isinstance(found, envelope.Envelope) else found.envelope
        envelope.load(json.loads(envelope.encode(made)))


def _feed(data: bytes) -> None:
    for row in feed_rows.rows((data[at : at + 50] for at in range(0, len(data), 50)), 64):
        for each in activatepro.rows_of(row.value) if row.value is not None else ():
            found = activatepro.unwrap_row("crm", each, _NOW, "feed:1")
            made = found if isinstance(found, envelope.Envelope) else found.envelope
            envelope.load(json.loads(envelope.encode(made)))


def _message(data: bytes) -> None:
    json.dumps(transport.without_arguments(messages.checked(data)))


def _json(data: bytes) -> Any:
    return bodies.parse(data, 200)


#: Name → the parser, and what it may raise.
PARSERS: Final[Mapping[str, tuple[Callable[[bytes], Any], tuple[type[Exception], ...]]]] = {
    "trigger": (_trigger, (TriggerRefused,)),
    "mapping": (_mapping, (Refusal, MappingRefused, MappingFailed)),
    "mapped event": (_mapped_event, (Refusal, MappingFailed)),
    "liquid": (_liquid, (MappingRefused, MappingFailed)),
    "JSON body": (_json, (Refusal,)),
    "encharge": (_encharge, (Refusal,)),
    "segment": (_segment, (Refusal,)),
    "feed": (_feed, (Refusal,)),
    "envelope": (envelope.decode, (InvalidEnvelope,)),
    "message": (_message, (messages.Unusable,)),
}


def _vectors(name: str) -> Any:
    return json.loads((_ROOT / "tests/vectors" / name).read_text())


def _found(value: Any, key: str) -> Iterator[Any]:
    """Every value of that key, at any depth."""
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if isinstance(value, dict) and key in value:
        yield value[key]
    for child in children:
        yield from _found(child, key)


def _corpus() -> dict[str, list[bytes]]:
    events = json.loads((_ROOT / "cli/samples/encharge.json").read_text())
    feed = json.loads((_ROOT / "cli/samples/activatepro.json").read_text())
    segments = [
        case["raw_body"].encode() for case in _vectors("segment_inbound.json")["requests"] if case.get("raw_body")
    ]
    mappings = [value for value in _found(_vectors("mapping_kit.json"), "mapping") if value is not None]
    triggers = {text for key in ("fql", "trigger", "query") for text in _found(_vectors("fql.json"), key)}
    sound = {"version": 1, "id": "e", "source": "s", "format": "f", "type": "t", "name": "n", "subject": None}
    sound |= {"received_at": "2026-01-01T00:00:00Z", "occurred_at": "2026-01-01T00:00:00Z", "event": _EVENT}
    liquids = ["{{ properties.plan | upcase }}", "{% if user.email %}{{ user.email | split: '@' | last }}{% endif %}"]
    return {
        "trigger": [text.encode() for text in triggers if isinstance(text, str)] or [b'event = "newUser"'],
        "mapping": [written(value) for value in mappings],
        "mapped event": [*map(written, events), *segments],
        "liquid": [text.encode() for text in liquids],
        "JSON body": [*map(written, events), *segments],
        "encharge": [*map(written, events), b'{"endUserData":[{"id":"1"},{"id":"2"}],"eventPayload":{"a":1}}'],
        "segment": segments,
        "feed": [b"[\n" + b",\n".join(map(written, feed)) + b"\n]", *map(written, feed)],
        "envelope": [written(sound)],
        "message": [written(case["message"]) for case in _vectors("malformed_messages.json")["cases"]],
    }


def _compiled() -> list[mapping.Mapping]:
    made = []
    for value in _found(_vectors("mapping_kit.json"), "mapping"):
        try:
            made.append(mapping.compile(value))
        except MappingRefused:
            continue
    return made


_MAPPINGS: Final = _compiled()
CORPUS: Final = _corpus()


def tried(name: str, data: bytes) -> str:
    """What is wrong with how a parser took an input; "" = nothing."""
    parser, allowed = PARSERS[name]
    begun = time.thread_time()  # how busy the machine is does not count
    try:
        parser(data)
    except allowed:
        pass
    except Exception as error:  # noqa: BLE001 - that is what is looked for
        return f"{type(error).__name__}: {error}"[:300]
    took = time.thread_time() - begun
    most = _MOST_S + len(data) * _MOST_S_A_BYTE  # feeds may be of any size; what takes its square is still found
    return f"took {took:.1f} s" if took > most else ""


def run(dice: random.Random, end: float, counts: "collections.Counter[str]") -> Iterator[tuple[str, str, bytes]]:
    """Feed every parser in turn until `end`; gives parser, what was wrong, and the input."""
    names = list(PARSERS)
    while time.monotonic() < end:
        name = dice.choice(names)
        data = damaged(dice, dice.choice(CORPUS[name]))
        if len(data) > _MOST_BYTES:
            continue
        counts[name] += 1
        if wrong := tried(name, data):
            yield name, wrong, data


def damaged(dice: random.Random, data: bytes) -> bytes:
    """In its bytes, or in its value where it is JSON."""
    try:
        value = json.loads(data)
    except ValueError:
        return damaged_bytes(dice, data)
    return one_of(
        dice,
        (2, lambda: written(damaged_value(dice, value))),
        (1, lambda: written(damaged_value(dice, damaged_value(dice, value)))),
        (1, lambda: damaged_bytes(dice, data)),
    )
