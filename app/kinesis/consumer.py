"""One stream in one process: its fair share of the shards, a reader for each.

Three kinds of thread: `run` keeps the leases and divides the shards, asking nobody but Redis, so that a stream that
does not answer costs no lease; `list_shards` asks the stream which shards there are; and a reader for each shard.
"""

import itertools
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import structlog

from app.kinesis import shards
from app.kinesis.errors import StreamFailed
from app.kinesis.leases import Leases
from app.kinesis.reader import Doing, Readable, Reader, backoff_s
from app.kinesis.shards import Record, Shard
from app.source import Source
from tasks.envelope import Envelope, Rejected
from tasks.errors import QueueUnavailable

log: Final = structlog.get_logger("app.kinesis")

#: Threads, and so shards of one stream, that one process has at the most.
MOST_SHARDS: Final = 64
_LIST_EVERY_S: Final = 30.0
_MOST_BETWEEN_TICKS_S: Final = 1.0
_STOP_S: Final = 20.0


class Listing(Readable, Protocol):
    """What a consumer needs of a stream, beside its records; each call raises StreamFailed."""

    def made_at(self) -> int: ...
    def shards(self) -> list[Shard]: ...


class StreamReplaced(Exception):
    """Another stream has the name now; what is known of the shards is of no use for it."""


