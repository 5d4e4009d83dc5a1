"""From a ticket to the destination: what is sent, what is tried again, and what is written down."""

import io
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import requests
import urllib3
from bench import OK, Bench, Destination, answered, api, route, sends
from builders import REPOSITORY, accept, balanced, counts, lease_out, state_of
from requests.adapters import BaseAdapter

from tasks import routing
from tasks.action import Request
from tasks.destinations.encharge import Encharge
from tasks.destinations.http import Http, Response
from tasks.envelope import Envelope
from tasks.errors import (
    DestinationRejected,
    DestinationThrottled,
    DestinationUnavailable,
    MappingFailed,
    RouterError,
)
from tasks.loop import MARK
from tasks.replay import Replay
from tasks.routing import Route, Routes
from tasks.sweeper import Sweeper


@pytest.fixture
def bench() -> Bench:
    found = Bench()
    accept(found.ledger, "e1")
    return found


def test_delivered(bench: Bench) -> None:
    """Sent once, and written down with its attempt alone."""
    bench.work()
    bench.work()

    assert api(bench).sent == ["hello"]
    assert state_of(bench.ledger) == "delivered"
    (attempt,) = bench.record()["attempts"]
    assert attempt.pop("duration_ms") >= 0
    assert attempt == {
        "number": 1,
        "at": datetime.fromtimestamp(bench.clock, UTC).isoformat(timespec="milliseconds"),
        "status": 200,
        "outcome": "delivered",
        "reason": None,
    }
    assert set(bench.record()) == {"attempts"}


def test_no_route() -> None:
    """An event that nobody wants is filtered."""
    bench = Bench(route("a", sends("hello"), only="shop"))
    accept(bench.ledger, "e1")

    bench.work()

    assert state_of(bench.ledger) == "filtered"
    assert counts(bench.ledger) == {"accepted": 1, "filtered": 1}
    assert bench.states() == {}


@pytest.mark.parametrize("nothing", [None, (), []])
def test_nothing_to_send(nothing: Any) -> None:
    """A route that has nothing to send for an event (an echo, say) filters it."""
    bench = Bench(route("a", lambda _: nothing))
    accept(bench.ledger, "e1")

    bench.work()

    assert (state_of(bench.ledger), bench.states()) == ("filtered", {"a": "filtered"})
    assert counts(bench.ledger, "route", "a") == {"accepted": 1, "filtered": 1}


def test_several_events_in_one_ticket(bench: Bench) -> None:
    """Each is settled by itself, and no lease is held when all is done."""
    accept(bench.ledger, "e2", "e3")
    api(bench).answers = [OK, DestinationRejected("answered 400")]

    bench.work("e1", "e2", "e3")

    assert [state_of(bench.ledger, id_) for id_ in ("e1", "e2", "e3")] == ["delivered", "dead", "delivered"]
    assert (bench.leases.seen, bench.leases.held) == (["e1", "e2", "e3"], [])


def test_retry_then_success(bench: Bench) -> None:
    """A transient failure waits in the ledger; the next attempt counts on."""
    api(bench).answers = [answered(DestinationUnavailable("answered 503"), 503)]
    bench.work()
    before = time.time()

    assert (state_of(bench.ledger), bench.states()) == ("retrying", {"a": "retrying"})
    assert 0 < (bench.event().deliveries["a"].due_at or 0) / 1e6 - before <= 1
    record = bench.record()
    assert (record["reason"], record["error"], record["tried"], record["sent"]) == (
        "unavailable",
        "DestinationUnavailable: answered 503",
        1,
        0,
    )
    assert record["response"] == {"status": 503, "headers": {"X": "y"}, "body": "answer"}
    assert record["request"]["body"] == "hello"

    bench.work()
    assert len(api(bench).sent) == 1
    bench.later()
    bench.work()

    assert state_of(bench.ledger) == "delivered"
    assert [(attempt["number"], attempt["outcome"], attempt["status"]) for attempt in bench.record()["attempts"]] == [
        (1, "retrying", 503),
        (2, "delivered", 200),
    ]
    assert counts(bench.ledger, "route", "a") == {"accepted": 1, "delivered": 1}


