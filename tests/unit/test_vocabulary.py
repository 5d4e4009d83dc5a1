"""One vocabulary for messages: the table, what is read out of events, and what is written in other systems' words."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from builders import EMAIL, envelope, envelope_data
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from cli.main import main
from config.problems import ConfigurationRefused
from config.yaml_file import read
from tasks import mapping, trigger
from tasks.envelope import Envelope
from tasks.errors import MappingRefused
from tasks.mapping import UNDEFINED
from tasks.vocabulary import CHANNELS, STATES, SYSTEMS, loaded, vocabulary

FILE = Path(__file__).parents[2] / "config" / "vocabulary.yaml"
AT = "2026-01-02T03:04:05.000Z"
ALL = list(itertools.product(STATES, SYSTEMS, CHANNELS))
NAMES = [(state, to, channel) for state, to, channel in ALL if vocabulary().table[state][to][channel] is not None]


def told(system: str, name: str, **event: Any) -> Envelope:
    """An event of that name, as the system's source wraps it."""
    keys = vocabulary().systems[system].event
    body = {keys["name"]: name, **event}
    type_ = "track" if system == "segment" else name
    return envelope(format=system, source=system, type=type_, name=name, event=body, occurred_at=AT)


def as_channel(system: str, channel: str) -> dict[str, Any]:
    """What an event has to say so that it is of that channel, where it can say it."""
    known = vocabulary().systems[system]
    if known.channel_property is None:
        return {}
    return {known.event["properties"]: {known.channel_property: known.channels[channel]}}


def of(found: Envelope) -> dict[str, Any]:
    seen = found.view["message"]
    assert seen is not None
    return seen


def given_by(argument: Any, found: Envelope) -> Any:
    return mapping.compile({"got": {"@message": argument}}).resolve(found.view).get("got", UNDEFINED)


# --- the table --------------------------------------------------------------------------------------------------------


def test_every_cell_says_a_word_or_why_there_is_none() -> None:
    """Twelve states, four systems, three channels."""
    table = vocabulary().table

    assert len(ALL) == 144
    for state, to in itertools.product(STATES, SYSTEMS):
        cell = table[state][to]
        assert cell["page"].startswith("https://")
        assert ("because" in cell) == (None in [cell[channel] for channel in CHANNELS])


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_word_stands_for_one_state(system: str) -> None:
    """Whatever a system calls something, it is called back into the state that it came from."""
    known = vocabulary().systems[system]

    for (state, channel), name in known.names.items():
        assert known.words[name].state == state
        assert channel in known.words[name].channels
        assert known.name_of(state, (channel,)) == name


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (
            ("opened", "segment", "email"),
            "Email Delivered",
            "states.opened.segment: Email Delivered stands for delivered",
        ),
        (("sent", "encharge", "because"), None, "because must be given where a word is null"),
        (("sent", "activatepro", "because"), "x", "and only there"),
        (("sent", "encharge", "page"), "somewhere", "page must be an address"),
        (("sent", "encharge", "sms"), ..., "sms is missing"),
        (("sent", "encharge", "or else"), "x", "or else means nothing here"),
        (("sent",), ..., "the states must be queued, sent"),
    ],
)
def test_a_wrong_table_is_refused(path: tuple[str, ...], value: Any, says: str) -> None:
    """With the cell that is wrong; ... and None stand for: taken away."""
    file = read(FILE)
    row = file.data["states"]
    for key in path[:-1]:
        row = row[key]
    if value in (..., None):
        del row[path[-1]]
    else:
        row[path[-1]] = value

    with pytest.raises(ConfigurationRefused) as refused:
        loaded(file)
    assert any(says in problem for problem in refused.value.problems)


# --- round trips ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("state", "system", "channel"), NAMES)
def test_what_is_written_is_read_back_as_the_same(state: str, system: str, channel: str) -> None:
    """From any system that can tell a state, through any other that can, and back."""
    name = vocabulary().table[state][system][channel]
    first = of(told(system, name, **as_channel(system, channel)))

    assert first["state"] == state
    for to in SYSTEMS:
        written = given_by(
            {"to": to, "give": "event", "channel": channel}, told(system, name, **as_channel(system, channel))
        )
        if vocabulary().table[state][to][channel] is None:
            assert written is UNDEFINED
            continue
        keys = vocabulary().systems[to].event
        again = of(told(to, written[keys["name"]], **{keys["properties"]: written[keys["properties"]]}))
        assert again["state"] == state
        assert again["channel"] in {channel, None}


