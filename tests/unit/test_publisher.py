"""publisher.py: its methods are the contract's, and what they send the contract takes."""

import contextlib
import inspect
import typing
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from builders import EMAIL
from hypothesis import given, settings
from hypothesis import strategies as st
from test_contract import GOOD

from publisher import Options, Publisher
from tasks.arguments import COMMON, SCHEMAS, TASK_ACTIONS
from tasks.contract import TASKS, published
from tasks.envelope import Envelope
from tasks.messages import Call
from tasks.queue import PUBLISH_TASK


class Fake:
    """Stands where the Celery application would be."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, dict[str, Any]]] = []

    def producer_or_acquire(self) -> contextlib.AbstractContextManager[Any]:
        return contextlib.nullcontext()

    def send_task(self, task: str, **options: Any) -> str:
        assert options.pop("producer") is not None
        assert options.pop("serializer") == "json"
        self.sent.append((task, options))
        return "result"


@pytest.fixture
def fake() -> Fake:
    return Fake()


@pytest.fixture
def publisher(fake: Fake) -> Publisher:
    return Publisher(typing.cast("Any", fake), "billing")


METHODS = {task: task.rpartition(".")[2] for task in TASKS}


def parameters(task: str) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(getattr(Publisher, METHODS[task])).parameters)


def test_each_task_has_a_method_of_its_own() -> None:
    assert len(set(METHODS.values())) == len(TASKS)


@pytest.mark.parametrize("task", sorted(TASK_ACTIONS))
def test_a_methods_arguments_are_the_actions_fields(task: str) -> None:
    """By keyword only; required where the action requires them; a choice is a Literal."""
    _, *given, options = parameters(task).values()
    fields = TASK_ACTIONS[task].fields

    assert {each.name for each in given} == set(fields)
    assert all(each.kind is inspect.Parameter.KEYWORD_ONLY for each in given)
    assert {each.name for each in given if each.default is inspect.Parameter.empty} == {
        name for name, field in fields.items() if field.required
    }
    for each in given:
        assert all(repr(choice) in str(each.annotation) for choice in fields[each.name].choices)
        assert ("Literal" in str(each.annotation)) == bool(fields[each.name].choices)
    assert (options.kind, options.annotation) == (inspect.Parameter.VAR_KEYWORD, "Unpack[Options]")


def test_publishs_arguments_are_an_events() -> None:
    """But for what the class says, and what Celery's own options say."""
    said = {"version", "id", "source", "received_at", "expires_at"}

    assert set(parameters(PUBLISH_TASK)) - {"self", "options"} == set(SCHEMAS[PUBLISH_TASK].fields) - said - set(COMMON)
    assert set(Options.__annotations__) == {*COMMON, "countdown", "eta", "expires", "priority", "task_id"} - {
        "version",
        "publisher",
    }


@pytest.mark.parametrize("task", sorted(TASKS))
def test_what_is_sent_the_contract_takes(task: str, publisher: Publisher, fake: Fake) -> None:
    """Under the publisher's name; nothing of it in the headers that people see."""
    assert (
        getattr(publisher, METHODS[task])(
            **GOOD[task],
            event_id="e-1",
            occurred_at=datetime(2026, 1, 2, 4, tzinfo=timezone(timedelta(hours=1))),
            subject=None,
            personal=("shoeSize",),
            reply=True,
            countdown=5,
            task_id="t-1",
        )
        == "result"
    )

    ((name, options),) = fake.sent
    arguments = options.pop("kwargs")
    found = published(Call(name, "t-1", [], arguments), None, datetime.now(UTC))
    (event,) = found.events
    assert name == task
    assert isinstance(event, Envelope)
    assert (event.id, event.source, event.subject, found.reply) == ("e-1", "billing", None, True)
    assert (event.occurred_at, event.personal) == ("2026-01-02T03:00:00.000Z", ["shoeSize"])
    assert options == {
        "queue": "events", "argsrepr": "…", "kwargsrepr": "…", "ignore_result": False, "declare": [], "countdown": 5,
        "task_id": "t-1",
    }  # fmt: skip


