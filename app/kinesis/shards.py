"""Which shards a process should work on: pure, out of what the stream lists and what the leases say.

A reshard closes a shard and opens children; a merge's child has two parents. Records of one partition key go on in a
child, so a child is read only when its parents have been read to their end
(https://docs.aws.amazon.com/streams/latest/dev/kinesis-using-sdk-java-after-resharding.html).
"""

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime


@dataclasses.dataclass(frozen=True)
class Shard:
    """One shard of the stream, open or closed."""

    id: str
    parents: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Record:
    """One record of a shard."""

    sequence: str
    data: bytes
    arrived_at: datetime  #: in UTC


@dataclasses.dataclass(frozen=True)
class Read:
    """One answer of the stream."""

    records: Sequence[Record]
    next: str | None  #: the next iterator; None = the shard is closed, and this is its end
    behind_ms: int
    children: Sequence[Shard] = ()  #: of a shard that has been read to its end


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to change: shards to take, in this order, and shards to give back."""

    take: Sequence[str] = ()
    give_back: Sequence[str] = ()


def workable(listed: Iterable[Shard], finished: Collection[str]) -> list[str]:
    """Ids of the shards that may be read now, the oldest first.

    A parent that is not listed any more holds nothing any more: its records have left the stream.
    """
    known = {shard.id: shard for shard in listed}
    return sorted(
        shard.id
        for shard in known.values()
        if shard.id not in finished and all(parent in finished or parent not in known for parent in shard.parents)
    )


def share(me: str, consumers: Collection[str], shards: int) -> int:
    """How many of the shards are this consumer's: as many as anybody else's, or one more or less."""
    everybody = sorted({me, *consumers})
    each, over = divmod(shards, len(everybody))
    return each + (everybody.index(me) < over)


def plan(may: Sequence[str], owners: Mapping[str, str], mine: Collection[str], wanted: int) -> Plan:
    """How this consumer comes to have `wanted` of the shards that `may` be read.

    `owners` = shard → who holds a lease on it that has not run out. What is beyond is given back, the youngest first;
    another consumer finds it free then.
    """
    held = sorted(mine)
    if len(held) > wanted:
        return Plan(give_back=held[wanted:])
    free = [shard for shard in may if shard not in owners and shard not in mine]
    return Plan(take=free[: wanted - len(held)])
