"""A worker that consumes stays, one that does not ends itself, and one that is told to stop leaves nothing behind."""

import json
import time
from collections.abc import Callable

from conftest import Router, numbered, wait

from cli import stack
from tasks.watchdog import DEAD_STATUS

WEDGES = [part if part != "tasks" else "worker_that_wedges" for part in stack.WORKER]


def running(router: Router) -> float:
    return router.connection.ledger.sizes()["running"]


def waiting(router: Router) -> float:
    return router.connection.ledger.sizes()["queue_length"]


def test_a_worker_whose_consumer_is_stuck_ends_itself(make_router: Callable[..., Router]) -> None:
    """It is connected and alive to look at; the watchdog ends it, and its successor delivers the event."""
    router = make_router(HEARTBEAT_DEAD_S="1.5", TICKET_GRACE_S="1")
    router.start_sandbox()
    router.start_web()
    stuck = router.start_worker("stuck", WEDGES)
    time.sleep(2)  # longer than it may be silent: its heartbeats come back
    assert stuck.poll() is None

    (id_,) = router.post_many(numbered(1), threads=1)
    begun = time.monotonic()
    assert stuck.wait(10) == DEAD_STATUS
    print(f"\nended {time.monotonic() - begun:.1f} s after its last message")
    assert b"worker.dead" in (router.folder / "stuck.log").read_bytes()

    router.start_worker(ready=False)
    router.settled([id_], 15)


def test_a_busy_worker_stays_and_a_stopping_one_gives_back_what_it_has_not_begun(
    make_router: Callable[..., Router],
) -> None:
    """All threads wait for longer than a silent worker may live; after TERM the tickets are back before they are done.

    Another worker then does the rest: nothing is lost, nothing is done twice, and no sweeper had to help.
    """
    router = make_router(HEARTBEAT_DEAD_S="1.5", WORKER_CONCURRENCY="2")
    assert router.command("workers", "--here", status=1).startswith("worker"), "no worker, so none is alive"
    router.start_sandbox()
    router.faults({"kind": "delay", "delay_s": 6})
    router.start_web()
    first = router.start_worker("first")
    ids = router.post_many(numbered(6))
    wait(lambda: running(router) == 2, 10, "all threads are busy")
    time.sleep(2)
    (seen,) = json.loads(router.command("workers", "--json"))
    assert (seen["pid"], seen["alive"]) == (first.pid, True)
    assert seen["silent_s"] < 1.5
    assert "event_router_workers 1.0" in router.session.get(f"{router.web_url}/metrics", timeout=5).text
    assert waiting(router) <= 2, "it has taken 2 more"

    first.terminate()
    wait(lambda: waiting(router) == 4, 2, "what no thread has begun is in the queue again")
    assert first.poll() is None, "it still works on the others"
    router.faults()
    router.start_worker("second")
    router.settled(ids, 10)
    assert first.wait(5) == 0
    assert {number: len(times) for number, times in router.arrivals().items()} == {str(n): 1 for n in range(6)}
    log = (router.folder / "second.log").read_text()
    assert "ticket.lost" not in log
    assert "lease.expired" not in log
    router.assert_equation()


def test_a_worker_whose_grace_is_over_hands_back_what_it_holds(make_router: Callable[..., Router]) -> None:
    """A destination hangs; the worker ends in time, and another takes over long before the leases would run out."""
    router = make_router(WORKER_GRACE_S="0.5", LEASE_S="60", CRASH_LIMIT="1", HTTP_READ_TIMEOUT_S="60")
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
