"""Who reads which shard, and how far: leases and checkpoints, so that several processes share a stream.

Redis keys, all times in microseconds of Redis' own clock; <stream> is `<name>@<Unix time of its making>`:

    router:kinesis:<source>                   hash  stream: the <stream> that is read; records, rejected: counts
    router:kinesis:<source>:<stream>:consumers   zset  consumer → when it was heard of last
    router:kinesis:<source>:<stream>:since       string  Unix time from which on `start: latest` reads
    router:kinesis:<source>:<stream>:finished    zset  shards read to their end → when
    router:kinesis:<source>:<stream>:shards      set   shards that have a hash
    router:kinesis:<source>:<stream>:shard:<id>  hash  owner, until: the lease; checkpoint: sequence number of the last
                                              record that is in the ledger; checkpoint_at; lag_ms, lag_at

An owner is new for each lease, so whoever has lost one can write nothing under it: each script compares it first.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import redis

from tasks.errors import QueueUnavailable
from tasks.ledger import ALLOW_OOM

PREFIX: Final = "router:kinesis:"
#: A shard that is read to its end leaves the stream after its retention, which is a year at the most.
_FINISHED_KEPT_S: Final = 400 * 86_400
#: A lag that nobody has told again for so long grows with the time.
_SILENT_S: Final = 5.0

_NOW: Final = "local time = redis.call('TIME') local now = time[1] * 1000000 + time[2]\n"
_MICROS: Final = "local function micros(number) return string.format('%.0f', number) end\n"
_OWN: Final = "if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[1] then return 0 end\n"
# ARGV[2] is how far the reader knows to have come. Where Redis knows less, it has come back without the last that was
# said to it, and so perhaps without events. Sequence numbers are too long for Lua's numbers.
_NOTHING_LOST: Final = """
local known = redis.call('HGET', KEYS[1], 'checkpoint') or ''
if #known < #ARGV[2] or (#known == #ARGV[2] and known < ARGV[2]) then return 0 end
"""

# KEYS consumers, source, since; ARGV consumer, microseconds of a lease, stream, from when on `start: latest` reads
# ('' = not known). Gives the living, this one included. What is read since when is said again: Redis may have lost it.
_HEARD: Final = """
redis.call('HSET', KEYS[2], 'stream', ARGV[3])
if ARGV[4] ~= '' then redis.call('SET', KEYS[3], ARGV[4], 'NX') end
redis.call('ZADD', KEYS[1], micros(now), ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. micros(now - ARGV[2]))
return redis.call('ZRANGE', KEYS[1], 0, -1)
"""
# KEYS shard, shards, finished; ARGV shard.
_NOTE: Final = """
if redis.call('ZSCORE', KEYS[3], ARGV[1]) or redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('HSET', KEYS[1], 'lag_ms', 0, 'lag_at', micros(now))
redis.call('SADD', KEYS[2], ARGV[1])
return 1
"""
# KEYS shard, shards, finished; ARGV owner, microseconds of a lease, shard. Gives {} or {checkpoint}.
_TAKE: Final = """
if redis.call('ZSCORE', KEYS[3], ARGV[3]) then return {} end
local held = redis.call('HMGET', KEYS[1], 'owner', 'until', 'checkpoint')
if held[1] and tonumber(held[2]) > now then return {} end
redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'until', micros(now + ARGV[2]))
redis.call('SADD', KEYS[2], ARGV[3])
return {held[3] or ''}
"""
# KEYS shard; ARGV owner, the reader's checkpoint, microseconds of a lease, milliseconds of lag ('' = not known).
# Gives 1, or 0: lost, the lease or the checkpoint.
_RENEW: Final = f"""{_OWN}{_NOTHING_LOST}
redis.call('HSET', KEYS[1], 'until', micros(now + ARGV[3]))
if ARGV[4] ~= '' then redis.call('HSET', KEYS[1], 'lag_ms', ARGV[4], 'lag_at', micros(now)) end
return 1
"""
# KEYS shard, source; ARGV owner, the checkpoint before, sequence number, records, rejected events.
# Gives 1, or 0: lost; also when Redis has lost the checkpoint before, and so perhaps events. Said twice it counts once.
_CHECKPOINT: Final = f"""{_OWN}
local was = redis.call('HGET', KEYS[1], 'checkpoint') or ''
if was == ARGV[3] then return 1 end
if was ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], 'checkpoint', ARGV[3], 'checkpoint_at', micros(now))
redis.call('HINCRBY', KEYS[2], 'records', ARGV[4])
redis.call('HINCRBY', KEYS[2], 'rejected', ARGV[5])
return 1
"""
# KEYS shard, shards, finished; ARGV owner, the reader's checkpoint, shard, how long it is remembered.
# Gives 1, or 0: lost, the lease or the checkpoint.
_FINISH: Final = f"""{_OWN}{_NOTHING_LOST}
redis.call('DEL', KEYS[1])
redis.call('SREM', KEYS[2], ARGV[3])
redis.call('ZADD', KEYS[3], micros(now), ARGV[3])
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', micros(now - ARGV[4]))
return 1
"""
# KEYS shard; ARGV owner.
_GIVE_BACK: Final = f"{_OWN} redis.call('HDEL', KEYS[1], 'owner', 'until') return 1"


@dataclasses.dataclass(frozen=True)
class Row:
    """One shard that is, or was, read, as Redis has it. None = not known."""

    shard: str
    owner: str | None  #: while the lease has not run out
    checkpoint: str | None
    checkpoint_age_s: float | None
    lag_s: float | None  #: how far behind the stream's end; grows while nobody reads


@dataclasses.dataclass(frozen=True)
class Rows:
    """One look at everything."""

    shards: Sequence[Row]
    finished: frozenset[str]
    consumers: Mapping[str, float]  #: → seconds since each was heard of

    def owners(self) -> dict[str, str]:
        """Shard → owner, of those that have one."""
        return {row.shard: row.owner for row in self.shards if row.owner}


class Leases:
    """The scripts as methods, for one stream of one source. Each raises QueueUnavailable when Redis does not answer."""

    def __init__(self, client: Any, source: str, stream: str, lease_s: float) -> None:
        self._client = client
        self._lease_us = int(lease_s * 1_000_000)
        self._source = PREFIX + source
        self._keys = f"{self._source}:{stream}:"
        self._stream = stream
        self._since = ""
        scripts = {
            "heard": _HEARD,
            "note": _NOTE,
            "take": _TAKE,
            "renew": _RENEW,
            "checkpoint": _CHECKPOINT,
            "finish": _FINISH,
            "give_back": _GIVE_BACK,
        }
        # Beyond its memory limit Redis takes no events, but who reads what must be known all the same.
        self._scripts: dict[str, Callable[..., Any]] = {
            name: client.register_script(ALLOW_OOM + (_NOW + _MICROS + script).encode())
            for name, script in scripts.items()
        }

    def begin(self, now: float) -> float:
        """Say that this stream is the source's, and learn from when on `start: latest` reads: Unix seconds."""
        with _answering():
            self._client.hset(self._source, "stream", self._stream)
            self._client.set(f"{self._keys}since", f"{now:.3f}", nx=True)
            self._since = self._client.get(f"{self._keys}since").decode()
        return float(self._since)

    def heard(self, consumer: str) -> list[str]:
        """Note that a consumer lives. Gives all that do."""
        with _answering():
            found = self._scripts["heard"](
                keys=[f"{self._keys}consumers", self._source, f"{self._keys}since"],
                args=[consumer, self._lease_us, self._stream, self._since],
            )
        return [each.decode() for each in found]

    def leave(self, consumer: str) -> None:
        """Note that a consumer ends, as it was told."""
        with _answering():
            self._client.zrem(f"{self._keys}consumers", consumer)

    def note(self, shard: str) -> None:
        """There is this shard to read: its lag counts from now on, should nobody take it."""
        with _answering():
            self._scripts["note"](
                keys=[self._shard(shard), f"{self._keys}shards", f"{self._keys}finished"], args=[shard]
            )

    def take(self, shard: str, owner: str) -> str | None:
        """Take a lease; `owner` must be new. Gives the checkpoint ("" = none), or None: another has it, or it ended."""
        keys = [self._shard(shard), f"{self._keys}shards", f"{self._keys}finished"]
        with _answering():
            taken = self._scripts["take"](keys=keys, args=[owner, self._lease_us, shard])
        return taken[0].decode() if taken else None

    def renew(self, shard: str, owner: str, known: str, lag_ms: int | None) -> bool:
        """Let the lease run anew, and tell how far behind its reader is, whose checkpoint is `known`.

        Gives False when the lease is lost, or Redis has come back without that checkpoint.
        """
        args = [owner, known, self._lease_us, "" if lag_ms is None else lag_ms]
        with _answering():
            return bool(self._scripts["renew"](keys=[self._shard(shard)], args=args))

    def checkpoint(self, shard: str, owner: str, before: str, sequence: str, records: int, rejected: int) -> bool:
        """All records up to this one are in the ledger; `before` = the checkpoint that it follows.

        Gives False, and writes nothing, when the lease is lost, or Redis has come back without that checkpoint: what it
        has lost is to be read again.
        """
        keys = [self._shard(shard), self._source]
        args = [owner, before, sequence, records, rejected]
        with _answering():
            return bool(self._scripts["checkpoint"](keys=keys, args=args))

    def finish(self, shard: str, owner: str, known: str) -> bool:
        """The shard is read to its end, and `known` is its last checkpoint: its children may be read.

        Gives False, and leaves all as it is, when the lease is lost, or Redis has come back without that checkpoint.
        """
        keys = [self._shard(shard), f"{self._keys}shards", f"{self._keys}finished"]
        with _answering():
            return bool(self._scripts["finish"](keys=keys, args=[owner, known, shard, _FINISHED_KEPT_S * 1_000_000]))

    def give_back(self, shard: str, owner: str) -> None:
        """Let another have it at once."""
        with _answering():
            self._scripts["give_back"](keys=[self._shard(shard)], args=[owner])

    def look(self) -> Rows:
        """Everything there is."""
        with _answering():
            shards = sorted(each.decode() for each in self._client.smembers(f"{self._keys}shards"))
            pipe = self._client.pipeline(transaction=False)
            pipe.time()
            pipe.zrange(f"{self._keys}finished", 0, -1)
            pipe.zrange(f"{self._keys}consumers", 0, -1, withscores=True)
            for shard in shards:
                pipe.hgetall(self._shard(shard))
            (seconds, micros), finished, consumers, *hashes = pipe.execute()
        now = seconds * 1_000_000 + micros
        return Rows(
            [_row(shard, hash_, now) for shard, hash_ in zip(shards, hashes, strict=True) if hash_],
            frozenset(each.decode() for each in finished),
            {each.decode(): max(0.0, (now - heard_at) / 1e6) for each, heard_at in consumers},
        )

    def _shard(self, shard: str) -> str:
        return f"{self._keys}shard:{shard}"


def current(client: Any, source: str) -> tuple[str | None, int, int]:
    """The stream that is read for a source (None = never was), and how many records and rejected events it gave."""
    with _answering():
        stream, records, rejected = client.hmget(PREFIX + source, "stream", "records", "rejected")
    return stream.decode() if stream else None, int(records or 0), int(rejected or 0)


def _row(shard: str, hash_: Mapping[bytes, bytes], now: int) -> Row:
    def age_s(field: bytes) -> float | None:
        return max(0.0, (now - int(hash_[field])) / 1e6) if field in hash_ else None

    silent_s = age_s(b"lag_at")
    lag_s = None
    if silent_s is not None:
        lag_s = int(hash_.get(b"lag_ms", b"0")) / 1000 + (silent_s if silent_s > _SILENT_S else 0)
    return Row(
        shard,
        hash_[b"owner"].decode() if int(hash_.get(b"until", b"0")) > now else None,
        hash_[b"checkpoint"].decode() if b"checkpoint" in hash_ else None,
        age_s(b"checkpoint_at"),
        lag_s,
    )


@contextmanager
def _answering() -> Iterator[None]:
    try:
        yield
    except redis.RedisError as error:
        raise QueueUnavailable(type(error).__name__) from error
