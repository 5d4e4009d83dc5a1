"""kombu's Redis transport, with a door: what would crash a worker goes into quarantine, raw, with a reason.

Stock kombu 5.7.0 hands every message on unread; a missing key or a body of another shape then ends the worker or its
connection, and a requeued message ends every other worker in turn. Checked here: all that kombu and Celery take for
granted of a message of protocol 2 or 1 (https://docs.celeryq.dev/en/stable/internals/protocol.html).
The same channel spares our own tickets the bookkeeping of messages that exist once, and lives through a full Redis.
"""

import contextlib
import json
import time
from base64 import b64encode
from collections.abc import Iterator, Sequence
from typing import Any, Final

import structlog
from kombu import Connection
from kombu.transport import redis as stock

from config.celery_settings import QUEUE
from tasks.connection import MasterConnection, MasterTlsConnection, manager
from tasks.dead_letter import quarantine
from tasks.envelope import without_addresses
from tasks.ledger import MESSAGES
from tasks.messages import Unusable, body_of, checked
from tasks.queue import ALIVE_TASK, ROUTE_TASK

log: Final = structlog.get_logger("tasks.transport")

_MOST_OF_A_NAME: Final = 200
_WAKE_UPS: Final = frozenset({ROUTE_TASK, ALIVE_TASK})
# A full Redis refuses commands that need memory, but for those of a script that has written otherwise before. These
# need little, and without them what was taken off the queue would be lost.
_HOLD: Final = """
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
"""
_PUT_BACK: Final = """
redis.call('PERSIST', KEYS[1])
redis.call('RPUSH', KEYS[1], unpack(ARGV))
"""


def without_arguments(message: dict[str, Any]) -> dict[str, Any]:
    """A checked message with nothing of its arguments in what Flower shows.

    What a publisher put there, or Celery would put there out of a message of protocol 1, may be a person's data. Our
    own tickets carry ids only, and say which.
    """
    headers = message.get("headers") or {}
    if headers.get("task") == ROUTE_TASK:
        return message
    hidden = {"argsrepr": "(…)", "kwargsrepr": "{…}"}
    if "task" in headers:
        shadow = headers.get("shadow")
        shadow = without_addresses(shadow[:_MOST_OF_A_NAME]) if isinstance(shadow, str) else None
        return {**message, "headers": {**headers, **hidden, "shadow": shadow}}
    body = body_of(message)
    call = [body.get("args", []), body.get("kwargs", {}), {}]
    kept = {key: value for key, value in body.items() if key not in {"args", "kwargs"}}
    return {
        **message,
        "headers": {"lang": "py", **kept, **hidden},
        "body": b64encode(json.dumps(call).encode()).decode(),
        "properties": {**message["properties"], "body_encoding": "base64"},
    }


