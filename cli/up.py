"""event-router up: the whole router on this machine, until Ctrl-C."""

import os
import secrets
import shlex
import signal
import time
from pathlib import Path
from typing import Any

import click

from app.kinesis import process as kinesis
from cli.redis_server import pick_port
from cli.stack import KINESIS, Stack, answers, flower_command, running

_PORTS = {"web": 8080, "worker": 9808, "sandbox": 8900, "flower": 5555}
_FILES = ("SOURCES_FILE", "ROUTES_FILE", "PUBLISHERS_FILE")
_EXAMPLE = (
    '{"event":"added-tag-vip","type":"tag","properties":{"tag":"vip"},'
    '"user":{"id":"1ad75773-a8d9-4676-b2e8-d2beebf3742f","email":"someone@example.com"},"timestamp":1562914373005}'
)


@click.command()
@click.option("--reveal", is_flag=True, help="Let the sandbox's page show people; without it, how much arrived.")
@click.pass_obj
def up(environ: dict[str, str], reveal: bool) -> None:
    """Run web, worker, Flower, the reader of streams where a source has one, and without an Encharge key the sandbox.

    What ends is started again; Ctrl-C stops all.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    with running(environ, Path("var/up"), _PORTS, reveal=reveal) as stack:
        if kinesis.sources(stack.environ)[1]:
            stack.start("kinesis", KINESIS)
        flower_port = pick_port(_PORTS["flower"])
        # Flower can stop workers, and other users of this machine reach its port too.
        login = environ.get("FLOWER_BASIC_AUTH") or f"router:{secrets.token_urlsafe(12)}"
        told = {"FLOWER_BASIC_AUTH": login, "FLOWER_DB": str((stack.folder / "flower/rows").resolve())}
        flower = stack.start("flower", flower_command(flower_port), told)
        while flower.popen.poll() is None and not answers(f"http://127.0.0.1:{flower_port}/healthcheck"):
            time.sleep(0.1)
        click.echo(
            f"web      {stack.web_url}/webhooks/encharge\n"
            f"Flower   http://127.0.0.1:{flower_port}  ({login})\n"
            f"Encharge {stack.sandbox_url or 'the account of ENCHARGE_WRITE_KEY'}\n"
            f"metrics  {stack.web_url}/metrics\n"
            f"logs     {stack.folder}/log\n\n"
            f"Send it an event:\n\n"
            f"  curl -i {stack.web_url}/webhooks/encharge -H 'Authorization: Bearer {stack.secret}' \\\n"
            f"    -H 'Content-Type: application/json' -d '{_EXAMPLE}'\n\n"
            f"Look after it, in another shell:\n\n"
            f"  . {environment_file(stack)}\n"
            f"  .venv/bin/event-router ledger\n"
            f"  .venv/bin/event-router send cli/samples/encharge.json\n\n"
            f"Ctrl-C stops everything."
        )
        try:
            _watch(stack)
        except KeyboardInterrupt:
            click.echo("\nstopping")


def environment_file(stack: Stack) -> Path:
    """What commands need to find this router, for a shell to read; for this user only, as it holds secrets."""
    file = stack.folder / "environment"
    names = (
        *("REDIS_URL", "SPOOL_FOLDER", "ENCHARGE_WEBHOOK_SECRET", "ENCHARGE_WRITE_KEY", "ENCHARGE_API_KEY"),
        *("ENCHARGE_INGEST_URL", "ACTIVATEPRO_TOKEN", "ACTIVATEPRO_URL", "SEGMENT_WRITE_KEY", "SEGMENT_URL"),
    )
    values = {name: stack.environ[name] for name in names if name in stack.environ}
    # The shell that reads this may stand in another folder.
    values |= {name: str(Path(value).resolve()) for name in _FILES if (value := stack.environ.get(name))}
    values |= {"EVENT_ROUTER_URL": stack.web_url}
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as opened:
        os.fchmod(opened.fileno(), 0o600)  # it may have been there before, and open to others
        opened.write("".join(f"export {name}={shlex.quote(value)}\n" for name, value in values.items() if value))
    return file


def _watch(stack: Stack) -> None:
    while True:
        time.sleep(1)
        for name, process in list(stack.processes.items()):
            if process.popen.poll() is not None:
                click.echo(f"{name} ended with status {process.popen.returncode}; starting it again")
                stack.start(name, process.command, process.environ)


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt
