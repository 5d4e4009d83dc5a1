"""The envelope: its JSON, and what does not pass for one."""

import json
import re
import string
from typing import Any

import pytest
from builders import EMAIL, envelope, envelope_data
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.envelope import PERSON_IDS, Envelope, decode, encode, id_without_address, load, shown, without_addresses
from tasks.errors import InvalidEnvelope

NAMES = st.text(alphabet=string.ascii_lowercase + string.digits, min_size=1, max_size=20)
TIMES = st.datetimes().map(lambda moment: f"{moment.isoformat(timespec='milliseconds')}Z")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)
ENVELOPES = st.builds(
    Envelope,
    id=st.text(min_size=1, max_size=200),
    source=NAMES,
    format=NAMES,
    type=st.text(min_size=1, max_size=100),
    name=st.text(min_size=1, max_size=500),
    subject=st.none() | st.text(min_size=1, max_size=500),
    received_at=TIMES,
    occurred_at=TIMES,
    event=st.dictionaries(st.text(max_size=9), JSON, max_size=3),
    raw=JSON,
    person=st.none() | st.dictionaries(st.sampled_from(PERSON_IDS), st.text(min_size=1, max_size=20), min_size=1),
    correlation=st.just(()) | st.lists(st.text(min_size=1, max_size=200), min_size=1, max_size=3),
    personal=st.just(()) | st.lists(st.text(min_size=1, max_size=100), min_size=1, max_size=3),
)


def refusal(data: Any) -> str:
    with pytest.raises(InvalidEnvelope) as caught:
        load(data)
    assert caught.value.reason == "invalid"
    return str(caught.value)


@settings(max_examples=40)
@given(ENVELOPES)
def test_there_and_back(one: Envelope) -> None:
    """An envelope is the same after its way through JSON, and the JSON is plain ASCII."""
    text = encode(one)

    assert decode(text) == one
    assert text.isascii()
    assert (b'"raw":' in text.replace(b'\\"', b"")) or one.raw is None


def test_the_json() -> None:
    """Compact, every field but the optional ones that are not there."""
    assert json.loads(encode(envelope())) == envelope_data()
    assert "raw" not in envelope_data()
    assert b": " not in encode(envelope())


@pytest.mark.parametrize("field", sorted(envelope_data()))
def test_a_missing_field_is_named(field: str) -> None:
    """Every field but raw, person, correlation and personal is required."""
    data = envelope_data()
    del data[field]

    assert refusal(data) == f"{field}: Missing data for required field."


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("version", ["1", 1.5, True, None, 2, 0]),
        ("id", ["", 5, None, "s3cret" * 40]),
        ("source", ["", "S3cret", "a b", "-a", "x" * 65, 5, None]),
        ("format", ["", "S3cret", None]),
        ("type", ["", "x" * 101, ["s3cret"], None]),
        ("name", ["", "x" * 501, {"s3cret": 1}, None]),
        ("subject", ["", "x" * 501, 5]),
        ("received_at", ["s3cret", "2026-01-02", "2026-01-02T03:04:05", "2026-01-02T03:04:05+02:00", 1, None]),
        ("occurred_at", ["s3cret", "2026-01-02 03:04:05Z", "2026-01-02T03:04:05.1234567Z", None]),
        ("event", ["s3cret", ["s3cret"], None]),
    ],
)
def test_a_wrong_field_is_named_without_its_value(field: str, values: list[Any]) -> None:
    """The message says which field and what it must be."""
    for value in values:
        message = refusal(envelope_data(**{field: value}))
        assert message.startswith(f"{field}: ")
        assert "; " not in message.removesuffix("; send version 1.")
        assert "s3cret" not in message.lower()


def test_all_wrong_fields_at_once() -> None:
    """In the order of their names."""
    assert refusal(envelope_data(id="", event=5, source="A")) == (
        "event: Not a valid mapping type.; id: Length must be between 1 and 200.; "
        "source: Only a-z, 0-9, _ and -, at most 64."
    )


@pytest.mark.parametrize("version", [0, 2, 99])
def test_another_version(version: int) -> None:
    """It says which one is read."""
    assert refusal(envelope_data(version=version)) == f"version: Version {version} is not read here; send version 1."


@pytest.mark.parametrize("field", ["source", "format", "received_at", "occurred_at"])
def test_no_line_break_at_the_end(field: str) -> None:
    """A name is a name to its last character."""
    refusal(envelope_data(**{field: envelope_data()[field] + "\n"}))


