"""What Flower shows of an event, by the rules by which Celery's own state of tasks merges what it hears."""

import itertools
import json
from collections.abc import Iterable
from typing import Any

import pytest
from celery.events.state import State, Task

from tasks import rows
from tasks.ledger import Delivery, Result, Shut, StoredEvent
from tasks.rows import Told

NOW = 1_800_000_000.0


def event(**changes: Any) -> StoredEvent:
    """A claimed event that nobody has worked on."""
    values: dict[str, Any] = {
        "id": "e1", "state": "running", "source": "billing", "type": "paid", "label": "billing · paid",
        "accepted_at": int((NOW - 60) * 1e6), "ended_at": None, "crashes": 0, "subject": "", "envelope": b"{}",
        "deliveries": {}, "owner": "worker 1",
    }  # fmt: skip
    return StoredEvent(**{**values, **changes})


def after(event: StoredEvent, state: str, *results: Result) -> Told:
    """What is told when it was settled."""
    told = rows.ended(rows.with_results(event, results, NOW), state, NOW)
    assert told is not None
    return told


def row_of(*told: Told) -> Any:
    """The row that a Flower makes of this, which hears nothing else."""
    state, clock = State(), itertools.count(1)
    for kind, fields in told:
        heard = json.loads(json.dumps(fields))  # as it travels
        state.event(
            {"type": kind, "hostname": "w@host", "pid": 1, "timestamp": NOW, "local_received": NOW, "utcoffset": 0}
            | {"clock": next(clock), **heard}
        )
    (task,) = state.tasks.values()
    assert isinstance(task, Task)
    return task


def started(**changes: Any) -> list[Told]:
    return list(rows.begun(event(**changes), NOW))


DELIVERED = after(event(), "delivered", Result("a", "delivered", {}))
RETRIED = after(event(), "retrying", Result("a", "retrying", {"reason": "unavailable", "made": 1}, delay_s=4))
DIED = after(event(), "dead", Result("a", "dead", {"reason": "rejected"}))
AGAIN = [*rows.begun(event(deliveries={"a": Delivery("retrying", {})}), NOW)]


@pytest.mark.parametrize(
    ("told", "state"),
    [
        (started(), "STARTED"),
        ([*started(), DELIVERED], "SUCCESS"),
        ([*started(), RETRIED], "RETRY"),
        ([*started(), RETRIED, *AGAIN], "STARTED"),
        ([*started(), RETRIED, *AGAIN, DELIVERED], "SUCCESS"),
        ([*started(), RETRIED, *AGAIN, DIED], "FAILURE"),
        ([*started(), DIED, *AGAIN], "STARTED"),  # a replay
        ([*started(), DIED, *AGAIN, DELIVERED], "SUCCESS"),
        ([*started(), DIED, *AGAIN, RETRIED, *AGAIN, DIED], "FAILURE"),
        ([*started(), DELIVERED, *started(), DIED], "FAILURE"),  # the same id once more, after the dedupe window
    ],
)
def test_the_newest_word_holds(told: Iterable[Told], state: str) -> None:
    """Whatever a row was before; Celery alone would keep a FAILURE through a replay that is under way."""
    row = row_of(*told)

    assert row.state == state
    assert (row.exception is None) == (state in {"STARTED", "SUCCESS"}), "nothing is left of what is over"
    assert (row.result is None) == (state != "SUCCESS")


@pytest.mark.parametrize("told", [DELIVERED, RETRIED, DIED, AGAIN[-1], rows.died(event(), "poison")])
def test_each_word_carries_the_whole_row(told: Told) -> None:
    """A Flower that was started in the middle shows it like one that was there from the beginning."""
    row = row_of(told)

    assert (row.uuid, row.name, row.args, row.kwargs) == ("e1", "billing · paid", "e1", "{}")
    assert row.received == NOW - 60


