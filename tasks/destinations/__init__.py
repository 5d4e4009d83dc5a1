"""The only way out: one file for each HTTP API, and the table of those that requests can name."""

from collections.abc import Mapping
from typing import Final

from config.settings import Settings
from tasks.destinations.activatepro import ActivatePro
from tasks.destinations.connections import Pools
from tasks.destinations.encharge import Encharge
from tasks.destinations.guarded import Guard, guarded
from tasks.destinations.http import Http
from tasks.destinations.segment import Segment
from tasks.destinations.webhook import Webhook
from tasks.webhooks import PREFIX
from tasks.webhooks import Webhook as Declared

#: The names that requests and limits use, beside webhook-… for those that the routes file declares; and whose they are.
DESTINATIONS: Final[Mapping[str, str]] = {
    "encharge_ingest": "encharge",
    "encharge_api": "encharge",
    "activatepro": "activatepro",
    "segment": "segment",
}
#: System → the setting that holds its key.
KEYS: Final[Mapping[str, str]] = {
    "encharge": "encharge_write_key",
    "activatepro": "activatepro_token",
    "segment": "segment_write_key",
}

Destination = Encharge | ActivatePro | Segment | Webhook


def destinations(
    settings: Settings,
    webhooks: Mapping[str, Declared] | None = None,
    keys: Mapping[str, tuple[bytes, ...]] | None = None,
) -> dict[str, Destination]:
    """The destinations by the names that requests use. Those of fixed addresses share one pooled HTTP session.

    `keys` sign the webhooks' requests; to show requests, none are needed.
    """

    def http(made_by: Pools | None = None) -> Http:
        return Http(
            connect_timeout_s=settings.http_connect_timeout_s,
            read_timeout_s=settings.http_read_timeout_s,
            connections=settings.worker_concurrency,
            made_by=made_by,
        )

    def receiver(name: str, declared: Declared) -> Webhook:
        return Webhook(http(guarded(Guard(declared.allowed))), declared.url, (keys or {}).get(name, ()))

    shared = http()
    return {
        "encharge_ingest": Encharge(shared, settings.encharge_ingest_url, settings.encharge_write_key),
        "encharge_api": Encharge(shared, settings.encharge_api_url, settings.api_key),
        "activatepro": ActivatePro(shared, settings.activatepro_url, settings.activatepro_token),
        "segment": Segment(shared, settings.segment_url, settings.segment_write_key),
        **{f"{PREFIX}{name}": receiver(name, declared) for name, declared in (webhooks or {}).items()},
    }
