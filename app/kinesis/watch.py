"""How far the reading of streams has come: for /metrics and for people, told by any process out of Redis."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, Final

from app.kinesis.leases import Leases, Row, current

#: A consumer that was not heard of for so long is gone; living ones tell of themselves each second.
_ALIVE_S: Final = 10.0


@dataclasses.dataclass(frozen=True)
class Watched:
    """One source's stream. None = nobody has read it yet."""

    source: str
    stream: str | None  #: name@Unix time of its making
    consumers: int
    records: int  #: that are in the ledger
    rejected: int  #: events of them that became dead letters at once
    shards: Sequence[Row]

    @property
    def lag_s(self) -> float | None:
        """How far behind the end of the stream its worst shard is."""
        known = [row.lag_s for row in self.shards if row.lag_s is not None]
        return max(known, default=None)

    @property
    def checkpoint_age_s(self) -> float | None:
        """Seconds since anything of the stream came into the ledger."""
        known = [row.checkpoint_age_s for row in self.shards if row.checkpoint_age_s is not None]
        return min(known, default=None)


def watch(client: Any, sources: Iterable[str]) -> list[Watched]:
    """How it is with each source that is read from a stream. Raises QueueUnavailable."""
    return [_watched(client, source) for source in sources]


def _watched(client: Any, source: str) -> Watched:
    stream, records, rejected = current(client, source)
    if stream is None:
        return Watched(source, None, 0, records, rejected, ())
    rows = Leases(client, source, stream, 1).look()
    alive = sum(silent_s <= _ALIVE_S for silent_s in rows.consumers.values())
    return Watched(source, stream, alive, records, rejected, rows.shards)
