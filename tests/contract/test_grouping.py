"""Requests of one subject go out together where the destination takes several at once."""

from collections.abc import Hashable, Sequence
from typing import Any

import pytest
from bench import OK, Bench, Destination, answered, api, route, sends
from builders import balanced, lease_out, state_of
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks import mapping, verify
from tasks.action import Action, Field, Request
from tasks.errors import DestinationRejected, DestinationUnavailable, MappingFailed
from tasks.routing import Route
from tasks.trigger import parse

UPLOAD = Action(
    "upload",
    "x.upload",
    "",
    {"to": Field(""), "n": Field("", required=True)},
    lambda fields: (Request("feed", "POST", "", {"id": fields.get("to", "me"), "n": [fields["n"]]}),),
)
NAME = {"@path": "$.envelope.id"}


class Feed(Destination):
    """Takes up to five at once."""

    most = 5

    def __init__(self, *answers: Any, refuses: Sequence[str] = ()) -> None:
        super().__init__(*answers)
        self.refuses = set(refuses)

    def group_key(self, request: Request) -> Hashable | None:
        return request.body["id"]

    def merged(self, requests: Sequence[Request]) -> Request:
        numbers = [number for request in requests for number in request.body["n"]]
        return Request("feed", "POST", "", {"id": requests[0].body["id"], "n": numbers})

    def send(self, request: Request) -> Any:
        if self.refuses & set(request.body["n"]):
            self.sent.append(request.body)
            raise answered(DestinationRejected("answered 400"), 400)
        return super().send(request)

    @property
    def groups(self) -> list[list[str]]:
        return [body["n"] for body in self.sent]


def upload(name: str = "up", trigger: str | None = None, **fields: Any) -> Route:
    """A route of an action, as a file would have it."""
    made = mapping.compile({"n": NAME, **fields})
    return Route(name, frozenset(), parse(trigger) if trigger else None, UPLOAD, made, None)


def bench_of(feed: Feed, *routes: Route, events: int = 4, **each: Any) -> Bench:
    bench = Bench(*(routes or (upload(),)), feed=feed)
    bench.accept_line(events, **each)
    return bench


def delivered(bench: Bench, events: int) -> list[str]:
    return [state_of(bench.ledger, f"e{number}") for number in range(1, events + 1)]


def test_a_line_goes_out_as_one_request() -> None:
    """Four events of one person: one request, four deliveries, nothing left behind."""
    feed = Feed()
    bench = bench_of(feed)

    bench.work("e1")

    assert feed.groups == [["e1", "e2", "e3", "e4"]]
    assert delivered(bench, 4) == ["delivered"] * 4
    assert bench.record("up", "e3")["attempts"][0]["status"] == 200
    assert verify.walk(bench.ledger).findings == frozenset()
    assert balanced(bench.ledger)


def test_not_more_than_it_takes_and_the_rest_in_the_next() -> None:
    """Each request has at most as many as the destination says."""
    feed = Feed()
    bench_of(feed, events=12).work("e1")

    assert [len(group) for group in feed.groups] == [5, 5, 2]
    assert [one for group in feed.groups for one in group] == [f"e{number}" for number in range(1, 13)]


def test_a_failure_is_the_first_ones_alone() -> None:
    """The others were not delivered; they wait behind it, and go out with nobody's answer."""
    feed = Feed(answered(DestinationUnavailable("answered 503"), 503))
    bench = bench_of(feed)
    bench.work("e1")
    assert delivered(bench, 4) == ["retrying", "held", "held", "held"]

    bench.later()
    for _ in range(4):
        bench.work("e1", "e2", "e3", "e4")

    assert delivered(bench, 4) == ["delivered"] * 4
    assert [one for group in feed.groups[1:] for one in group] == ["e1", "e2", "e3", "e4"]


def test_a_refused_group_goes_one_by_one_and_only_the_guilty_dies() -> None:
    """A request that is refused says nothing of who is to blame."""
    feed = Feed(refuses=["e3"])
    bench = bench_of(feed)

    bench.work("e1")

    assert feed.groups == [["e1", "e2", "e3", "e4"], ["e1"], ["e2"], ["e3"], ["e4"]]
    assert delivered(bench, 4) == ["delivered", "delivered", "dead", "delivered"]
    assert bench.record("up", "e3")["reason"] == "rejected"
    assert bench.record("up", "e3")["request"]["body"]["n"] == ["e3"]


