"""Celery's consumer, with the same door one floor up: what no task here can take becomes a dead letter.

Stock Celery 5.7.0 logs such messages, with their arguments, and drops them.
"""

import difflib
import functools
import json
from collections.abc import Callable
from typing import Any

import structlog
from celery.worker import consumer, request, state

from tasks.envelope import id_without_address, without_addresses
from tasks.ledger import MESSAGES
from tasks.messages import shown_task
from tasks.queue import ALIVE_TASK
from tasks.watchdog import Work

log = structlog.get_logger("tasks.consumer")


class Consumer(consumer.Consumer):
    """The stock consumer; its four ways to drop a message differ, and its ways to lose and find the broker."""

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Clean up behind a lost connection.

        Stock 5.7.0 closes it twice; the second time its transport is gone, and the AttributeError ends the worker.
        """
        try:
            super().on_connection_error_after_connected(exc)
        except AttributeError:
            self.connection = None

    def ensure_connected(self, conn: Any) -> Any:
        """Connect, trying again every 2 s at the latest; stock waits up to 30 s between two tries."""
        conn.ensure_connection = functools.partial(
            conn.ensure_connection, interval_start=0.2, interval_step=0.4, interval_max=2
        )
        return super().ensure_connected(conn)

    def create_task_handler(self, *args: Any, **named: Any) -> Callable[[Any], Any]:
        """Make what is called for each message; of a heartbeat, to take it off the queue is all there is to do.

        Whatever a message makes Celery or us raise is the message's fault: stock 5.7.0 ends the worker, and the next.
        """
        handle = super().create_task_handler(*args, **named)
        felt = self.app.pulse.felt

        def guarded(message: Any) -> Any:
            try:
                if isinstance(message.headers, dict) and message.headers.get("task") == ALIVE_TASK:
                    felt()
                    return message.ack_log_error(log, self.connection_errors)
                return handle(message)
            except self.connection_errors:
                raise
            except Exception as error:  # noqa: BLE001 - see above
                return self._keep(message, "invalid", f"not a valid task message ({type(error).__name__})")

        return guarded

    def stop(self) -> None:
        """Take nothing more, and give back what no thread has begun: stock keeps it until the last thread is done."""
        super().stop()
        executor = getattr(self.pool, "executor", None)
        channel = self.task_consumer and self.task_consumer.channel
        if executor is None or not hasattr(channel, "hand_back"):
            return  # another pool or broker, which has its own way
        executor.shutdown(wait=False, cancel_futures=True)
        for call in self.hub._pop_ready():  # noqa: SLF001 - acknowledgements that the loop did not come to
            call()
        channel.hand_back()

    def on_unknown_message(self, body: Any, message: Any) -> None:  # noqa: ARG002 - Celery's signature
        self._keep(message, "undecodable", "not a task message")

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        self._keep(message, "undecodable", f"the body does not decode ({type(exc).__name__})")

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:  # noqa: ARG002 - as above
        self._keep(message, "invalid", f"not a valid task message ({type(exc).__name__})")

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:  # noqa: ARG002 - as above
        headers = message.headers or {}
        call = headers if "task" in headers else message.payload
        # Somebody else's text: cut before it is compared (quadratic) and logged.
        name = shown_task(call["task"])
        known = [task for task in self.app.tasks if not task.startswith("celery.")]
        near = difflib.get_close_matches(name, known, n=1, cutoff=0)
        hint = f"; did you mean {near[0]}?" if near else ""
        self._keep(message, "unknown_task", f"no task {name!r} here{hint}", name)
        if isinstance(id_ := call.get("id"), str):  # with the door off nobody has looked at it before
            self.app.telling.failed(id_, f"{MESSAGES} · {name}", "unknown_task")

    def _keep(self, message: Any, reason: str, error: str, label: str = "message") -> None:
        raw = getattr(message, "_raw", None) or {
            "body": message.body,
            "headers": message.headers,
            "properties": message.properties,
            "content-type": message.content_type,
            "content-encoding": message.content_encoding,
        }
        self.app.dead_letters.quarantine(json.dumps(raw, default=_text).encode(), reason, error, label)
        message.ack_log_error(log, self.connection_errors)
        log.warning("message.quarantined", reason=reason, task=label)


class Request(request.Request):
    """A task under way, whose arguments nobody is told: Flower asks workers for what they run and hold."""

    def info(self, safe: bool = False) -> Any:  # noqa: ARG002, FBT002 - Celery's signature
        """What remote control tells of it: neither arguments, nor what its publisher shows of them."""
        told = {"args": "(…)", "kwargs": "{…}", "name": without_addresses(self.name), "id": id_without_address(self.id)}
        return {**super().info(safe=True), **told}


def work(of: Consumer) -> Work:
    """What this worker has in hand."""
    return Work(begun=state.all_total_count[0], running=len(state.active_requests), threads=of.pool.num_processes)


def _text(value: Any) -> str:
    return bytes(value).decode("utf-8", "backslashreplace") if isinstance(value, bytes | memoryview) else str(value)
