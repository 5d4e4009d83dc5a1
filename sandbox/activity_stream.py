"""The optional echo: every change is posted back as Encharge's Activity Stream would, to try out loops.

Format: https://docs.encharge.io/advanced/activity-stream
"""

from collections.abc import Callable
from queue import Full, Queue
from threading import Lock, Thread

import requests

from sandbox.records import Change, Json

#: The receiver must answer in two seconds; what happens otherwise is not documented, here the event is lost.
TIMEOUT_S = 2.0
_QUEUE_SIZE = 10_000

Post = Callable[[Json], int]


class ActivityStream:
    """Posts changes one after the other from a single thread, once each, in their order."""

    def __init__(self, url: str, secret: str = "", *, post: Post | None = None, queue_size: int = _QUEUE_SIZE) -> None:
        self._post = post or _poster(url, secret)
        self._queue: Queue[Change] = Queue(queue_size)
        self._lock = Lock()
        self._counts = {"posted": 0, "failed": 0, "dropped": 0}
        self._thread: Thread | None = None

    def offer(self, change: Change) -> None:
        """Put a change in line; when the line is full, it is dropped and counted."""
        try:
            self._queue.put_nowait(change)
        except Full:
            self._count("dropped")
        self._start()

    def counts(self) -> dict[str, int]:
        """{"posted" (2xx), "failed" (any other end), "dropped" (line full), "waiting"}."""
        with self._lock:
            return self._counts | {"waiting": self._queue.qsize()}

    def drain(self) -> None:
        """Wait until everything in line has been tried."""
        self._queue.join()

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = Thread(target=self._run, name="activity-stream", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            change = self._queue.get()
            try:
                status = self._post(payload(change))
            except requests.RequestException:
                status = 0
            self._count("posted" if status // 100 == 2 else "failed")  # noqa: PLR2004 - 2xx
            self._queue.task_done()

    def _count(self, counter: str) -> None:
        with self._lock:
            self._counts[counter] += 1


def payload(change: Change) -> Json:
    """{"event", "type", "properties", "user"?, "object"?, "timestamp": Unix milliseconds}."""
    body: Json = {"event": change.name, "type": change.type, "properties": change.properties}
    if change.person:
        # Encharge's own id, not the customer's userId.
        body["user"] = {"id": change.person.id, "email": change.person.email}
    if change.item:
        body["object"] = change.item.as_object()
    return body | {"timestamp": int(change.at.timestamp() * 1000)}


def _poster(url: str, secret: str) -> Post:
    session = requests.Session()
    session.trust_env = False  # a proxy of the environment has no business between the sandbox and its router
    if secret:
        session.headers["Authorization"] = f"Bearer {secret}"

    def post(body: Json) -> int:
        response = session.post(url, json=body, timeout=TIMEOUT_S, allow_redirects=False)
        return response.status_code

    return post
