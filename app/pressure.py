"""Whether Redis is close to its memory limit: watched beside the requests, never within one.

A Redis at `maxmemory` refuses the workers' writes too, and then nothing drains; so the endpoint stops well before.
"""

import threading
from typing import Any, Final

import structlog

from tasks.memory import share_used

log: Final = structlog.get_logger("app.pressure")

_EVERY_S: Final = 0.5
#: How far below the mark memory must fall before events are let through again, as a share of maxmemory.
_SLACK: Final = 0.1


class Pressure:
    """The last known answer. `high` is read by every request, so it is a plain attribute."""

    def __init__(self) -> None:
        self.high = False
        self.share: float | None = None  #: of maxmemory; None while Redis does not answer

    def see(self, share: float | None, mark: float) -> None:
        """Take note of a measurement; without one, what was known stands."""
        self.share = share
        high = is_high(share, mark, was=self.high)
        if high != self.high:
            self.high = high
            log.warning("redis.memory_high" if high else "redis.memory_low", share=share, mark=mark)

    def watch(self, client: Any, mark: float) -> None:
        """Measure twice a second, in a thread that ends with the process. `client` has time-outs of its own."""

        def run() -> None:
            pause = threading.Event()
            while not pause.wait(_EVERY_S):
                self.see(share_used(client), mark)

        self.see(share_used(client), mark)
        threading.Thread(target=run, name="redis-memory", daemon=True).start()


def is_high(share: float | None, mark: float, *, was: bool) -> bool:
    """Whether the share of memory used is too high: from the mark on, until it is well below it again."""
    if share is None:
        return was
    return share >= (mark - _SLACK if was else mark)
