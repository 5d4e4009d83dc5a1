"""Segment's own Python library as a sender: python segment_client.py URL KEY COUNT PREFIX [gzip]."""

import json
import sys
import time

from segment.analytics.client import Client


def call(client: Client, kind: int, number: str) -> None:
    """One call of the six."""
    about = {"number": number}
    calls = (
        lambda: client.track(number, "Tracked", about),
        lambda: client.identify(number, {**about, "email": f"{number}@example.com"}),
        lambda: client.page(number, "Docs", "Start", about),
        lambda: client.screen(number, "App", "Home", about),
        lambda: client.group(number, f"group-{number}", about),
        lambda: client.alias(f"old-{number}", number),
    )
    calls[kind]()


def main(url: str, key: str, count: int, prefix: str, packed: bool) -> None:
    """Make `count` calls, the six kinds in turn, and print how many errors the library reported."""
    errors: list[str] = []
    client = Client(key, host=url, gzip=packed, on_error=lambda error, _batch: errors.append(str(error)))
    for index in range(count):
        call(client, index % 6, f"{prefix}{index}")
        time.sleep(0.002)
    client.shutdown()
    print(json.dumps({"errors": errors}))


main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4], "gzip" in sys.argv)
