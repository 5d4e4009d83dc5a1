"""Posts the events: per subject one sender at a time, in order, again and again until the router has taken them."""

import dataclasses
import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Final

import redis
import requests

from config.celery_settings import QUEUE
from tasks.ledger import connect
from torture.events import Event, Post
from torture.router import Router
from torture.senders import Sending, ids_of, sending

_SENDERS: Final = 8
_TIMEOUT_S: Final = 5.0
_PAUSE_S: Final = 0.25
_LOOK_EVERY_S: Final = 0.1


@dataclasses.dataclass(frozen=True)
class Taken:
    """An event that the router has answered for."""

    id: str
    event: Event
    source: str
    at: float  #: when the answer was there, Unix time


class Load:
    """The senders of one run."""

    def __init__(self, router: Router, posts: Sequence[Post], span_s: float, run: str) -> None:
        """The posts are spread evenly over `span_s` seconds."""
        self._router = router
        self._run = run
        self._due: list[tuple[float, Post]] = [(span_s * n / len(posts), post) for n, post in enumerate(posts)]
        self._begun = 0.0
        self._give_up_at = float("inf")
        self._direct = threading.local()
        self.taken: list[Taken] = []
        self.answers: Counter[str] = Counter()  #: how the router answered: status, or the name of the exception
        self.never: list[Post] = []  #: given up
        self.errors: list[str] = []  #: senders that broke
        self._threads = [
            threading.Thread(target=self._send_all, args=(number,), name=f"sender-{number}", daemon=True)
            for number in range(_SENDERS)
        ]

    def start(self) -> None:
        """Let the senders begin."""
        self._begun = time.monotonic()
        for thread in self._threads:
            thread.start()

    def running(self) -> bool:
        """Whether there is something to send."""
        return any(thread.is_alive() for thread in self._threads)

    def finish(self, within_s: float) -> None:
        """Wait until all has been taken; what is not, by then, is given up."""
        self._give_up_at = time.monotonic() + within_s
        for thread in self._threads:
            thread.join()

    def _send_all(self, number: int) -> None:
        try:
            self._send(number)
        except Exception as error:  # noqa: BLE001 - a sender that ends in silence would count as success
            self.errors.append(f"sender {number}: {type(error).__name__}: {error}")

    def _send(self, number: int) -> None:
        session = requests.Session()
        session.trust_env = False
        dice = random.Random(f"{self._run}:{number}")  # noqa: S311 - which door comes first guards nothing
        for due_s, post in self._due:
            # A subject keeps to one sender, so its posts follow each other.
            if post.subject % _SENDERS != number:
                continue
            time.sleep(max(0.0, self._begun + due_s - time.monotonic()))
            made = sending(post, self._run, self._router.secrets, self._router.padding)
            ids = self._publish(made) if post.way == "task" else self._post(session, made, dice)
            now = time.time()
            if ids is None:
                self.never.append(post)
                continue
            self.taken += [Taken(id_, event, post.source, now) for id_, event in zip(ids, post.events, strict=True)]

    def _post(self, session: requests.Session, made: Sending, dice: random.Random) -> tuple[str, ...] | None:
        doors = self._router.doors
        turn = dice.randrange(len(doors))
        headers = {"Content-Type": "application/json", **made.headers}
        while time.monotonic() < self._give_up_at:
            url = doors[turn % len(doors)] + made.path
            turn += 1
            try:
                answer = session.post(url, data=made.body, headers=headers, timeout=_TIMEOUT_S)
            except requests.RequestException as error:
                self.answers[type(error).__name__] += 1
            else:
                self.answers[str(answer.status_code)] += 1
                if answer.ok:
                    return ids_of(made, answer.json())
            time.sleep(_PAUSE_S)
        return None

    def _publish(self, made: Sending) -> tuple[str, ...] | None:
        """Onto the queue, again only when Redis did not say that it has taken it; then the events must come.

        Until they are there, nothing else of the subject may follow: somebody else may take that first.
        """
        while time.monotonic() < self._give_up_at:
            try:
                self._client().lpush(QUEUE, made.body)
            except redis.RedisError as error:
                self.answers[type(error).__name__] += 1
                time.sleep(_PAUSE_S)
                continue
            self.answers["published"] += 1
            while not self._arrived(made.ids) and time.monotonic() < self._give_up_at:
                time.sleep(_LOOK_EVERY_S)
            return made.ids
        return None

    def _arrived(self, ids: Sequence[str]) -> bool:
        try:
            return all(event is not None for event in self._router.ledger_events(ids))
        except redis.RedisError:
            return False

    def _client(self) -> "redis.Redis":
        """Each sender has its own: who publishes goes to Redis without a proxy."""
        if not hasattr(self._direct, "client"):
            self._direct.client = connect(self._router.redis.url, timeout_s=2)
        client: redis.Redis = self._direct.client
        return client
