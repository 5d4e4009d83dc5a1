"""Putting events where workers find them: into the ledger, with a ticket on Celery's queue.

The ticket is a Celery message (protocol 2, https://docs.celeryq.dev/en/stable/internals/protocol.html) that carries
ids only. Over Redis the ledger's scripts write it themselves (tasks/ledger/include/2_tickets.lua), in the same step
that keeps or wakes an event; tests/contract proves that Celery reads it as it reads its own. Over other brokers kombu
publishes it.
"""

import contextlib
import functools
import json
import uuid
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import kombu

from config.celery_settings import QUEUE
from config.settings import Settings
from tasks.envelope import Envelope
from tasks.errors import QueueUnavailable
from tasks.ledger import Ledger

#: The task that works on tickets.
ROUTE_TASK: Final = "events.route"
#: The task through which other teams publish.
PUBLISH_TASK: Final = "events.publish"
#: The task whose message is a worker's heartbeat; the consumer takes it off the queue, no thread ever runs it.
ALIVE_TASK: Final = "router.alive"

#: A heartbeat that nobody took for so long is dropped; there are younger ones.
_HEARTBEAT_S: Final = 10
_ORIGIN: Final = "event-router"
#: What headers tell of arguments that are about somebody.
_HIDDEN: Final = "…"
_EMBED: Final = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


def task_headers(task: str, task_id: str, shadow: str | None, argsrepr: str) -> dict[str, Any]:
    """The headers that Celery's own `as_task_v2` gives a message, in its order."""
    return {
        "lang": "py",
        "task": task,
        "id": task_id,
        "shadow": shadow,
        "eta": None,
        "expires": None,
        "group": None,
        "group_index": None,
        "retries": 0,
        "timelimit": [None, None],
        "root_id": task_id,
        "parent_id": None,
        "argsrepr": argsrepr,
        "kwargsrepr": "{}",
        "origin": _ORIGIN,
        "ignore_result": True,
        "replaced_task_nesting": 0,
        "stamped_headers": None,
        "stamps": {},
    }


def redis_message(
    task: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None = None,
    *,
    task_id: str = "",
    shadow: str | None,
    argsrepr: str,
) -> bytes:
    """A task as the bytes that Celery's Redis transport keeps in the queue's list."""
    task_id = task_id or str(uuid.uuid4())
    message = {
        "body": b64encode(json.dumps([args, dict(kwargs or {}), _EMBED], default=str).encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": task_headers(task, task_id, shadow, argsrepr),
        "properties": {
            "correlation_id": task_id,
            "reply_to": "",
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": QUEUE},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": task_id,
        },
    }
    return json.dumps(message).encode()


class Queue(Protocol):
    """Where accepted events go."""

    #: Key of the broker's list in the ledger's Redis; the scripts push tickets there. "" with other brokers.
    key: str

    def accept(self, envelopes: Sequence[Envelope]) -> list[bool]:
        """Keep events of one source, and make sure that a worker hears of them. Gives for each: new (or duplicate).

        Raises QueueFull or QueueUnavailable.
        """
        ...

    def publish(self, task: str, calls: Mapping[str, Any], named: Mapping[str, Any], prefix: str) -> None:
        """Call a task as other teams do, once for each id: with its one argument, and those by name.

        `prefix` is what the keys of the publisher's own Redis user begin with. Raises QueueUnavailable.
        """
        ...

    def heartbeat(self, queue: str) -> bytes:
        """A worker's message to itself for a script to push onto its queue; empty when it is on its way already.

        Raises QueueUnavailable.
        """
        ...


class RedisQueue:
    """Broker and ledger share one Redis: accepting is one atomic call."""

    def __init__(self, ledger: Ledger) -> None:
        self.key = ledger.queue
        self.accept = ledger.accept
        self._push = ledger.push

    def publish(self, task: str, calls: Mapping[str, Any], named: Mapping[str, Any], prefix: str) -> None:
        message = functools.partial(redis_message, task, kwargs=named, shadow=None, argsrepr=_HIDDEN)
        self._push(f"{prefix}{QUEUE}", [message([argument], task_id=id_) for id_, argument in calls.items()])

    def heartbeat(self, queue: str) -> bytes:  # noqa: ARG002 - the protocol's arguments
        return redis_message(ALIVE_TASK, [], shadow=None, argsrepr="()")


class BrokerQueue:
    """Any broker that kombu speaks; the ledger stays in Redis.

    Accepting is two steps. When the second fails the event is safe all the same: a sweeper finds it without a ticket.
    """

    key = ""

    def __init__(self, ledger: Ledger, broker_url: str) -> None:
        self.accept = ledger.accept
        ledger.queue, ledger.carry = self.key, self._send
        # A sender waits meanwhile: one try, and a short one.
        once = {"max_retries": 1, "interval_start": 0, "interval_step": 0}
        self._connection = kombu.Connection(broker_url, connect_timeout=0.5, transport_options=once)
        self._pool = self._connection.Pool(limit=8)

    def publish(self, task: str, calls: Mapping[str, Any], named: Mapping[str, Any], prefix: str) -> None:  # noqa: ARG002
        for id_, argument in calls.items():
            self._publish(QUEUE, [argument], task, None, _HIDDEN, named, task_id=id_)

    def heartbeat(self, queue: str) -> bytes:
        self._publish(queue, [], ALIVE_TASK, None, "()", expiration=_HEARTBEAT_S)
        return b""

    def _send(self, label: str, ids: Sequence[str]) -> None:
        # If this fails the sweeper gives them a new ticket.
        with contextlib.suppress(QueueUnavailable):
            self._publish(QUEUE, [ids], ROUTE_TASK, label, _argsrepr(ids))

    def _publish(
        self,
        queue: str,
        args: list[Any],
        task: str,
        shadow: str | None,
        argsrepr: str,
        kwargs: Mapping[str, Any] | None = None,
        task_id: str = "",
        **options: Any,
    ) -> None:
        task_id = task_id or str(uuid.uuid4())
        try:
            with self._pool.acquire(block=True, timeout=1) as connection, connection.Producer() as producer:
                producer.publish(
                    [args, dict(kwargs or {}), _EMBED],
                    routing_key=queue,
                    serializer="json",
                    headers=task_headers(task, task_id, shadow, argsrepr),
                    correlation_id=task_id,
                    delivery_mode=2,
                    retry=False,
                    **options,
                )
        except (kombu.exceptions.KombuError, OSError, *self._connection.connection_errors) as error:
            raise QueueUnavailable(type(error).__name__) from error


def queue_for(settings: Settings, ledger: Ledger) -> Queue:
    """The queue for a broker: where it is the ledger's own Redis, accepting is one atomic call."""
    if settings.broker == settings.redis_url:
        return RedisQueue(ledger)
    return BrokerQueue(ledger, settings.broker)


def _argsrepr(ids: Sequence[str]) -> str:
    return f"({ids[0]!r}, …{len(ids)})" if len(ids) > 1 else f"({ids[0]!r},)"