class QoS(stock.QoS):
    """What a worker holds. Our own tickets are wake-ups: nothing about them is written down in Redis.

    That saves two calls for each, and a full Redis has nothing to refuse. Other teams' messages are the only copy:
    they are kept in `unacked` as ever, by commands that a full Redis carries out.
    """

    def append(self, message: Any, delivery_tag: Any) -> None:
        """Hold a message until it is acknowledged."""
        if not _is_wake_up(message):
            info = message.delivery_info
            kept = json.dumps([message._raw, info["exchange"], info["routing_key"]])  # noqa: SLF001 - as the stock class
            with self.channel.conn_or_acquire() as client:
                client.eval(_HOLD, 2, self.unacked_index_key, self.unacked_key, delivery_tag, time.time(), kept)
        super(stock.QoS, self).append(message, delivery_tag)

    def ack(self, delivery_tag: Any) -> None:
        """Done with it."""
        if _is_wake_up(self._delivered.get(delivery_tag)):
            self._quick_ack(delivery_tag)
        else:
            super().ack(delivery_tag)

    def reject(self, delivery_tag: Any, requeue: bool = False) -> None:  # noqa: FBT002 - kombu's signature
        """Not to be done here."""
        message = self._delivered.get(delivery_tag)
        if not _is_wake_up(message):
            super().reject(delivery_tag, requeue=requeue)
            return
        self._quick_ack(delivery_tag)
        if requeue:
            self._put_back([message])

    def hand_back(self) -> None:
        """Put the tickets that wait here back where they came from, at once: others are free to take them."""
        self._flush()
        tickets = {tag: message for tag, message in self._delivered.items() if _is_wake_up(message)}
        for tag in tickets:
            self._quick_ack(tag)
        self._put_back(list(tickets.values()))

    def restore_unacked(self, client: Any = None) -> None:
        """The same for all messages, when the connection ends."""
        self.hand_back()
        self._flush()
        super().restore_unacked(client)

    def restore_visible(self, *args: Any, **kwargs: Any) -> None:
        """Look for messages of dead workers; a Redis that refuses is asked again later."""
        with contextlib.suppress(self.channel.ResponseError):
            super().restore_visible(*args, **kwargs)

    @contextlib.contextmanager
    def pipe_or_acquire(self, pipe: Any = None, client: Any = None) -> Iterator[Any]:
        """A pipeline without MULTI, inside which a full Redis refuses every command, deletions too."""
        if pipe:
            yield pipe
        else:
            with self.channel.conn_or_acquire(client) as acquired:
                yield acquired.pipeline(transaction=False)

    def _put_back(self, messages: Sequence[Any]) -> None:
        raw = [json.dumps(message._raw) for message in messages if _task(message) == ROUTE_TASK]  # noqa: SLF001 - as above
        if not raw:
            return
        try:
            with self.channel.conn_or_acquire() as client:
                client.eval(_PUT_BACK, 1, self.channel.tickets or QUEUE, *reversed(raw))
        except (*self.channel.connection_errors, self.channel.ResponseError) as error:
            # The sweeper finds events without a ticket.
            log.warning("tickets.not_put_back", tickets=len(raw), error=type(error).__name__)


