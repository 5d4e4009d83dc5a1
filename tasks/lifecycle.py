"""What a worker process does beside its work: it proves that it lives, tells what it does, and ends in time."""

import logging
import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import kombu
import structlog
from celery import Celery, signals
from celery.concurrency import prefork
from celery.worker import control

from config.celery_settings import QUEUE
from config.settings import Settings
from tasks.connection import connect
from tasks.consumer import work
from tasks.contract import TASKS
from tasks.heartbeat import Heartbeats, Worker, alive_queue
from tasks.queue import ROUTE_TASK, Queue
from tasks.sweeper import Loop, RenewedLeases
from tasks.telling import Telling
from tasks.watchdog import DEAD_STATUS, Limits, Pulse, Watchdog

log: Final = structlog.get_logger("tasks.lifecycle")

#: The watchdog's own connection: it waits for nothing that the others wait for.
_TIMEOUT_S: Final = 3.0
#: An unused heartbeat queue of another broker goes away after this.
_QUEUE_KEPT_S: Final = 3600


def attach(app: Celery, settings: Settings, queue: Queue, leases: RenewedLeases) -> None:
    """Watch the worker from its being ready to its being told to stop; then see to it that it ends within the grace."""
    app.pulse = Pulse()  # what the consumer tells of each heartbeat that came back
    limits = Limits(settings.heartbeat_dead_s, max(settings.lease_most_s, settings.heartbeat_dead_s))
    heartbeats = Heartbeats(connect(settings.redis_url, timeout_s=_TIMEOUT_S))
    host, loops = socket.gethostname(), []

    def worker(name: str, silent_s: float = 0) -> Worker:
        return Worker(name, host, os.getpid(), limits.silent_s, silent_s)

    def set_up(sender: str, instance: Any, **_: Any) -> None:
        name = alive_queue(sender)
        kept = {} if queue.key else {"expires": _QUEUE_KEPT_S}
        declared = instance.app.amqp.queues.select_add(kombu.Queue(name, routing_key=name, **kept))
        # Celery has just given it the default exchange, where each worker that ever ran would leave a binding.
        declared.exchange = kombu.Exchange("")

    def ready(sender: Any, **_: Any) -> None:
        def beat(silent_s: float) -> None:
            heartbeats.beat(worker(sender.hostname, silent_s), queue.heartbeat(alive_queue(sender.hostname)))

        dog = Watchdog(
            pulse=app.pulse,
            limits=limits,
            work=lambda: work(sender),
            beat=beat,
            end=lambda: _end(leases, DEAD_STATUS),
        )
        app.pulse.felt()
        loops.append(Loop("watchdog", limits.between_s, dog.look, at_once=True))
        loops[-1].start()

    def stopping(sender: str, **_: Any) -> None:
        for loop in loops:
            loop.stop()
        # Not here: this is a signal handler.
        threading.Thread(target=heartbeats.leave, args=(worker(sender),), daemon=True).start()
        after = threading.Timer(settings.worker_grace_s, _grace_over, (leases,))
        after.daemon = True
        after.start()

    signals.celeryd_after_setup.connect(set_up, weak=False)
    signals.worker_ready.connect(ready, weak=False)
    signals.worker_shutting_down.connect(stopping, weak=False)


def tell(app: Celery, telling: Telling) -> None:
    """Tell Flower of events while the worker runs, and Celery's own events of tickets and publishing no more.

    With a pool of processes the work is done in children, which have no way to tell: there Celery's events stay.
    """

    def set_up(instance: Any, **_: Any) -> None:
        for name in (ROUTE_TASK, *TASKS):
            instance.app.tasks[name].send_events = issubclass(instance.pool_cls, prefork.TaskPool)

    def ready(sender: Any, **_: Any) -> None:
        def listened() -> bool | None:
            if (way := sender.event_dispatcher) is None:
                return None  # the connection is being made anew
            return bool(way.enabled and (not way.groups or "task" in way.groups))

        @contextmanager
        def dispatcher() -> Iterator[Any]:
            # Nothing is sent before it is flushed, and what fails is ours to keep: Celery would without limit.
            kept = {"buffer_group": {"task"}, "buffer_limit": float("inf"), "buffer_while_offline": False}
            with (
                app.connection_for_write() as connection,
                app.events.Dispatcher(connection, hostname=sender.hostname, **kept) as way,
            ):
                yield way

        telling.start(listened, dispatcher)

    def heartbeat(state: Any) -> None:
        """Tell worker(s) to send event heartbeat immediately."""
        control.heartbeat(state)
        # Who listens to events asks for this when it begins to.
        telling.recall()

    def active_queues(state: Any) -> list[dict[str, Any]]:
        """List the task queues a worker is currently consuming from."""
        queues = control.active_queues(state)
        tickets = app.conf.broker_transport_options.get("tickets")
        # Read in place of the queue's own list; Flower's page of queues goes by this.
        return [*queues, *({**each, "name": tickets} for each in queues if tickets and each["name"] == QUEUE)]

    control.control_command(name="heartbeat")(heartbeat)
    control.inspect_command(name="active_queues")(active_queues)
    app.telling = telling  # for what the consumer cannot use
    signals.celeryd_after_setup.connect(set_up, weak=False)
    signals.worker_ready.connect(ready, weak=False)
    signals.worker_shutdown.connect(lambda **_: telling.stop(), weak=False)
    os.register_at_fork(after_in_child=telling.silence)


def _grace_over(leases: RenewedLeases) -> None:
    log.warning("worker.grace_over")
    _end(leases, os.EX_OK)


def _end(leases: RenewedLeases, status: int) -> None:
    """End now, whatever hangs. Others take over at once if Redis hears of it, and when the leases run out if not."""
    handing_back = threading.Thread(target=leases.hand_back, daemon=True)
    handing_back.start()
    handing_back.join(_TIMEOUT_S)
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
