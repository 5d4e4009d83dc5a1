"""What commands need of a running router: its ledger, queue and dead letters."""

import dataclasses
from collections.abc import Mapping

import click
import redis

from cli.redis_errors import told
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
    """Connect to the Redis of the settings. Ends the command with a message when it does not answer, or not us."""
    settings = load(environ)
    return connection_to(settings)


def connection_to(settings: Settings) -> Connection:
    """The same, with settings at hand."""
    ledger = ledger_of(settings, connect(settings.redis_url, timeout_s=_TIMEOUT_S))
    try:
        ledger.client.ping()
    except redis.RedisError as error:
        raise click.ClickException(told(error, settings.redis_url) or f"Redis: {type(error).__name__}") from error
    return Connection(settings, ledger, queue_for(settings, ledger), DeadLetters(ledger))
