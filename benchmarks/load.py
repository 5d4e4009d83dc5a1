"""The load generator, a process of its own: raw sockets, keep-alive, requests built before the clock starts.

`python benchmarks/load.py --port 8080 --requests 4000` posts distinct Activity Stream events and prints what it saw as
one line of JSON. With --rate it posts at that rate, whatever the server does, and counts latency from the moment when
a request was due; without, each connection posts as soon as it has its answer. `--trivial-server` is the other end for
measuring the generator itself. It talks to 127.0.0.1 only.
"""

import argparse
import json
import selectors
import socket
import sys
import time
from collections.abc import Iterator

HOST = "127.0.0.1"
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 20\r\n\r\n" + b'{"code": "accepted"}'


def event(number: int) -> dict[str, object]:
    """An Activity Stream event that no other number has."""
    return {
        "event": "added-tag-vip",
        "type": "tag",
        "properties": {"tag": "vip", "order": number, "total": 19.9},
        "user": {
            "id": f"1ad75773-a8d9-4676-b2e8-{number:012d}",
            "email": f"person{number}@example.com",
            "name": "Ada Example",
            "firstName": "Ada",
            "lastName": "Example",
            "tags": "vip,newsletter",
        },
        "timestamp": 1562914373005 + number,
    }


def request(path: str, secret: str, number: int) -> bytes:
    """The bytes of one POST."""
    body = json.dumps(event(number)).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {secret}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Connection:
    """One keep-alive connection with at most one request on its way."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection((HOST, port), timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.begun = 0.0
        self._buffer = b""

    def send(self, data: bytes, begun: float) -> None:
        """Post one request; its latency counts from `begun`."""
        self.begun = begun
        self.socket.sendall(data)

    def answer(self) -> int | None:
        """Read what is there; gives the status once the answer is whole."""
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionError("the server closed the connection")
        self._buffer += data
        head, end, body = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return None
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(body) < length:
            return None
        self._buffer = body[length:]
        return int(head[9:12])


class Load:
    """Posts every request once over all connections; remembers latencies and statuses."""

    def __init__(self, port: int, requests: list[bytes], connections: int) -> None:
        self.latencies: list[float] = []
        self.statuses: dict[int, int] = {}
        self._requests = requests
        self._selector = selectors.DefaultSelector()
        self._idle = [Connection(port) for _ in range(connections)]
        for connection in self._idle:
            self._selector.register(connection.socket, selectors.EVENT_READ, connection)

    def run(self, rate: float, most_s: float) -> float:
        """Post all; gives the seconds it took. Raises TimeoutError after `most_s`."""
        todo = len(self._requests)
        start = now = time.perf_counter()
        sent = 0
        while len(self.latencies) < todo:
            while self._idle and sent < todo and (due := start + sent / rate if rate else now) <= now:
                self._idle.pop().send(self._requests[sent], due)
                sent += 1
            wait = 1.0
            if rate and sent < todo and self._idle:
                wait = max(start + sent / rate - time.perf_counter(), 0)
            for key, _ in self._selector.select(wait):
                self._receive(key.data)
            now = time.perf_counter()
            if now - start > most_s:
                raise TimeoutError(f"{len(self.latencies)} of {todo} answers after {most_s} s")
        return now - start

    def _receive(self, connection: Connection) -> None:
        status = connection.answer()
        if status is None:
            return
        self.latencies.append(time.perf_counter() - connection.begun)
        self.statuses[status] = self.statuses.get(status, 0) + 1
        self._idle.append(connection)


def quantile(values: list[float], part: float) -> float:
    """The value that `part` of all values do not exceed."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * part), len(ordered) - 1)]


def serve_trivially(port: int) -> None:
    """Answer 200 to whatever arrives in one piece, until killed; prints the port."""
    selector = selectors.DefaultSelector()
    with socket.create_server((HOST, port)) as listener:
        selector.register(listener, selectors.EVENT_READ)
        print(listener.getsockname()[1], flush=True)
        for ready in _forever(selector):
            if ready is listener:
                peer, _ = listener.accept()
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                selector.register(peer, selectors.EVENT_READ)
            elif ready.recv(65536):
                ready.sendall(_ANSWER)
            else:
                selector.unregister(ready)
                ready.close()


def _forever(selector: selectors.BaseSelector) -> Iterator[socket.socket]:
    while True:
        for key, _ in selector.select():
            yield key.fileobj  # type: ignore[misc]


def main() -> None:
    """Post, or be posted to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--path", default="/webhooks/encharge")
    parser.add_argument("--secret", default="secret")
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--rate", type=float, default=0, help="requests a second; 0 = as many as the server takes")
    parser.add_argument("--first", type=int, default=0, help="number of the first event")
    parser.add_argument("--most-s", type=float, default=20, help="give up after so many seconds")
    parser.add_argument("--trivial-server", action="store_true")
    given = parser.parse_args()
    if given.trivial_server:
        serve_trivially(given.port)
        return
    requests = [request(given.path, given.secret, given.first + number) for number in range(given.requests)]
    load = Load(given.port, requests, given.connections)
    processor_s = time.process_time()
    try:
        took_s = load.run(given.rate, given.most_s)
    except (TimeoutError, ConnectionError) as error:
        sys.exit(f"load: {error}")
    processor_s = time.process_time() - processor_s
    found = {
        "requests": given.requests,
        "statuses": load.statuses,
        "per_second": given.requests / took_s,
        "p50_ms": quantile(load.latencies, 0.5) * 1000,
        "p99_ms": quantile(load.latencies, 0.99) * 1000,
        "own_processor_us_per_request": processor_s / given.requests * 1e6,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
