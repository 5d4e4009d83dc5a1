"""Proof that a worker consumes: a message to itself, put onto a list that it reads beside the queue.

Redis keys:

    router:workers            zset    <host>:<pid>:<dead after seconds>:<node name> → when it last proved that it
                                      consumes, in microseconds of Redis' clock
    events.alive.<node name>  list    the heartbeat that is under way: one at the most, and gone by itself
"""

import dataclasses
from typing import Any, Final

WORKERS: Final = "router:workers"
#: A worker that has not been heard of for so long is forgotten.
_KEPT_S: Final = 600
_UNDER_WAY_S: Final = 60

# A full Redis refuses commands that need memory, but for those of a script that has deleted before. A worker must not
# count as dead for that.
_BEAT: Final = """
redis.call('DEL', KEYS[2])
if ARGV[1] ~= '' then
  redis.call('LPUSH', KEYS[2], ARGV[1])
  redis.call('EXPIRE', KEYS[2], ARGV[2])
end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
redis.call('ZADD', KEYS[1], string.format('%.0f', now - ARGV[3]), ARGV[4])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now - ARGV[5]))
"""


@dataclasses.dataclass(frozen=True)
class Worker:
    """One worker that was heard of: seconds after which it counts as dead, and for which it has been silent."""

    name: str
    host: str
    pid: int
    dead_s: float
    silent_s: float = 0

    @property
    def alive(self) -> bool:
        """Whether it consumes, as far as anyone knows."""
        return self.silent_s <= self.dead_s

    @property
    def member(self) -> str:
        """As the zset has it."""
        return f"{self.host}:{self.pid}:{self.dead_s:g}:{self.name}"


def alive_queue(name: str) -> str:
    """The queue of one worker's heartbeats."""
    return f"events.alive.{name}"


class Heartbeats:
    """All workers' heartbeats. Every call raises redis.RedisError."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._beat = client.register_script(_BEAT)

    def beat(self, worker: Worker, message: bytes) -> None:
        """Note for how long the worker has been silent, and put its next heartbeat (b"" = none) on its way."""
        keys = [WORKERS, alive_queue(worker.name)]
        silent_us, kept_us = int(worker.silent_s * 1_000_000), _KEPT_S * 1_000_000
        self._beat(keys=keys, args=[message, _UNDER_WAY_S, silent_us, worker.member, kept_us])

    def leave(self, worker: Worker) -> None:
        """The worker ends, as it was told."""
        self._client.zrem(WORKERS, worker.member)
        self._client.delete(alive_queue(worker.name))

    def workers(self) -> list[Worker]:
        """Those heard of within the last ten minutes, the longest silent first."""
        pipe = self._client.pipeline(transaction=False)
        pipe.time()
        pipe.zrange(WORKERS, 0, -1, withscores=True)
        (seconds, micros), members = pipe.execute()
        found = []
        for member, proved_at in members:
            host, pid, dead_s, name = member.decode().split(":", 3)
            silent_s = max(0.0, seconds + (micros - proved_at) / 1e6)
            found.append(Worker(name, host, int(pid), float(dead_s), silent_s))
        return found
