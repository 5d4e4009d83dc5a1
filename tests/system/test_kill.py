"""Processes die at any moment; no event is lost, and doubles are explained by a death."""

import itertools
import random
import threading
import time
from collections.abc import Callable

from conftest import Router, numbered, wait

EVENTS = 900
KILLS = 5


def test_no_event_is_lost_when_the_worker_is_killed_again_and_again(make_router: Callable[..., Router]) -> None:
    """Kill -9 during 900 events: none lost, recovered within 30 s of each kill, each double explained by a kill."""
    router = make_router(LEASE_S="3", TICKET_GRACE_S="2")
    router.start_all()
    router.faults({"kind": "delay", "delay_s": 0.03})
    dice = random.Random(7)
    ids: list[str] = []
    events = numbered(EVENTS)
    poster = threading.Thread(target=lambda: ids.extend(router.post_many(events, per_second=100)))
    poster.start()
    kills: list[float] = []
    in_flight: list[list[str]] = []
    for _ in range(KILLS):
        wait(lambda: router.connection.ledger.sizes()["running"] > 0, 20, "the worker is busy")
        time.sleep(dice.uniform(0.05, 0.8))
        kills.append(router.kill("worker"))
        in_flight.append([id_.decode() for id_ in router.connection.ledger.client.zrange("router:running", 0, -1)])
        router.start_worker()
    poster.join()
    settled = dict(zip(ids, router.settled(ids, 60), strict=True))

    assert {event.state for event in settled.values()} == {"delivered"}
    router.assert_equation()
    arrivals = router.arrivals()
    assert set(arrivals) == {str(number) for number in range(EVENTS)}
    repeated = {number: times for number, times in arrivals.items() if len(times) > 1}
    hit = {id_: kill for kill, held in zip(kills, in_flight, strict=True) for id_ in held}
    assert {ids[int(number)] for number in repeated} <= set(hit), "delivered twice, and no kill hit it"
    slack = 0.5
    for times in repeated.values():
        for first, second in itertools.pairwise(times):
            assert any(first - slack <= kill <= second + slack for kill in kills), (first, second)
    recovery = [
        settled[id_].ended_at / 1e6 - kill
        for kill, held in zip(kills, in_flight, strict=True)
        for id_ in held
        if settled[id_].ended_at
    ]
    assert recovery, "no kill hit an event in flight: the test proves nothing"
    assert max(recovery) < 30
    print(
        f"\n{EVENTS} events, {KILLS} kills that hit {len(recovery)} events in flight: 0 lost, "
        f"{len(repeated)} delivered twice, slowest recovery {max(recovery):.1f} s"
    )


def test_the_worker_outlives_redis(make_router: Callable[..., Router]) -> None:
    """Redis killed with -9 while tasks run and restarted on its append-only file: same worker process, none lost."""
    router = make_router(LEASE_S="3", TICKET_GRACE_S="2")
    router.start_all()
    router.faults({"kind": "delay", "delay_s": 0.3})
    worker = router.processes["worker"]
    ids: list[str] = []
    poster = threading.Thread(target=lambda: ids.extend(router.post_many(numbered(180), per_second=60)))
    poster.start()
    for _ in range(2):
        time.sleep(1)
        wait(lambda: router.connection.ledger.sizes()["running"] > 0, 20, "tasks run")
        router.kill_redis()
        time.sleep(2)
        router.restart_redis()
    poster.join()
    events = router.settled(ids, 60)

    assert worker.poll() is None, "the worker ended"
    assert {event.state for event in events} == {"delivered"}
    assert set(router.arrivals()) == {str(number) for number in range(180)}
    router.assert_equation()
    doubles = sum(len(times) > 1 for times in router.arrivals().values())
    assert doubles <= 2 * 16, "more than what two deaths of Redis can have left unsettled in 16 threads"
    print(f"\n180 events, Redis killed twice: 0 lost, {doubles} delivered twice")
