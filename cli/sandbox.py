"""event-router sandbox: a stand-in Encharge to send to."""

import click

from sandbox.server import serve


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8900, show_default=True, help="0 = any free one.")
@click.option("--write-key", default="sandbox-write-key", show_default=True)
@click.option("--api-key", default="sandbox-api-key", show_default=True)
def sandbox(host: str, port: int, write_key: str, api_key: str) -> None:
    """Run a stand-in Encharge: its Ingest and REST APIs, a page that shows what arrived, faults on demand."""
    serve(host, port, write_key=write_key, api_key=api_key)
