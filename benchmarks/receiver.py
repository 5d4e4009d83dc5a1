"""A destination for benchmarks: takes JSON by HTTP as fast as one core can, remembers what came when, fails on demand.

GET /arrivals gives [[time, event number or null, status], …]; POST /mode sets {"fail": share, "hang": bool}.
"""

import argparse
import asyncio
import json
import random
import time
from typing import Any

_OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
_FAILED = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


class Receiver:
    """What came, and how to behave."""

    def __init__(self, seed: int) -> None:
        self.arrivals: list[tuple[float, Any, int]] = []
        self.fail = 0.0
        self.hang = False
        self.dice = random.Random(seed)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                body = await reader.readexactly(_length(head))
                answer = await self._answer(head, body)
                if answer is None:
                    break
                writer.write(answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, head: bytes, body: bytes) -> bytes | None:
        if head.startswith(b"GET /arrivals"):
            content = json.dumps(self.arrivals).encode()
            return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
                len(content),
                content,
            )
        if head.startswith(b"POST /mode"):
            vars(self).update(json.loads(body))
            return _OK
        if self.hang:
            await asyncio.sleep(60)
            return None
        failed = self.fail > 0 and self.dice.random() < self.fail
        number = json.loads(body).get("properties", {}).get("number")
        self.arrivals.append((time.time(), number, 503 if failed else 200))
        return _FAILED if failed else _OK


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


async def _main(port: int, seed: int) -> None:
    server = await asyncio.start_server(Receiver(seed).serve, "127.0.0.1", port, limit=2**20)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    asyncio.run(_main(given.port, given.seed))
