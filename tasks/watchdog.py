"""Ends a worker that looks alive and consumes nothing, so that its supervisor starts a new one.

Known of Celery: after a restart or failover of Redis a worker can stay connected and never take a message again.
Nothing in such a process notices, because it waits; so a thread apart from all that asks for proof. Proof is a
heartbeat that came back through the queue, or a task that has begun or ended meanwhile. What excuses silence: Redis
does not answer this thread either; or every thread is at work, so that there is nothing to take messages for.
"""

import dataclasses
import threading
import time
from collections.abc import Callable
from typing import Final

import structlog

from tasks.errors import QueueUnavailable

log: Final = structlog.get_logger("tasks.watchdog")

#: Exit status (EX_TEMPFAIL of sysexits.h): start me again.
DEAD_STATUS: Final = 75
_MOST_BETWEEN_S: Final = 5.0


@dataclasses.dataclass(frozen=True)
class Work:
    """What a worker has in hand: tasks begun ever, tasks that run now, and threads to run them."""

    begun: int
    running: int
    threads: int


@dataclasses.dataclass(frozen=True)
class Limits:
    """Seconds without proof: of a worker, and of one all of whose threads are at work."""

    silent_s: float
    busy_s: float

    @property
    def between_s(self) -> float:
        """Seconds between two looks: enough of them that one lost heartbeat does not matter."""
        return min(_MOST_BETWEEN_S, self.silent_s / 6)

    def excess_s(self, silent_s: float, work: Work) -> float:
        """Seconds of silence that nothing excuses: up to `silent_s` of it is still a worker."""
        if work.running < work.threads:
            return silent_s
        return max(0.0, silent_s - self.busy_s + self.silent_s)


class Pulse:
    """When this process last proved that it consumes."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._felt_at = clock()
        self._lock = threading.Lock()

    def felt(self) -> None:
        """Just now."""
        with self._lock:
            self._felt_at = self.now()

    def now(self) -> float:
        """Seconds on its clock."""
        return self._clock()

    def silent_s(self) -> float:
        """Seconds since then."""
        with self._lock:
            return self.now() - self._felt_at


class Watchdog:
    """One look at a time; `beat` sends the next heartbeat and raises when Redis does not answer."""

    def __init__(
        self,
        *,
        pulse: Pulse,
        limits: Limits,
        work: Callable[[], Work],
        beat: Callable[[float], None],
        end: Callable[[], None],
    ) -> None:
        self._pulse = pulse
        self._limits = limits
        self._work = work
        self._beat = beat
        self._end = end
        self._seen: Work | None = None
        self._looked_at = pulse.now()

    def look(self) -> None:
        """Ask for proof; without any for too long, end the process."""
        work = self._work()
        if work != self._seen or self._stood_still():
            self._seen = work
            self._pulse.felt()
        try:
            self._beat(self._limits.excess_s(self._pulse.silent_s(), work))
        except QueueUnavailable as error:
            self._pulse.felt()
            log.warning("broker.unreachable", error=str(error))
            return
        except Exception:
            self._pulse.felt()
            raise
        silent_s = self._pulse.silent_s()
        if self._limits.excess_s(silent_s, work) > self._limits.silent_s:
            log.critical("worker.dead", silent_s=round(silent_s, 1), running=work.running, threads=work.threads)
            self._end()

    def _stood_still(self) -> bool:
        """Whether this thread had no turn either: the process was stopped, or its machine."""
        before, self._looked_at = self._looked_at, self._pulse.now()
        return self._looked_at - before > self._limits.silent_s / 2
