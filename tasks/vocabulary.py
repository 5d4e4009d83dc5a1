"""One vocabulary for what happens to messages: which state each system's event names stand for, and the way back.

The table is config/vocabulary.yaml, with the page that each cell is out of; docs/vocabulary.md shows it.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from config.problems import ConfigurationRefused
from config.yaml_file import YamlFile, read

STATES: Final = (
    *("queued", "sent", "delivered", "opened", "clicked", "replied", "soft_bounced", "hard_bounced", "dropped"),
    *("marked_as_spam", "unsubscribed", "failed"),
)
CHANNELS: Final = ("email", "sms", "push")
SYSTEMS: Final = ("encharge", "activatepro", "activity_sync", "segment")
#: What is told of a message beside state, channel and time, in this order.
DETAILS: Final = ("id", "name", "subject", "type", "campaign_id", "campaign_name", "url", "reason")

_FILE: Final = Path(__file__).parents[1] / "config" / "vocabulary.yaml"

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Word:
    """What an event's name says: the state, and the channels that the message may be of."""

    state: str
    channels: tuple[str, ...]


@dataclass(frozen=True)
class System:
    """How one system tells of messages."""

    title: str
    page: str
    note: str
    words: Mapping[str, Word]  #: event name → what it says
    names: Mapping[tuple[str, str], str]  #: (state, channel) → event name; what it has no name for is not there
    event: Mapping[str, str]  #: where an event has its name, at, properties; time = how it writes at
    properties: Mapping[str, str]  #: detail → property
    paths: tuple[tuple[str, tuple[str, ...]], ...]  #: detail, keys of a path that leads to it; the first found counts
    channel_property: str | None
    channels: Mapping[str, str]  #: channel → its word for it
    channels_read: Mapping[str, str]  #: its words for channels, in small letters → channel

    def name_of(self, state: str, channels: tuple[str, ...]) -> str | None:
        """Its name for a message in that state, where it is the same in each of the channels, or None."""
        found = {self.names.get((state, channel)) for channel in channels}
        return found.pop() if len(found) == 1 else None


@dataclass(frozen=True)
class Vocabulary:
    """The whole table."""

    systems: Mapping[str, System]
    formats: Mapping[str, str]  #: envelope.format → system
    table: Mapping[str, Any]  #: the states as the file has them


@functools.cache
def vocabulary() -> Vocabulary:
    """The table, read and checked once. Raises ConfigurationRefused."""
    return loaded(read(_FILE))


def loaded(file: YamlFile) -> Vocabulary:
    """A vocabulary out of its file. Raises ConfigurationRefused with everything that is wrong with its table."""
    table, entries = file.data["states"], file.data["systems"]
    problems = []
    if tuple(table) != STATES or tuple(entries) != SYSTEMS:
        problems.append(file.problem((), f"the states must be {', '.join(STATES)}, the systems {', '.join(SYSTEMS)}"))
    for name in entries:
        meant: dict[str, str] = {}
        for state, row in table.items():
            cell = row.get(name, {})
            problems += [file.problem(("states", state, name), text) for text in _wrong(cell)]
            for word in {cell.get(channel) for channel in CHANNELS} - {None}:
                if meant.setdefault(word, state) != state:
                    problems.append(file.problem(("states", state, name), f"{word} stands for {meant[word]} already"))
    if problems:
        raise ConfigurationRefused(tuple(problems))
    systems = {name: _system(name, entry, table) for name, entry in entries.items()}
    return Vocabulary(systems, {entry["format"]: name for name, entry in entries.items()}, table)


def _wrong(cell: Json) -> list[str]:
    """What is wrong with a cell: each channel is told, and where there is no word, why."""
    found = [f"{channel} is missing" for channel in CHANNELS if channel not in cell]
    found += [f"{key} means nothing here" for key in cell if key not in {*CHANNELS, "page", "because", "note"}]
    found += ["page must be an address"] * (not str(cell.get("page")).startswith("https://"))
    unsaid = any(cell.get(channel) is None for channel in CHANNELS)
    return found + ["because must be given where a word is null, and only there"] * (unsaid != ("because" in cell))