class Consumer:
    """Reads a source's stream until it is told to stop."""

    def __init__(
        self,
        source: Source,
        stream: Listing,
        leases: Callable[[str], Leases],
        name: str,
        *,
        lease_s: float,
        poll_s: float,
        events: Callable[[str, Record], Sequence[Envelope | Rejected]],
        take: Callable[[Sequence[Envelope | Rejected]], Any],
        most_shards: int = MOST_SHARDS,
    ) -> None:
        """`leases` makes those of a stream, by its key; `name` is this process's, of no other."""
        assert source.kinesis is not None  # noqa: S101 - else there is nothing to read
        self._source = source
        self._declared = source.kinesis
        self._stream = stream
        self._make_leases = leases
        self._name = name
        self._lease_s = lease_s
        self._poll_s = poll_s
        self._events = events
        self._take = take
        self._most_shards = most_shards
        self._owners = itertools.count(1)
        self._readers: dict[str, Reader] = {}
        self._listed: dict[str, Shard] = {}
        self._look_again = threading.Event()
        self._lock = threading.Lock()
        self._replaced = False
        self._too_many = False

    def run(self, stop: threading.Event) -> None:
        """Take part until told to stop. Raises StreamReplaced; what else goes wrong is tried again."""
        made_at = self._made_at(stop)
        if made_at is None:
            return
        leases = self._make_leases(f"{self._declared.name}@{made_at}")
        doing = self._begun(leases, stop)
        if doing is None:
            return
        lister = threading.Thread(target=self._list, args=(stop, made_at), name="kinesis-shards", daemon=True)
        lister.start()
        while not stop.is_set() and not self._replaced:
            try:
                self._tick(doing)
            except QueueUnavailable as error:
                log.warning("kinesis.redis_unreachable", source=self._source.name, reason=str(error))
            stop.wait(min(_MOST_BETWEEN_TICKS_S, self._lease_s / 3))
        self._leave(leases)
        if self._replaced:
            raise StreamReplaced(self._declared.name)

    # --- leases -----------------------------------------------------------------------------------------------

    def _tick(self, doing: Doing) -> None:
        self._readers = {shard: reader for shard, reader in self._readers.items() if reader.alive}
        self._renew(doing.leases)
        consumers = doing.leases.heard(self._name)
        rows = doing.leases.look()
        with self._lock:
            if not self._listed:
                return
            # A shard that has a row and is not listed has left the stream: its reader will find that out.
            known = {**{row.shard: Shard(row.shard) for row in rows.shards}, **self._listed}
        may = shards.workable(known.values(), rows.finished)
        for shard in set(may) - {row.shard for row in rows.shards}:
            doing.leases.note(shard)
        wanted = shards.share(self._name, consumers, len(may))
        if wanted > self._most_shards and not self._too_many:
            log.error("kinesis.too_many_shards", source=self._source.name, share=wanted, most=self._most_shards)
        self._too_many = wanted > self._most_shards
        plan = shards.plan(may, rows.owners(), self._readers, min(wanted, self._most_shards))
        for shard in plan.give_back:
            self._readers[shard].told.set()
        for shard in plan.take:
            self._begin(doing, shard)

    def _renew(self, leases: Leases) -> None:
        for shard, reader in self._readers.items():
            asked_at = time.monotonic()
            if leases.renew(shard, reader.owner, reader.checkpoint, reader.lag_ms):
                reader.leased_at = asked_at
            else:
                reader.told.set()  # whoever takes the shard next reads on from what Redis knows

    def _begin(self, doing: Doing, shard: str) -> None:
        owner = f"{self._name}/{next(self._owners)}"
        asked_at = time.monotonic()
        checkpoint = doing.leases.take(shard, owner)
        if checkpoint is not None:
            self._readers[shard] = Reader(doing, shard, owner, checkpoint, asked_at)
            self._readers[shard].start()

    def _leave(self, leases: Leases) -> None:
        """The readers finish their pieces, and give their leases back."""
        for reader in self._readers.values():
            reader.told.set()
        until = time.monotonic() + _STOP_S
        for reader in self._readers.values():
            reader.join(max(0.0, until - time.monotonic()))
        try:
            leases.leave(self._name)
        except QueueUnavailable as error:
            log.warning("kinesis.redis_unreachable", source=self._source.name, reason=str(error))

    # --- the stream -------------------------------------------------------------------------------------------

    def _made_at(self, stop: threading.Event) -> int | None:
        failures = 0
        while not stop.is_set():
            try:
                return self._stream.made_at()
            except StreamFailed as error:
                failures += 1
                self._unreachable(error)
                stop.wait(backoff_s(failures))
        return None

    def _begun(self, leases: Leases, stop: threading.Event) -> Doing | None:
        failures = 0
        while not stop.is_set():
            try:
                since = leases.begin(time.time())
            except QueueUnavailable as error:
                failures += 1
                log.warning("kinesis.redis_unreachable", source=self._source.name, reason=str(error))
                stop.wait(backoff_s(failures))
                continue
            return Doing(
                source=self._source.name,
                stream=self._stream,
                leases=leases,
                lease_s=self._lease_s,
                poll_s=self._poll_s,
                since=since if self._declared.start == "latest" else None,
                events=self._events,
                take=self._take,
                ended=self._ended,
                gone=self._gone,
            )
        return None

    def _list(self, stop: threading.Event, made_at: int) -> None:
        """Ask which shards there are, now and then, and when a reader has come to an end."""
        failures = 0
        while not stop.is_set():
            pause_s = _LIST_EVERY_S
            try:
                self._replaced = self._stream.made_at() != made_at
                found = {shard.id: shard for shard in self._stream.shards()}
                with self._lock:
                    self._listed = found
                failures = 0
            except StreamFailed as error:
                failures += 1
                pause_s = backoff_s(failures)
                self._unreachable(error)
            except Exception:
                pause_s = _LIST_EVERY_S
                log.exception("kinesis.listing_failed", source=self._source.name)
            self._look_again.wait(pause_s)
            self._look_again.clear()

    def _ended(self, children: Sequence[Shard]) -> None:
        with self._lock:
            self._listed = {**self._listed, **{child.id: child for child in children}}
        self._look_again.set()

    def _gone(self, shard: str) -> bool:
        try:
            return shard not in {each.id for each in self._stream.shards()}
        except StreamFailed:
            return False

    def _unreachable(self, error: StreamFailed) -> None:
        log.warning("kinesis.stream_unreachable", source=self._source.name, stream=self._declared.name, code=str(error))