def test_exhausted(bench: Bench) -> None:
    """After the last allowed attempt the delivery is dead, with all of them on record."""
    api(bench).answers = [DestinationUnavailable("answered 503")] * 3
    for _ in range(3):
        bench.work()
        bench.later()

    letter = bench.letters.get("e1:a")

    assert letter is not None
    assert letter.reason == "exhausted"
    assert [attempt["outcome"] for attempt in letter.attempts] == ["retrying", "retrying", "dead"]
    assert [attempt["reason"] for attempt in letter.attempts] == ["unavailable"] * 3
    assert all(attempt["at"] and attempt["duration_ms"] >= 0 for attempt in letter.attempts)


def test_expired(bench: Bench) -> None:
    """An event that grew too old is not tried again."""
    bench.clock += 1001
    api(bench).answers = [DestinationUnavailable("answered 503")]

    bench.work()

    assert bench.record()["reason"] == "expired"


def test_retry_after(bench: Bench) -> None:
    """The destination's wish is kept, with jitter on top."""
    api(bench).answers = [DestinationUnavailable("answered 503", 50)]
    bench.work()

    due_in = (bench.event().deliveries["a"].due_at or 0) / 1e6 - time.time()

    assert 50 < due_in <= 51


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (answered(DestinationRejected("answered 400"), 400), "rejected"),
        (answered(DestinationRejected("answered 422"), 422), "rejected"),
    ],
)
def test_refused(bench: Bench, error: RouterError, reason: str) -> None:
    """Dead at once, with what was sent and what came back."""
    api(bench).answers = [error]

    bench.work()

    letter = bench.letters.get("e1:a")
    assert letter is not None
    assert (letter.reason, letter.traceback) == (reason, None)
    assert letter.request == {"method": "POST", "url": "https://api.example.com/", "headers": {}, "body": "hello"}
    assert letter.response == {"status": error.response.status, "headers": {"X": "y"}, "body": "answer"}
    assert letter.envelope["id"] == "e1"


def raises(error: BaseException) -> Callable[[Envelope], Any]:
    def handler(_: Envelope) -> None:
        raise error

    return handler


@pytest.mark.parametrize(
    ("error", "reason", "traced"),
    [
        (MappingFailed("no"), "unmappable", False),
        (ZeroDivisionError("oh"), "bug", True),
        (RecursionError("oh"), "bug", True),
        (SystemExit(3), "bug", True),
    ],
)
def test_a_handler_that_fails(error: BaseException, reason: str, traced: bool) -> None:
    """Whatever it raises is one dead letter; what nobody expected comes with its traceback."""
    bench = Bench(route("a", raises(error)), route("b", sends("hello")))
    accept(bench.ledger, "e1")

    bench.work()

    letter = bench.letters.get("e1:a")
    assert letter is not None
    assert (letter.reason, letter.error) == (reason, f"{type(error).__name__}: {error}")
    assert (letter.request, letter.response) == (None, None)
    assert ("in handler" in (letter.traceback or "")) == traced
    assert bench.states() == {"a": "dead", "b": "delivered"}


def test_an_envelope_that_does_not_validate(bench: Bench) -> None:
    """Dead before it had routes."""
    bench.ledger.client.hset("router:event:e1", "env", b'{"version": 9}')

    bench.work()

    letter = bench.letters.get("e1:-")
    assert letter is not None
    assert (letter.reason, letter.attempts, letter.envelope) == ("invalid", (), {"version": 9})
    assert balanced(bench.ledger)


def test_an_envelope_that_validates_no_more(bench: Bench) -> None:
    """An event whose retry waits when its envelope becomes unreadable is dead, all of it, once."""
    api(bench).answers = [DestinationUnavailable("answered 503")]
    bench.work()
    bench.ledger.client.hset("router:event:e1", "env", b"broken")
    bench.later()

    bench.work()

    assert state_of(bench.ledger) == "dead"


