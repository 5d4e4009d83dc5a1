"""Events for commands to look at, out of a file: each as its source would take it in."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, Final

import click

from app import body
from app.source import Refusal, Unwrap
from app.sources import activatepro, activity_sync, encharge, segment
from config.yaml_file import read
from tasks.envelope import Envelope, Rejected, load
from tasks.errors import InvalidEnvelope

#: Deepest nesting that any source takes.
_MOST_DEPTH: Final = 500
#: What nothing but an envelope has, all at once.
_ENVELOPE_KEYS: Final = frozenset({"version", "id", "source", "format", "event", "received_at"})
#: What nothing but a Segment event has, of which it has one.
_SEGMENT_KEYS: Final = ("messageId", "anonymousId", "userId", "writeKey", "batch")
#: What names the user of an ActivatePro event, and nobody in another system's.
_ACTIVATEPRO_KEYS: Final = ("id", "User_id", "email")


class Unusable(click.ClickException):
    """What the command was given is of no use; ends it with status 2."""

    exit_code = 2


def _of_segment(event: Mapping[str, Any]) -> bool:
    known = any(key in event for key in _SEGMENT_KEYS)
    return known and not _of_activatepro(event) and not activity_sync.looks_like(event)


def _of_activatepro(event: Mapping[str, Any]) -> bool:
    """The events of one user, or one in flat form; Encharge's have a `user`, Segment's a type of their own."""
    if activity_sync.looks_like(event) or "user" in event or str(event.get("type")) in segment.TYPES:
        return False
    if isinstance(event.get("events"), list):
        return True
    return "event" in event and any(key in event for key in _ACTIVATEPRO_KEYS)


def _of_encharge(event: Mapping[str, Any]) -> bool:
    return not (_of_segment(event) or _of_activatepro(event) or activity_sync.looks_like(event))


@dataclasses.dataclass(frozen=True)
class Kind:
    """How an event of a kind of source is unwrapped, and known without being told."""

    unwrap: Unwrap
    looks_like: Callable[[Mapping[str, Any]], bool]


#: By the names of sources.yaml.
KINDS: Final[Mapping[str, Kind]] = {
    "encharge": Kind(encharge.unwrap, _of_encharge),
    "segment": Kind(segment.unwrap_posted, _of_segment),
    "segment_webhook": Kind(segment.unwrap_webhook, _of_segment),
    "segment_stream": Kind(segment.unwrap_webhook, _of_segment),
    "activity_sync": Kind(activity_sync.unwrap, activity_sync.looks_like),
    "activatepro": Kind(activatepro.unwrap, _of_activatepro),
}


def kinds_of(path: Path) -> dict[str, str]:
    """Name → kind of each source of a file; secrets need not be set. Raises ConfigurationRefused if not readable."""
    data = read(path).data
    sources = data.get("sources") if isinstance(data, dict) else None
    entries = sources.items() if isinstance(sources, dict) else ()
    return {str(name): str(entry.get("kind")) for name, entry in entries if isinstance(entry, dict)}


@dataclasses.dataclass(frozen=True)
class Intake:
    """Makes envelopes of decoded JSON. `source` None = whichever the event looks like."""

    sources: Mapping[str, str]  #: name → kind
    source: str | None
    event_name: str | None
    received_at: datetime

    def envelopes(self, value: Any) -> Sequence[Envelope | Rejected]:
        """The envelopes of one event. Raises Refusal as the source would, or InvalidEnvelope."""
        if isinstance(value, dict) and value.keys() >= _ENVELOPE_KEYS:
            return [load(value)]
        name, kind = self._fitting(value)
        return KINDS[kind].unwrap(name, value, self.event_name, self.received_at, None)

    def _fitting(self, value: Any) -> tuple[str, str]:
        """Name and kind of the source it comes from: as named, else the first it looks like, else a kind's own name."""
        looks = [kind for kind, known in KINDS.items() if isinstance(value, dict) and known.looks_like(value)]
        if self.source is not None:
            kind = self.sources.get(self.source, "")
            return self.source, kind if kind in KINDS else (*looks, "encharge")[0]
        for name, kind in self.sources.items():
            if kind in looks:
                return name, kind
        return (looks[0], looks[0]) if looks else ("encharge", "encharge")


#: Number of the event in the input, from 0; its envelope, or why it has none.
Item = tuple[int, Envelope | str]


def items(file: BinaryIO, intake: Intake) -> Iterator[Item]:
    """The events of a file, one after the other. Raises Unusable when it is not JSON at all."""
    for number, value in enumerate(values(file)):
        if isinstance(value, Refusal):
            yield number, value.message
            continue
        try:
            for found in intake.envelopes(value):
                yield number, found if isinstance(found, Envelope) else found.error
        except Refusal as refusal:
            yield number, f"the source refuses it: {refusal.message}"
        except InvalidEnvelope as error:
            yield number, f"the envelope is invalid: {error}"


def values(file: BinaryIO) -> Iterator[Any]:
    """The JSON values of a file: one, a list of them, or one a line. A line that is none comes as its Refusal."""
    lines = (line for line in file if not line.isspace())
    first = next(lines, None)
    if first is None:
        raise Unusable("there is no event in it")
    begin = _value(first)
    if isinstance(begin, Refusal):
        # Not one value a line, so it must be one value of many lines.
        whole = _value(b"".join(chain([first], lines)))
        if isinstance(whole, Refusal):
            raise Unusable(f"neither JSON nor JSON lines: {whole.message}")
        yield from whole if isinstance(whole, list) else [whole]
        return
    for value in chain([begin], map(_value, lines)):
        yield from value if isinstance(value, list) else [value]


def _value(text: bytes) -> Any:
    try:
        return body.parse(text, _MOST_DEPTH)
    except Refusal as refusal:
        return refusal


def one_object(file: BinaryIO) -> dict[str, Any]:
    """The one JSON object in a file. Raises Unusable when there is something else."""
    found = list(values(file))
    if len(found) != 1 or not isinstance(found[0], dict):
        raise Unusable("there must be one event in it, a JSON object")
    return found[0]


def looked_at(event: dict[str, Any]) -> dict[str, Any]:
    """What routes see of an event: of an envelope that; else the event as it is, with `message` where it is about one.

    Raises Unusable when it looks like an envelope and is none.
    """
    if event.keys() >= _ENVELOPE_KEYS:
        try:
            return load(event).view
        except InvalidEnvelope as error:
            raise Unusable(f"the envelope is invalid: {error}") from None
    try:
        found = Intake({}, None, None, datetime.now(UTC)).envelopes(event)
    except Refusal:
        found = ()
    told = found[0].view["message"] if len(found) == 1 and isinstance(found[0], Envelope) else None
    return event if told is None else {**event, "message": told}
