"""How much of its memory Redis uses."""

from typing import Any

import redis


def share_used(client: Any) -> float | None:
    """The used share of `maxmemory`, as Redis counts it for refusing writes; 0 without a limit, None = no answer."""
    try:
        info = client.info("memory")
    except redis.RedisError:
        return None
    most = int(info.get("maxmemory", 0))
    # Buffers of replicas and of the append-only file do not count against the limit.
    used = int(info.get("used_memory", 0)) - int(info.get("mem_not_counted_for_evict", 0))
    return used / most if most else 0.0