def test_a_trigger_that_fails(bench: Bench) -> None:
    """An exception while routes are matched is a dead letter of the event."""

    class Trigger:
        def matches(self, _: Any) -> bool:
            raise ZeroDivisionError

    bench.routes = Routes((Route("a", frozenset(), Trigger(), None, None, sends("hello")),))  # type: ignore[arg-type]
    bench.work()

    letter = bench.letters.get("e1:-")
    assert letter is not None
    assert (letter.reason, letter.error) == ("bug", "ZeroDivisionError: ")
    assert "in matches" in (letter.traceback or "")


def test_a_route_that_is_gone(bench: Bench) -> None:
    """A retry whose route was deleted meanwhile is dead, and says so."""
    api(bench).answers = [DestinationUnavailable("answered 503")]
    bench.work()
    bench.routes = Routes(())
    bench.later()

    bench.work()

    record = bench.record()
    assert (record["reason"], record["error"]) == (
        "unmappable",
        "MappingFailed: there is no route of this name any more",
    )


def test_a_route_that_is_new_is_not_for_old_events(bench: Bench) -> None:
    """Routes are fixed with the first attempt."""
    api(bench).answers = [DestinationUnavailable("answered 503")]
    bench.work()
    bench.routes = Routes((*bench.routes.routes, route("b", sends("late"))))
    bench.later()

    bench.work()

    assert bench.states() == {"a": "delivered"}


def test_replay_repeats_one_route_only() -> None:
    """Two routes, one refused: its replay does not send the other again."""
    bad = Destination(DestinationRejected("answered 400"))
    bench = Bench(route("a", sends("one")), route("b", sends("two", to="bad")), bad=bad)
    accept(bench.ledger, "e1")
    bench.work()
    assert (bench.states(), state_of(bench.ledger)) == ({"a": "delivered", "b": "dead"}, "dead")

    assert Replay(bench.ledger, bench.letters, bench.queue).run(["e1:b"]) == 1
    bench.work()

    assert (api(bench).sent, bad.sent) == (["one"], ["two", "two"])
    assert (bench.states(), state_of(bench.ledger)) == ({"a": "delivered", "b": "delivered"}, "delivered")
    assert [attempt["number"] for attempt in bench.record("b")["attempts"]] == [1, 2]
    assert balanced(bench.ledger)


def test_a_replay_has_a_fresh_budget(bench: Bench) -> None:
    """Attempts and age start anew, however old the event is."""
    api(bench).answers = [DestinationUnavailable("answered 503")] * 5
    bench.clock += 1001
    bench.work()
    assert bench.record()["reason"] == "expired"

    Replay(bench.ledger, bench.letters, bench.queue).run(["e1:a"])
    bench.clock = time.time()
    bench.work()

    assert bench.states() == {"a": "retrying"}
    assert (bench.record()["tried"], len(bench.record()["attempts"])) == (1, 2)


def test_a_slow_route_does_not_hold_back_another() -> None:
    """One waits for its retry, the other is delivered at once."""
    bench = Bench(
        route("a", sends("one", to="bad")), route("b", sends("two")), bad=Destination(DestinationUnavailable("x"))
    )
    accept(bench.ledger, "e1")

    bench.work()

    assert bench.states() == {"a": "retrying", "b": "delivered"}


def test_requests_that_were_sent_are_not_sent_again() -> None:
    """A handler of three requests goes on after the last that succeeded, over retries and replays."""
    bench = Bench(route("a", sends("one", "two", "three")))
    accept(bench.ledger, "e1")
    api(bench).answers = [OK, DestinationUnavailable("x"), OK, DestinationRejected("x")]
    bench.work()
    assert bench.record()["sent"] == 1
    bench.later()
    bench.work()
    assert (bench.record()["sent"], bench.states()) == (2, {"a": "dead"})
    Replay(bench.ledger, bench.letters, bench.queue).run(["e1:a"])

    bench.work()

    assert api(bench).sent == ["one", "two", "two", "three", "three"]
    assert bench.states() == {"a": "delivered"}


