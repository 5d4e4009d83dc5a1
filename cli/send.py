"""event-router send: post events to a running endpoint, as a sender would."""

import json
import sys
from typing import Any

import click
import requests

_TIMEOUT_S = 10


@click.command()
@click.argument("file", type=click.File("rb"), default="-")
@click.option(
    "--url",
    envvar="EVENT_ROUTER_URL",
    default="http://127.0.0.1:8080",
    show_default=True,
    help="Where the router listens.",
)
@click.option("--source", default="encharge", show_default=True, help="Name of the source.")
@click.option("--event-name", help="For webhooks whose body names no event.")
@click.option("--secret", envvar="ENCHARGE_WEBHOOK_SECRET", help="Secret of the source.")
@click.option("--json", "as_json", is_flag=True, help="For programs: each answer a line.")
def send(
    file: Any,
    url: str,
    source: str,
    event_name: str | None,
    secret: str | None,
    as_json: bool,
) -> None:
    """Post the events of FILE (JSON: one event, or a list of them; - = standard input), one request each."""
    try:
        data = json.load(file)
    except ValueError as error:
        raise click.ClickException(f"{getattr(file, 'name', 'input')}: not JSON: {error}") from error
    events = data if isinstance(data, list) else [data]
    address = "/".join(filter(None, (url.rstrip("/"), "webhooks", source, event_name)))
    headers = {"Authorization": f"Bearer {secret}"} if secret else {}
    failed = 0
    with requests.Session() as session:
        for event in events:
            answer = session.post(address, json=event, headers=headers, timeout=_TIMEOUT_S)
            failed += not answer.ok
            click.echo(json.dumps({"status": answer.status_code, "answer": answer.text}) if as_json else answer.text)
    click.echo(f"{len(events) - failed} of {len(events)} accepted", err=True)
    sys.exit(1 if failed else 0)
