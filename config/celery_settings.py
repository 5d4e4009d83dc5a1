"""Every Celery setting that we depend on, with its reason; nowhere else is any set."""

import ssl
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from config.redis_url import SCHEMES, is_sentinel, sentinels
from config.settings import Settings

#: What others publish to, and what workers consume.
QUEUE: Final = "events"
#: The list that workers read in its place, where the door takes what others publish.
TICKETS: Final = "events.tickets"


def celery_settings(settings: Settings) -> dict[str, Any]:
    """What `celery.Celery.conf` is updated with."""
    return {
        "broker_url": _broker_url(settings.broker),
        # The ledger says what is done, not Celery: acknowledge at once. Late acknowledgement loses messages on
        # kill -9 all the same, runs them twice after a connection blip, and makes a 5.7.0 worker exit when Redis
        # goes away.
        "task_acks_late": False,
        # No result is read by anyone: no traffic, no personal data at rest.
        "result_backend": None,
        "task_ignore_result": True,
        # JSON only: a pickled message is a program.
        "task_serializer": "json",
        "result_serializer": "json",
        "accept_content": ["json"],
        "event_serializer": "json",
        # Waiting for HTTP is what workers do; 16 threads carry what 16 processes would, in one process's memory.
        "worker_pool": "threads",
        "worker_concurrency": settings.worker_concurrency,
        # One waiting ticket a thread: enough to be busy, little to be held by a worker that dies.
        "worker_prefetch_multiplier": 1,
        "task_default_queue": QUEUE,
        # A mistyped queue name is an error, not a new queue that nobody reads.
        "task_create_missing_queues": False,
        # Never give up on the broker, neither at the start nor later.
        "broker_connection_retry_on_startup": True,
        "broker_connection_retry": True,
        "broker_connection_max_retries": None,
        # A Redis that answers with an error (demoted, full, loading) is one to connect to again, not one to end for.
        "broker_channel_error_retry": True,
        # The tasks that run finish and settle on their own connection to the ledger.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        # Fewer prefetched tickets after a reconnect would starve the threads; tickets may come twice without harm.
        "worker_enable_prefetch_count_reduction": False,
        # Flower needs the task events; the extra event at publishing costs a round trip on the accept path.
        "worker_send_task_events": True,
        "task_send_sent_event": False,
        # Our own log configuration stands, in JSON and without exception texts.
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        # What no task here can take becomes a dead letter; stock Celery logs it, arguments and all, and drops it.
        "worker_consumer": "tasks.consumer:Consumer",
        **_redis_settings(settings),
    }


def _broker_url(url: str) -> str:
    if url.startswith("unix://"):  # kombu has words of its own for it
        at, _, parameters = url.removeprefix("unix").partition("?")
        return f"redis+socket{at}" + (f"?{parameters.replace('db=', 'virtual_host=')}" if parameters else "")
    return sentinels(url).first if is_sentinel(url) else url


def _redis_settings(settings: Settings) -> dict[str, Any]:
    if not settings.broker.startswith(("redis", "unix", *SCHEMES)):
        return {}
    options = {
        # Tickets have one list: priorities would make four and starve the lowest. Where there is a door, it reads those
        # of publishers; where there is none, Celery does.
        **({"priority_steps": [0]} if settings.has_door else {}),
        # Time-outs everywhere, or a half-open connection hangs a worker for ever.
        "socket_timeout": 3,
        "socket_connect_timeout": 2,
        "socket_keepalive": True,
        # How often a silent connection is looked at; half-open ones are dropped after at most 1 s + twice this.
        "health_check_interval": 3,
        # A dead worker's unacknowledged messages come back after this. Tickets are not among them.
        "visibility_timeout": 120,
        "unacked_restore_interval": 10,
        "unacked_restore_throttle": 1,
        # Above the number of threads, all of which may acknowledge at the same time.
        "max_connections": settings.worker_concurrency + 20,
        "client_name": "event-router-worker",
        # Ours alone: the list to read in place of the queue's.
        **({"tickets": TICKETS} if settings.has_door else {}),
    }
    if not is_sentinel(settings.broker):
        # Messages that would crash stock workers go into quarantine instead.
        return {
            # kombu takes rediss:// without it for a connection in the clear, and Flower refuses to start.
            **({"broker_use_ssl": tls_options(settings.broker)} if settings.broker.startswith("rediss:") else {}),
            **({"broker_transport": "tasks.transport:Transport"} if settings.hardened_door else {}),
            "broker_transport_options": options,
        }
    at = sentinels(settings.broker)
    return {
        "broker_transport": "tasks.transport:SentinelTransport",
        "broker_transport_options": {**options, "master_name": at.master, "sentinels": at},
        "broker_use_ssl": {"ssl_cert_reqs": ssl.CERT_REQUIRED} if at.tls else False,
    }


def tls_options(url: str) -> dict[str, Any]:
    """What the parameters of a rediss:// address say of certificates, in kombu's words; always verified."""
    given = {name: value for name, value in parse_qsl(urlsplit(url).query) if name in _TLS_FILES}
    return {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_check_hostname": True, **given}


_TLS_FILES: Final = frozenset({"ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile"})
