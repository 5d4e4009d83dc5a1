"""The accept path's one call: when it is made again, and when that would take too long."""

from typing import Any

import pytest
import redis

from tasks.kept_script import KeptScript


class Connection:
    """Loses itself at each call."""

    calls = 0

    def send_packed_command(self, _: Any, **__: Any) -> None:
        self.calls += 1
        raise redis.ConnectionError("gone")

    def disconnect(self) -> None:
        pass


class Client:
    """A client, and the pool of its one connection."""

    def __init__(self, timeout_s: float | None) -> None:
        self.connection = Connection()
        self.connection_pool = self
        self.connection_kwargs = {"socket_timeout": timeout_s}

    def get_connection(self) -> Connection:
        return self.connection


@pytest.mark.parametrize(("timeout_s", "calls"), [(None, 2), (3600, 2), (1e-9, 1)])
def test_a_lost_connection_is_tried_again_within_half_the_time_out(timeout_s: float | None, calls: int) -> None:
    """Once more, and not at all when half of the time has gone."""
    client = Client(timeout_s)
    with pytest.raises(redis.ConnectionError):
        KeptScript(client, b"return 1")([])
    assert client.connection.calls == calls