def test_received_once() -> None:
    """Flower counts how many events a worker took on: an attempt that is not the first is none more."""
    assert [kind for kind, _ in started()] == ["task-received", "task-started"]
    assert [kind for kind, _ in AGAIN] == ["task-started"]
    assert [kind for kind, _ in started(crashes=1)] == ["task-started"]


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (
            Result("a", "retrying", {"reason": "unavailable", "made": 1}, delay_s=4),
            "unavailable, attempt 2 in 4 s (a)",
        ),
        (Result("a", "parked:encharge_ingest", {}), "parked: encharge_ingest is open (a)"),
        (Result("a", "parked:route:a", {}), "parked: route:a is shut (a)"),
        (Result("a", "held", {}), "held behind an earlier one (a)"),
        (Result("a", "pending", {}), "goes on at once (a)"),
    ],
)
def test_why_it_waits(result: Result, text: str) -> None:
    """In our own words; a record's error, request and response may quote a person."""
    told = after(event(shut={"encharge_ingest": Shut("open", 0)}), "held", result)

    assert told[1]["exception"] == text


def test_every_delivery_that_counts_is_named() -> None:
    """Those of this attempt, and those of earlier ones; of many the first."""
    earlier = event(deliveries={"b": Delivery("dead", {"reason": "unmappable"}), "c": Delivery("delivered", {})})
    many = [Result(f"r{number}", "dead", {"reason": "rejected"}) for number in range(7)]

    assert after(earlier, "dead", Result("a", "delivered", {}))[1]["exception"] == "unmappable (b)"
    assert after(event(), "dead", *many)[1]["exception"].endswith("rejected (r4); … 2 more")
    assert rows.died(event(), "poison")[1]["exception"] == "poison"
    assert rows.died(earlier, "poison")[1]["exception"] == "poison", "b and c had ended"


def test_somebody_else_has_it() -> None:
    """A worker that lost its lease, or is not done, says nothing."""
    assert [rows.ended(event(), state, NOW) for state in ("stale", "running", "lined")] == [None] * 3


def test_no_person_is_told() -> None:
    """What a publisher named and numbered by a person's address."""
    kind, fields = rows.failed("x:someone@example.com", "pay someone@example.com", "unknown_task", NOW)

    assert kind == "task-failed"
    assert fields["exception"] == "unknown_task"
    assert "someone" not in str(fields)
    assert "someone" not in str(list(rows.begun(event(id="someone@example.com"), NOW)))


FOREIGN = {
    "type": "task-failed",
    "uuid": "t-1",
    "hostname": "celery@theirs",
    "timestamp": NOW,
    "clock": 7,
    "name": "pay someone%40example.com",
    **dict.fromkeys(("args", "kwargs", "result", "exception", "traceback", "queue", "root_id", "more"), "someone"),
}


def test_bug_flower_showed_what_publishers_sent() -> None:
    """With `task_send_sent_event` a stock publisher tells everybody arguments, of a row that is PENDING for ever."""
    assert rows.heard({**FOREIGN, "type": "task-sent"}) is None


def test_bug_flower_showed_what_other_workers_did() -> None:
    """Of their tasks it is to show that they are there."""
    told = rows.heard(FOREIGN)

    assert told == {
        "type": "task-failed", "uuid": "t-1", "hostname": "celery@theirs", "timestamp": NOW, "clock": 7, "name": "pay …"
    }  # fmt: skip
    named = rows.heard({**FOREIGN, "uuid": "someone@example.com", "name": ["someone"]})
    assert named is not None
    assert "someone" not in str(named)


def test_what_is_no_event_is_not_heard() -> None:
    """Whatever comes through the channel."""
    some = (None, 7, [], {}, {"type": 7}, {"type": ["x"]}, {"type": "task-seen", "uuid": "x"}, {"type": "x-online"})
    assert [rows.heard(each) for each in (*some, {"type": "task-failed", "uuid": 7})] == [None] * (len(some) + 1)


def test_our_rows_and_workers_are_heard_whole() -> None:
    """As they were told."""
    told = [
        *rows.begun(event(), NOW),
        rows.died(event(), "poison"),
        rows.failed("a@example.com", "x · y", "invalid", NOW),
        ("worker-heartbeat", {"hostname": "one", "active": 7}),
    ]
    for kind, fields in told:
        assert rows.heard({"type": kind, **fields}) == {"type": kind, **fields}
