"""Redis refuses, forgets its clients, and stops answering; web, worker and sweeper find it again without human help.

The slow faults, and failover by Sentinel, are in benchmarks/recovery.py.
"""

import time
from collections.abc import Callable

from conftest import Router, numbered

from cli.connection import connection_to
from config.settings import load
from torture.proxy import Proxy


def test_events_are_delivered_again_soon_after_each_fault(make_router: Callable[..., Router]) -> None:
    """Connections killed while Redis is full, and half-open ones: the same worker goes on within 15 s, 0 lost."""
    router = make_router(TICKET_GRACE_S="1", LEASE_S="5")
    direct = connection_to(load(router.environ))
    client = direct.ledger.client
    with Proxy(int(router.redis.url.rpartition(":")[2].partition("/")[0])) as proxy:
        router.environ["REDIS_URL"] = f"redis://127.0.0.1:{proxy.port}/0"
        router.start_all()
        worker = router.processes["worker"]

        def kill_while_full() -> None:
            client.config_set("maxmemory", 1)
            client.execute_command("CLIENT", "KILL", "TYPE", "normal")
            time.sleep(2)
            client.config_set("maxmemory", 0)

        ids: list[str] = []
        for name, fault in (("killed while full", kill_while_full), ("half-open", proxy.swallow)):
            fault()
            begun = time.monotonic()
            ids += router.post_many(numbered(10, timestamp=int(time.time() * 1000)))
            deadline = begun + 15
            while any(event is None or event.state != "delivered" for event in direct.ledger.events(ids)):
                assert time.monotonic() < deadline, f"{name}: not within 15 s"
                time.sleep(0.1)
            print(f"\n{name}: all delivered {time.monotonic() - begun:.1f} s later")
        assert worker.poll() is None
        assert len(set(ids)) == 20
        router.close()
