"""Putting events where workers find them: into the ledger, with a ticket on Celery's queue.

The ticket is a Celery message (protocol 2, https://docs.celeryq.dev/en/stable/internals/protocol.html) that carries
ids only. Over Redis we write it ourselves, so that the ledger's script can push it in the same step that keeps the
event; tests/contract proves that Celery reads it as it reads its own. Over other brokers kombu publishes it.
"""

import contextlib
import json
import re
import uuid
from base64 import b64encode
from collections.abc import Sequence
from typing import Any, Final, Protocol

import kombu

from config.celery_settings import QUEUE
from config.settings import Settings
from tasks.envelope import Envelope, shown
from tasks.errors import QueueUnavailable
from tasks.ledger import Ledger

#: The task that works on tickets.
ROUTE_TASK: Final = "events.route"
#: The task through which other teams publish.
PUBLISH_TASK: Final = "events.publish"
#: The task whose message is a worker's heartbeat; the consumer takes it off the queue, no thread ever runs it.
ALIVE_TASK: Final = "router.alive"

#: Enough to make Celery's cost of a message small, few enough that a thread is done with them soon.
EVENTS_A_TICKET: Final = 25
#: A heartbeat that nobody took for so long is dropped; there are younger ones.
_HEARTBEAT_S: Final = 10
_ORIGIN: Final = "event-router"
_encode: Final = json.JSONEncoder(separators=(",", ":")).encode
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


def redis_message(task: str, args: Sequence[Any], *, shadow: str | None, argsrepr: str) -> bytes:
    """A task as the bytes that Celery's Redis transport keeps in the queue's list."""
    # Made by filling a template: the accept path makes one for each event.
    parts = {
        "body": b64encode(_encode([args, {}, _EMBED]).encode()).decode(),
        "task": _encode(task),
        "shadow": _encode(shadow),
        "argsrepr": _encode(argsrepr),
        "id": str(uuid.uuid4()),
    }
    return (_TEMPLATE % parts).encode()


def _template() -> str:
    """The message as JSON, with %(…)s for what differs between messages."""
    message = {
        "body": "%(body)s",
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": task_headers("%(task)s", "%(id)s", "%(shadow)s", "%(argsrepr)s"),
        "properties": {
            "correlation_id": "%(id)s",
            "reply_to": "",
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": QUEUE},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": "%(id)s",
        },
    }
    # These three come as JSON, quotes and all.
    return re.sub(r'"(%\((?:task|shadow|argsrepr)\)s)"', r"\1", _encode(message))


_TEMPLATE: Final = _template()


class Queue(Protocol):
    """Where accepted events go."""

    #: Key of the broker's list in the ledger's Redis; the scripts push tickets there. "" with other brokers.
    key: str

    def accept(self, envelopes: Sequence[Envelope]) -> list[bool]:
        """Keep events of one source, and make sure that a worker hears of them. Gives for each: new (or duplicate).

        Raises QueueFull or QueueUnavailable.
        """
        ...

    def ticket(self, id_: str, label: str) -> bytes:
        """The ticket of one event for the ledger's scripts to push; empty when `publish` carries it."""
        ...

    def publish(self, ids: Sequence[str]) -> None:
        """Tell workers of events that are in the ledger already; nothing to do where the scripts have pushed."""
        ...

    def heartbeat(self, queue: str) -> bytes:
        """A worker's message to itself for a script to push onto its queue; empty when it is on its way already.

        Raises QueueUnavailable.
        """
        ...


class RedisQueue:
    """Broker and ledger share one Redis: accepting is one atomic call."""

    key = QUEUE

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def accept(self, envelopes: Sequence[Envelope]) -> list[bool]:
        tickets = [self._message([envelope.id for envelope in some], _shadow(some)) for some in _shares(envelopes)]
        return self._ledger.accept(envelopes, self.key, tickets)

    def ticket(self, id_: str, label: str) -> bytes:
        return self._message([id_], label)

    def publish(self, ids: Sequence[str]) -> None:
        """The scripts have pushed the tickets."""

    def heartbeat(self, queue: str) -> bytes:  # noqa: ARG002 - the protocol's arguments
        return redis_message(ALIVE_TASK, [], shadow=None, argsrepr="()")

    @staticmethod
    def _message(ids: list[str], shadow: str) -> bytes:
        return redis_message(ROUTE_TASK, [ids], shadow=shadow, argsrepr=_argsrepr(ids))


class BrokerQueue:
    """Any broker that kombu speaks; the ledger stays in Redis.

    Accepting is two steps. When the second fails the event is safe all the same: a sweeper finds it without a ticket.
    """

    key = ""

    def __init__(self, ledger: Ledger, broker_url: str) -> None:
        self._ledger = ledger
        # A sender waits meanwhile: one try, and a short one.
        once = {"max_retries": 1, "interval_start": 0, "interval_step": 0}
        self._connection = kombu.Connection(broker_url, connect_timeout=0.5, transport_options=once)
        self._pool = self._connection.Pool(limit=8)

    def accept(self, envelopes: Sequence[Envelope]) -> list[bool]:
        fresh = self._ledger.accept(envelopes, self.key, [])
        new = [envelope for envelope, is_new in zip(envelopes, fresh, strict=True) if is_new]
        for some in _shares(new):
            self._send([envelope.id for envelope in some], _shadow(some))
        return fresh

    def ticket(self, id_: str, label: str) -> bytes:  # noqa: ARG002 - the protocol's arguments
        return b""

    def publish(self, ids: Sequence[str]) -> None:
        if ids:
            self._send(list(ids), f"{len(ids)} events")

    def heartbeat(self, queue: str) -> bytes:
        self._publish(queue, [], ALIVE_TASK, None, "()", expiration=_HEARTBEAT_S)
        return b""

    def _send(self, ids: list[str], shadow: str) -> None:
        # If this fails the sweeper gives them a new ticket.
        with contextlib.suppress(QueueUnavailable):
            self._publish(QUEUE, [ids], ROUTE_TASK, shadow, _argsrepr(ids))

    def _publish(
        self, queue: str, args: list[Any], task: str, shadow: str | None, argsrepr: str, **options: Any
    ) -> None:
        task_id = str(uuid.uuid4())
        try:
            with self._pool.acquire(block=True, timeout=1) as connection, connection.Producer() as producer:
                producer.publish(
                    [args, {}, _EMBED],
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


def _shares(envelopes: Sequence[Envelope]) -> list[Sequence[Envelope]]:
    """Events that come together share tickets: a message costs Celery more than an event does."""
    return [envelopes[first : first + EVENTS_A_TICKET] for first in range(0, len(envelopes), EVENTS_A_TICKET)]


def _shadow(envelopes: Sequence[Envelope]) -> str:
    first = envelopes[0]
    return first.shown if len(envelopes) == 1 else shown(first.source, f"{len(envelopes)} events")


def _argsrepr(ids: Sequence[str]) -> str:
    return f"({ids[0]!r}, …{len(ids)})" if len(ids) > 1 else f"({ids[0]!r},)"
