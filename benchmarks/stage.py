"""A router for benchmarks: Redis, a destination that takes all, one route; workers are the caller's to start."""

import contextlib
import dataclasses
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests

from cli import redis_server
from torture.parts import Parts, wait

ROUTES = """version: 1
routes:
- name: number
  action: track_event
  order: "{order}"
  mapping:
    event: Numbered
    email: {{"@path": $.user.email}}
    properties: {{"@path": $.properties}}
"""


@dataclasses.dataclass(frozen=True)
class Stage:
    """What a benchmark plays on."""

    parts: Parts
    receiver: str  #: address of the destination (receiver.py)

    def arrivals(self) -> list[list[Any]]:
        """Time, number of the event and status of each request that came."""
        found: list[list[Any]] = requests.get(f"{self.receiver}/arrivals", timeout=60).json()
        return found


@contextlib.contextmanager
def stage(*, order: str = "pass", **environ: str) -> Iterator[Stage]:
    """Everything but the workers, ready; ended at the end. `environ` is for the workers."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parts = Parts(folder, os.environ, "bench-key")
        port = redis_server.free_port()
        found = Stage(parts, f"http://127.0.0.1:{port}")
        (folder / "routes.yaml").write_text(ROUTES.format(order=order))
        (folder / "sources.yaml").write_text("version: 1\nsources: {}\n")
        parts.environ |= {
            "ROUTES_FILE": str(folder / "routes.yaml"),
            "SOURCES_FILE": str(folder / "sources.yaml"),
            "ENCHARGE_INGEST_URL": f"{found.receiver}/",
            **environ,
        }
        try:
            program = Path(__file__).with_name("receiver.py")
            parts.start("receiver", [sys.executable, str(program), "--port", str(port)])
            wait(lambda: reached(found.receiver), 10, "the receiver answers")
            yield found
        finally:
            parts.close()


def reached(url: str) -> bool:
    """Whether somebody answers there."""
    try:
        return requests.get(f"{url}/arrivals", timeout=1).ok
    except requests.RequestException:
        return False
