"""A retry that is due in hours waits in Redis, not in a worker."""

import time
from collections.abc import Callable
from pathlib import Path

from conftest import Router, numbered, wait

HOURS_3 = 3 * 3600


def resident_kib(pid: int) -> int:
    """VmRSS of a process (proc(5)), or 0 where there is no /proc."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        return 0
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmRSS"))


def test_a_retry_due_in_three_hours_survives_every_process(make_router: Callable[..., Router]) -> None:
    """Every process and Redis killed with -9: still due at its time; a thousand of them cost no worker memory."""
    # Not the breaker, which would park most of them: each is to wait for its own time.
    router = make_router(RETRY_AFTER_CAP_S=str(4 * 3600), RETRY_BASE_S="0.1", BREAKER_FAILURES="100000")
    router.start_all()
    warm = router.post_many(numbered(300, "performed-step:9{}"))
    router.settled(warm, 30)
    before = resident_kib(router.processes["worker"].pid)
    router.faults({"kind": "status", "status": 503, "retry_after": HOURS_3})
    ids = router.post_many(numbered(600))
    ledger = router.connection.ledger
    wait(lambda: ledger.sizes()["retrying"] == len(ids), 30, "all wait for their retry")
    grown = resident_kib(router.processes["worker"].pid) - before
    assert grown < 10 * 1024, f"{grown} KiB for {len(ids)} waiting retries"
    assert ledger.client.hlen("unacked") == 0
    due = dict(ledger.client.zrange("router:retrying", 0, -1, withscores=True))
    assert all(abs(score / 1e6 - time.time() - HOURS_3) < 60 for score in due.values())

    for name in list(router.processes):
        router.kill(name)
    router.kill_redis()
    router.restart_redis()
    router.start_all()
    time.sleep(2)
    assert dict(ledger.client.zrange("router:retrying", 0, -1, withscores=True)) == due
    assert router.arrivals() == {}

    # Three hours later, as far as Redis' own clock of this test goes.
    ledger.client.zadd("router:retrying", {id_: score - HOURS_3 * 1e6 for id_, score in due.items()})
    for id_ in ids:
        ledger.client.hset(f"router:event:{id_}", "s:step-performed", f"retrying:{int(time.time() * 1e6)}")
    events = router.settled(ids, 60)
    assert {event.state for event in events} == {"delivered"}
    assert all(len(times) == 1 for times in router.arrivals().values())
    router.assert_equation()
    print(f"\n{len(ids)} retries due in 3 h: worker grew by {grown} KiB, all delivered once after every process died")
