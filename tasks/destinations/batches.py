"""Several threads' requests in one: what comes while a batch is under way goes along with the next.

Nobody waits for company: who comes when the way is free goes at once, alone. The first of a batch sends it, for all;
there is no thread but those that have something to send.
"""

import copy
import threading
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

from tasks.errors import DestinationRejected, DestinationUnavailable, RouterError

_Item = TypeVar("_Item")
_Answer = TypeVar("_Answer")

#: Batches that may be under way at once. Fewer make fewer requests, but whoever comes meanwhile waits for a whole round
#: trip before his own begins: with one, 16 threads send half as many events as they would without batches.
AT_ONCE: Final = 4


class _Batch(Generic[_Item, _Answer]):
    def __init__(self) -> None:
        self.items: list[_Item] = []
        self.size = 0
        self.answer: _Answer | None = None
        self.error: RouterError | None = None
        self.done = threading.Event()


class Batches(Generic[_Item, _Answer]):
    """Sends items in batches. Safe to share between threads; as many wait as there are threads."""

    def __init__(self, send: Callable[[Sequence[_Item]], _Answer], *, most: int, most_size: int) -> None:
        """`send` sends up to `most` items, of `most_size` in all unless it is one alone. It must end in its time."""
        self._send = send
        self._most = most
        self._most_size = most_size
        self._waiting: list[_Batch[_Item, _Answer]] = []
        self._lock = threading.Lock()
        self._turn = threading.BoundedSemaphore(AT_ONCE)

    def send(self, item: _Item, size: int) -> _Answer:
        """Send an item, with what others have at the time.

        Raises what sending raised, for everyone whose item was in the batch. A batch that is refused for good is sent
        again, each item alone: only one of them may be to blame.
        """
        batch, first = self._join(item, size)
        if first:
            self._lead(batch)
        else:
            batch.done.wait()
        error = batch.error
        if error is None:
            return batch.answer  # type: ignore[return-value]  # done without an error is done with an answer
        if isinstance(error, DestinationRejected) and len(batch.items) > 1:
            with self._turn:
                return self._send([item])
        # One each: an exception that several threads raise has everybody's traceback.
        raise copy.copy(error)

    def _join(self, item: _Item, size: int) -> tuple[_Batch[_Item, _Answer], bool]:
        with self._lock:
            batch = self._waiting[-1] if self._waiting else None
            if batch is None or len(batch.items) == self._most or batch.size + size > self._most_size:
                batch = _Batch()
                self._waiting.append(batch)
            batch.items.append(item)
            batch.size += size
            return batch, len(batch.items) == 1

    def _lead(self, batch: _Batch[_Item, _Answer]) -> None:
        batch.error = DestinationUnavailable("not sent: whoever was to send the batch could not")
        try:
            with self._turn:
                self._close(batch)
                batch.answer = self._send(batch.items)
            batch.error = None
        except RouterError as error:
            batch.error = error
        finally:
            # Whatever it was: those who wait for it go on. What is no answer is the leader's alone to raise.
            self._close(batch)
            batch.done.set()

    def _close(self, batch: _Batch[_Item, _Answer]) -> None:
        """From now on nobody joins it."""
        with self._lock:
            if batch in self._waiting:
                self._waiting.remove(batch)