@given(
    st.sampled_from(NAMES),
    st.sampled_from(SYSTEMS),
    st.dictionaries(st.sampled_from(["emailId", "messageId", "campaignId", "email_id", "url", "link_url", "channel"]),
                    st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.integers()), max_size=4),
)  # fmt: skip
def test_any_details_become_texts(cell: tuple[str, str, str], to: str, properties: dict[str, Any]) -> None:
    """Whatever an event has for properties, its message is of that state, and what is written of it are texts."""
    state, system, channel = cell
    place = vocabulary().systems[system].event["properties"]
    found = told(system, vocabulary().table[state][system][channel], **{place: properties})

    assert of(found)["state"] == state
    written = given_by({"to": to, "give": "properties"}, found)
    assert written is UNDEFINED or all(isinstance(value, str) for value in written.values())


# --- reading ----------------------------------------------------------------------------------------------------------


def test_what_is_seen_of_a_message() -> None:
    """Of an Encharge click: ids as texts, no keys without a value."""
    found = told(
        "encharge", "email-click", properties={"emailId": 59969, "flowId": "48918", "url": "https://example.com"}
    )

    assert of(found) == {
        "state": "clicked",
        "channel": "email",
        "id": "59969",
        "campaign_id": "48918",
        "url": "https://example.com",
        "at": AT,
        "words": {
            "encharge": "email-click",
            "activatepro": "Message Clicked",
            "activity_sync": "message-link-clicked",
            "segment": "Email Link Clicked",
        },
    }


@pytest.mark.parametrize(
    ("said", "channel", "encharge"),
    [
        ("Email", "email", "email-open"),
        (" e-mail ", "email", "email-open"),
        ("SMS", "sms", None),
        ("push notification", "push", None),
        ("Letter", None, None),
        (None, None, None),
        (5, None, None),
    ],
)
def test_activatepro_tells_the_channel_in_a_property(said: Any, channel: str | None, encharge: str | None) -> None:
    """Its names are the same for all channels; without one, other systems' names for e-mail would be a guess."""
    found = of(told("activatepro", "Message Viewed", properties={"channel": said, "campaign_id": 7, "messageId": "m"}))

    assert (found["channel"], found["words"]["encharge"]) == (channel, encharge)
    assert (found["id"], found["campaign_id"]) == ("m", "7")


def test_activity_sync_tells_the_channel_only_of_what_is_queued() -> None:
    """An opening may be of either; so only names that fit both are given."""
    opened = of(told("activity_sync", "message-opened", data={"messageId": "m"}))
    queued = of(told("activity_sync", "outbound-sms", data={"messageId": "m"}))

    assert (opened["channel"], queued["channel"]) == (None, "sms")
    assert opened["words"] == {
        "encharge": None,
        "activatepro": "Message Viewed",
        "activity_sync": "message-opened",
        "segment": None,
    }


def test_a_flow_is_the_campaign_of_activity_sync() -> None:
    """It stands in another place than the other details."""
    context = {"flowContext": {"flowId": "f-1", "flowName": "My first flow"}}
    found = of(told("activity_sync", "message-failed", workflowContext=context, data={"detail": "no such number"}))

    assert (found["campaign_id"], found["campaign_name"], found["reason"]) == ("f-1", "My first flow", "no such number")


@pytest.mark.parametrize(
    "found",
    [
        told("encharge", "newUser"),
        told("encharge", "Email Opened"),
        told("activity_sync", "inbound-sms-matched"),
        told("segment", "Order Completed"),
        envelope(format="segment", type="page", name="Email Opened", event={"type": "page", "name": "Email Opened"}),
        envelope(format="somebody", name="email-open"),
    ],
)
def test_other_events_have_no_message(found: Envelope) -> None:
    """They are seen as they are, with a field of that name where they have one of their own."""
    assert found.view["message"] is None
    assert found.view["message"] is None

    own = envelope(event={**found.event, "message": {"state": "opened"}}, name="newUser")
    assert own.view["message"] is None


def test_a_view_is_made_once() -> None:
    """Each of many routes looks at it."""
    found = told("encharge", "email-open")

    assert found.view is found.view


