"""Every metric, declared once with its meaning; nothing else may be exported, and nothing of these left out."""

import dataclasses
from typing import Final

#: What the names of all metrics begin with.
PREFIX: Final = "event_router_"
#: What a source beyond the first MOST_NAMES that no file names is called in labels.
OTHER: Final = "other"
MOST_NAMES: Final = 100
#: Label of what has no source, or no destination: nobody got so far as to know it.
NONE: Final = "-"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metric:
    """One of them: what it is to Prometheus, and what it tells an operator."""

    kind: str  #: counter, gauge or histogram
    labels: tuple[str, ...] = ()
    doc: str
    alert: str = ""  #: when somebody should look; "" = it is there to be looked at then
    bounds: tuple[float, ...] = ()  #: a histogram's buckets, in seconds, without the last one
    web: bool = False  #: told by web processes alone


def _counter(doc: str, *labels: str, alert: str = "", web: bool = False) -> Metric:
    return Metric(kind="counter", labels=labels, doc=doc, alert=alert, web=web)


def _gauge(doc: str, *labels: str, alert: str = "", web: bool = False) -> Metric:
    return Metric(kind="gauge", labels=labels, doc=doc, alert=alert, web=web)


def _histogram(doc: str, *labels: str, alert: str = "", bounds: tuple[float, ...]) -> Metric:
    return Metric(kind="histogram", labels=labels, doc=doc, alert=alert, bounds=bounds)


