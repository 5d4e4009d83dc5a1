"""How soon web, worker and sweeper work again after each fault of Redis: real processes, one table.

    python benchmarks/recovery.py [--only NAME]

Seconds count from the end of a fault that ends, and from the beginning of one that does not (half-open connections, a
master that is gone). `web`: until the endpoint accepts an event. `worker`: until an event accepted after the fault is
delivered. `sweeper`: until an event whose ticket was lost is delivered, of which 1 s is TICKET_GRACE_S. Ends with
status 1 when one is above 15 s, an event is lost, or the worker ended.
"""

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "tests"), str(HERE.parent / "tests" / "system")]

from conftest import SECRET, Router, numbered, post_until_accepted  # noqa: E402 - the system tests' harness
from sentinels import Sentinels  # noqa: E402

from app.sources.encharge import unwrap  # noqa: E402
from config.settings import load  # noqa: E402
from tasks.errors import QueueUnavailable  # noqa: E402
from tasks.ledger import Ledger  # noqa: E402
from tasks.worker import worker_ledger  # noqa: E402
from torture.proxy import Proxy  # noqa: E402

MOST_S = 15.0
PAUSE_S = 10.0
FULL_S = 20.0
SETTINGS = {"TICKET_GRACE_S": "1", "LEASE_S": "5"}


class Bench:
    """A router, and a way to Redis that no fault is on."""

    def __init__(self, router: Router, direct: Ledger) -> None:
        self.router = router
        self.direct = direct
        self.number = 0
        self.posted: list[str] = []
        router.session.headers["Authorization"] = f"Bearer {SECRET}"

    def post(self) -> str:
        """One event through the endpoint, tried again until it is accepted."""
        self.number += 1
        event = numbered(1, number=self.number, timestamp=int(time.time() * 1000) + self.number)[0]
        id_ = post_until_accepted(self.router.session, f"{self.router.web_url}/webhooks/encharge", event)
        self.posted.append(id_)
        return id_

    def put_without_ticket(self) -> str:
        """One event as it is in the ledger when its ticket was lost."""
        self.number += 1
        body = numbered(1, timestamp=int(time.time() * 1000) + 10_000_000 + self.number)[0]
        envelopes = unwrap("encharge", body, None, datetime.now(UTC))
        while True:
            try:
                self.direct.queue = ""  # nobody hears of it
                self.direct.accept(envelopes)
                break
            except QueueUnavailable:
                time.sleep(0.1)
        self.posted.append(envelopes[0].id)
        return envelopes[0].id

    def delivered(self, id_: str) -> None:
        """Wait for it."""
        while (event := self.direct.event(id_)) is None or event.state != "delivered":
            time.sleep(0.05)

    def measure(self, fault: Callable[[], None]) -> dict[str, float]:
        """Seconds after the fault until each works again."""
        fault()
        begun = time.monotonic()
        took: dict[str, float] = {}

        def sweeper() -> None:
            self.delivered(self.put_without_ticket())
            took["sweeper"] = time.monotonic() - begun

        def worker() -> None:
            id_ = self.post()
            took["web"] = time.monotonic() - begun
            self.delivered(id_)
            took["worker"] = time.monotonic() - begun

        threads = [threading.Thread(target=each, daemon=True) for each in (sweeper, worker)]
        for each in threads:
            each.start()
        for each in threads:
            each.join(60)
        return {name: took.get(name, float("inf")) for name in ("web", "worker", "sweeper")}


@contextmanager
def over_proxy(folder: Path) -> Iterator[tuple[Bench, dict[str, Callable[[], None]]]]:
    """One Redis, with a proxy between it and the router."""
    router = Router(folder, SETTINGS)
    direct = worker_ledger(load(router.environ))
    client = direct.client

    def restart() -> None:
        router.kill_redis()
        time.sleep(2)
        router.restart_redis()

    def pause() -> None:
        client.execute_command("CLIENT", "PAUSE", int(PAUSE_S * 1000), "ALL")
        time.sleep(PAUSE_S)

    def full() -> None:
        client.config_set("maxmemory", 1)
        time.sleep(FULL_S)
        client.config_set("maxmemory", 0)

    def kill_while_full() -> None:
        client.config_set("maxmemory", 1)
        client.execute_command("CLIENT", "KILL", "TYPE", "normal")
        time.sleep(3)
        client.config_set("maxmemory", 0)

    with Proxy(int(router.redis.url.rpartition(":")[2].partition("/")[0])) as proxy:
        faults: dict[str, Callable[[], None]] = {
            "restart": restart,
            "client kill": lambda: client.execute_command("CLIENT", "KILL", "TYPE", "normal"),
            "client pause": pause,
            "reset": proxy.cut,
            "half-open": proxy.swallow,
            "half-open, answers only": lambda: proxy.swallow(only_answers=True),
            "full": full,
            "full, killed": kill_while_full,
        }
        router.environ["REDIS_URL"] = f"redis://127.0.0.1:{proxy.port}/0"
        router.start_all()
        try:
            yield Bench(router, direct), faults
        finally:
            router.close()


@contextmanager
def over_sentinels(folder: Path) -> Iterator[tuple[Bench, dict[str, Callable[[], None]]]]:
    """Three sentinels, a master and two replicas."""
    with Sentinels(folder / "sentinels") as sentinels:
        router = Router(folder, {**SETTINGS, "REDIS_URL": sentinels.url})
        faults: dict[str, Callable[[], None]] = {
            "sentinel, asked to": sentinels.ask_to_fail_over,
            "sentinel, master gone": sentinels.kill_master,
        }
        router.start_all()
        try:
            yield Bench(router, worker_ledger(load(router.environ))), faults
        finally:
            router.close()


def main() -> None:
    """Run all faults, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", help="faults whose name contains this")
    only = parser.parse_args().only or ""
    bad = False
    print(f"{'fault':26} {'web':>6} {'worker':>7} {'sweeper':>8}   seconds")
    with tempfile.TemporaryDirectory() as folder:
        for number, setting in enumerate((over_proxy, over_sentinels)):
            place = Path(folder) / str(number)
            place.mkdir()
            with setting(place) as (bench, faults):
                bench.delivered(bench.post())
                worker = bench.router.processes["worker"]
                for name, fault in faults.items():
                    if only not in name:
                        continue
                    took = bench.measure(fault)
                    ended = worker.poll() is not None
                    bad = bad or ended or max(took.values()) > MOST_S
                    print(
                        f"{name:26} {took['web']:6.1f} {took['worker']:7.1f} {took['sweeper']:8.1f}"
                        f"   {'the worker ended' if ended else ''}",
                        flush=True,
                    )
                    time.sleep(2)
                lost = [id_ for id_ in bench.posted if bench.direct.event(id_) is None]
                bad = bad or bool(lost)
                print(f"{len(bench.posted)} events, {len(lost)} lost")
                if bad:
                    print((place / "worker.log").read_text()[-6000:])
    sys.exit(bad)


if __name__ == "__main__":
    main()
