"""What commands show of people: nothing, unless asked with --reveal; and what stands in its place."""

import contextlib
import dataclasses
import itertools
import secrets
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import click

from app.sources import KINDS
from config import personal
from config.problems import ConfigurationRefused
from config.settings import Settings
from config.yaml_file import read
from tasks.dead_letter import DeadLetter
from tasks.envelope import Envelope
from tasks.explaining import Change, Outcome
from tasks.hiding import Hiding, hiding, pseudonyms
from tasks.personal import IN_ANSWERS, keys_of, plain_all, told
from tasks.spellings import HIDDEN

reveal_option: Final = click.option(
    "--reveal", is_flag=True, help="Show people's data too; without it, … or a hash stands in its place."
)


class Cover:
    """Hides what events say of people. The same person has the same hash, from run to run where there is a key."""

    def __init__(self, settings: Settings) -> None:
        self._pseudonym = pseudonyms(settings.pseudonym_secret or secrets.token_bytes(32))
        self._keys = _keys_of_sources(settings)

    def letter(self, letter: DeadLetter) -> DeadLetter:
        """A dead letter for everybody to see: what happened, not to whom."""
        envelope = letter.envelope
        known = envelope if isinstance(envelope, dict) else {"source": letter.source}
        hide, outside = self._hiding(known, letter.request)
        return dataclasses.replace(
            letter,
            error=outside.text(letter.error),
            type=hide.text(letter.type),
            envelope=_without(envelope, hide),
            request=_request(letter.request, outside),
            response=_response(letter.response, outside),
            traceback=letter.traceback and outside.text(letter.traceback),
            raw=letter.raw and f"{HIDDEN} ({len(letter.raw)} characters)",
        )

    def event(self, envelope: Any) -> Any:
        """An event's envelope, parsed."""
        return _without(envelope, self._hiding(envelope if isinstance(envelope, dict) else {})[0])

    def failure(self, envelope: Any, record: Mapping[str, Any]) -> str | None:
        """The error text of a delivery's record."""
        known = envelope if isinstance(envelope, dict) else {}
        error = record.get("error")
        return error and self._hiding(known, record.get("request"))[1].text(error)

    def outcome(self, envelope: Envelope, outcome: Outcome) -> Outcome:
        """What a route would do with an event."""
        if not outcome.requests and outcome.error is None:
            return outcome
        _, outside = self._hiding(vars(envelope), *outcome.requests)
        error = outcome.error and {name: outside.text(text) for name, text in outcome.error.items()}
        return dataclasses.replace(
            outcome, requests=tuple(_request(each, outside) for each in outcome.requests), error=error
        )

    def change(self, envelope: Envelope, change: Change) -> Change:
        """What other routes would do with it."""
        before, after = (side and self.outcome(envelope, side) for side in (change.before, change.after))
        return dataclasses.replace(change, before=before, after=after)

    def headline(self, envelope: Envelope) -> str:
        """What Flower calls it."""
        hide, _ = self._hiding(vars(envelope))
        return hide.text(envelope.shown)

    def _hiding(self, envelope: Mapping[str, Any], *requests: Any) -> tuple[Hiding, Hiding]:
        """For the event; and for what was sent and answered, where the kind's own words mean other things."""
        event, raw = envelope.get("event"), envelope.get("raw")
        of_kind, added = self._keys.get(str(envelope.get("source")), (personal.ANY, ()))
        named = keys_of((*added, *_texts(envelope.get("personal"))), event, raw)
        keys, outside = named | plain_all(of_kind), named | IN_ANSWERS
        # The subject is a person's id, and what is sent may know more of the person than the event itself.
        data = [{"userId": _subject_id(envelope)}, envelope.get("person"), event, raw]
        known = itertools.chain(told(data, keys), told([_said(each) for each in requests], outside))
        hide = hiding(known, keys, self._pseudonym)
        return hide, hide.by(outside)


def _said(request: Any) -> Any:
    """What a request says of people: its body, and the query of its address."""
    if not isinstance(request, Mapping):
        return None
    return [request.get("body"), parse_qs(urlsplit(str(request.get("url", ""))).query)]


def _keys_of_sources(settings: Settings) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    """Name → personal keys of each source of the file, its kind's and its own.

    As far as it can be read; the keys of all kinds do too.
    """
    sources: Any = None
    with contextlib.suppress(ConfigurationRefused):
        data = read(settings.sources_file).data
        sources = data.get("sources") if isinstance(data, dict) else None
    entries = sources.items() if isinstance(sources, dict) else ()
    return {
        str(name): (KINDS[entry["kind"]].personal, tuple(_texts(entry.get("personal"))))
        for name, entry in entries
        if isinstance(entry, dict) and entry.get("kind") in KINDS
    }


def _texts(value: Any) -> list[str]:
    return [each for each in value if isinstance(each, str)] if isinstance(value, list | tuple) else []


def _subject_id(envelope: Mapping[str, Any]) -> str:
    """What a subject says behind the name of its format, or source."""
    subject = str(envelope.get("subject") or "")
    house, colon, rest = subject.partition(":")
    return rest if colon and house in {envelope.get("format"), envelope.get("source")} else subject


def _without(envelope: Any, hide: Hiding) -> Any:
    """An envelope without people. Of what is no event, nobody can say which of its parts are about one."""
    if not isinstance(envelope, dict):
        return envelope and HIDDEN
    event = envelope.get("event")
    no_event = (
        not isinstance(event, dict) or envelope.get("format") == personal.NO_FORMAT or event.keys() <= personal.NO_EVENT
    )
    id_ = _subject_id(envelope)
    house = str(envelope.get("subject") or "").removesuffix(id_)
    return {
        **envelope,
        "type": hide.data(envelope.get("type")),
        "name": hide.data(envelope.get("name")),
        "subject": f"{house}{hide.pseudonym(id_)}" if id_ else None,
        **{
            name: HIDDEN if name == "event" and no_event and event else hide.data(envelope[name])
            for name in ("event", "raw", "person", "correlation")
            if name in envelope
        },
    }


def _request(request: Mapping[str, Any] | None, hide: Hiding) -> Any:
    return request and {
        name: hide.url(value) if name == "url" and isinstance(value, str) else hide.data(value)
        for name, value in request.items()
    }


def _response(response: Mapping[str, Any] | None, hide: Hiding) -> Any:
    return response and {
        name: hide.answer(value) if name == "body" and isinstance(value, str) else hide.data(value)
        for name, value in response.items()
    }
