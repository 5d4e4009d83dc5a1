"""The Celery application: its tasks decode, call one function, and are done."""

import contextlib
import itertools
import os
import random
import socket
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Final

import kombu
import structlog
from celery import Celery, signals

from config import logging as logs
from config import tested_versions
from config.celery_settings import QUEUE, celery_settings
from config.problems import ConfigurationRefused
from config.settings import Settings, read, variable_of
from tasks import lifecycle, publishers, retry, routing, webhooks
from tasks.attempt import World
from tasks.contract import TASKS
from tasks.dead_letter import DeadLetters
from tasks.delivery import Deliverer
from tasks.destinations import DESTINATIONS, KEYS, Destination, destinations
from tasks.door import Door
from tasks.gates import log_changes
from tasks.ledger import Ledger, connect, ledger_of
from tasks.measures import Measures
from tasks.messages import Call, moment
from tasks.metrics import Exporter, LedgerPart
from tasks.metrics_page import Page, serve
from tasks.published import Reader
from tasks.queue import ROUTE_TASK, queue_for
from tasks.slots import Slots
from tasks.sweeper import Loop, RenewedLeases, Sweeper
from tasks.telling import Telling

log: Final = structlog.get_logger("tasks.worker")

#: Redis answers a worker within this, or the connection counts as dead. One event needs two calls, each of which may
#: meet a half-open connection.
_REDIS_TIMEOUT_S: Final = 3.0
#: How long a worker goes on trying to reach Redis, to settle what it has delivered.
_REDIS_PATIENCE_S: Final = 60.0
#: What is in a message has been accepted by the broker already: no back-pressure towards ourselves.
_NO_LIMIT: Final = 2**53
#: As many routes are named where one thing is wrong with them all.
_MOST_NAMES: Final = 3
#: How often workers look whether a gate lets something go.
_TICK_S: Final = 0.1


