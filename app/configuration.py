"""What the web process is made of, out of the environment."""

from collections.abc import Mapping
from typing import Final

import structlog
from flask import Flask

from app import create_app
from app import source as sources
from app.sources import KINDS
from config import logging as logs
from config import tested_versions
from config.problems import ConfigurationRefused
from config.settings import Settings, read
from tasks.ledger import Ledger, connect
from tasks.queue import queue_for

log: Final = structlog.get_logger("app")


def build(environ: Mapping[str, str]) -> Flask:
    """The web application. Raises ConfigurationRefused with every problem, before anything has started."""
    settings, known = configuration(environ)
    logs.configure(settings.log_level, settings.log_format)
    ledger = web_ledger(settings)
    log.info("router.configured", sources=sorted(known), **settings.described())
    return create_app(known, queue_for(settings, ledger), ledger, settings.metrics_token)


def configuration(environ: Mapping[str, str]) -> tuple[Settings, dict[str, sources.Source]]:
    """Settings and sources. Raises ConfigurationRefused with the problems of both."""
    values, problems = read(environ)
    problems += tested_versions.problems()
    known: dict[str, sources.Source] = {}
    if "sources_file" in values:
        try:
            known = sources.load(values["sources_file"], environ, KINDS)
        except ConfigurationRefused as refused:
            problems += refused.problems
    if problems:
        raise ConfigurationRefused(tuple(problems))
    return Settings(**values), known


def web_ledger(settings: Settings) -> Ledger:
    """The ledger as the accept path uses it: one try within the time-out, then the sender is told to come again."""
    return Ledger(
        connect(settings.redis_url, timeout_s=settings.accept_timeout_s),
        max_waiting=settings.max_waiting,
        dedupe_window_s=settings.dedupe_window_s,
        lease_s=settings.lease_s,
    )
