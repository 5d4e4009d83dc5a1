"""What /metrics tells, read from Redis when asked: so any process, web or worker, answers for all."""

import collections
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import structlog
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from config.metrics import METRICS, MOST_NAMES, OTHER
from tasks.families import Families
from tasks.gates import gates
from tasks.heartbeat import Heartbeats
from tasks.ledger import DEAD, HELD, LINED, MESSAGES, QUARANTINE, RETRYING, SCHEDULED, Ledger
from tasks.memory import share_used
from tasks.publishers import NAMELESS, STEPS, Publishers, keys_of

log: Final = structlog.get_logger("tasks.metrics")

STORED: Final = "router:metrics"
_NAMED: Final = "router:metrics:names"
_RETRYING_AT: Final = "router:retrying:at"
_NEXT: Final = "router:metrics:next:"
_NEXT_KEPT_S: Final = 3600
_MICROS: Final = 1e6

# The message that is next in each list, known again by its length and a checksum of its end, where its delivery tag is.
# No message leaves Redis for this, and nothing of it is kept.
# ARGV  seconds to remember, prefix of the keys for it, the lists
_LOOK: Final = """#!lua flags=allow-oom
local time, found = redis.call('TIME'), {}
local now = time[1] + time[2] / 1000000
for i = 3, #ARGV do
  local key, next_ = ARGV[2] .. ARGV[i], redis.call('LINDEX', ARGV[i], -1)
  local since = now
  if next_ then
    local sum = #next_
    for _, byte in ipairs({string.byte(next_, -512, -1)}) do sum = (sum * 33 + byte) % 4294967296 end
    local mark = #next_ .. ':' .. string.format('%.0f', sum)
    local known, at = string.match(redis.call('GET', key) or '', '^(%S+) (%S+)$')
    if known == mark then since = tonumber(at) end
    redis.call('SET', key, mark .. ' ' .. string.format('%.6f', since), 'EX', ARGV[1])
  else
    redis.call('DEL', key)
  end
  found[#found + 1] = redis.call('LLEN', ARGV[i])
  found[#found + 1] = string.format('%.3f', now - since)
end
return found
"""

#: Puts its share of the numbers into their families.
Part = Callable[[Families], None]


class Exporter(Collector):
    """All parts' numbers at the time of asking. A part that cannot tell says so in the log; the others are told."""

    def __init__(self, parts: Sequence[Part], *, web: bool) -> None:
        self._parts = parts
        self._web = web

    def describe(self) -> Iterable[Metric]:
        """Nothing: what there is shows when it is collected."""
        return []

    def collect(self) -> Iterable[Metric]:
        """One look at everything."""
        families = Families(web=self._web)
        for part in self._parts:
            part(families)
        return families.all()


