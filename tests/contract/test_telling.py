"""What workers tell of events: in the order of the work, without ever failing or waiting, whatever the broker does."""

import contextlib
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from bench import Bench, api, route, sends
from builders import accept, claim, fake_ledger, settled

from tasks.errors import DestinationRejected, DestinationUnavailable
from tasks.ledger import Ledger, Result
from tasks.telling import Telling, recalled


class Broker:
    """Celery's event dispatcher, as far as it is used; fails as often as told."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.opened = 0
        self.took: list[tuple[str, str]] = []
        self.took_some = threading.Event()
        self._buffer: list[tuple[str, str]] = []

    @contextlib.contextmanager
    def way(self) -> Iterator[Any]:
        self.opened += 1
        self._buffer = []
        yield self

    def send(self, kind: str, **fields: Any) -> None:
        self._buffer.append((kind, fields["uuid"]))

    def flush(self) -> None:
        if self.failures:
            self.failures -= 1
            raise ConnectionError
        self.took += self._buffer
        self._buffer = []
        self.took_some.set()


def told(telling: Telling, ledger: Ledger, *ids: str) -> None:
    """Tell of an attempt of each that went well."""
    accept(ledger, *ids)
    for id_ in ids:
        event = claim(ledger, id_)
        telling.begun(event)
        telling.ended(event, "delivered", [Result("a", "delivered", {})], 0.1)


def rows_of(*ids: str) -> list[tuple[str, str]]:
    return [(kind, id_) for id_ in ids for kind in ("task-received", "task-started", "task-succeeded")]


def test_all_is_told_in_order() -> None:
    """Also what is left when the worker ends."""
    ledger, broker = fake_ledger(), Broker()
    telling = Telling(ledger)
    telling.start(lambda: True, broker.way)

    told(telling, ledger, "e1", "e2")
    telling.stop(10)

    assert broker.took == rows_of("e1", "e2")


def test_nobody_listens() -> None:
    """Then nothing is kept, and no connection is opened; nor before it is started, or in a fork."""
    ledger, broker = fake_ledger(), Broker()
    telling = Telling(ledger)
    told(telling, ledger, "e1")
    telling.start(lambda: False, broker.way)
    told(telling, ledger, "e2")
    telling.failed("e3", "x", "invalid")
    telling.stop(10)
    assert broker.opened == 0

    forked = Telling(ledger)
    forked.start(lambda: True, broker.way)
    forked.stop(10)
    forked.silence()
    told(forked, ledger, "e4")
    assert not forked._told


def test_the_broker_is_away() -> None:
    """What it did not take is told when it is back, in order."""
    ledger, broker = fake_ledger(), Broker(failures=2)
    telling = Telling(ledger, again_s=0)
    telling.start(lambda: True, broker.way)

    told(telling, ledger, "e1")
    assert broker.took_some.wait(10)
    told(telling, ledger, "e2")
    telling.stop(10)

    assert broker.opened == 3
    assert broker.took == rows_of("e1", "e2")


def test_the_broker_stays_away() -> None:
    """What is kept for it is bounded, the newest is kept, and the worker can end."""
    ledger, broker = fake_ledger(), Broker(failures=10**9)
    telling = Telling(ledger, again_s=0)
    telling.start(lambda: True, broker.way)

    for number in range(12_000):
        telling.failed(f"e{number}", "x", "invalid")
    telling.stop(10)

    assert telling._thread is not None
    assert not telling._thread.is_alive()
    assert len(telling._told) == 10_000
    assert telling._told[-1][1]["uuid"] == "e11999"


def uuids(told: Iterator[Sequence[tuple[str, dict[str, Any]]]]) -> dict[str, str]:
    return {fields["uuid"]: kind.removeprefix("task-") for some in told for kind, fields in some}


def known() -> Ledger:
    """A ledger with one event of each fate."""
    ledger = fake_ledger(archive_events=10)
    accept(ledger, "delivered", "dead", "retrying", "waiting")
    settled(ledger, "delivered", Result("a", "delivered", {}))
    settled(ledger, "dead", Result("a", "dead", {"reason": "rejected"}))
    settled(ledger, "retrying", Result("a", "retrying", {"reason": "unavailable"}, delay_s=60))
    return ledger


def test_recalled() -> None:
    """Nothing is said of what no worker has looked at yet."""
    expected = {"delivered": "succeeded", "dead": "failed", "retrying": "retried"}

    found = uuids(recalled(known(), 0))

    assert found == expected


def test_one_worker_recalls() -> None:
    """All workers hear of a new Flower; what happened before is told by one."""
    ledger, brokers = known(), [Broker(), Broker()]
    for broker in brokers:
        telling = Telling(ledger, recall_after_s=0)
        telling.start(lambda: True, broker.way)
        telling.recall()
        told(telling, ledger, f"new-{broker is brokers[0]}")
        telling.stop(10)

    taken = [id_ for broker in brokers for _, id_ in broker.took]
    assert sorted(set(taken)) == ["dead", "delivered", "new-False", "new-True", "retrying"]
    assert [taken.count(id_) for id_ in ("delivered", "dead", "retrying")] == [1, 1, 1]


def test_what_a_deliverer_tells() -> None:
    """Each event of a line by itself: begun, and what it came to; none behind one that waits is left out."""
    bench = Bench(route("a", sends("hello")))
    bench.accept_line(2)
    api(bench).answers = [DestinationUnavailable("answered 503")]
    bench.work()
    bench.later()
    api(bench).answers = [DestinationRejected("answered 400")]
    bench.work()

    assert bench.told.rows == [
        ("e1", "begun"),
        ("e1", "retrying"),
        ("e2", "begun"),
        ("e2", "held"),
        ("e1", "begun"),
        ("e1", "dead"),
        ("e2", "begun"),
        ("e2", "delivered"),
    ]


def test_an_event_that_cannot_be_read() -> None:
    """It is buried, and that is told."""
    bench = Bench()
    accept(bench.ledger, "e1")
    bench.ledger.client.hset("router:event:e1", "env", "no envelope")

    bench.work()

    assert bench.told.rows == [("e1", "begun"), ("e1", "invalid")]