# --- triggers, mappings, commands -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ('message.state = "opened"', True),
        ('message.state = "clicked"', False),
        ('message.state in ["opened", "clicked"] and message.channel = "email"', True),
        ("message.state != null", True),
        ("message.words.segment != null", True),
        ("message.url != null", False),
    ],
)
def test_triggers(text: str, matches: bool) -> None:
    """The message is a field like others."""
    assert trigger.parse(text).matches(told("encharge", "email-open").view) is matches
    assert not trigger.parse('message.state = "opened"').matches(told("encharge", "newUser").view)


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("activatepro", "Message Viewed"),
        ({"to": "encharge"}, "email-open"),
        ({"to": "segment", "give": "name"}, "Email Opened"),
        (
            {"to": "activatepro", "give": "properties"},
            {"channel": "Email", "messageId": "1", "campaignId": "2"},
        ),
        ({"to": "segment", "give": "properties"}, {"email_id": "1", "campaign_id": "2", "campaign_name": "Onboarding"}),
        ({"to": "activity_sync", "give": "properties"}, {"messageId": "1"}),
        (
            {"to": "activatepro", "give": "event"},
            {
                "event": "Message Viewed",
                "timestamp": AT,
                "properties": {"channel": "Email", "messageId": "1", "campaignId": "2"},
            },
        ),
        (
            {"to": "encharge", "give": "event"},
            {
                "event": "email-open",
                "timestamp": 1767323045000,
                "properties": {"emailId": "1", "emailName": "Hi", "flowId": "2", "flowName": "Onboarding"},
            },
        ),
        (
            {"to": "activity_sync", "give": "event"},
            {"kind": "message-opened", "timestamp": AT, "data": {"messageId": "1"}},
        ),
    ],
)
def test_the_directive(argument: Any, expected: Any) -> None:
    """Name, properties, or both with the time, in a system's own words."""
    properties = {"emailId": 1, "flowId": 2, "flowName": "Onboarding", "emailName": "Hi"}

    assert given_by(argument, told("encharge", "email-open", properties=properties)) == expected


def test_a_channel_for_messages_that_tell_none() -> None:
    """The mapping may know better; what the event itself tells is not overruled."""
    unknown, sms = told("activity_sync", "message-opened"), told("activity_sync", "outbound-sms")

    assert given_by("encharge", unknown) is UNDEFINED
    assert given_by({"to": "encharge", "channel": "email"}, unknown) == "email-open"
    properties = given_by({"to": "activatepro", "give": "properties", "channel": "sms"}, unknown)
    assert properties == {"channel": "SMS"}
    assert given_by({"to": "activity_sync", "channel": "email"}, sms) == "outbound-sms"


@pytest.mark.parametrize("give", ["name", "properties", "event"])
@pytest.mark.parametrize(
    "found",
    [
        told("encharge", "newUser"),
        told("encharge", "email-reply"),
        envelope(event={"message": "Hello"}),
        envelope(event={"message": {"state": ["opened"], "words": 5}}),
        envelope(event={"message": {"state": "opened", "words": 5}}),
        envelope(event={"message": {"state": "opened", "words": {"activatepro": 5}}}),
    ],
)
def test_no_value_where_there_is_no_word(found: Envelope, give: str) -> None:
    """Events about no message, states that the system has no word for, and fields that only look like it."""
    assert given_by({"to": "activatepro", "give": give}, found) is UNDEFINED


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("mailbox", f'/f/@message @message: to should be one of {", ".join(SYSTEMS)} but it is "mailbox".'),
        ({}, '/f/@message @message requires a "to" key.'),
        (
            {"to": "segment", "give": "all"},
            "/f/@message @message: give should be one of name, properties, event but it",
        ),
        ({"to": "segment", "channel": "fax"}, "/f/@message @message: channel should be one of email, sms, push but it"),
        ({"to": "segment", "gives": "name"}, '/f/@message @message has no "gives", only to, give, channel.'),
        ({"to": {"@path": "$.x"}}, "/f/@message @message: to should be one of"),
        (5, "/f/@message should be a string or an object but it is a number."),
    ],
)
def test_a_wrong_argument_is_refused_at_load(argument: Any, says: str) -> None:
    """Also inside lists."""
    for value in ({"@message": argument}, [{"@message": argument}]):
        with pytest.raises(MappingRefused) as refused:
            mapping.compile({"f": value})
    with pytest.raises(MappingRefused) as refused:
        mapping.compile({"f": {"@message": argument}})
    assert any(problem.startswith(says) for problem in refused.value.problems)


def test_what_the_directive_reads() -> None:
    """For the warning about fields that no event has."""
    assert mapping.compile({"f": {"@message": "segment"}}).paths == {"message", "message.state"}


@pytest.mark.parametrize(
    "event",
    [
        envelope_data(event={"event": "email-open", "user": {"email": EMAIL}}, type="email-open", name="email-open"),
        {"event": "email-open", "user": {"email": EMAIL}},
        {"kind": "message-opened", "tenantId": "foo", "data": {"messageId": "m"}},
        {"id": "ABC12345", "event": "Message Viewed", "channel": "Email"},
        {"type": "track", "event": "Email Opened", "userId": "1", "properties": {}},
    ],
)
def test_eval_knows_messages(event: dict[str, Any], tmp_path: Path) -> None:
    """Of an envelope, and of an event as a system sends it."""
    file = tmp_path / "event.json"
    file.write_text(json.dumps(event))

    done = CliRunner().invoke(main, ["eval", "trigger", 'message.state = "opened"', "--event", str(file)])

    assert (done.exit_code, done.stdout) == (0, "true\n")
