"""Connections to names that are not ours: made only to addresses that were checked, and to no others.

A name is looked up once for each new connection, every address that it has is checked, and the connection is made to
one of these addresses. Nobody can answer the check with one address and the connection with another (DNS rebinding).
TLS still asks for, and verifies, the name.
"""

import socket
from collections.abc import Callable, Sequence
from typing import Final

from tasks.addresses import Allowed, refusal
from tasks.destinations.connections import Plain, Pools, Secure, pools
from tasks.errors import DestinationRejected

#: Of a name's addresses, so many are tried; each may take the whole time-out.
_TRIED: Final = 3

#: (host, port) → the addresses to which the name leads. Raises OSError when it leads nowhere.
Resolve = Callable[[str, int], Sequence[str]]


def resolve(host: str, port: int) -> list[str]:
    """The addresses that the system knows for a name, in its order."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class Guard:
    """Looks names up, and lets nobody through who leads elsewhere than he may."""

    def __init__(self, allowed: Allowed, lookup: Resolve = resolve) -> None:
        self._allowed = allowed
        self._resolve = lookup

    def addresses(self, host: str, port: int) -> Sequence[str]:
        """Where a connection may be made to. Raises DestinationRejected when any of the addresses is not allowed."""
        found = self._resolve(host, port)
        for address in found:
            what = refusal(address, host, self._allowed)
            if what:
                raise DestinationRejected(f"not sent: the name leads to {address}, which is {what}")
        return found[:_TRIED]

    def connect(self, connection: Plain | Secure, new: Callable[[], socket.socket]) -> socket.socket:
        """A socket to a checked address; `new` connects to what the connection has as its host at that moment."""
        name = connection.host
        failed: Exception = OSError("the name has no address")
        try:
            for address in self.addresses(name, connection.port):
                connection.host = address
                try:
                    return new()
                except Exception as error:  # noqa: BLE001 - the next address may do
                    failed = error
        finally:
            connection.host = name
        raise failed


def guarded(guard: Guard) -> Pools:
    """Pools of connections that ask the guard when they are made."""

    class GuardedPlain(Plain):
        def _new_conn(self) -> socket.socket:
            return guard.connect(self, super()._new_conn)

    class GuardedSecure(Secure):
        def _new_conn(self) -> socket.socket:
            return guard.connect(self, super()._new_conn)

    return pools(GuardedPlain, GuardedSecure)
