"""event-router check: everything that start-up checks, without starting."""

import json

import click

import app.configuration
import tasks.worker
from config.problems import ConfigurationRefused
from config.settings import load
from tasks.ledger import connect

_TIMEOUT_S = 2.0


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.option("--offline", is_flag=True, help="Do not ask whether Redis answers.")
@click.pass_obj
def check(environ: dict[str, str], as_json: bool, offline: bool) -> None:
    """Check settings, sources and routes, and whether Redis answers. Ends with status 1 on problems."""
    problems: list[str] = []
    warnings: list[str] = []
    effective: dict[str, str] = {}
    for configuration in (app.configuration.configuration, tasks.worker.configuration):
        try:
            settings, found = configuration(environ)
            effective = settings.described()
            warnings += getattr(found, "warnings", ())
        except ConfigurationRefused as refused:
            problems += [problem for problem in refused.problems if problem not in problems]
    if effective and not offline:
        problems += _redis_problems(environ)
    if as_json:
        click.echo(json.dumps({"problems": problems, "warnings": warnings, "settings": effective}))
    else:
        for name, value in effective.items():
            click.echo(f"{name} = {value}")
        for warning in warnings:
            click.echo(f"warning: {warning}", err=True)
        click.echo("\n".join(problems) if problems else "no problems found", err=bool(problems))
    if problems:
        raise SystemExit(1)


def _redis_problems(environ: dict[str, str]) -> list[str]:
    client = connect(load(environ).redis_url, timeout_s=_TIMEOUT_S)
    try:
        info = client.info()
        policy = client.config_get("maxmemory-policy").get("maxmemory-policy", "unknown")
        persistent = client.config_get("appendonly").get("appendonly")
    except Exception as error:  # noqa: BLE001 - whatever goes wrong here is the finding
        return [f"environment: REDIS_URL: Redis does not answer ({type(error).__name__})"]
    problems = []
    if tuple(map(int, str(info["redis_version"]).split(".")[:2])) < (6, 2):
        problems.append(f"environment: REDIS_URL: the server is Redis {info['redis_version']}, 6.2 or newer is needed")
    if policy != "noeviction":
        problems.append(f"environment: REDIS_URL: maxmemory-policy is {policy}: Redis may drop events; set noeviction")
    if persistent != "yes":
        problems.append("environment: REDIS_URL: appendonly is off: events are lost when Redis restarts; set it to yes")
    return problems
