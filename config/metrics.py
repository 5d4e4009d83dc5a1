"""Every metric, declared once with its meaning; nothing else may be exported."""

from typing import Final

#: name → (kind, labels, meaning)
METRICS: Final[dict[str, tuple[str, tuple[str, ...], str]]] = {
    "event_router_source_events_total": (
        "counter",
        ("source", "state"),
        "Events of a source: accepted, and ended delivered, filtered, duplicate or dead; or gone on unidentified.",
    ),
    "event_router_source_waiting": ("gauge", ("source",), "Accepted events of a source that have not ended."),
    "event_router_route_deliveries_total": (
        "counter",
        ("route", "state"),
        "Deliveries of a route that were made, and that ended delivered, filtered or dead.",
    ),
    "event_router_route_waiting": ("gauge", ("route",), "Deliveries of a route that have not ended."),
    "event_router_unclaimed": ("gauge", (), "Events that wait for a worker."),
    "event_router_unclaimed_oldest_seconds": (
        "gauge",
        (),
        "Age of the event that waits longest for a worker.",
    ),
    "event_router_running": ("gauge", (), "Events that a worker holds a lease on."),
    "event_router_retrying": ("gauge", (), "Events that wait for their next attempt."),
    "event_router_lined": ("gauge", (), "Events that wait for their turn in their subject's line."),
    "event_router_held": ("gauge", (), "Events whose deliveries wait for earlier ones, or at gates that are shut."),
    "event_router_unidentified": (
        "gauge",
        (),
        "Events that wait for another one to tell whom they are about; they cost no worker.",
    ),
    "event_router_scheduled": (
        "gauge",
        (),
        "Published events that wait for the time that their publisher set, or for its quota.",
    ),
    "event_router_gate_shut": (
        "gauge",
        ("gate", "state"),
        "1 while nothing goes to a destination, or along a route (route:<name>), without being let go; and why.",
    ),
    "event_router_gate_parked": ("gauge", ("gate",), "Deliveries that wait at a gate."),
    "event_router_gate_oldest_seconds": ("gauge", ("gate",), "Age of the oldest event that waits at a gate."),
    "event_router_dead_letters": ("gauge", (), "Dead letters kept, quarantined messages included."),
    "event_router_workers": ("gauge", (), "Workers that have consumed something within HEARTBEAT_DEAD_S."),
    "event_router_worker_silent_seconds": (
        "gauge",
        (),
        "Seconds since the worker that is silent for longest proved that it consumes; forgotten after 10 minutes.",
    ),
    "event_router_kinesis_lag_seconds": (
        "gauge",
        ("source",),
        "How far behind the end of a source's stream its worst shard is; grows while nobody reads it.",
    ),
    "event_router_kinesis_checkpoint_age_seconds": (
        "gauge",
        ("source",),
        "Seconds since anything of the stream came into the ledger; says nothing while nothing comes.",
    ),
    "event_router_kinesis_consumers": ("gauge", ("source",), "Processes that read the stream."),
    "event_router_kinesis_records_total": ("counter", ("source",), "Records of the stream that are in the ledger."),
    "event_router_kinesis_rejected_total": (
        "counter",
        ("source",),
        "Events in those records that became dead letters at once: broken, or none of their source.",
    ),
    "event_router_queue_length": ("gauge", (), "Tickets in Celery's queue."),
    "event_router_redis_up": ("gauge", (), "1 when Redis answers; without it, only what follows is told."),
    "event_router_redis_memory_share": (
        "gauge",
        (),
        "Used share of Redis' maxmemory, 0 without a limit; REDIS_HIGH_WATER is about it.",
    ),
    "event_router_spooled": ("gauge", (), "Events that wait on this machine's disk for Redis to take them."),
    "event_router_spooled_bytes": ("gauge", (), "Bytes that they take there; SPOOL_MAX_BYTES is the most."),
    "event_router_spooled_oldest_seconds": ("gauge", (), "Age of the oldest of them."),
}
