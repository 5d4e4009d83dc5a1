"""event-router sandbox: a stand-in Encharge to send to."""

import click

from sandbox.server import OpenToAll, keys_of, serve
from sandbox.tokens import Tokens


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8900, show_default=True, help="0 = any free one.")
@click.option("--reveal", is_flag=True, help="Show on the page what was sent; without it, how much and when.")
@click.pass_obj
def sandbox(environ: dict[str, str], host: str, port: int, reveal: bool) -> None:
    """Run a stand-in Encharge: its Ingest and REST APIs, a page that shows what arrived, faults on demand.

    Callers must know the keys of ENCHARGE_WRITE_KEY and ENCHARGE_API_KEY; without them sandbox-write-key and
    sandbox-api-key. ActivatePro (/activatepro), Segment (/segment/v1) and a receiver of webhooks (/webhook) are there
    too, with ACTIVATEPRO_TOKEN, SEGMENT_WRITE_KEY and SANDBOX_WEBHOOK_SECRET. On an address that other machines
    reach, keys that everybody knows will not do, and the page wants the API key.
    """
    try:
        serve(host, port, keys_of(environ), tokens=Tokens.of(environ), reveal=reveal)
    except OpenToAll as refused:
        raise click.ClickException(str(refused)) from None
