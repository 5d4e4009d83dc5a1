"""Connections whose answers have an end, whatever comes.

A read time-out runs between two bytes. An answer that drips, head or body, could hold a thread for hours, every byte of
it in time. So after a while nothing more is read.
"""

import http.client
import io
import socket
import time
from typing import Any, Final

from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

#: Read time-outs that a whole answer may take: one until it begins, one for the rest.
_TIME_OUTS: Final = 2


class _Reads(io.RawIOBase):
    """What comes over a socket, as long as it may."""

    def __init__(self, raw: io.RawIOBase, seconds: float) -> None:
        self._raw = raw
        self._deadline = time.monotonic() + seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if time.monotonic() > self._deadline:
            raise TimeoutError("the answer drips")
        return self._raw.readinto(buffer)

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()


class _Answer(http.client.HTTPResponse):
    """The standard library's, reading no longer than it may."""

    def __init__(self, sock: socket.socket, *args: Any, **named: Any) -> None:
        super().__init__(sock, *args, **named)
        patience_s = sock.gettimeout()
        if patience_s is not None:
            self.fp = io.BufferedReader(_Reads(self.fp.detach(), patience_s * _TIME_OUTS))


class Plain(HTTPConnection):
    """Over http."""

    response_class = _Answer


class Secure(HTTPSConnection):
    """Over https."""

    response_class = _Answer


Pools = dict[str, type[HTTPConnectionPool]]


def pools(plain: type[Plain] = Plain, secure: type[Secure] = Secure) -> Pools:
    """What makes the connections of each scheme."""
    return {
        "http": type("PlainPool", (HTTPConnectionPool,), {"ConnectionCls": plain}),
        "https": type("SecurePool", (HTTPSConnectionPool,), {"ConnectionCls": secure}),
    }


class Adapter(HTTPAdapter):
    """What requests sends through. Tries nothing again by itself."""

    def __init__(self, connections: int, made_by: Pools) -> None:
        self._made_by = made_by
        super().__init__(pool_connections=8, pool_maxsize=connections, max_retries=0)

    def init_poolmanager(self, *args: Any, **named: Any) -> None:
        """Have connections made as they must be."""
        super().init_poolmanager(*args, **named)
        self.poolmanager.pool_classes_by_scheme = self._made_by

    def proxy_manager_for(self, *args: Any, **named: Any) -> Any:
        """Those through a proxy too."""
        manager = super().proxy_manager_for(*args, **named)
        manager.pool_classes_by_scheme = self._made_by
        return manager