#: name without PREFIX → what it is
METRICS: Final[dict[str, Metric]] = {
    # --- what comes in
    "accept_seconds": _histogram(
        "Time from a request's arrival at a door to its answer, of requests answered 2xx.",
        "source",
        alert="99 % of them take longer than a sender waits (Encharge: 2 s)",
        bounds=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5),
    ),
    "refused_requests_total": _counter(
        "Requests that a door refused, by the status of the answer: 400 unreadable, 401 secret or key unknown, 413 too "
        "large, 429 and 503 not taken now. Source `-`: refused before it was known.",
        "door",
        "source",
        "status",
        alert="it grows with status 401, 429, 500 or 503",
    ),
    "source_events_total": _counter(
        "Events of a source: accepted, and ended delivered, filtered, duplicate or dead; discarded dead letters; or "
        "gone on unidentified. What is dead and replayed stays counted as dead.",
        "source",
        "state",
    ),
    "source_waiting": _gauge(
        "Accepted events of a source that have not ended.",
        "source",
        alert="its sum nears `MAX_WAITING`: events will be spooled, or refused",
    ),
    "source_dead_letters_total": _counter(
        "Dead letters of a source's events by reason, messages in quarantine included. An event has as many as routes "
        "failed.",
        "source",
        "reason",
        alert="it grows; the reason says who has to act",
    ),
    "source_replayed_total": _counter(
        "Dead events that a replay made wait again: accepted + replayed = delivered + filtered + duplicate + dead + "
        "waiting.",
        "source",
    ),
    "quarantined_total": _counter(
        "Messages that came to quarantine, by reason: unusable, and kept as they came.",
        "reason",
        alert="it grows: a publisher sends something else than agreed",
    ),
    "quarantine_released_total": _counter("Quarantined messages that were put back onto their list.", "source"),
    # --- what goes out
    "route_deliveries_total": _counter(
        "Deliveries of a route that were made (accepted), and that ended delivered, filtered or dead; discarded dead "
        "letters. What is dead and replayed stays counted as dead. Route `-`: dead before it had routes.",
        "route",
        "state",
    ),
    "route_waiting": _gauge("Deliveries of a route that have not ended.", "route"),
    "route_replayed_total": _counter("Dead letters of a route that a replay put back.", "route"),
    "route_dead_letters_total": _counter(
        "Dead letters of a route by the destination of the request that failed (`-`: there was none) and reason.",
        "route",
        "destination",
        "reason",
        alert="it grows",
    ),
    "retried_attempts_total": _counter(
        "Attempts that failed and are made again, by the destination of the request that failed and reason.",
        "route",
        "destination",
        "reason",
        alert="more of them than deliveries, for minutes",
    ),
    "delivery_seconds": _histogram(
        "Time from an event's acceptance to a delivery's success, waits for retries, gates and order included. Counted "
        "from the replay for what was replayed, from its due time for what was scheduled.",
        "route",
        "destination",
        alert="99 % of them take longer than the route may",
        bounds=(0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200, 43200),
    ),
    "request_seconds": _histogram(
        "Time that a request to a destination took, its failure included.",
        "destination",
        alert="its 99 % near `HTTP_READ_TIMEOUT_S`",
        bounds=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
    ),
    "destination_verdicts_total": _counter(
        "What requests said about their destination: ok (it answered, be it that it refused one event), failed, "
        "throttled, unauthorized; or busy: none was made, all threads that may serve it did.",
        "destination",
        "verdict",
    ),
    # --- what waits, and for how long
    "published_messages": _gauge(
        "Messages that others have published to a list and that have not been taken.",
        "list",
        alert="it grows for minutes",
    ),
    "published_stuck_seconds": _gauge(
        "For how long the message that is next in a list has been next, as far as anyone asked; 0 = there is none. "
        "Messages do not tell when they were published; the oldest is at least this old.",
        "list",
        alert="above a minute: nobody takes what is published",
    ),
    "queue_length": _gauge("Tickets in Celery's queue."),
    "unclaimed": _gauge("Events that wait for a worker."),
    "unclaimed_oldest_seconds": _gauge(
        "Age of the event that waits longest for a worker.",
        alert="above a minute: no worker takes events, or too few",
    ),
    "running": _gauge("Events that a worker holds a lease on."),
    "retrying": _gauge(
        "Events that wait for their next attempt.", alert="it grows for minutes: a destination is in trouble"
    ),
    "retrying_oldest_seconds": _gauge(
        "Age of the oldest event that waits for its next attempt.",
        alert="above half of `RETRY_MAX_AGE_S`: it is about to become a dead letter",
    ),
    "retrying_due_seconds": _gauge(
        "Seconds until the next attempt is due, 0 when none waits; below 0 it is overdue.",
        alert="below -60: no worker sweeps",
    ),
    "scheduled": _gauge("Events that wait for the time that their publisher set, or for their publisher's quota."),
    "scheduled_due_seconds": _gauge(
        "Seconds until the next of them goes on, 0 when none waits; below 0 it is overdue.",
        alert="below -60: no worker sweeps",
    ),
    "lined": _gauge("Events that wait for their turn in their subject's line."),
    "lined_oldest_seconds": _gauge("For how long the first of them has waited."),
    "held": _gauge(
        "Events whose deliveries wait for earlier ones, or at gates that are shut.", alert="it grows for minutes"
    ),
    "held_oldest_seconds": _gauge("For how long the first of them has waited."),
    "unidentified": _gauge("Events that wait for another one to tell whom they are about; they cost no worker."),
    "gate_shut": _gauge(
        "1 while nothing goes to a destination, or along a route (route:<name>), without being let go; and why.",
        "gate",
        "state",
        alert="1 for `unauthorized`, or for a route: somebody has to act",
    ),
    "gate_parked": _gauge(
        "Deliveries that wait at a gate.", "gate", alert="it grows for longer than the destination's outage"
    ),
    "gate_oldest_seconds": _gauge("Age of the oldest event that waits at a gate.", "gate"),
    "dead_letters": _gauge("Dead letters kept, quarantined messages included.", alert="it grows"),
    "dead_letters_oldest_seconds": _gauge("For how long the oldest of them has been there."),
    "quarantine_messages": _gauge("Messages in quarantine."),
    # --- who works
    "workers": _gauge(
        "Workers that have consumed something within HEARTBEAT_DEAD_S.", alert="below the number that you run"
    ),
    "worker_silent_seconds": _gauge(
        "Seconds since the worker that is silent for longest proved that it consumes; forgotten after 10 minutes.",
        alert="above `HEARTBEAT_DEAD_S`: a worker was killed, or hangs and has not been started again",
    ),
    "redis_up": _gauge(
        "1 when Redis answers; without it, only this and what the disk holds are told.", alert="0: it does not answer"
    ),
    "redis_memory_share": _gauge(
        "Used share of Redis' maxmemory, 0 without a limit; REDIS_HIGH_WATER is about it.",
        alert="near `REDIS_HIGH_WATER`: events will be spooled, and stay so until memory is 0.1 lower",
    ),
    # --- streams
    "kinesis_lag_seconds": _gauge(
        "How far behind the end of a source's stream its worst shard is; grows while nobody reads it.",
        "source",
        alert="it stays above a minute ([kinesis.md](kinesis.md#watch-it))",
        web=True,
    ),
    "kinesis_checkpoint_age_seconds": _gauge(
        "Seconds since anything of the stream came into the ledger; says nothing while nothing comes.",
        "source",
        web=True,
    ),
    "kinesis_consumers": _gauge("Processes that read the stream.", "source", web=True),
    "kinesis_records_total": _counter("Records of the stream that are in the ledger.", "source", web=True),
    "kinesis_rejected_total": _counter(
        "Events in those records that became dead letters at once: broken, or none of their source.",
        "source",
        web=True,
    ),
    # --- this machine's disk
    "spooled": _gauge("Events that wait on this machine's disk for Redis to take them.", web=True),
    "spooled_bytes": _gauge(
        "Bytes that they take there; SPOOL_MAX_BYTES is the most.",
        alert="above half of `SPOOL_MAX_BYTES`: when it is full, senders get 503",
        web=True,
    ),
    "spooled_oldest_seconds": _gauge(
        "Age of the oldest of them.",
        alert="above a minute while Redis is up: it refuses what the drainer feeds; the log says why",
        web=True,
    ),
}
