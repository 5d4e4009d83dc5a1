"""What the web process is made of, out of the environment."""

import sqlite3
from collections.abc import Mapping
from typing import Final

import structlog
from flask import Flask

from app import create_app, spool
from app import source as sources
from app.drainer import Drainer
from app.pressure import Pressure
from app.sources import KINDS
from app.spool import Spool
from config import logging as logs
from config import tested_versions
from config.problems import ConfigurationRefused
from config.settings import Settings, read
from tasks import publishers
from tasks.ledger import Ledger, connect, ledger_of
from tasks.measures import Measures
from tasks.queue import queue_for

log: Final = structlog.get_logger("app")

#: How long Redis may take to answer those whom no sender waits for.
PATIENT_S: Final = 2.0


def build(environ: Mapping[str, str]) -> Flask:
    """The web application. Raises ConfigurationRefused with every problem, before anything has started."""
    settings, known = configuration(environ)
    logs.configure(settings.log_level, settings.log_format)
    disk = opened_spool(settings)
    ledger = web_ledger(settings, settings.accept_timeout_s)
    log.info("router.configured", sources=sorted(known), **settings.described())
    pressure = Pressure()
    pressure.watch(connect(settings.redis_url, timeout_s=PATIENT_S), settings.redis_high_water)
    patient = web_ledger(settings, PATIENT_S)
    if disk is not None:
        Drainer(disk, queue_for(settings, patient), patient, pressure, quick_s=settings.accept_timeout_s).start()
    measures = Measures(patient)
    measures.start()
    others = publishers.load(settings.publishers_file, known)
    queue = queue_for(settings, ledger)
    return create_app(known, queue, ledger, disk, pressure, settings.metrics_token, measures, others)


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
    if values.get("spool_max_bytes") and (problem := spool.problem(values["spool_folder"])):
        problems.append(_unusable(problem))
    if problems:
        raise ConfigurationRefused(tuple(problems))
    return Settings(**values), known


def opened_spool(settings: Settings) -> Spool | None:
    """The spool, if there is to be one. Raises ConfigurationRefused when its folder cannot be used."""
    if not settings.spool_max_bytes:
        return None
    try:
        return Spool(settings.spool_folder.absolute(), settings.spool_max_bytes)
    except (OSError, sqlite3.Error) as error:
        raise ConfigurationRefused((_unusable(f"{type(error).__name__}"),)) from error


def _unusable(why: str) -> str:
    return f"environment: SPOOL_FOLDER: cannot be used: {why}"


def web_ledger(settings: Settings, timeout_s: float) -> Ledger:
    """The ledger for accepting: one try within the time-out."""
    return ledger_of(settings, connect(settings.redis_url, timeout_s=timeout_s))
