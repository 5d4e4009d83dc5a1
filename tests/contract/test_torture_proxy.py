"""Each fault of the torture program's proxy, as the two ends of a connection see it."""

import contextlib
import socket
import socketserver
import threading
import time
from collections.abc import Iterator

import pytest

from torture.proxy import Proxy


class Echo(socketserver.BaseRequestHandler):
    """Gives back what it gets, and notes it."""

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):
            while data := self.request.recv(65536):
                self.server.heard += data  # type: ignore[attr-defined]
                self.request.sendall(data)


class EchoServer(socketserver.ThreadingTCPServer):
    """Waits for nobody at its end."""

    daemon_threads = True
    block_on_close = False
    heard = b""


@pytest.fixture
def server() -> Iterator[EchoServer]:
    with EchoServer(("127.0.0.1", 0), Echo) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def proxy(server: EchoServer) -> Iterator[Proxy]:
    with Proxy(server.server_address[1]) as proxy:
        yield proxy


@contextlib.contextmanager
def connected(proxy: Proxy) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", proxy.port), 5) as connection:
        connection.settimeout(5)
        yield connection


def echoed(connection: socket.socket, data: bytes = b"ping") -> bool:
    connection.sendall(data)
    got = b""
    while len(got) < len(data):
        got += connection.recv(65536)
    return got == data


def silent(connection: socket.socket, seconds: float = 0.1) -> bool:
    connection.settimeout(seconds)
    try:
        connection.recv(1)
    except TimeoutError:
        return True
    finally:
        connection.settimeout(5)
    return False


def test_bytes_and_ends_pass(proxy: Proxy) -> None:
    """More than the buffers hold goes through whole, and an end is an end."""
    with connected(proxy) as connection:
        whole = bytes(range(256)) * 16_384
        sender = threading.Thread(target=connection.sendall, args=(whole,))
        sender.start()
        got = bytearray()
        while len(got) < len(whole):
            got += connection.recv(65536)
        sender.join()
        assert bytes(got) == whole
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""


def test_cut_resets_what_is_there_and_new_ones_pass(proxy: Proxy) -> None:
    """A reset, not an orderly end."""
    with connected(proxy) as connection:
        assert echoed(connection)
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    assert proxy.connections == 0
    with connected(proxy) as connection:
        assert echoed(connection)


def test_refuse_is_for_new_connections(proxy: Proxy) -> None:
    """The port refuses as if nobody listened, twice over; the old connection goes on."""
    with connected(proxy) as old:
        for _ in range(2):
            assert echoed(old)
            proxy.refuse()
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", proxy.port), 5)
            assert echoed(old)
            proxy.restore()
            with connected(proxy) as new:
                assert echoed(new)


def test_pause_holds_and_then_delivers(proxy: Proxy) -> None:
    """What was sent meanwhile comes when it is over, on old and new connections; the end too."""
    with connected(proxy) as old:
        assert echoed(old)
        proxy.pause()
        with connected(proxy) as new:
            old.sendall(b"held")
            new.sendall(b"held too")
            new.shutdown(socket.SHUT_WR)
            assert silent(old)
            assert silent(new)
            proxy.restore()
            assert old.recv(16) == b"held"
            assert new.recv(16) == b"held too"
            assert new.recv(16) == b""


def test_swallow_leaves_connections_half_open_for_ever(server: EchoServer, proxy: Proxy) -> None:
    """Neither bytes nor the end arrive, also after `restore`; a new connection passes."""
    with connected(proxy) as old:
        assert echoed(old)
        proxy.swallow()
        proxy.restore()
        old.sendall(b"lost")
        assert silent(old)
        assert server.heard == b"ping"
        with connected(proxy) as new:
            assert echoed(new, b"pong")
    assert proxy.connections >= 1, "the server's side of it is still open"


def test_only_answers_can_be_swallowed(server: EchoServer, proxy: Proxy) -> None:
    """The call is carried out and its caller never hears of it."""
    with connected(proxy) as old:
        assert echoed(old)
        proxy.swallow(only_answers=True)
        old.sendall(b"done")
        assert silent(old)
        assert server.heard == b"pingdone"


def test_only_answers_can_be_late(server: EchoServer, proxy: Proxy) -> None:
    """The call is carried out at once and its caller hears of it when it is over."""
    with connected(proxy) as old:
        assert echoed(old)
        proxy.pause(only_answers=True)
        old.sendall(b"done")
        assert silent(old)
        assert server.heard == b"pingdone"
        proxy.restore()
        assert old.recv(16) == b"done"


def test_delay_is_for_every_piece(proxy: Proxy) -> None:
    """There and back again: twice the delay; nothing of it is left after `restore`."""
    with connected(proxy) as connection:
        proxy.delay(0.1)
        begun = time.monotonic()
        assert echoed(connection)
        assert time.monotonic() - begun >= 0.2
        proxy.delay(60)
        connection.sendall(b"held")
        assert silent(connection)
        proxy.restore()
        assert connection.recv(16) == b"held"


def test_latency_is_what_restore_goes_back_to(server: EchoServer) -> None:
    """There and back, always."""
    with Proxy(server.server_address[1], latency_s=0.05) as proxy, connected(proxy) as connection:
        for _ in range(2):
            begun = time.monotonic()
            assert echoed(connection)
            assert time.monotonic() - begun >= 0.1
            proxy.delay(0.0)
            proxy.restore()


def test_nobody_upstream_is_a_reset(server: EchoServer, proxy: Proxy) -> None:
    """As when Redis is dead: the caller's connection fails at once instead of hanging."""
    server.shutdown()
    server.server_close()
    # Whether it is connecting or reading that fails is a matter of microseconds.
    with pytest.raises(ConnectionResetError), connected(proxy) as connection:
        connection.recv(1)