def test_a_crash_counts_as_an_attempt(bench: Bench) -> None:
    """After a worker died the next attempt has the next number, and the plan names the routes."""
    bench.ledger.claim(["e1"], "dying")
    lease_out(bench.ledger, "e1")
    Sweeper(bench.ledger, "sweeper", grace_s=60, crash_limit=3).sweep()

    bench.work()

    assert [attempt["number"] for attempt in bench.record()["attempts"]] == [2]
    assert counts(bench.ledger, "route", "a") == {"accepted": 1, "delivered": 1}


def test_poison(bench: Bench) -> None:
    """An event during which workers die again and again is buried with its routes."""
    sweeper = Sweeper(bench.ledger, "sweeper", grace_s=60, crash_limit=2)

    def dies(_: Envelope) -> None:
        raise KeyboardInterrupt

    bench.routes = Routes((route("a", dies), route("b", sends("hello"))))
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            bench.work()
        lease_out(bench.ledger, "e1")
        sweeper.sweep()

    assert sorted(letter.id for letter in bench.letters.find()) == ["e1:a", "e1:b"]
    assert {letter.reason for letter in bench.letters.find()} == {"poison"}
    assert (bench.leases.held, api(bench).sent) == ([], [])
    assert balanced(bench.ledger)


def test_a_lost_lease_stops_the_work() -> None:
    """Whoever lost the event to another worker goes no further along its routes."""
    bench = Bench()
    accept(bench.ledger, "e1")

    def loses(_: Envelope) -> list[Request]:
        lease_out(bench.ledger, "e1")
        Sweeper(bench.ledger, "sweeper", grace_s=60, crash_limit=3).sweep()
        bench.ledger.claim(["e1"], "another")
        return [Request("api", "POST", "", "one")]

    bench.routes = Routes((route("a", loses), route("b", sends("two"))))
    bench.work()

    assert api(bench).sent == ["one"]
    assert (bench.event().owner, bench.states()) == ("another", {})


def test_few_attempts_are_kept() -> None:
    """A record does not grow without end."""
    bench = Bench()
    accept(bench.ledger, "e1")
    replay = Replay(bench.ledger, bench.letters, bench.queue)
    for _ in range(55):
        api(bench).answers = [DestinationRejected("x")]
        bench.work()
        replay.run(["e1:a"])

    assert len(bench.record()["attempts"]) == 50


@pytest.mark.parametrize(
    ("handler", "reason"),
    [
        (sends("hello", to="nowhere"), "bug"),
        (lambda _: ["no request"], "bug"),
        (lambda _: 5, "bug"),
    ],
)
def test_a_handler_that_gives_nonsense(handler: Any, reason: str) -> None:
    """A dead letter like any other, and the rest of the ticket goes on."""
    bench = Bench(route("a", handler))
    accept(bench.ledger, "e1")

    bench.work()

    assert bench.record()["reason"] == reason


def test_a_body_that_is_no_json(bench: Bench) -> None:
    """A handler's datetime in a body fails that delivery, and nothing else."""
    bench.routes = Routes((route("a", sends({"at": datetime(2026, 1, 2, tzinfo=UTC)})),))
    api(bench).answers = [TypeError("Object of type datetime is not JSON serializable")]

    bench.work()

    assert bench.record()["reason"] == "bug"


def test_an_echo_is_filtered() -> None:
    """Our own change, reported back by Encharge, goes along its route and is sent nowhere."""
    bench = Bench()
    bench.routes = routing.load(REPOSITORY / "config/routes.yaml", ["encharge"])
    echo = {"event": "updatedUser", "user": {"id": "1"}, "properties": {"changedFields": {MARK: {}}}}
    accept(bench.ledger, "e1", type="updatedUser", name="updatedUser", event=echo)

    bench.work()

    assert (state_of(bench.ledger), bench.states()) == ("filtered", {"updated-user": "filtered"})


