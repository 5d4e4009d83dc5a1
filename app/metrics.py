"""What web processes alone tell: streams, which are theirs to read, and the spool on this machine's disk."""

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, Final

import structlog

from app.kinesis.watch import watch
from app.spool import Spool
from tasks.families import Families

log: Final = structlog.get_logger("app.metrics")


def streams_part(client: Any, sources: Sequence[str]) -> Callable[[Families], None]:
    """How far the reading of these sources' streams has come."""

    def tell(families: Families) -> None:
        try:
            streams = watch(client, sources)
        except Exception as error:  # noqa: BLE001 - what the disk holds must be told whatever Redis does
            log.warning("metrics.without_streams", error=type(error).__name__)
            return
        for stream in streams:
            told = {
                "lag_seconds": stream.lag_s,
                "checkpoint_age_seconds": stream.checkpoint_age_s,
                "consumers": stream.consumers,
                "records_total": stream.records,
                "rejected_total": stream.rejected,
            }
            for name, value in told.items():
                if value is not None:
                    families.add(f"kinesis_{name}", value, stream.source)

    return tell


def spool_part(spool: Spool | None) -> Callable[[Families], None]:
    """What waits on the disk."""

    def tell(families: Families) -> None:
        if spool is None:
            return
        try:
            size = spool.size()
        except sqlite3.Error as error:
            log.warning("metrics.without_spool", error=type(error).__name__)
            return
        families.add("spooled", size.events)
        families.add("spooled_bytes", size.bytes)
        families.add("spooled_oldest_seconds", size.oldest_s)

    return tell
