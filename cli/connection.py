"""What commands need of a running router: its ledger, queue and dead letters."""

import dataclasses
from collections.abc import Mapping

import click

from config.settings import Settings, load
from tasks.dead_letter import DeadLetters
from tasks.ledger import Ledger, connect, ledger_of
from tasks.queue import Queue, queue_for

_TIMEOUT_S = 5.0


@dataclasses.dataclass(frozen=True)
class Connection:
    """The parts, connected."""

    settings: Settings
    ledger: Ledger
    queue: Queue
    letters: DeadLetters


def open_connection(environ: Mapping[str, str]) -> Connection:
    """Connect to the Redis of the settings. Ends the command with a message when it does not answer."""
    settings = load(environ)
    return connection_to(settings)


def connection_to(settings: Settings) -> Connection:
    """The same, with settings at hand."""
    ledger = ledger_of(settings, connect(settings.redis_url, timeout_s=_TIMEOUT_S))
    if not ledger.ping():
        raise click.ClickException("Redis does not answer at the address in REDIS_URL")
    return Connection(settings, ledger, queue_for(settings, ledger), DeadLetters(ledger))