def test_little_is_sent_where_little_is_given(publisher: Publisher, fake: Fake) -> None:
    publisher.tag(tag="vip", email=EMAIL)

    ((_, options),) = fake.sent
    assert options["kwargs"] == {"tag": "vip", "email": EMAIL, "publisher": "billing"}
    assert options["ignore_result"]


@pytest.mark.parametrize(
    ("method", "given", "told"),
    [
        ("tag", {"tag": "", "email": EMAIL}, "users.tag: tag: is missing"),
        ("tag", {"tag": 5, "email": EMAIL}, "users.tag: tag: must be a text"),
        ("tag", {"tag": "vip", "email": EMAIL, "via": "post"}, "users.tag: via: must be ingest or api"),
        ("tag", {"tag": "vip"}, "users.tag: needs email, or userId, or segmentAnonymousId"),
        ("track", {"event": "a", "userId": "1", "page": {}}, "events.track: page: needs type too"),
        ("segment", {"type": "track", "userId": "1"}, "events.segment: type: needs event too"),
        ("forward", {"name": "a", "user": {"name": "x"}}, "events.forward: user: needs email, or userId"),
        ("alias", {"userId": "1"}, "users.alias: needs userId with previousUserId, or userId with previousEmail, or "),
        ("identify", {"email": EMAIL, "user": "x"}, "users.identify: user: must be a mapping"),
        ("archive", {"email": EMAIL, "erase": "yes"}, "users.archive: erase: must be True or False"),
        ("publish", {"event": [], "type": "a"}, "events.publish: event: must be a mapping"),
        ("publish", {"event": {}, "type": "a", "correlation": 5}, "events.publish: correlation: must be a list"),
        (
            "tag",
            {"tag": "vip", "email": EMAIL, "event_id": "x" * 201},
            "users.tag: event_id: must be a text of 1 to 200 characters",
        ),
        ("tag", {"tag": "vip", "email": EMAIL, "occurred_at": "soon"}, "occurred_at: must be a time in ISO 8601"),
        ("tag", {"tag": "vip", "email": EMAIL, "occurred_at": "2026-01-02T03:04:05"}, "occurred_at: must have a zone"),
    ],
)
def test_what_is_wrong_is_told_before_it_is_sent(
    method: str, given: dict[str, Any], told: str, publisher: Publisher, fake: Fake
) -> None:
    """Naming the field, never its value."""
    with pytest.raises(ValueError, match=told.split(": ", maxsplit=1)[0]) as caught:
        getattr(publisher, method)(**given)
    assert str(caught.value).startswith(told)
    assert EMAIL not in str(caught.value)
    assert fake.sent == []


def test_a_slip_in_a_name_is_told(publisher: Publisher) -> None:
    with pytest.raises(ValueError, match="reply_to: is no option"):
        publisher.tag(tag="vip", email=EMAIL, reply_to=True)  # type: ignore[call-arg]


