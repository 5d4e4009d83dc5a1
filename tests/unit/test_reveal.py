"""What commands show of a dead letter and of explanations to those who did not ask for people."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from builders import envelope, envelope_data

from app.records import FORMAT
from cli.reveal import Cover
from config.settings import load
from tasks.dead_letter import DeadLetter
from tasks.explaining import Change, Outcome
from tasks.hiding import pseudonyms
from tasks.spellings import HIDDEN

SOURCES = """
version: 1
sources:
  encharge: {kind: encharge, secrets: [ONE], personal: [hobby]}
"""
ANNA = pseudonyms(b"the key")("anna@example.com")
UUID = pseudonyms(b"the key")("1ad75773")
EVENT = {
    "event": "added-tag-for-anna",
    "user": {"id": "1ad75773", "email": "anna@example.com", "firstName": "Anna", "shoe size": "39"},
    "properties": {"tag": "for-anna", "hobby": "chess", "plan": "pro"},
}
REQUEST = {
    "method": "POST",
    "url": "https://api.example.com/tags?email=anna%40example.com&tag=for-anna",
    "headers": {"X-Key": "(the key)"},
    "body": {"email": "anna@example.com", "tag": "for-anna", "note": "plays CHESS"},
}


def cover(tmp_path: Path, sources: str = SOURCES) -> Cover:
    path = tmp_path / "sources.yaml"
    path.write_text(sources)
    return Cover(load({"SOURCES_FILE": str(path), "PSEUDONYM_KEY": "the key"}))


def letter(**changes: Any) -> DeadLetter:
    data = envelope_data(
        name="added-tag-for-anna", type="added-tag", subject="encharge:1ad75773", event=EVENT,
        person={"email": "anna@example.com"},
    )  # fmt: skip
    one = DeadLetter(
        id="e1:tags", reason="bug", error="KeyError: 'Anna'", source="encharge", route="tags", type="added-tag",
        died_at="2026-01-02T03:04:05Z", attempts=({"number": 1, "status": 400},), envelope=data, request=REQUEST,
        response={"status": 400, "headers": {}, "body": '{"message": "no anna@example.com", "email": "b@example.com"}'},
        traceback="  raise KeyError(name)\nKeyError: 'Anna'",
    )  # fmt: skip
    return dataclasses.replace(one, **changes)


def test_a_letter(tmp_path: Path) -> None:
    """What happened can be read, to whom cannot; two letters of one person are seen to be of one."""
    shown = cover(tmp_path).letter(letter())

    assert (shown.error, shown.traceback) == ("KeyError: '…'", "  raise KeyError(name)\nKeyError: '…'")
    assert shown.envelope["subject"] == f"encharge:{UUID}"
    assert shown.envelope["person"] == {"email": ANNA}
    assert shown.envelope["name"] == "added-tag-for-…"
    assert shown.envelope["event"] == {
        "event": "added-tag-for-…",
        "user": {"id": UUID, "email": ANNA, "firstName": HIDDEN, HIDDEN: HIDDEN},
        "properties": {"tag": "for-…", "hobby": HIDDEN, "plan": "pro"},
    }
    assert shown.request == {
        "method": "POST",
        "url": f"https://api.example.com/tags?email={ANNA}&tag=for-…",
        "headers": {"X-Key": "(the key)"},
        "body": {"email": ANNA, "tag": "for-…", "note": "plays …"},
    }
    said = json.loads((shown.response or {})["body"])
    assert said == {"message": f"no {ANNA}", "email": pseudonyms(b"the key")("b@example.com")}
    kept = ("id", "reason", "source", "route", "type", "died_at", "attempts")
    assert all(getattr(shown, name) == getattr(letter(), name) for name in kept)


def test_what_is_no_event_is_hidden_whole(tmp_path: Path) -> None:
    """Nobody knows what in it is about a person: broken records, quarantined messages, envelopes that do not decode."""
    hide = cover(tmp_path).letter
    broken = hide(letter(envelope=envelope_data(event={"record": "{anna", "encoding": "utf-8"})))

    assert broken.envelope["event"] == HIDDEN
    assert hide(letter(envelope="{anna")).envelope == HIDDEN
    assert hide(letter(envelope=None, raw="to anna")).raw == "… (7 characters)"


def test_sources_that_cannot_be_read(tmp_path: Path) -> None:
    """Then the keys of all kinds count; a published event's source is known to no file either."""
    for sources in ("sources: [", "version: 1", SOURCES.replace("encharge:", "another:")):
        shown = cover(tmp_path, sources).letter(letter())
        assert "anna" not in json.dumps(dataclasses.asdict(shown)).lower()