@pytest.mark.parametrize("number", [float("inf"), float("nan")])
def test_what_passes_can_be_kept(number: float) -> None:
    """Numbers that JSON does not have are refused at the door: what `load` gives, `encode` takes."""
    try:
        loaded = load(envelope_data(event={"total": number}))
    except InvalidEnvelope:
        return
    encode(loaded)


def test_unknown_keys_are_dropped() -> None:
    """Newer publishers may send more."""
    assert load(envelope_data(surprise=1)) == envelope()


@pytest.mark.parametrize("time", ["2026-01-02T03:04:05Z", "2026-01-02T03:04:05.123456Z", "2026-01-02T03:04:05+00:00"])
def test_times(time: str) -> None:
    """UTC in both spellings, with or without a fraction."""
    assert load(envelope_data(received_at=time)).received_at == time


@pytest.mark.parametrize("data", [None, [], "s3cret", 5, [envelope_data()]])
def test_no_object(data: Any) -> None:
    """An envelope is an object."""
    assert refusal(data) == "an envelope is a JSON object"


@pytest.mark.parametrize("text", [b"", b"s3cret", b"\xff", b"[" * 100_000, b"{"])
def test_no_json(text: bytes) -> None:
    """Bytes that are no JSON are no envelope, and are not quoted."""
    with pytest.raises(InvalidEnvelope, match=r"^the envelope is not JSON$"):
        decode(text)


@pytest.mark.parametrize(
    ("name", "type_", "value"),
    [
        ("added-tag-my-vip", "added-tag", "my-vip"),
        ("performed-step:a:b", "performed-step", "a:b"),
        ("newUser", "newUser", None),
        ("newUserX", "newUser", None),
        ("Order Completed", "track", None),
        ("added-tag-", "added-tag", ""),
    ],
)
def test_value(name: str, type_: str, value: str | None) -> None:
    """What a name carries behind its type."""
    assert envelope(name=name, type=type_).value == value


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("added-tag-vip", "encharge · added-tag-vip"),
        (f"added-tag-{EMAIL}", "encharge · added-tag-…"),
        (f"wrote {EMAIL} twice", "encharge · wrote … twice"),
        (f"a:{EMAIL}, b=two@example.com", "encharge · a:… b=…"),
        ("x" * 200, "encharge · " + "x" * 80),
    ],
)
def test_what_people_see_has_no_address(name: str, label: str) -> None:
    """Flower and logs show no e-mail address, and no more than 80 characters of a name."""
    assert envelope(name=name).shown == shown("encharge", name) == label


def test_the_view() -> None:
    """Triggers see the event's own fields and ours, which win over a field of the same name."""
    one = envelope(event={"event": "newUser", "envelope": "theirs"})

    assert one.view["event"] == "newUser"
    assert one.view["envelope"] == {
        "id": "e1",
        "source": "encharge",
        "format": "encharge",
        "type": "newUser",
        "name": "newUser",
        "value": None,
        "subject": "encharge:1",
        "person": None,
        "received_at": one.received_at,
        "occurred_at": one.occurred_at,
    }
    assert one.event["envelope"] == "theirs"


@pytest.mark.parametrize(
    "text",
    ["x" * 1_000_000, "a b" * 300_000, *(each * 300_000 for each in ("%40", "a%40", "%25", "&#0", "a%4", "-%40"))],
)
def test_bug_a_long_name_took_its_square(text: str) -> None:
    """Seventy thousand letters without an @ held a worker for twelve seconds; a million of them would for an hour."""
    assert "@" not in without_addresses(text)


@given(st.text(alphabet="ab@ :=/-\n", max_size=12))
def test_addresses_are_found_as_by_definition(text: str) -> None:
    """The quick way finds what the plain one does."""
    assert without_addresses(text) == re.sub(r"[^\s@:=/-]+@[^\s@]+", "…", text)


@pytest.mark.parametrize(
    "at", ["@", "%40", "%2540", "%252540", "\uff20", "\ufe6b", "&#64;", "&#064", "&#x40;", "&#X0040;", "&commat;"]
)
def test_bug_an_address_in_other_words_was_shown(at: str) -> None:
    """In names, and in ids, whatever stands before and behind it."""
    for text in (f"someone{at}example.com", f"{at}someone{at}example.com", f"a{at}someone{at}example.com"):
        assert "someone" not in without_addresses(f"paid-{text} twice")
        assert "someone" not in envelope(name=f"added-tag-{text}", type="added-tag").shown
        assert id_without_address(text).startswith("id-")