NAIVE = datetime(2026, 1, 2)  # noqa: DTZ001
PUBLISH: dict[str, Any] = {"event": {}, "type": "a"}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"personal": "shoeSize"}, "personal: must be a list"),
        ({"personal": [5]}, "personal[0]: must be a text"),
        ({"reply": "no"}, "reply: must be True or False"),
        ({"subject": 5}, "subject: must be a text"),
        ({"subject": ""}, "subject: must be a text of 1 to 500 characters"),
        ({"correlation": "abc"}, "correlation: must be a list"),
        ({"person": {"mail": EMAIL}}, "person.mail: is no key of it; there are: email, phone, userId"),
        ({"person": {EMAIL: "x"}}, "person.…: is no key of it; there are: email, phone, userId"),
        ({"person": {}}, "person: must not be empty"),
        ({"person": {"email": None}}, "person.email: must be a text"),
        ({"type": "x" * 101}, "type: must be a text of 1 to 100 characters"),
        ({"type": "two\nlines"}, "type: Must not hold control characters."),
        ({"format": "Big"}, "format: Only a-z, 0-9, _ and -, at most 64."),
        ({"event_id": "quarantine:1"}, "event_id: Must not begin with quarantine: nor hold control characters."),
        ({"event_id": "half \ud800"}, "event_id: must be text that UTF-8 can carry"),
        ({"event": {"n": float("nan")}}, "event.n: must be a finite number"),
        ({"event": {"a": [{1, 2}]}}, "event.a[0]: holds something that JSON has no word for (set)"),
        ({"event": {EMAIL: b"x"}}, "event.…: holds something that JSON has no word for (bytes)"),
        ({"event": {5: 1}}, "event: has a key that is no text"),
        ({"event": {"x": "y" * 800_000}}, "makes a message of more than 1048576 bytes"),
        ({"event": {"at": NAIVE}}, "event.at: must have a zone"),
        ({"occurred_at": 5}, "occurred_at: must be a time in ISO 8601"),
        ({"occurred_at": NAIVE}, "occurred_at: must have a zone"),
        ({"eta": NAIVE}, "eta: must have a zone"),
        ({"eta": "soon"}, "eta: must be a time"),
        ({"expires": NAIVE}, "expires: must have a zone"),
        ({"expires": "5"}, "expires: must be a number of seconds or a time"),
        ({"countdown": "5"}, "countdown: must be a number of seconds"),
        ({"countdown": float("inf")}, "countdown: must be a number of seconds"),
        ({"priority": 10}, "priority: must be a whole number from 0 to 9"),
        ({"task_id": 5}, "task_id: must be a text"),
    ],
)
def test_bug_much_was_sent_that_the_router_refuses(
    given: dict[str, Any], told: str, publisher: Publisher, fake: Fake
) -> None:
    """Or meant something else there, or ended in another error than the page promises."""
    with pytest.raises(ValueError, match=r".") as caught:
        publisher.publish(**{**PUBLISH, **given})
    assert str(caught.value).removeprefix("events.publish: ") == told
    assert type(caught.value) is ValueError
    assert fake.sent == []


def test_bug_what_json_has_no_word_for_is_sent_as_text(publisher: Publisher, fake: Fake) -> None:
    """As the router reads it from others, too."""
    at = datetime(2026, 1, 2, 4, tzinfo=timezone(timedelta(hours=1)))
    event = {"total": Decimal("12.50"), "at": at, "day": at.date(), "key": UUID(int=17), "some": (1, None)}
    publisher.publish(event, type="paid", event_id=typing.cast("Any", UUID(int=17)), priority=3, expires=60.0)

    ((_, options),) = fake.sent
    key = "00000000-0000-0000-0000-000000000011"
    assert options["kwargs"]["event"] == {
        "total": "12.50", "at": "2026-01-02T03:00:00.000Z", "day": "2026-01-02", "key": key, "some": [1, None],
    }  # fmt: skip
    assert (options["kwargs"]["event_id"], options["priority"], options["expires"]) == (key, 3, 60.0)


VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["", "text", EMAIL, "a\nb", "track"])
DEEPER = VALUES | st.lists(VALUES, max_size=2) | st.dictionaries(st.sampled_from(["email", "userId", "x"]), VALUES)


@settings(max_examples=200)
@given(st.data())
def test_what_is_sent_whatever_it_is_the_contract_takes(data: st.DataObject) -> None:
    """Everything else is a ValueError."""
    fake = Fake()
    task = data.draw(st.sampled_from(sorted(TASKS)))
    names = [name for name in parameters(task) if name not in {"self", "options"}]
    arguments = {
        **GOOD[task],
        **data.draw(st.dictionaries(st.sampled_from([*names, *Options.__annotations__]), DEEPER)),
    }
    try:
        getattr(Publisher(typing.cast("Any", fake), "billing"), METHODS[task])(**arguments)
    except ValueError:
        assert fake.sent == []
        return
    ((_, options),) = fake.sent
    (event,) = published(Call(task, "t-1", [], options["kwargs"]), None, datetime.now(UTC)).events
    assert isinstance(event, Envelope), (event, arguments)


@pytest.mark.parametrize("name", ["", "Big Corp", "x" * 65])
def test_a_publishers_name(name: str) -> None:
    """As the router takes it."""
    with pytest.raises(ValueError, match="name: only"):
        Publisher("redis://127.0.0.1:1/0", name)


def test_an_address_connects_to_nothing_yet() -> None:
    """And says where the keys of a publisher with a user of its own begin."""
    made = Publisher("redis://127.0.0.1:1/0", "billing", prefix="billing:")

    assert made._celery.conf.broker_transport_options["global_keyprefix"] == "billing:"
