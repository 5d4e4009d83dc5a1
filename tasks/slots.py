"""Shares a worker's threads among destinations, so that one that hangs cannot hold those that serve another."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Collection
from typing import Final

#: One in so many threads is kept free for each other destination; of many destinations fewer, so that half of all
#: threads are for whoever has something to send.
_SHARE: Final = 8
#: Longest wait for a thread's place at a destination that still answers.
_PATIENCE_S: Final = 0.1
#: A destination that answered nothing for this long, though it was asked, counts as slow.
_SLOW_S: Final = 0.25


class Slots:
    """Places at destinations. Safe to share between threads.

    A place is given while enough threads stay free for every other destination. When there is none, a destination
    that answers is waited for a moment; one that does not is refused at once, and its deliveries are parked.
    """

    def __init__(
        self, threads: int, destinations: Collection[str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._threads = threads
        others = max(1, len(destinations) - 1)
        enough = threads > len(destinations)  # else keeping some free would leave too few to work
        self._kept = min(max(1, threads // _SHARE), threads // 2 // others) if enough else 0
        self._destinations = tuple(destinations)
        self._taken: Counter[str] = Counter()
        self._answered: dict[str, float] = {}
        self._clock = clock
        self._changed = threading.Condition()

    def enter(self, destination: str) -> bool:
        """Take a place; False when there is none."""
        with self._changed:
            deadline = self._clock() + _PATIENCE_S
            while not self._free(destination):
                left = deadline - self._clock()
                if left <= 0 or self._clock() - self._answered.get(destination, 0) > _SLOW_S:
                    return False
                self._changed.wait(left)
            self._taken[destination] += 1
            return True

    def leave(self, destination: str) -> None:
        """Give the place back: the destination has answered, or we stopped waiting for it."""
        with self._changed:
            self._taken[destination] -= 1
            self._answered[destination] = self._clock()
            self._changed.notify_all()

    def _free(self, destination: str) -> bool:
        reserved = sum(max(0, self._kept - self._taken[other]) for other in self._destinations if other != destination)
        return self._taken.total() + reserved < self._threads
