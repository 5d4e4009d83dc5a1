"""Connections to Redis that notice when it is gone, and find it again: where it was, or where the sentinels say."""

from collections.abc import Callable
from typing import Any, Final, TypeVar

import redis
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

from config.redis_url import Sentinels, is_sentinel, sentinels

#: Idle for longer than this, a patient client's connection is tried before it is used.
_IDLE_S: Final = 5
#: A sentinel is asked while everything else waits; there are others.
_SENTINEL_S: Final = 1.0

_T = TypeVar("_T")


def connect(url: str, *, timeout_s: float, patience_s: float = 0) -> Any:
    """A redis.Redis (Any: its stubs mix text and bytes).

    `timeout_s` bounds each call, `patience_s` (0 = none) how long a lost connection is tried again.
    """
    options: dict[str, Any] = {
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "socket_keepalive": True,
        "health_check_interval": _IDLE_S if patience_s else 0,
        "retry": _Patience(int(patience_s * 2)) if patience_s else Retry(NoBackoff(), 0),
    }
    return _through(sentinels(url), options) if is_sentinel(url) else redis.Redis.from_url(url, **options)


def demoted(error: Exception) -> bool:
    """Whether a server says that it is a replica, by now: whoever asks again must first connect again."""
    return isinstance(error, redis.ReadOnlyError) or "READONLY" in str(error)


class _Patience(Retry):
    """Tries again at most twice a second: also what Redis refuses for now only, such as writes without a replica."""

    def __init__(self, retries: int) -> None:
        backoff = ExponentialBackoff(cap=0.5, base=0.05)
        super().__init__(
            backoff, retries, (redis.ConnectionError, redis.TimeoutError, TimeoutError, redis.ResponseError)
        )

    def call_with_retry(
        self,
        do: Callable[[], _T],
        fail: Callable[..., Any],
        is_retryable: Callable[[Exception], bool] | None = None,
        with_failure_count: bool = False,  # noqa: FBT002 - redis-py's signature
    ) -> _T:
        """As redis-py's, but that an answer which will not change is not asked for again."""
        return super().call_with_retry(
            do,
            fail,
            lambda error: _passes(error) and (is_retryable is None or is_retryable(error)),
            with_failure_count,
        )


def _passes(error: Exception) -> bool:
    return not isinstance(error, redis.ResponseError) or demoted(error) or "NOREPLICAS" in str(error)


def _through(at: Sentinels, options: dict[str, Any]) -> Any:
    """A client of whichever server the sentinels call the master; asked anew for each connection."""
    master: Any = manager(at).master_for
    return master(at.master, db=at.db, username=at.username, password=at.password, ssl=at.tls, **options)


def manager(at: Sentinels, **options: Any) -> Any:
    """A redis.sentinel.Sentinel that passes over what does not answer; `options` are for its masters' connections."""
    untyped: Any = Sentinel
    own = {
        "socket_timeout": _SENTINEL_S,
        "socket_connect_timeout": _SENTINEL_S,
        "retry": Retry(NoBackoff(), 0),
        "username": at.sentinel_username,
        "password": at.sentinel_password,
        "ssl": at.tls,
    }
    return untyped(at.hosts, sentinel_kwargs=own, **options)