def test_those_that_go_elsewhere_stand_in_nobodys_way() -> None:
    """Events that the destination gets nothing of are passed over, and worked on when their turn comes."""
    feed = Feed()
    bench = bench_of(feed, upload(trigger='event != "other"'), route("a", sends("hello")))
    assert [len(group) for group in feed.groups] == []
    bench.work("e1")
    # The handler's route takes every event: what it has for whom is not known before.
    assert feed.groups == [["e1"], ["e2"], ["e3"], ["e4"]]

    feed = Feed()
    bench = Bench(upload(trigger='event != "other"'), feed=feed)
    bench.accept_line(1)
    bench.accept_line(1, start=2, event={"event": "other"})
    bench.accept_line(2, start=3)
    bench.work("e1")
    assert feed.groups == [["e1", "e3", "e4"]]
    assert delivered(bench, 4) == ["delivered", "filtered", "delivered", "delivered"]


def test_another_identity_ends_the_group() -> None:
    """Order at the destination is kept: nothing goes past one that cannot come along."""
    feed = Feed()
    routes = (upload("mine", 'event = "newUser"'), upload("theirs", 'event = "other"', to="them"))
    bench = Bench(*routes, feed=feed)
    bench.accept_line(2)
    bench.accept_line(1, start=3, event={"event": "other"})
    bench.accept_line(2, start=4)

    bench.work("e1")

    assert feed.groups == [["e1", "e2"], ["e3"], ["e4", "e5"]]


def test_two_requests_of_one_event_go_one_by_one() -> None:
    """The second must not be overtaken by those of later events."""
    feed = Feed()
    bench = bench_of(feed, upload("first"), upload("second"), events=2)

    bench.work("e1")

    assert feed.groups == [["e1"], ["e1"], ["e2"], ["e2"]]


def test_what_went_along_is_delivered_although_its_route_was_paused_meanwhile() -> None:
    """It is out already; parked, it would go out again."""
    feed = Feed()
    bench = bench_of(feed)
    feed.before = lambda _: bench.ledger.pause("route:up", "somebody") and None
    bench.work("e1")

    assert delivered(bench, 4) == ["delivered"] * 4
    assert len(feed.sent) == 1


def test_the_next_of_the_line_comes_before_one_that_is_let_go() -> None:
    """A run with answers in hand takes nobody else in between: they would be lost."""
    feed = Feed()
    api_fails = answered(DestinationUnavailable("answered 503"), 503)
    bench = Bench(upload("up", 'event = "newUser"'), call(set()), feed=feed, api=Destination(api_fails))
    bench.accept_line(1, event={"event": "first"})
    bench.accept_line(1, start=2, event={"event": "second"})
    bench.work("e1")
    assert (state_of(bench.ledger, "e1"), state_of(bench.ledger, "e2")) == ("retrying", "held")
    bench.accept_line(3, start=3)
    bench.later()
    bench.work("e1", "e3")
    bench.work("e2")
    bench.work("e3", "e4", "e5")

    assert feed.groups == [["e3", "e4", "e5"]]
    assert api(bench).sent == ["e1", "e1", "e2", "e3", "e4", "e5"]
    assert delivered(bench, 5) == ["delivered"] * 5


def test_a_mapping_that_fails_behind_harms_nobody() -> None:
    """It dies when its turn comes."""
    feed = Feed()

    def fails(fields: Any) -> tuple[Request, ...]:
        if fields["n"] == "e2":
            raise MappingFailed("no")
        return UPLOAD.requests(fields)

    action = Action("upload", "x.upload", "", UPLOAD.fields, fails)
    bench = bench_of(feed, Route("up", frozenset(), None, action, mapping.compile({"n": NAME}), None))
    bench.work("e1")

    assert feed.groups == [["e1", "e3", "e4"]]
    assert delivered(bench, 4) == ["delivered", "dead", "delivered", "delivered"]


