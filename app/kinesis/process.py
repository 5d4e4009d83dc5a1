"""The process that reads streams: a consumer for each source that names one, until it is told to stop."""

import os
import secrets
import socket
import threading
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import structlog

from app import records
from app.configuration import PATIENT_S, configuration, web_ledger
from app.intake import Intake
from app.kinesis.aggregated import parts
from app.kinesis.consumer import MOST_SHARDS, Consumer, StreamReplaced
from app.kinesis.errors import StreamFailed
from app.kinesis.leases import Leases
from app.kinesis.shards import Record
from app.kinesis.stream import Stream
from app.pressure import Pressure
from app.source import Source
from config import logging as logs
from config.problems import ConfigurationRefused
from config.settings import Settings
from tasks.envelope import Envelope, Rejected
from tasks.ledger import Ledger, connect
from tasks.queue import queue_for

if TYPE_CHECKING:
    from app.kinesis.service import Service

log: Final = structlog.get_logger("app.kinesis")

#: Exit status (EX_TEMPFAIL of sysexits.h): start me again.
AGAIN_STATUS: Final = 75
_EVERY_S: Final = 0.5


def sources(environ: Mapping[str, str], names: Collection[str] = ()) -> tuple[Settings, list[Source]]:
    """The settings, and the sources that are read from a stream: of these names, or all.

    Raises ConfigurationRefused.
    """
    # What this process cannot put into Redis stays in the stream: it has no spool, and needs no place for one.
    settings, known = configuration({**environ, "SPOOL_MAX_BYTES": "0"})
    streamed = {source.name: source for source in known.values() if source.kinesis is not None}
    if unknown := sorted(set(names) - set(streamed)):
        text = f"no source with a kinesis block: {', '.join(unknown)}; there are: {', '.join(streamed) or 'none'}"
        raise ConfigurationRefused((f"{settings.sources_file}: {text}",))
    return settings, [source for source in streamed.values() if not names or source.name in names]


def run(settings: Settings, streamed: Collection[Source], stop: threading.Event) -> int:
    """Read until `stop`. Gives the exit status: 0, or what asks to be started again. Raises ConfigurationRefused."""
    logs.configure(settings.log_level, settings.log_format)
    log.info("kinesis.configured", sources=[source.name for source in streamed], **settings.described())
    if not streamed:
        log.warning("kinesis.nothing_to_read", meaning="no source has a kinesis block")
    consumers = _consumers(settings, streamed)
    with ThreadPoolExecutor(max(1, len(consumers)), "kinesis") as pool:
        runs = {name: pool.submit(consumer.run, stop) for name, consumer in consumers.items()}
        while not stop.wait(_EVERY_S) and not any(run.done() for run in runs.values()):
            pass
        # One that ends by itself ends all: whoever starts the process again starts it whole.
        stop.set()
    status = max((_status(name, run.exception()) for name, run in runs.items()), default=0)
    log.info("kinesis.stopped", status=status)
    return status


def _status(name: str, error: BaseException | None) -> int:
    if isinstance(error, StreamReplaced):
        log.error("kinesis.stream_replaced", source=name, stream=str(error))
        return AGAIN_STATUS
    if error is not None:
        log.error("kinesis.failed", source=name, exc_info=error)
        return 1
    return 0


def events_of(source: Source, shard: str, record: Record) -> Sequence[Envelope | Rejected]:
    """The events of one record, and what it holds instead of events; named by its place in the stream."""
    place = f"kinesis:{_stream(source).name}:{shard}:{record.sequence}"
    packed = parts(record.data)
    if len(packed) == 1:
        return records.events(packed[0], source, record.arrived_at, place)
    return records.events_of_parts(record.data, packed, source, record.arrived_at, place)


def unreachable(streamed: Collection[Source]) -> dict[str, str]:
    """Sources whose stream does not say which shards it has, and the name of what is wrong."""
    found = {}
    for source in streamed:
        try:
            _service(source).shards()
        except StreamFailed as error:
            found[source.name] = str(error)
    return found


def _consumers(settings: Settings, streamed: Collection[Source]) -> dict[str, Consumer]:
    if not streamed:
        return {}
    ledger = web_ledger(settings, PATIENT_S)
    pressure = Pressure()
    pressure.watch(connect(settings.redis_url, timeout_s=PATIENT_S), settings.redis_high_water)
    intake = Intake(queue_for(settings, ledger), ledger, None, pressure)
    name = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}"
    return {source.name: _consumer(settings, source, ledger, intake, name) for source in streamed}


def _consumer(settings: Settings, source: Source, ledger: Ledger, intake: Intake, name: str) -> Consumer:
    try:
        service = _service(source)
    except StreamFailed as error:
        raise ConfigurationRefused((f"{settings.sources_file}: sources.{source.name}.kinesis: {error}",)) from None

    return Consumer(
        source,
        service,
        lambda key: Leases(ledger.client, source.name, key, settings.kinesis_lease_s),
        name,
        lease_s=settings.kinesis_lease_s,
        poll_s=settings.kinesis_poll_s,
        events=lambda shard, record: events_of(source, shard, record),
        take=lambda found: intake.take(source, found),
    )


def _service(source: Source) -> "Service":
    from app.kinesis.service import Service  # boto3: nobody else needs it, and it takes its time

    return Service(_stream(source), MOST_SHARDS + 4)


def _stream(source: Source) -> Stream:
    assert source.kinesis is not None  # noqa: S101 - that is what `sources` looks for
    return source.kinesis
