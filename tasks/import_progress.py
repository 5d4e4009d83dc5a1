"""How far files have been imported, so that each row is taken once, also when an import is ended in the middle.

    router:import:<sha256 of the file>    hash, for 90 days    <source> → {"rows", "done", "at"}

Written behind the rows themselves, in the same Redis: it may know less than is there, never more.
"""

import dataclasses
import json
from datetime import datetime
from typing import Any, Final

import redis

from tasks.envelope import rfc3339
from tasks.errors import QueueUnavailable

_KEPT_S: Final = 90 * 24 * 3600


@dataclasses.dataclass(frozen=True)
class Progress:
    """What is known of one file's import for one source."""

    rows: int = 0  #: that were taken, or reported as broken
    done: bool = False
    at: str = ""  #: RFC 3339 UTC; "" = it was never begun

    @property
    def begun(self) -> bool:
        """Whether anything of it may have been taken, or reported."""
        return bool(self.at)


class ImportProgress:
    """The hashes as methods; both raise QueueUnavailable."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def read(self, sha256: str, source: str) -> Progress:
        """How far an import went; from the beginning when nothing is known of it."""
        try:
            found = self._client.hget(_key(sha256), source)
        except redis.RedisError as error:
            raise QueueUnavailable(type(error).__name__) from error
        return Progress(**json.loads(found)) if found else Progress()

    def write(self, sha256: str, source: str, rows: int, now: datetime, *, done: bool) -> None:
        """So many rows are in Redis for good."""
        value = json.dumps({"rows": rows, "done": done, "at": rfc3339(now)})
        try:
            with self._client.pipeline(transaction=False) as pipeline:
                pipeline.hset(_key(sha256), source, value).expire(_key(sha256), _KEPT_S).execute()
        except redis.RedisError as error:
            raise QueueUnavailable(type(error).__name__) from error


def _key(sha256: str) -> str:
    return f"router:import:{sha256}"
