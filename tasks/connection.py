"""Connections to Redis that notice when it is gone, and find it again: where it was, or where the sentinels say."""

from collections.abc import Callable
from typing import Any, Final, TypeVar

import redis
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelManagedConnection, SentinelManagedSSLConnection

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
    patience = _Patience(int(patience_s * 2)) if patience_s else None
    options: dict[str, Any] = {
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "health_check_interval": _IDLE_S if patience else 0,
        "retry": patience or Retry(NoBackoff(), 0),
    }
    if not url.startswith("unix://"):
        options["socket_keepalive"] = True
    client = _through(sentinels(url), options) if is_sentinel(url) else redis.Redis.from_url(url, **options)
    if patience:
        patience.pools.append(client.connection_pool)
    return client


def not_the_master(error: Exception) -> bool:
    """Whether a server says that it is a replica, or has lost its own: perhaps another is the master now."""
    return isinstance(error, redis.ReadOnlyError) or any(word in str(error) for word in ("READONLY", "NOREPLICAS"))


class _Anew:
    """Asks the sentinels whenever it connects; redis-py's own goes back to where it was connected before."""

    def send_packed_command(self: Any, command: Any, check_health: bool = True) -> None:  # noqa: FBT002 - redis-py's signature
        if not self._sock:
            self._connect_retry()
        super().send_packed_command(command, check_health)  # type: ignore[misc]


class MasterConnection(_Anew, SentinelManagedConnection):
    """A connection to whichever server is the master."""


class MasterTlsConnection(_Anew, SentinelManagedSSLConnection):
    """The same, over TLS."""


class _Patience(Retry):
    """Tries again at most twice a second: also what Redis refuses for now only, such as writes without a replica.

    When one connection does not answer, those that lie idle are given up with it: they are probably half-open too, and
    one event after the other would wait for each of them.
    """

    def __init__(self, retries: int, pools: list[Any] | None = None) -> None:
        errors = (redis.ConnectionError, redis.TimeoutError, TimeoutError, redis.ResponseError)
        super().__init__(ExponentialBackoff(cap=0.5, base=0.05), retries, errors)
        self.pools = [] if pools is None else pools  #: the one that it belongs to, once that exists

    def __deepcopy__(self, _: dict[int, Any]) -> "_Patience":
        # redis-py gives each connection a copy, because a back-off has a state.
        return _Patience(self._retries, self.pools)

    def call_with_retry(
        self,
        do: Callable[[], _T],
        fail: Callable[..., Any],
        is_retryable: Callable[[Exception], bool] | None = None,
        with_failure_count: bool = False,  # noqa: FBT002 - redis-py's signature
    ) -> _T:
        """As redis-py's, but that an answer which will not change is not asked for again."""

        def failed(error: Exception, *more: Any) -> Any:
            if isinstance(error, redis.TimeoutError | TimeoutError):
                for pool in self.pools:
                    pool.disconnect(inuse_connections=False)
            return fail(error, *more)

        def again(error: Exception) -> bool:
            return _passes(error) and (is_retryable is None or is_retryable(error))

        return super().call_with_retry(do, failed, again, with_failure_count)


def _passes(error: Exception) -> bool:
    return not isinstance(error, redis.ResponseError) or not_the_master(error)


def _through(at: Sentinels, options: dict[str, Any]) -> Any:
    """A client of whichever server the sentinels call the master; asked anew for each connection."""
    master: Any = manager(at).master_for
    kind = MasterTlsConnection if at.tls else MasterConnection
    return master(at.master, db=at.db, username=at.username, password=at.password, connection_class=kind, **options)


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