class Adapter(BaseAdapter):
    """Answers instead of the network."""

    def __init__(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        super().__init__()
        self.answer = (status, content, headers or {})
        self.asked: list[requests.PreparedRequest] = []

    def send(self, request: requests.PreparedRequest, **_: Any) -> requests.Response:  # type: ignore[override]
        self.asked.append(request)
        answer = requests.Response()
        status, content, headers = self.answer
        answer.raw = urllib3.HTTPResponse(io.BytesIO(content), preload_content=False)
        answer.status_code, answer.request = status, request
        answer.headers.update(headers)
        return answer

    def close(self) -> None:
        pass


def encharge(adapter: Adapter, address: str = "https://ingest.example.com/v1/") -> Encharge:
    http = Http(connect_timeout_s=1, read_timeout_s=1, connections=1)
    http._session.mount("https://", adapter)
    return Encharge(http, address, "s3cret-key")


def test_the_key_is_sent_and_not_shown() -> None:
    """The destination sees the key; dead letters do not."""
    adapter = Adapter(200, b"{}")
    destination = encharge(adapter)
    request = Request("api", "POST", "", {"name": "x"})

    assert destination.send(request) == Response(200, {}, "{}")
    assert adapter.asked[0].headers["X-Encharge-Token"] == "s3cret-key"
    assert json.loads(adapter.asked[0].body or b"") == {"name": "x"}
    shown = destination.shown(request)
    assert "s3cret-key" not in str(shown)
    assert (shown["method"], shown["url"], shown["body"]) == ("POST", "https://ingest.example.com/v1/", {"name": "x"})
    assert shown["headers"]["X-Encharge-Token"] == "(the key)"


@pytest.mark.parametrize(
    ("request_", "url"),
    [
        (Request("api", "DELETE", "/tags", {}), "https://api.example.com/v1/tags"),
        (
            Request("api", "DELETE", "/people", None, (("people[0][email]", "a+b@example.com"), ("force", "true"))),
            "https://api.example.com/v1/people?people%5B0%5D%5Bemail%5D=a%2Bb%40example.com&force=true",
        ),
    ],
)
@pytest.mark.parametrize("address", ["https://api.example.com/v1", "https://api.example.com/v1/"])
def test_addresses(request_: Request, url: str, address: str) -> None:
    """Address, path and query, each slash once."""
    adapter = Adapter(200, b"")

    encharge(adapter, address).send(request_)

    assert adapter.asked[0].url == url
    assert ("Content-Type" in adapter.asked[0].headers) == (request_.body is not None)


@pytest.mark.parametrize("size", [10, 4096, 4097, 200_000])
def test_a_dead_letter_keeps_4_kib_of_an_answer(bench: Bench, size: int) -> None:
    """However much the destination has to say, and no key of ours."""
    bench.destinations["api"] = encharge(Adapter(400, b"x" * size))  # type: ignore[assignment]

    bench.work()

    letter = bench.letters.get("e1:a")
    assert letter is not None
    assert letter.response is not None
    assert letter.response["body"] == "x" * min(size, 4096)
    assert "s3cret-key" not in str(letter)


@pytest.mark.parametrize("header", ["Retry-After", "retry-after", "RETRY-AFTER"])
def test_retry_after_in_any_case(header: str) -> None:
    """Names of headers have no case."""
    with pytest.raises(DestinationThrottled) as caught:
        encharge(Adapter(429, b"", {header: "7"})).send(Request("api", "POST", "", {}))

    assert caught.value.retry_after_s == 7


@pytest.mark.parametrize("error", [requests.ConnectionError("x"), requests.ReadTimeout("x"), OSError("x")])
def test_no_answer_is_unavailable(error: Exception) -> None:
    """Whatever goes wrong on the way is tried again."""

    class Broken(Adapter):
        def send(self, *_: Any, **__: Any) -> requests.Response:
            raise error

    with pytest.raises(DestinationUnavailable):
        encharge(Broken(200, b"")).send(Request("api", "POST", "", {}))


def test_a_redirect_is_not_followed() -> None:
    """It would carry the key elsewhere."""
    adapter = Adapter(302, b"", {"Location": "https://elsewhere.example.com/"})

    with pytest.raises(DestinationRejected):
        encharge(adapter).send(Request("api", "POST", "", {}))
    assert len(adapter.asked) == 1