class LedgerPart:
    """What Redis holds. `sources` are those that a file names."""

    def __init__(self, ledger: Ledger, sources: Iterable[str], publishers: Publishers) -> None:
        self._ledger = ledger
        self._client = ledger.client
        self._configured = frozenset({*sources, *publishers.known, NAMELESS, MESSAGES})
        # Where Celery takes them, they lie among the tickets.
        self._lists = [name for name in publishers.lists() if name != ledger.queue]
        self._heartbeats = Heartbeats(ledger.client)
        self._look = ledger.client.register_script(_LOOK)

    def __call__(self, families: Families) -> None:
        """Little when Redis does not answer."""
        try:
            counts, sizes, stored = self._ledger.counts(), self._ledger.sizes(), self._stored()
            # All is read before anything is told: half of it would look like a restart of the counters.
            tell = [self._gates(), self._workers(), self._ages(), self._published(), self._memory()]
            names = self._labels([name for kind, name in counts if kind == "source"])
        except Exception as error:  # noqa: BLE001 - what the disk holds must be told whatever Redis does
            log.warning("metrics.without_redis", error=type(error).__name__)
            families.add("redis_up", 0)
            return
        families.add("redis_up", 1)
        for name, size in sizes.items():
            families.add(name, size)
        for name, value, *labels in (row for rows in tell for row in rows):
            families.add(name, value, *labels)
        rows = stored_rows(stored)
        _tell_counts(families, counts, rows, names)
        _tell_stored(families, rows, names)

    def _stored(self) -> dict[str, int]:
        return {field.decode(): int(number) for field, number in self._client.hgetall(STORED).items()}

    def _labels(self, sources: Iterable[str]) -> Mapping[str, str]:
        """Source → what it is called in labels. Who has a name once keeps it: a counter must not lose what it had."""
        foreign = [name for name in sources if name not in self._configured]
        kept = {name.decode() for name in self._client.smembers(_NAMED)}
        if new := [name for name in foreign if name not in kept][: max(0, MOST_NAMES - len(kept))]:
            self._client.sadd(_NAMED, *new)
        known = kept.union(new)
        return collections.defaultdict(lambda: OTHER, {name: name for name in (*self._configured, *known)})

    def _gates(self) -> list[tuple[Any, ...]]:
        return [
            row
            for gate in gates(self._ledger)
            for row in (
                ("gate_shut", float(gate.mode != "flowing"), gate.name, gate.mode),
                ("gate_parked", gate.parked, gate.name),
                ("gate_oldest_seconds", gate.oldest_parked_s, gate.name),
            )
        ]

    def _workers(self) -> list[tuple[Any, ...]]:
        known = self._heartbeats.workers()
        return [
            ("workers", sum(worker.alive for worker in known)),
            ("worker_silent_seconds", max((worker.silent_s for worker in known), default=0.0)),
        ]

    def _ages(self) -> list[tuple[Any, ...]]:
        pipe = self._client.pipeline(transaction=False)
        pipe.time()
        pipe.zcard(QUARANTINE)
        for key in (RETRYING, SCHEDULED, LINED, HELD, DEAD, QUARANTINE):
            pipe.zrange(key, 0, 0, withscores=True)
        (seconds, micros), quarantined, retrying, scheduled, *others = pipe.execute()
        now = seconds + micros / _MICROS

        def age(first: Sequence[tuple[bytes, float]]) -> float:
            return max(0.0, now - first[0][1] / _MICROS) if first else 0.0

        def due(first: Sequence[tuple[bytes, float]]) -> float:
            return first[0][1] / _MICROS - now if first else 0.0

        lined, held, dead, kept = others
        return [
            ("quarantine_messages", quarantined),
            ("retrying_due_seconds", due(retrying)),
            ("scheduled_due_seconds", due(scheduled)),
            ("retrying_oldest_seconds", age(self._oldest_retry())),
            ("lined_oldest_seconds", age(lined)),
            ("held_oldest_seconds", age(held)),
            ("dead_letters_oldest_seconds", max(age(dead), age(kept))),
        ]

    def _oldest_retry(self) -> Sequence[tuple[bytes, float]]:
        """The oldest event that waits for its next attempt; forgets those that are found to be elsewhere."""
        while found := self._client.zrange(_RETRYING_AT, 0, 0, withscores=True):
            if self._client.zscore(RETRYING, found[0][0]) is not None:
                break
            self._client.zrem(_RETRYING_AT, found[0][0])
        return list(found)

    def _published(self) -> list[tuple[Any, ...]]:
        if not self._lists:
            return []
        keys = [key for name in self._lists for key in keys_of(name)]
        try:
            # Not as KEYS, for which Redis wants the right to write.
            found = self._look(args=[_NEXT_KEPT_S, _NEXT, *keys])
        except Exception as error:  # noqa: BLE001 - a Redis user without a right to them is to lose nothing else
            log.warning("metrics.without_lists", error=type(error).__name__)
            return []
        rows: list[tuple[Any, ...]] = []
        for number, name in enumerate(self._lists):
            first, last = 2 * len(STEPS) * number, 2 * len(STEPS) * (number + 1)
            rows += [
                ("published_messages", sum(found[first:last:2]), name),
                ("published_stuck_seconds", max(float(age) for age in found[first + 1 : last : 2]), name),
            ]
        return rows

    def _memory(self) -> list[tuple[Any, ...]]:
        share = share_used(self._client)
        return [] if share is None else [("redis_memory_share", share)]


#: name → (label values, the rest of the field: "" or a histogram's bucket) → number
Rows = Mapping[str, Mapping[tuple[tuple[str, ...], str], int]]


def stored_rows(stored: Mapping[str, int]) -> Rows:
    """The fields of `router:metrics`, read. Those of another version of the router are left out."""
    rows: dict[str, dict[tuple[tuple[str, ...], str], int]] = {name: {} for name in METRICS}
    for field, number in stored.items():
        name, *parts = field.split("/")
        if name in METRICS and len(parts) == len(METRICS[name].labels) + bool(METRICS[name].bounds):
            labels = len(METRICS[name].labels)
            rows[name][tuple(parts[:labels]), "".join(parts[labels:])] = number
    return rows


def _tell_counts(
    families: Families,
    counts: Mapping[tuple[str, str], Mapping[str, int]],
    rows: Rows,
    names: Mapping[str, str],
) -> None:
    """The ledger's rows. A replay takes a dead letter back there; counters of Prometheus only grow."""
    nouns = {"source": "events", "route": "deliveries"}
    told: collections.Counter[tuple[str, ...]] = collections.Counter()
    for (kind, name), states in counts.items():
        label = names[name] if kind == "source" else name
        replayed = rows[f"{kind}_replayed_total"].get(((name,), ""), 0)
        again = rows["quarantine_released_total"].get(((name,), ""), 0) if kind == "source" else 0
        back = {"dead": replayed + again, "accepted": replayed if name == "-" else again}
        for state, number in states.items():
            if state == "waiting":
                told[f"{kind}_waiting", label] += number
            else:
                told[f"{kind}_{nouns[kind]}_total", label, state] += number + back.get(state, 0)
    for (family, *labels), number in told.items():
        families.add(family, number, *labels)


def _tell_stored(families: Families, rows: Rows, names: Mapping[str, str]) -> None:
    for name, found in rows.items():
        metric = METRICS[name]
        told: dict[tuple[str, ...], collections.Counter[str]] = {}
        for (labels, bucket), number in found.items():
            shown = tuple(
                names[value] if label == "source" and value != "-" else value
                for label, value in zip(metric.labels, labels, strict=True)
            )
            told.setdefault(shown, collections.Counter())[bucket] += number
        for labels, numbers in told.items():
            if metric.bounds:
                families.observed(name, numbers, *labels)
            else:
                families.add(name, numbers[""], *labels)
