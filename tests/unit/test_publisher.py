"""publisher.py: its methods are the contract's, and what they send the contract takes."""

import inspect
import typing
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from builders import EMAIL
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

    def send_task(self, task: str, **options: Any) -> str:
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
        ("alias", {"userId": "1"}, "users.alias: needs userId with previousUserId, or userId with previousEmail, or "),
        ("identify", {"email": EMAIL, "user": "x"}, "users.identify: user: must be a mapping"),
        ("archive", {"email": EMAIL, "erase": "yes"}, "users.archive: erase: must be True or False"),
        ("publish", {"event": [], "type": "a"}, "events.publish: event: must be a mapping"),
        ("publish", {"event": {}, "type": "a", "correlation": 5}, "events.publish: correlation: must be a list"),
        (
            "tag",
            {"tag": "vip", "email": EMAIL, "event_id": "x" * 201},
            "event_id: must be a text of 1 to 200 characters",
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


@pytest.mark.parametrize("name", ["", "Big Corp", "x" * 65])
def test_a_publishers_name(name: str) -> None:
    """As the router takes it."""
    with pytest.raises(ValueError, match="name: only"):
        Publisher("redis://127.0.0.1:1/0", name)


def test_an_address_connects_to_nothing_yet() -> None:
    """And says where the keys of a publisher with a user of its own begin."""
    made = Publisher("redis://127.0.0.1:1/0", "billing", prefix="billing:")

    assert made._celery.conf.broker_transport_options["global_keyprefix"] == "billing:"
