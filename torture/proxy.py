"""A TCP proxy on the loopback address whose connections can be cut, held, slowed and made half-open while it runs.

    with Proxy(redis_port) as proxy:
        client = connect(f"redis://127.0.0.1:{proxy.port}/0")
        proxy.pause()      # ...
        proxy.restore()

The kinds of faults are toxiproxy's (https://github.com/Shopify/toxiproxy#toxics). Each method returns when the fault
has taken effect, and may be called from any thread; the bytes are moved by one thread of the proxy's own.
"""

import contextlib
import selectors
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Self

_HOST: Final = "127.0.0.1"
_CALLS: Final = "calls"
_ANSWERS: Final = "answers"
_CHUNK: Final = 65_536
#: Bytes that one direction of a connection may hold back; beyond it its sender is no longer read.
_MOST_HELD: Final = 1_048_576
_CONNECT_S: Final = 2.0
#: struct linger {on, 0 seconds}: closing sends RST instead of FIN
_LINGER_RST: Final = struct.pack("ii", 1, 0)


class Proxy:
    """Listens on `port` (0 = a free one) of 127.0.0.1 and passes everything to `upstream_port` there.

    `latency_s` is how long each piece of data takes when nothing is wrong.
    """

    def __init__(self, upstream_port: int, port: int = 0, *, latency_s: float = 0.0) -> None:
        self._upstream = (_HOST, upstream_port)
        # Bound and never listening: it keeps the port ours while new connections are refused.
        self._keeper = _bound(port)
        self.port: int = self._keeper.getsockname()[1]
        self._selector = selectors.DefaultSelector()
        self._listener: socket.socket | None = None
        self._links: set[_Link] = set()
        self._paused: tuple[str, ...] = ()  # directions
        self._latency_s = self._delay_s = latency_s
        self._orders: deque[tuple[Callable[[], None], threading.Event]] = deque()
        self._waker, self._wakes = socket.socketpair()
        self._open = True
        self._selector.register(self._wakes, selectors.EVENT_READ, self._woken)
        self._listen()
        self._thread = threading.Thread(target=self._run, name=f"proxy:{self.port}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._order(self._stop)
        self._thread.join()

    @property
    def connections(self) -> int:
        """How many it carries now, the half-open ones included."""
        return len(self._links)

    # --- faults -----------------------------------------------------------------------------------------------

    def restore(self) -> None:
        """Take new connections, deliver what was held, delay no longer. What was swallowed stays half-open."""
        self._order(self._restore)

    def cut(self) -> None:
        """Reset all connections now; new ones pass."""
        self._order(self._cut)

    def refuse(self) -> None:
        """Refuse new connections until `restore`; those that there are go on."""
        self._order(self._unlisten)

    def pause(self, *, only_answers: bool = False) -> None:
        """Hold all bytes, and every end of a connection, until `restore`; then deliver them.

        With `only_answers` the calls still get through: they are carried out, and the caller hears of it late.
        """
        self._order(lambda: self._pause((_ANSWERS,) if only_answers else (_CALLS, _ANSWERS)))

    def swallow(self, *, only_answers: bool = False) -> None:
        """Make the connections that there are half-open for ever; new ones pass.

        Bytes vanish in both directions, and neither side learns that the other has closed. With `only_answers` the
        calls still get through: they are carried out, and the caller never hears of it.
        """
        self._order(lambda: self._swallow(only_answers=only_answers))

    def delay(self, seconds: float) -> None:
        """Deliver every piece of data that much later, until `restore`."""
        self._order(lambda: self._set_delay(seconds))

    # --- orders, carried out by the proxy's thread ------------------------------------------------------------

    def _order(self, action: Callable[[], None]) -> None:
        done = threading.Event()
        self._orders.append((action, done))
        self._waker.send(b"!")
        while not done.wait(0.5):
            if not self._thread.is_alive():
                return

    def _woken(self, _mask: int) -> None:
        self._wakes.recv(_CHUNK)
        while self._orders:
            action, done = self._orders.popleft()
            action()
            done.set()

    def _restore(self) -> None:
        self._paused, self._delay_s = (), self._latency_s
        self._listen()
        for link in self._links:
            for pipe in link.pipes:
                pipe.held = deque((0.0, data) for _, data in pipe.held)
        self._look_at_all()

    def _cut(self) -> None:
        for link in list(self._links):
            self._end(link, reset=True)

    def _pause(self, directions: tuple[str, ...]) -> None:
        self._paused = directions
        self._look_at_all()

    def _swallow(self, *, only_answers: bool) -> None:
        for link in self._links:
            for pipe in (link.answers,) if only_answers else link.pipes:
                pipe.swallows = True
                pipe.held.clear()
        self._look_at_all()

    def _set_delay(self, seconds: float) -> None:
        self._delay_s = seconds

    def _stop(self) -> None:
        self._open = False
        self._unlisten()
        self._cut()

    # --- the loop ---------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while self._open:
            for key, mask in self._selector.select(self._until_due()):
                key.data(mask)
            if self._delay_s or self._any_held():
                self._look_at_all()
        for each in (self._selector, self._keeper, self._waker, self._wakes):
            each.close()

    def _any_held(self) -> bool:
        return any(pipe.held for link in self._links for pipe in link.pipes)

    def _until_due(self) -> float | None:
        """Seconds until the next delayed piece; None = nothing is due by time alone."""
        pipes = (pipe for link in self._links for pipe in link.pipes if pipe.direction not in self._paused)
        due = [pipe.held[0][0] for pipe in pipes if pipe.held and not pipe.blocked]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _look_at_all(self) -> None:
        for link in list(self._links):
            self._look_at(link)

    def _look_at(self, link: "_Link") -> None:
        """Deliver what is due, end what has ended, and listen for what can go on."""
        now = time.monotonic()
        try:
            for pipe in link.pipes:
                if pipe.direction not in self._paused:
                    pipe.deliver(now)
        except OSError:
            self._end(link, reset=True)
            return
        if all(pipe.finished for pipe in link.pipes):
            self._end(link, reset=False)
            return
        for end in (link.client, link.server):
            self._watch(link, end)

    def _watch(self, link: "_Link", end: socket.socket) -> None:
        incoming = next(pipe for pipe in link.pipes if pipe.source is end)
        outgoing = next(pipe for pipe in link.pipes if pipe.sink is end)
        moves = incoming.direction not in self._paused
        reads = not incoming.ended and (incoming.swallows or (moves and incoming.room()))
        writes = outgoing.blocked and outgoing.direction not in self._paused
        mask = (selectors.EVENT_READ if reads else 0) | (selectors.EVENT_WRITE if writes else 0)
        known = self._selector.get_map().get(end)
        if not mask:
            if known:
                self._selector.unregister(end)
        elif known is None:
            self._selector.register(end, mask, lambda got: self._ready(link, incoming, got))
        elif known.events != mask:
            self._selector.modify(end, mask, known.data)

    def _ready(self, link: "_Link", pipe: "_Pipe", mask: int) -> None:
        if link not in self._links:
            return
        if mask & selectors.EVENT_READ:
            try:
                pipe.take(time.monotonic() + self._delay_s)
            except OSError:
                if not pipe.swallows:
                    self._end(link, reset=True)
                    return
                pipe.ended = True
        self._look_at(link)

    # --- connections ------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        if self._listener is None:
            self._listener = _bound(self.port)
            self._listener.listen(128)
            self._selector.register(self._listener, selectors.EVENT_READ, self._arrived)

    def _unlisten(self) -> None:
        if self._listener is not None:
            self._selector.unregister(self._listener)
            self._listener.close()
            self._listener = None

    def _arrived(self, _mask: int) -> None:
        if self._listener is None:
            return
        client, _ = self._listener.accept()
        try:
            server = socket.create_connection(self._upstream, _CONNECT_S)
        except OSError:
            _close(client, reset=True)
            return
        link = _Link(client, server)
        self._links.add(link)
        self._look_at(link)

    def _end(self, link: "_Link", *, reset: bool) -> None:
        self._links.discard(link)
        for end in (link.client, link.server):
            if end in self._selector.get_map():
                self._selector.unregister(end)
            _close(end, reset=reset)


class _Pipe:
    """One direction of a connection: what was read of `source` and is to go to `sink`."""

    def __init__(self, direction: str, source: socket.socket, sink: socket.socket) -> None:
        self.direction = direction
        self.source = source
        self.sink = sink
        self.held: deque[tuple[float, bytes]] = deque()  #: when it is due, and what
        self.swallows = False
        self.ended = False  #: the source has closed
        self.finished = False  #: ... and the sink knows, as far as it may
        self.blocked = False  #: the sink takes no more now

    def room(self) -> bool:
        return sum(len(data) for _, data in self.held) < _MOST_HELD

    def take(self, due: float) -> None:
        """Read once. Raises OSError when the source is gone."""
        data = self.source.recv(_CHUNK)
        self.ended = not data
        if data and not self.swallows:
            self.held.append((due, data))

    def deliver(self, now: float) -> None:
        """Send what is due. Raises OSError when the sink is gone."""
        self.blocked = False
        while self.held and self.held[0][0] <= now:
            due, data = self.held.popleft()
            try:
                sent = self.sink.send(data)
            except BlockingIOError:
                sent = 0
            if sent < len(data):
                self.held.appendleft((due, data[sent:]))
                self.blocked = True
                return
        if self.ended and not self.held and not self.finished:
            self.finished = True
            if not self.swallows:
                self.sink.shutdown(socket.SHUT_WR)


class _Link:
    """A client's connection and ours to upstream."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client = client
        self.server = server
        for end in (client, server):
            end.settimeout(0)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.calls = _Pipe(_CALLS, client, server)
        self.answers = _Pipe(_ANSWERS, server, client)
        self.pipes = (self.calls, self.answers)


def _bound(port: int) -> socket.socket:
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind((_HOST, port))
    return bound


def _close(end: socket.socket, *, reset: bool) -> None:
    with contextlib.suppress(OSError):
        if reset:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RST)
        end.close()
