"""event-router check: everything that start-up checks, without starting."""

import contextlib
import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import click
import redis

import app.configuration
import tasks.worker
from app.kinesis.process import unreachable
from app.source import Source
from cli.connection import connection_to
from cli.redis_errors import told
from config.problems import ConfigurationRefused
from config.settings import Settings, load
from config.yaml_file import read
from tasks import publishers, route_lint
from tasks.envelope import Envelope
from tasks.ledger import connect
from tasks.routing import Routes, names, source_names

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
    publishing: dict[str, Any] = {"publishers": [], "lists": []}
    for configuration in (app.configuration.configuration, tasks.worker.configuration):
        try:
            settings, found = configuration(environ)
            effective = settings.described()
            warnings += getattr(found, "warnings", ())
            if isinstance(found, Routes):
                warnings += _route_warnings(settings, found, offline=offline)
                publishing = _publishing(settings, offline=offline)
            elif not offline:
                warnings += _stream_warnings(found.values())
        except ConfigurationRefused as refused:
            problems += [problem for problem in refused.problems if problem not in problems]
    if effective and not offline:
        problems += _redis_problems(environ)
    if as_json:
        whole = {"problems": problems, "warnings": warnings, "settings": effective, **publishing}
        click.echo(json.dumps(whole))
    else:
        shown = [*(f"{name} = {value}" for name, value in effective.items()), *_publishing_lines(publishing)]
        click.echo("".join(f"{line}\n" for line in shown), nl=False)
        if warnings:
            click.echo("\n".join(["", "warnings:", *(f"  {warning}" for warning in warnings), ""]))
        click.echo("\n".join(problems) if problems else "no problems found", err=bool(problems))
    if problems:
        raise SystemExit(1)


def _route_warnings(settings: Settings, routes: Routes, *, offline: bool) -> list[str]:
    stored: list[Envelope] = []
    if not offline:
        # A Redis that does not answer, or not us, is told as a problem below; here there are just no events to look at.
        with contextlib.suppress(click.ClickException, redis.RedisError):
            stored = connection_to(settings).ledger.stored(_EVENTS_LOOKED_AT)
    known = names(settings.sources_file, settings.publishers_file)
    return route_lint.warnings(read(settings.routes_file), routes, known, stored)


def _publishing(settings: Settings, *, offline: bool) -> dict[str, Any]:
    """The publishers of the file, the lists that are read, and how many messages lie there, as far as Redis says it."""
    found = publishers.load(settings.publishers_file, source_names(settings.sources_file))
    client = connect(settings.redis_url, timeout_s=_TIMEOUT_S)
    rows: list[dict[str, Any]] = []
    for list_, owner in found.lists().items():
        there = None
        if not offline:
            with contextlib.suppress(redis.RedisError):  # as above
                there = sum(client.llen(key) for key in publishers.keys_of(list_))
        rows.append({"list": list_, "publisher": owner, "messages": there})
    return {"publishers": [dataclasses.asdict(each) for each in found.known.values()], "lists": rows}


def _publishing_lines(found: Mapping[str, Any]) -> Iterator[str]:
    for one in found["publishers"]:
        quota = f"{one['per_second']:g} events a second, {one['burst']} at once" if one["per_second"] else "no quota"
        yield f"publisher {one['name']}: {quota}"
    for row in found["lists"]:
        there = "" if row["messages"] is None else f", {row['messages']} messages lie there"
        yield f"list {row['list']}: of {row['publisher'] or 'everybody'}{there}"


def _stream_warnings(sources: Iterable[Source]) -> list[str]:
    """Streams that this machine does not reach; another, with the credentials, may."""
    found = unreachable([source for source in sources if source.kinesis is not None])
    return [f"source {name}: its stream does not answer here ({error})" for name, error in found.items()]


def _redis_problems(environ: dict[str, str]) -> list[str]:
    url = load(environ).redis_url
    client = connect(url, timeout_s=_TIMEOUT_S)
    try:
        info = client.info()
        policy = client.config_get("maxmemory-policy").get("maxmemory-policy", "unknown")
        persistent = client.config_get("appendonly").get("appendonly")
    except Exception as error:  # noqa: BLE001 - whatever goes wrong here is the finding
        return [f"environment: REDIS_URL: {told(error, url) or type(error).__name__}"]
    problems = []
    if tuple(map(int, str(info["redis_version"]).split(".")[:2])) < (7, 0):
        problems.append(f"environment: REDIS_URL: the server is Redis {info['redis_version']}, 7.0 or newer is needed")
    if policy != "noeviction":
        problems.append(f"environment: REDIS_URL: maxmemory-policy is {policy}: Redis may drop events; set noeviction")
    if persistent != "yes":
        problems.append("environment: REDIS_URL: appendonly is off: events are lost when Redis restarts; set it to yes")
    return problems
