"""event-router check: everything that start-up checks, without starting."""

import contextlib
import json
from collections.abc import Iterable

import click

import app.configuration
import tasks.worker
from app.kinesis.process import unreachable
from app.source import Source
from cli.connection import connection_to
from config.problems import ConfigurationRefused
from config.settings import Settings, load
from config.yaml_file import read
from tasks import route_lint
from tasks.envelope import Envelope
from tasks.ledger import connect
from tasks.routing import Routes, source_names

_TIMEOUT_S = 2.0
_EVENTS_LOOKED_AT = 1000


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.option("--offline", is_flag=True, help="Do not ask whether Redis answers.")
@click.pass_obj
def check(environ: dict[str, str], as_json: bool, offline: bool) -> None:
    """Check settings, sources and routes, and whether Redis answers. Ends with status 1 on problems.

    Warnings are about routes that are valid and hardly meant so; they do not change the status.
    """
    problems: list[str] = []
    warnings: list[str] = []
    effective: dict[str, str] = {}
    for configuration in (app.configuration.configuration, tasks.worker.configuration):
        try:
            settings, found = configuration(environ)
            effective = settings.described()
            warnings += getattr(found, "warnings", ())
            if isinstance(found, Routes):
                warnings += _route_warnings(settings, found, offline=offline)
            elif not offline:
                warnings += _stream_warnings(found.values())
        except ConfigurationRefused as refused:
            problems += [problem for problem in refused.problems if problem not in problems]
    if effective and not offline:
        problems += _redis_problems(environ)
    if as_json:
        click.echo(json.dumps({"problems": problems, "warnings": warnings, "settings": effective}))
    else:
        for name, value in effective.items():
            click.echo(f"{name} = {value}")
        if warnings:
            click.echo("\n".join(["", "warnings:", *(f"  {warning}" for warning in warnings), ""]))
        click.echo("\n".join(problems) if problems else "no problems found", err=bool(problems))
    if problems:
        raise SystemExit(1)


def _route_warnings(settings: Settings, routes: Routes, *, offline: bool) -> list[str]:
    stored: list[Envelope] = []
    if not offline:
        # A Redis that does not answer is a problem, and told as one; here there are just no events to look at.
        with contextlib.suppress(click.ClickException):
            stored = connection_to(settings).ledger.stored(_EVENTS_LOOKED_AT)
    return route_lint.warnings(read(settings.routes_file), routes, source_names(settings.sources_file), stored)


def _stream_warnings(sources: Iterable[Source]) -> list[str]:
    """Streams that this machine does not reach; another, with the credentials, may."""
    found = unreachable([source for source in sources if source.kinesis is not None])
    return [f"source {name}: its stream does not answer here ({error})" for name, error in found.items()]


def _redis_problems(environ: dict[str, str]) -> list[str]:
    client = connect(load(environ).redis_url, timeout_s=_TIMEOUT_S)
    try:
        info = client.info()
        policy = client.config_get("maxmemory-policy").get("maxmemory-policy", "unknown")
        persistent = client.config_get("appendonly").get("appendonly")
    except Exception as error:  # noqa: BLE001 - whatever goes wrong here is the finding
        return [f"environment: REDIS_URL: Redis does not answer ({type(error).__name__})"]
    problems = []
    if tuple(map(int, str(info["redis_version"]).split(".")[:2])) < (7, 0):
        problems.append(f"environment: REDIS_URL: the server is Redis {info['redis_version']}, 7.0 or newer is needed")
    if policy != "noeviction":
        problems.append(f"environment: REDIS_URL: maxmemory-policy is {policy}: Redis may drop events; set noeviction")
    if persistent != "yes":
        problems.append("environment: REDIS_URL: appendonly is off: events are lost when Redis restarts; set it to yes")
    return problems