def call(fails_for: set[str]) -> Route:
    """A route of another destination, which some events fail."""

    def requests(fields: Any) -> tuple[Request, ...]:
        if fields["n"] in fails_for:
            raise MappingFailed("no")
        return (Request("api", "POST", "", fields["n"]),)

    action = Action("call", "x.call", "", {"n": Field("")}, requests)
    return Route("call", frozenset(), None, action, mapping.compile({"n": NAME}), None)


def test_bug_a_replayed_event_behind_went_out_again() -> None:
    """It lines up for the route that is replayed; its other deliveries were made long ago."""
    feed, fails = Feed(), {"e1"}
    bench = bench_of(feed, upload(), call(fails), events=1)
    bench.work("e1")
    fails.clear()
    bench.accept_line(1, start=2)
    assert bench.ledger.replay("e1", "call", {})
    assert state_of(bench.ledger, "e1") == "lined"

    bench.work("e2")

    assert feed.groups == [["e1"], ["e2"]]
    assert delivered(bench, 2) == ["delivered", "delivered"]


def test_bug_events_of_a_resumed_route_went_out_again() -> None:
    """Those that waited at the route's gate line up behind a new event, with deliveries that were made."""
    feed = Feed()
    bench = Bench(upload(), call(set()), feed=feed)
    bench.ledger.pause("route:call", "somebody")
    bench.accept_line(2)
    bench.work("e1")
    bench.accept_line(1, start=3)
    bench.ledger.resume("route:call")
    for _ in range(3):
        bench.work("e1", "e2", "e3")
        bench.ledger.tick()

    assert feed.groups == [["e1", "e2"], ["e3"]]
    assert delivered(bench, 3) == ["delivered"] * 3


def test_bug_trouble_while_looking_behind_was_the_first_ones_fault() -> None:
    """What cannot be read of those behind is nothing that the first one should die for."""
    feed = Feed()
    bench = bench_of(feed)
    for number in (2, 3, 4):
        bench.ledger.client.hset(f"router:event:e{number}", "s:x", "pending")
        bench.ledger.client.hset(f"router:event:e{number}", "d:x", "no JSON")

    bench.work("e1")

    assert feed.groups == [["e1"]]
    assert state_of(bench.ledger, "e1") == "delivered"


def test_bug_the_first_of_a_line_died_for_a_poison_behind_it() -> None:
    """After a worker's death nobody looks ahead: whoever is to blame is met in its own turn."""
    feed = Feed()
    bench = bench_of(feed, events=3)
    (first,) = bench.ledger.claim(["e1"], "dying")
    lease_out(bench.ledger, first.id)
    assert bench.ledger.expire(["e1"], 4, "sweeper") == (["e1"], [])

    bench.work("e1")

    assert feed.groups == [["e1"], ["e2"], ["e3"]]
    assert delivered(bench, 3) == ["delivered"] * 3


@pytest.mark.parametrize("order", ["pass", "hold"])
@settings(max_examples=12, deadline=None)
@given(st.data())
def test_whatever_happens_each_arrives_once_in_order(order: str, data: st.DataObject) -> None:
    """Random failures and refusals: nothing is delivered twice, nothing overtakes, nothing is lost."""
    events = data.draw(st.integers(1, 8))
    fails = data.draw(st.lists(st.booleans(), max_size=6))
    refuses = [f"e{number}" for number in data.draw(st.sets(st.integers(1, 8), max_size=2))]
    feed = Feed(*(answered(DestinationUnavailable("answered 503"), 503) if fail else OK for fail in fails))
    feed.refuses = set(refuses)
    arrived: list[str] = []
    plain = feed.send

    def send(request: Request) -> Any:
        response = plain(request)
        arrived.extend(request.body["n"])
        return response

    feed.send = send  # type: ignore[method-assign]
    one = upload()
    bench = Bench(Route("up", one.sources, None, UPLOAD, one.mapping, None, order=order), feed=feed)
    bench.accept_line(events)
    ids = [f"e{number}" for number in range(1, events + 1)]
    for _ in range(20):
        for id_ in ids:
            bench.retry_now(id_)
        bench.work(*ids)
        bench.ledger.tick()

    dead = [id_ for id_ in ids if state_of(bench.ledger, id_) == "dead"]
    through = ids[: ids.index(dead[0])] if dead and order == "hold" else ids
    assert arrived == [id_ for id_ in through if id_ not in dead]
    assert balanced(bench.ledger)