def build(environ: Mapping[str, str]) -> Celery:
    """The worker's Celery application.

    Raises ConfigurationRefused with every problem, before anything has started.
    """
    settings, routes = configuration(environ)
    logs.configure(settings.log_level, settings.log_format)
    app = Celery("event-router", set_as_current=False)
    app.conf.update(celery_settings(settings))
    app.conf.task_queues = [kombu.Queue(QUEUE, routing_key=QUEUE)]
    ledger = worker_ledger(settings)
    queue = queue_for(settings, ledger)
    known = reachable(settings, routes, environ)
    app.dead_letters = DeadLetters(ledger)  # where the consumer puts what it cannot use
    leases = RenewedLeases(ledger, settings.lease_s, settings.lease_most_s)
    # Whoever asks for numbers is not to wait as long for Redis as the work does.
    hasty = ledger_of(settings, connect(settings.redis_url, timeout_s=_REDIS_TIMEOUT_S))
    measures = Measures(hasty)
    telling = Telling(ledger)
    deliverer = Deliverer(
        ledger=ledger,
        routes=routes,
        world=World(
            destinations=known,
            policy=policy(settings),
            slots=Slots(settings.worker_concurrency, tuple(known)),
            now=time.time,
            roll=random.random,
            measured=lambda destination, seconds: measures.took("request_seconds", seconds, destination),
        ),
        leases=leases,
        tell=telling,
    )
    known_publishers = publishers.load(settings.publishers_file, routing.source_names(settings.sources_file))
    reader = Reader(
        publishers=known_publishers,
        result_ttl_s=settings.result_ttl_s,
        counted=lambda: [name for kind, name in ledger.counts() if kind == "source"],
        others=app.tasks,
    )
    door = Door(
        ledger=ledger,
        reader=reader,
        name=f"{socket.gethostname()}:{uuid.uuid4().hex[:8]}",
        threads=settings.worker_concurrency,
        # Who posts is not to be refused because others publish too much; their messages can wait where they are.
        max_waiting=max(1, settings.max_waiting // 2),
        tell=telling.failed,
    )
    _register(app, deliverer, door, measures)
    limits = {name: routes.limits.get(name, (None, None)) for name in known}
    _sweep_while_running(settings, ledger, limits, door, telling)
    lifecycle.attach(app, settings, queue, leases)
    _tell_while_running(settings, hasty, measures, known_publishers)
    lifecycle.tell(app, telling)
    unread = [each.name for each in known_publishers.known.values() if each.prefix and not settings.has_door]
    if unread:
        log.warning("publishers.unread", publishers=unread, why="only the door in the ledger's Redis reads lists")
    for warning in routes.warnings:
        log.warning("routes.warning", problem=warning)
    log.info("router.configured", routes=[route.name for route in routes.routes], **settings.described())
    return app


def configuration(environ: Mapping[str, str]) -> tuple[Settings, routing.Routes]:
    """Settings and routes. Raises ConfigurationRefused with the problems of both."""
    values, problems = read(environ)
    problems += tested_versions.problems()
    routes = routing.Routes(())
    if values.keys() >= {"routes_file", "sources_file", "publishers_file"}:
        known = None  # then routes are checked as far as they can be
        try:
            known = routing.names(values["sources_file"], values["publishers_file"])
        except ConfigurationRefused as refused:
            problems += refused.problems
        try:
            routes = routing.load(values["routes_file"], known)
        except ConfigurationRefused as refused:
            problems += refused.problems
    problems += _missing_keys(values, routes) + webhooks.signing_keys(routes.webhooks, environ)[1]
    if problems:
        raise ConfigurationRefused(tuple(problems))
    return Settings(**values), routes


def _missing_keys(values: Mapping[str, Any], routes: routing.Routes) -> list[str]:
    """The keys that routes need and that are not set. Without any key, and any webhook, that of Encharge is missing."""
    needy: dict[str, list[str]] = {}
    for route in routes.routes:
        if route.action is not None and route.action.system in KEYS:
            needy.setdefault(route.action.system, []).append(route.name)
    if not needy and not routes.webhooks and not any(values.get(name, "unknown") for name in KEYS.values()):
        needy["encharge"] = []
    return [
        f"environment: {variable_of(KEYS[system])}: is not set; "
        + (f"nothing could be delivered for {_shortened(names)}" if names else "nothing could be delivered")
        for system, names in needy.items()
        if not values.get(KEYS[system], "unknown")
    ]


def _shortened(names: Sequence[str]) -> str:
    """The first names of a list, and how many there are in all."""
    more = f" … ({len(names)} routes)" if len(names) > _MOST_NAMES else ""
    return f"{', '.join(names[:_MOST_NAMES])}{more}"


def reachable(settings: Settings, routes: routing.Routes, environ: Mapping[str, str]) -> dict[str, Destination]:
    """The destinations of which we have the keys. Others would take threads that are kept for them."""
    keys, _ = webhooks.signing_keys(routes.webhooks, environ)
    unset = {name for name, system in DESTINATIONS.items() if not getattr(settings, KEYS[system])}
    found = destinations(settings, routes.webhooks, keys)
    return {name: each for name, each in found.items() if name not in unset}


def worker_ledger(settings: Settings) -> Ledger:
    """The ledger as workers and operators' commands use it: patient, and without back-pressure."""
    client = connect(settings.redis_url, timeout_s=_REDIS_TIMEOUT_S, patience_s=_REDIS_PATIENCE_S)
    return ledger_of(settings, client, max_waiting=_NO_LIMIT)


def policy(settings: Settings) -> retry.Policy:
    """The retry policy out of the settings."""
    return retry.Policy(
        max_attempts=settings.retry_max_attempts,
        max_age_s=settings.retry_max_age_s,
        base_s=settings.retry_base_s,
        max_delay_s=settings.retry_max_delay_s,
        retry_after_cap_s=settings.retry_after_cap_s,
    )


def _register(app: Celery, deliverer: Deliverer, door: Door, measures: Measures) -> None:
    worker = f"{socket.gethostname()}:{uuid.uuid4().hex[:8]}"
    claims = itertools.count(1)

    @app.task(name=ROUTE_TASK, shared=False)
    def route(ids: list[str]) -> None:
        measures.start()  # in the process that does the work
        # The process id: children of a pool of processes share what was made before the fork.
        deliverer.work(ids, f"{worker}:{os.getpid()}:{next(claims)}")

    # Where there is no door, Celery takes what others publish. The message is the only copy: acknowledged when it is in
    # the ledger. Run twice, its events are duplicates.
    for name in sorted(TASKS):

        @app.task(name=name, bind=True, shared=False, acks_late=True, typing=False, Request="tasks.consumer:Request")
        def take(self: Any, *args: Any, **named: Any) -> None:
            door.accept(_call(self.name, self.request, args, named))

    def given_up(sender: Any, request: Any, expired: bool, **_: Any) -> None:
        # Celery would drop it without a word; in the ledger it becomes a dead letter.
        if expired and sender.name in TASKS:
            door.accept(_call(sender.name, request, request.args, request.kwargs))

    signals.task_revoked.connect(given_up, weak=False)
    app.finalize()


def _call(name: str, asked: Any, args: Sequence[Any], named: Mapping[str, Any]) -> Call:
    """What Celery took off its queue; its `eta` has gone by."""
    return Call(name, asked.id, list(args), dict(named), asked.headers or {}, expires_at=moment(asked.expires))


def _sweep_while_running(
    settings: Settings,
    ledger: Ledger,
    limits: Mapping[str, tuple[float | None, int | None]],
    door: Door,
    telling: Telling,
) -> None:
    sweeper = Sweeper(
        ledger,
        f"sweeper:{uuid.uuid4().hex}",
        grace_s=settings.ticket_grace_s,
        crash_limit=settings.crash_limit,
        patience_s=settings.lease_s / 2,
        told=telling.died,
    )
    told: list[None] = []

    def tick() -> None:
        if not told:
            ledger.limit(limits)
            told.append(None)
        log_changes(ledger.tick())

    loops = (
        Loop("sweeper", settings.sweep_interval_s, sweeper.sweep),
        Loop("gates", _TICK_S, tick),
        *([Loop("door", 0, door.turn)] if settings.has_door else ()),
    )

    def start(**_: Any) -> None:
        for loop in loops:
            loop.start()

    def stop(**_: Any) -> None:
        for loop in loops:
            loop.stop()

    signals.worker_ready.connect(start, weak=False)
    signals.worker_shutting_down.connect(stop, weak=False)


def _tell_while_running(settings: Settings, ledger: Ledger, measures: Measures, known: publishers.Publishers) -> None:
    """A page of metrics, if there is to be one; and what was measured last, when the worker ends."""
    part = LedgerPart(ledger, routing.source_names(settings.sources_file), known)
    page = Page(Exporter((part,), web=False), settings.metrics_token)

    def start(**_: Any) -> None:
        if settings.worker_metrics_port:
            serve(page, settings.worker_metrics_host, settings.worker_metrics_port)

    def end(**_: Any) -> None:
        with contextlib.suppress(Exception):
            measures.flush()

    signals.worker_ready.connect(start, weak=False)
    signals.worker_shutdown.connect(end, weak=False)
