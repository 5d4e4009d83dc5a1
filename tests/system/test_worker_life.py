"""A worker that consumes stays, one that does not ends itself, and one that is told to stop leaves nothing behind."""

import json
import time
from collections.abc import Callable

import pytest
from conftest import Router, numbered, wait

from cli import stack
from tasks.watchdog import DEAD_STATUS

WEDGES = [part if part != "tasks" else "worker_that_wedges" for part in stack.WORKER]


def running(router: Router) -> float:
    return router.connection.ledger.sizes("events")["running"]


def test_a_worker_whose_consumer_is_stuck_ends_itself(make_router: Callable[..., Router]) -> None:
    """It is connected and alive to look at; the watchdog ends it, and its successor delivers the event."""
    router = make_router(HEARTBEAT_DEAD_S="2", TICKET_GRACE_S="1")
    router.start_sandbox()
    router.start_web()
    stuck = router.start_worker("stuck", WEDGES)
    time.sleep(3)  # longer than it may be silent: its heartbeats come back
    assert stuck.poll() is None

    (id_,) = router.post_many(numbered(1), threads=1)
    begun = time.monotonic()
    assert stuck.wait(10) == DEAD_STATUS
    print(f"\nended {time.monotonic() - begun:.1f} s after its last message")
    assert b"worker.dead" in (router.folder / "stuck.log").read_bytes()

    router.start_worker(ready=False)
    router.settled([id_], 15)


def test_a_worker_all_of_whose_threads_are_busy_stays(make_router: Callable[..., Router]) -> None:
    """It takes no message, not even its heartbeat, for twice the time that a silent worker may have."""
    router = make_router(HEARTBEAT_DEAD_S="1.5", WORKER_CONCURRENCY="2")
    router.start_sandbox()
    router.faults({"kind": "delay", "delay_s": 3})
    router.start_web()
    worker = router.start_worker()
    ids = router.post_many(numbered(6))

    wait(lambda: running(router) == 2, 5, "both threads are busy")
    time.sleep(2.5)
    (seen,) = json.loads(router.command("workers", "--json"))
    assert (seen["pid"], seen["alive"]) == (worker.pid, True)
    assert seen["silent_s"] < 1.5
    assert "event_router_workers 1.0" in router.session.get(f"{router.web_url}/metrics", timeout=5).text
    router.settled(ids, 15)
    assert worker.poll() is None


def test_what_a_stopping_worker_had_not_begun_goes_to_another_at_once(make_router: Callable[..., Router]) -> None:
    """TERM with 16 deliveries under way, as many tickets taken and more waiting: all done in seconds, none twice."""
    router = make_router()
    router.start_sandbox()
    router.faults({"kind": "delay", "delay_s": 3})
    router.start_web()
    first = router.start_worker("first")
    ids = router.post_many(numbered(48))
    wait(lambda: running(router) == 16, 10, "16 deliveries are under way")
    router.faults()
    router.start_worker("second")

    begun = time.monotonic()
    first.terminate()
    router.settled(ids, 10)
    took = time.monotonic() - begun
    assert first.wait(5) == 0
    assert {number: len(times) for number, times in router.arrivals().items()} == {str(n): 1 for n in range(48)}
    log = (router.folder / "second.log").read_text()
    assert "ticket.lost" not in log
    assert "lease.expired" not in log
    router.assert_equation()
    print(f"\n48 events, 16 under way at TERM: all done {took:.1f} s later")


def test_a_worker_whose_grace_is_over_hands_back_what_it_holds(make_router: Callable[..., Router]) -> None:
    """A destination hangs; the worker ends in time, and another takes over long before the leases would run out."""
    router = make_router(WORKER_GRACE_S="1", LEASE_S="60", CRASH_LIMIT="1", HTTP_READ_TIMEOUT_S="60")
    router.start_sandbox()
    router.faults({"kind": "hang", "delay_s": 30})
    router.start_web()
    first = router.start_worker("first")
    ids = router.post_many(numbered(4))
    wait(lambda: running(router) == 4, 10, "4 deliveries are under way")
    router.faults()

    first.terminate()
    assert first.wait(4) == 0
    router.start_worker("second", ready=False)
    events = router.settled(ids, 10)
    # With a limit of one crash, counting the end of the first worker would have made them dead letters.
    assert {(event.state, event.crashes) for event in events} == {("delivered", 0)}
    router.assert_equation()


@pytest.mark.parametrize("args", [(), ("--here",)])
def test_without_a_worker_the_command_says_so(make_router: Callable[..., Router], args: tuple[str, ...]) -> None:
    """Status 1: what a container's health check asks for."""
    router = make_router()

    assert router.command("workers", *args, status=1).startswith("worker")
