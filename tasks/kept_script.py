"""One Lua script, called as cheaply as redis-py allows: the accept path's only call.

redis-py takes a connection out of its pool for each command, builds the command out of many small parts, and puts the
connection back; that is a third of what accepting an event costs. Here each thread keeps a connection, and the command
is one string (RESP, https://redis.io/docs/latest/develop/reference/protocol-spec/).
"""

import hashlib
import os
import threading
import time
from collections.abc import Sequence
from typing import Any

import redis

from tasks.connection import not_the_master


class KeptScript:
    """Calls a script with EVALSHA. Safe to share between threads.

    A call that fails for a lost connection is made once more on a new one: the connection may have gone while nobody
    used it. So the script must bear being run twice. Not when half of the client's time-out has gone by, so that both
    tries together take hardly longer than one may.
    """

    def __init__(self, client: Any, script: bytes) -> None:
        self._client = client
        self._script = script
        self._sha = hashlib.sha1(script, usedforsecurity=False).hexdigest().encode()
        self._own = threading.local()

    def __call__(self, args: Sequence[Any]) -> Any:
        """Run it, without KEYS. Raises redis.RedisError."""
        parts = [b"EVALSHA", self._sha, b"0", *args]
        command = b"".join([b"*%d\r\n" % len(parts), *map(_bulk, parts)])
        lost = False
        begun = time.monotonic()
        while True:
            try:
                return self._call(command)
            except redis.TimeoutError:
                raise
            except redis.exceptions.NoScriptError:
                self._client.script_load(self._script)
            except redis.ConnectionError:
                if lost or time.monotonic() - begun > self._timeout_s() / 2:
                    raise
                lost = True

    def _timeout_s(self) -> float:
        return self._client.connection_pool.connection_kwargs.get("socket_timeout") or float("inf")

    def _call(self, command: bytes) -> Any:
        connection = getattr(self._own, "connection", None)
        if connection is None or self._own.process != os.getpid():
            # A child process must not write into its parent's connection.
            connection = self._own.connection = self._client.connection_pool.get_connection()
            self._own.process = os.getpid()
        try:
            connection.send_packed_command([command], check_health=False)
            return connection.read_response()
        except redis.ResponseError as error:
            if not_the_master(error):
                connection.disconnect()
                raise redis.ConnectionError(str(error)) from error
            raise  # answered: the connection is in step
        except BaseException:
            # The answer may still come: whoever read it next would take it for his own.
            connection.disconnect()
            raise


def _bulk(part: Any) -> bytes:
    data = part if isinstance(part, bytes) else str(part).encode()
    return b"$%d\r\n%b\r\n" % (len(data), data)