def test_explanations(tmp_path: Path) -> None:
    """Of stored events; what changes is compared as it is."""
    one = envelope(name="added-tag-for-anna", type="added-tag", event=EVENT)
    sent = Outcome("tags", "tag_user", matches=True, requests=(REQUEST,))
    failed = Outcome("tags", "tag_user", matches=True, error={"reason": "bug", "message": "KeyError: 'Anna'"})
    hide = cover(tmp_path)

    assert "anna" not in json.dumps(hide.outcome(one, sent).as_data()).lower()
    assert hide.outcome(one, failed).error == {"reason": "bug", "message": "KeyError: '…'"}
    assert hide.change(one, Change("changed", "tags", sent, None)) == Change(
        "changed", "tags", hide.outcome(one, sent), None
    )
    assert hide.headline(one) == "encharge · added-tag-for-…"


def test_the_key_of_the_hashes() -> None:
    """One of its own, or made of the write key, and never that; none where nothing is set."""
    assert load({"PSEUDONYM_KEY": "k", "ENCHARGE_WRITE_KEY": "w"}).pseudonym_secret == b"k"
    made = load({"ENCHARGE_WRITE_KEY": "w"}).pseudonym_secret
    assert made == load({"ENCHARGE_WRITE_KEY": "w"}).pseudonym_secret
    assert len(made) == 32
    assert load({}).pseudonym_secret == b""


def test_bug_requests_of_kinds_that_call_their_text_a_body_were_blank(tmp_path: Path) -> None:
    """Nor are the words of an event what they mean in a request: only what the event says of people goes."""
    event = {"kind": "message-opened", "customContext": {"userId": "u1234"}, "data": {"body": "Hello Anna"}}
    request = {
        **REQUEST,
        "url": "https://api.example.com/events?email=b%40example.com",
        "body": {"id": "u1234", "event": "message-opened", "subject": "none", "text": "hello anna", "hobby": "go"},
    }
    answer = {
        "status": 400,
        "headers": {},
        "body": '{"field":"event","type":"UNKNOWN_VALUE","message":"b@example.com"}',
    }
    sources = SOURCES.replace("kind: encharge", "kind: activity_sync")
    for source in ("encharge", "unknown"):
        data = envelope_data(name="message-opened", type="message-opened", subject=None, event=event, source=source)
        shown = cover(tmp_path, sources).letter(letter(envelope=data, request=request, response=answer))
        assert shown.request == {
            **request,
            "url": f"https://api.example.com/events?email={pseudonyms(b'the key')('b@example.com')}",
            "body": {
                **request["body"],
                "id": pseudonyms(b"the key")("u1234"),
                "text": HIDDEN,
                "hobby": HIDDEN if source == "encharge" else "go",
            },
        }
        assert json.loads((shown.response or {})["body"]) == {
            "field": "event",
            "type": "UNKNOWN_VALUE",
            "message": pseudonyms(b"the key")("b@example.com"),
        }


def test_records_that_are_no_events_are_hidden_whole(tmp_path: Path) -> None:
    """Of whatever source, and whatever keys they have: nobody knows what those mean."""
    for source in ("encharge", "unknown"):
        for event in ({"record": "anna", "encoding": "utf-8"}, {"value": ["anna"]}, {"who": "anna"}):
            data = envelope_data(source=source, format=FORMAT, subject=None, event=event, raw={"delivery": "r:1"})
            shown = cover(tmp_path).letter(letter(envelope=data, request=None, response=None, error="", traceback=None))
            assert shown.envelope["event"] == HIDDEN
            assert shown.envelope["raw"] == {"delivery": "r:1"}
