"""What several threads send at once goes in few requests, and each hears what became of its own."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from peer import OK, Came, Peer, Reply, serving

from tasks.action import Request
from tasks.destinations.batches import AT_ONCE, Batches
from tasks.destinations.http import Http
from tasks.destinations.segment import Segment
from tasks.errors import DestinationRejected, DestinationThrottled, DestinationUnavailable

THREADS = 24


@pytest.fixture
def peer() -> Iterator[Peer]:
    with serving() as found:
        yield found


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(THREADS) as found:
        yield found


def segment(peer: Peer) -> Segment:
    http = Http(connect_timeout_s=2, read_timeout_s=5, connections=THREADS)
    return Segment(http, f"{peer.url}/v1", "key")


def event(name: object, size: int = 0) -> Request:
    body = {"type": "track", "event": str(name), "userId": "1", "properties": {"text": "x" * size}}
    return Request("segment", "POST", "", body)


def names(came: Came) -> list[str]:
    return [each["event"] for each in came.json["batch"]]


class Slow:
    """Holds the first requests until told to go on, so that those behind them gather."""

    def __init__(self, answer: Callable[[Came], Reply] = lambda _: OK) -> None:
        self.go = threading.Event()
        self.answer = answer

    def __call__(self, came: Came) -> Reply:
        self.go.wait(5)
        return self.answer(came)


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not true():
        assert time.monotonic() < deadline, "never"
        time.sleep(0.002)


def all_at_once(
    pool: ThreadPoolExecutor, to: Segment, slow: Slow, peer: Peer, requests: Sequence[Request]
) -> list["Future[object]"]:
    """As many requests as hold the way, then the others, which gather meanwhile. Gives the others."""
    peer.answer = slow
    first = []
    for number in range(AT_ONCE):
        first.append(pool.submit(to.send, event(f"first-{number}")))
        until(lambda: len(peer.came) == len(first))
    rest = [pool.submit(to.send, request) for request in requests]
    until(lambda: sum(len(batch.items) for batch in to._batches._waiting) == len(requests))
    slow.go.set()
    assert [future.result(5) for future in first]
    return rest


def test_who_comes_alone_goes_at_once(peer: Peer) -> None:
    """Nobody waits for company."""
    to = segment(peer)

    for number in range(3):
        to.send(event(number))

    assert [names(came) for came in peer.came] == [["0"], ["1"], ["2"]]


def test_who_comes_meanwhile_goes_together(peer: Peer, pool: ThreadPoolExecutor) -> None:
    """Behind those that hold the way, all others in one request."""
    futures = all_at_once(pool, segment(peer), Slow(), peer, [event(number) for number in range(20)])

    assert {future.result(5).status for future in futures} == {200}
    assert len(peer.came) == AT_ONCE + 1
    assert sorted(names(peer.came[-1]), key=int) == [str(number) for number in range(20)]


def test_a_batch_is_no_larger_than_may_be(peer: Peer, pool: ThreadPoolExecutor) -> None:
    """500 KB of JSON in a request, however many wait."""
    requests = [event(number, 32_000) for number in range(20)]

    futures = all_at_once(pool, segment(peer), Slow(), peer, requests)

    assert [future.result(5) for future in futures]
    sizes = [len(str(came.json)) for came in peer.came[AT_ONCE:]]
    assert len(sizes) == 2
    assert max(sizes) < 512_000


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (Reply(503), DestinationUnavailable),
        (Reply(429, headers={"Retry-After": "7"}), DestinationThrottled),
        (Reply(kind="reset"), DestinationUnavailable),
    ],
)
def test_an_error_reaches_all_of_its_batch(
    peer: Peer, pool: ThreadPoolExecutor, reply: Reply, error: type[DestinationUnavailable]
) -> None:
    """Each has one of its own; what came before and after is none of it."""
    to = segment(peer)
    slow = Slow(lambda came: reply if len(names(came)) > 1 else OK)

    futures = all_at_once(pool, to, slow, peer, [event(number) for number in range(5)])

    errors = [future.exception(5) for future in futures]
    assert [type(each) for each in errors] == [error] * 5
    assert len(set(map(id, errors))) == 5
    assert {getattr(each, "retry_after_s", 0) for each in errors} == {7 if reply.status == 429 else None}
    assert to.send(event("after")).status == 200


def test_of_a_batch_that_is_refused_only_the_one_to_blame_is(peer: Peer, pool: ThreadPoolExecutor) -> None:
    """All are sent again, each alone, once."""
    slow = Slow(lambda came: Reply(400) if "bad" in names(came) else OK)

    futures = all_at_once(pool, segment(peer), slow, peer, [event("good"), event("bad"), event("fine")])

    assert [type(future.exception(5)) for future in futures] == [type(None), DestinationRejected, type(None)]
    alone = [names(came) for came in peer.came if len(names(came)) == 1]
    assert sorted(alone[AT_ONCE:]) == [["bad"], ["fine"], ["good"]]


def test_one_callers_events_stay_in_their_order(peer: Peer, pool: ThreadPoolExecutor) -> None:
    """Whatever company they travel in."""
    to = segment(peer)
    peer.answer = lambda _: time.sleep(0.002) or OK

    def many(caller: int) -> None:
        for number in range(10):
            to.send(event(f"{caller}-{number}"))

    for future in [pool.submit(many, caller) for caller in range(12)]:
        future.result(20)

    arrived = [name for came in peer.came for name in names(came)]
    assert len(arrived) == len(set(arrived)) == 120
    assert len(peer.came) < 100, "some went together"
    for caller in range(12):
        mine = [name for name in arrived if name.startswith(f"{caller}-")]
        assert mine == [f"{caller}-{number}" for number in range(10)]


class Broken(BaseException):
    """Not even an Exception."""


@pytest.mark.parametrize("wrong", [Broken(), ValueError("a bug"), SystemExit(1)])
def test_nobody_hangs_when_whoever_leads_dies(pool: ThreadPoolExecutor, wrong: BaseException) -> None:
    """What it died of is its own; the others may try again, and the way is free."""
    go = threading.Event()
    calls: list[Sequence[str]] = []

    def send(items: Sequence[str]) -> str:
        calls.append(tuple(items))
        go.wait(5)
        if len(items) > 1:
            raise wrong
        return "sent"

    batches: Batches[str, str] = Batches(send, most=100, most_size=100)
    first = []
    for name in range(AT_ONCE):
        first.append(pool.submit(batches.send, str(name), 1))
        until(lambda: len(calls) == len(first))
    rest = [pool.submit(batches.send, name, 1) for name in "cdef"]
    until(lambda: sum(len(batch.items) for batch in batches._waiting) == 4)
    go.set()

    assert [future.result(5) for future in first] == ["sent"] * AT_ONCE
    errors = [future.exception(5) for future in rest]
    assert sorted(map(str, errors), key=len)[-3:] == ["not sent: whoever was to send the batch could not"] * 3
    assert sum(each is wrong for each in errors) == 1
    assert batches.send("g", 1) == "sent"


def test_one_that_is_larger_than_a_batch_goes_alone(peer: Peer) -> None:
    """It is for the destination to refuse."""
    assert segment(peer).send(event("large", 600_000)).status == 200
    assert len(peer.came) == 1
