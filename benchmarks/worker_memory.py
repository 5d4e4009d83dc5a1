"""Whether a worker's memory stays flat: its resident size after every tenth of N delivered events.

    python benchmarks/worker_memory.py [N]        (100000)

One worker, a real Redis, and in this process a destination that answers 200 at once. At most a few thousand events
wait at a time, so that Redis and not the worker holds what is to come. The first tenth is warming up: modules, pools
and caches. Ends with status 1 when the size at the end is more than 5 % above that after the second tenth.
"""

import asyncio
import os
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "tests"), str(HERE.parent / "tests" / "system")]

from conftest import Router, numbered  # noqa: E402 - the system tests' harness

from app.sources.encharge import unwrap  # noqa: E402
from cli.connection import Connection  # noqa: E402

MOST_WAITING = 2000
MOST_GROWTH = 1.05
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """200 to every request of a connection."""
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0] or 0)
            await reader.readexactly(length)
            writer.write(ANSWER)
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


def serve(port: int) -> None:
    """The destination, for ever."""

    async def run() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", port)
        await server.serve_forever()

    asyncio.run(run())


def rss_mb(pid: int) -> float:
    """Resident size of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def ended(connection: Connection) -> int:
    """Events that a worker is done with."""
    counts = connection.ledger.counts().get(("source", "encharge"), {})
    return sum(counts.get(state, 0) for state in ("delivered", "filtered", "dead"))


def feed(connection: Connection, total: int) -> None:
    """Accept events as fast as they are worked off."""
    for first in range(0, total, 500):
        while first - ended(connection) > MOST_WAITING:
            time.sleep(0.1)
        for number in range(first, min(first + 500, total)):
            body = numbered(1, timestamp=1_700_000_000_000 + number)[0]
            connection.queue.accept(unwrap("encharge", body, None, datetime.now(UTC)))


def main() -> None:
    """Feed, watch, print."""
    total = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as folder:
        router = Router(Path(folder), {"LOG_LEVEL": "WARNING", "DEDUPE_WINDOW_S": "60", "ARCHIVE_EVENTS": "100"})
        threading.Thread(target=serve, args=(router.sandbox_port,), daemon=True).start()
        connection = router.connection
        try:
            worker = router.start_worker(ready=False)
            feeding = threading.Thread(target=feed, args=(connection, total), daemon=True)
            feeding.start()
            print(f"{'events':>8} {'RSS MB':>8} {'events/s':>9}", flush=True)
            sizes: list[float] = []
            before, done_before = time.monotonic(), 0
            while len(sizes) < 10:
                if worker.poll() is not None:
                    sys.exit("the worker ended")
                done = ended(connection)
                if done >= total * (len(sizes) + 1) // 10:
                    sizes.append(rss_mb(worker.pid))
                    now = time.monotonic()
                    speed = (done - done_before) / (now - before)
                    print(f"{done:>8} {sizes[-1]:>8.1f} {speed:>9.0f}", flush=True)
                    before, done_before = now, done
                time.sleep(0.05)
            feeding.join()
        finally:
            router.close()
    sys.exit(sizes[-1] > sizes[1] * MOST_GROWTH)


if __name__ == "__main__":
    main()
