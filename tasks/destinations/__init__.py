"""The only way out: one file for each HTTP API, and the table of those that requests can name."""

from collections.abc import Mapping
from typing import Final

from config.settings import Settings
from tasks.destinations.activatepro import ActivatePro
from tasks.destinations.encharge import Encharge
from tasks.destinations.http import Http

#: The names that requests and limits use.
DESTINATIONS: Final = ("encharge_ingest", "encharge_api", "activatepro")


def destinations(settings: Settings) -> Mapping[str, Encharge | ActivatePro]:
    """The destinations by the names that requests use; they share one pooled HTTP session."""
    http = Http(
        connect_timeout_s=settings.http_connect_timeout_s,
        read_timeout_s=settings.http_read_timeout_s,
        connections=settings.worker_concurrency,
    )
    return {
        "encharge_ingest": Encharge(http, settings.encharge_ingest_url, settings.encharge_write_key),
        "encharge_api": Encharge(http, settings.encharge_api_url, settings.api_key),
        "activatepro": ActivatePro(http, settings.activatepro_url, settings.activatepro_token),
    }