class _Door:
    """Reads as the stock channel does, and lets through only what a worker can take."""

    QoS = QoS
    #: The list that is read in place of the queue's, to which others publish: their messages have a door of their own
    #: (tasks/door.py). "" = the queue's.
    tickets = ""
    _reading = False

    def _brpop_start(self: Any, timeout: float | None = None) -> None:
        self._reading = True
        try:
            super()._brpop_start(timeout)  # type: ignore[misc]
        finally:
            self._reading = False

    def _q_for_pri(self: Any, queue: str, pri: int) -> Any:
        if self._reading and queue == QUEUE and self.tickets:
            return self.tickets
        return super()._q_for_pri(queue, pri)  # type: ignore[misc]

    def _brpop_read(self: Any, **options: Any) -> bool:
        connection = self.client.connection
        try:
            try:
                popped = self.client.parse_response(connection, "BRPOP", **options)
            except self.connection_errors:
                # Disconnected, the next round connects again.
                connection.disconnect()
                raise
            except self.ResponseError as error:
                # No answer to what was asked: it loads, or it has just become a replica. Maybe another is the master.
                connection.disconnect()
                raise ConnectionResetError(str(error)) from error
            if not popped:
                raise stock.Empty
            queue, raw = popped
            name = QUEUE if queue.decode() == self.tickets else queue.decode().rsplit(self.sep, 1)[0]
            self._queue_cycle.rotate(name)
            self._take(raw, name)
            return True
        finally:
            self._in_poll = None
            self._flush_brpop_reauth()

    def hand_back(self: Any) -> None:
        """After the consumer was cancelled: give back what waits here, and what is under way to here."""
        if self._in_poll:
            with contextlib.suppress(stock.Empty, *self.connection_errors):
                self._brpop_read()
        self.qos.hand_back()

    def basic_ack(self: Any, delivery_tag: Any, multiple: bool = False) -> None:  # noqa: FBT002 - kombu's signature
        """Acknowledge, unless the connection is gone.

        A task of the old connection may end after the reconnect; stock 5.7.0 then looks for the host of a closed
        connection (AttributeError) and the worker ends. The ticket comes once more, which does no harm.
        """
        if not self._gone():
            super().basic_ack(delivery_tag, multiple=multiple)  # type: ignore[misc]

    def basic_reject(self: Any, delivery_tag: Any, requeue: bool = False) -> None:  # noqa: FBT002 - kombu's signature
        """Reject, unless the connection is gone."""
        if not self._gone():
            super().basic_reject(delivery_tag, requeue=requeue)  # type: ignore[misc]

    def _gone(self: Any) -> bool:
        return self.closed or self.connection is None or self.connection.client is None

    def _take(self: Any, raw: bytes, queue: str) -> None:
        try:
            # Replies to remote control (inspect, Flower) are no tasks, and come through queues of their own.
            message = json.loads(raw) if queue.endswith(".pidbox") else without_arguments(checked(raw))
        except Unusable as unusable:
            with self.conn_or_acquire() as client:
                quarantine(client, raw, unusable.reason, str(unusable), "message", MESSAGES, QUEUE)
        else:
            self.connection._deliver(message, queue)  # noqa: SLF001 - as the stock channel does

    def _size(self: Any, queue: str) -> int:
        """Messages in a queue; without the stock channel's MULTI, which a full Redis refuses."""
        with self.conn_or_acquire() as client:
            return sum(client.llen(self._q_for_pri(queue, step)) for step in self.priority_steps)

    def _queue_bind(self: Any, exchange: str, *args: Any) -> None:
        """Note who reads an exchange; a Redis that refuses must not keep a worker from coming back.

        For broadcasts nobody looks it up, and for our queue it is there since the first worker ever.
        """
        try:
            super()._queue_bind(exchange, *args)  # type: ignore[misc]
        except self.ResponseError as error:
            log.warning("binding.refused", exchange=exchange, error=type(error).__name__)


class Channel(_Door, stock.Channel):
    """The channel to one Redis."""

    from_transport_options = (*stock.Channel.from_transport_options, "tickets")


class Transport(stock.Transport):
    """The stock transport with our channel."""

    Channel = Channel


class SentinelChannel(_Door, stock.SentinelChannel):
    """The channel to whichever Redis the sentinels call the master."""

    from_transport_options = (*stock.SentinelChannel.from_transport_options, "sentinels", "tickets")
    connection_class = MasterConnection
    connection_class_ssl = MasterTlsConnection

    def _sentinel_managed_pool(self, asynchronous: bool = False) -> Any:  # noqa: FBT002 - kombu's signature
        # Stock reads the sentinels out of alternative broker URLs; after a failure it would then connect through the
        # next of those, with the stock transport.
        options = {
            name: value for name, value in self._connparams(asynchronous).items() if name not in {"host", "port"}
        }
        found = manager(self.sentinels, **options)
        # Where the stock channel looks for connections to close.
        setattr(self, "_async_sentinel_manager" if asynchronous else "_sentinel_manager", found)
        return found.master_for(self.master_name).connection_pool


class SentinelTransport(stock.SentinelTransport):
    """The stock transport with our channel."""

    Channel = SentinelChannel


# What kombu calls a connection's transport in its address. Flower goes by it: without, its page of queues is a 404.
Connection.resolve_aliases.update(
    {"tasks.transport:Transport": "redis", "tasks.transport:SentinelTransport": "sentinel"}
)


def _task(message: Any) -> Any:
    headers = getattr(message, "headers", None)
    return headers.get("task") if isinstance(headers, dict) else None


def _is_wake_up(message: Any) -> bool:
    return _task(message) in _WAKE_UPS