def _system(name: str, entry: Json, table: Json) -> System:
    names = {
        (state, channel): row[name][channel]
        for state, row in table.items()
        for channel in CHANNELS
        if row[name][channel] is not None
    }
    words = {
        word: Word(state, tuple(each for each in CHANNELS if names.get((state, each)) == word))
        for (state, _), word in names.items()
    }
    place, also, channel = entry["event"]["properties"], entry.get("also", {}), entry.get("channel", {})
    own = {detail: [f"{place}.{key}"] for detail, key in entry["properties"].items()}
    paths = [(detail, path) for detail in DETAILS for path in (*own.get(detail, ()), *also.get(detail, ()))]
    spelled = {each: channel.get(each, ()) for each in CHANNELS}
    return System(
        title=entry["title"],
        page=entry["page"],
        note=entry["note"],
        words=words,
        names=names,
        event=entry["event"],
        properties=entry["properties"],
        paths=tuple((detail, tuple(path.split("."))) for detail, path in paths),
        channel_property=channel.get("property"),
        channels={each: spellings[0] for each, spellings in spelled.items() if spellings},
        channels_read={word.lower(): each for each, spellings in spelled.items() for word in spellings},
    )


# --- reading ---------------------------------------------------------------------------------------------------------


def message_of(format_: str, type_: str, name: str, event: Json, at: str) -> dict[str, Any] | None:
    """What an event says of a message, out of its envelope's fields; None = it is about none. `at` = when it happened.

    {"state": "clicked", "channel": "email", "id": "59969", "url": "https://…", "at": "2026-…Z", "words": {"encharge":
    "email-click", "activity_sync": "message-link-clicked", …}}. Keys without a value are not there, but for channel.
    """
    table = vocabulary()
    system = table.formats.get(format_)
    word = table.systems[system].words.get(name) if system else None
    # Another call of Segment's may be called as one of its events: an identify has no name, a page has any.
    if system is None or word is None or (system == "segment" and type_ != "track"):
        return None
    return _message_in(table.systems[system], word, event, at)


def _message_in(system: System, word: Word, event: Json, at: str) -> dict[str, Any]:
    channels = word.channels
    told = _inner(event, (system.event["properties"], system.channel_property)) if system.channel_property else None
    if isinstance(told, str):
        read_as = system.channels_read.get(told.strip().lower())
        channels = (read_as,) if read_as in channels else ()
    message: dict[str, Any] = {"state": word.state, "channel": channels[0] if len(channels) == 1 else None}
    for detail, path in system.paths:
        text = _text(_inner(event, path))
        if text and detail not in message:
            message[detail] = text
    message["at"] = at
    message["words"] = _words(word.state, channels or CHANNELS)
    return message


@functools.cache
def _words(state: str, channels: tuple[str, ...]) -> dict[str, str | None]:
    """What each system calls it. Handed out to be read only: mappings copy what they take."""
    return {name: system.name_of(state, channels) for name, system in vocabulary().systems.items()}


def _text(value: Any) -> str:
    """Ids are numbers in some systems and texts in others."""
    return str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else ""


def _inner(value: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


# --- writing ---------------------------------------------------------------------------------------------------------


def name_for(message: Any, to: str, channel: str | None = None) -> str | None:
    """What a system calls the message's state; None when it has no name for it, or this is no message.

    `channel`: what to take the message for, where it is not known.
    """
    if not isinstance(message, dict) or message.get("state") not in STATES:
        return None
    if message.get("channel") is None and channel is not None:
        return vocabulary().systems[to].names.get((message["state"], channel))
    words = message.get("words")
    found = words.get(to) if isinstance(words, dict) else None
    return found if isinstance(found, str) else None


def properties_for(message: Any, to: str, channel: str | None = None) -> dict[str, Any] | None:
    """A message's details in a system's words; None where the system has no name for its state."""
    if name_for(message, to, channel) is None:
        return None
    system = vocabulary().systems[to]
    known = message.get("channel") or channel
    said = system.channels.get(known) if isinstance(known, str) else None
    found = {system.channel_property: said} if system.channel_property and said else {}
    return {**found, **{key: message[detail] for detail, key in system.properties.items() if detail in message}}


def event_for(message: Any, to: str, channel: str | None = None) -> dict[str, Any] | None:
    """Name, time and properties as a system has them in an event; None where it has no name for the state."""
    name = name_for(message, to, channel)
    if name is None:
        return None
    keys = vocabulary().systems[to].event
    at = message.get("at")
    if keys["time"] == "milliseconds" and isinstance(at, str):
        at = round(datetime.fromisoformat(at).timestamp() * 1000)
    return {keys["name"]: name, keys["at"]: at, keys["properties"]: properties_for(message, to, channel)}
