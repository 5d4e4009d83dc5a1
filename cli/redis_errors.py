"""What a person is told when Redis does not do what a command asked of it; never a password, nor a traceback."""

from typing import Final
from urllib.parse import unquote, urlsplit

import redis

from config.redis_url import is_sentinel, sentinels

_PORT: Final = 6379
#: What an own error's name says already, and what passes.
_FOR_NOW: Final = (redis.BusyLoadingError, redis.ReadOnlyError, redis.exceptions.OutOfMemoryError)


def told(error: BaseException, url: str) -> str | None:
    """An error, or what it came of, as a sentence; None when it says nothing about connection, user or rights.

    `url` is REDIS_URL: where it leads and who it names is told, and nothing else of it.
    """
    if not isinstance(error, redis.RedisError):
        return told(error.__cause__, url) if error.__cause__ else None
    at, user = f"Redis at {place(url)}", user_of(url)
    if isinstance(error, redis.AuthenticationError | redis.exceptions.AuthenticationWrongNumberOfArgsError):
        return f"{at} refuses the user ({user}) or the password of REDIS_URL"
    # A script's error says it in its text only.
    if isinstance(error, redis.exceptions.NoPermissionError) or "ACL failure" in str(error):
        return f'the Redis user {user} may not do this; docs/security.md, "Redis with users", says which user may'
    if isinstance(error, _FOR_NOW):
        return f"{at} answers, and does not do this now ({type(error).__name__})"
    if isinstance(error, redis.ConnectionError | redis.TimeoutError):
        return f"no connection to {at} (REDIS_URL; beside `make up`: . var/up/environment)"
    return None


def place(url: str) -> str:
    """Where an address leads: host and port, those of all sentinels, or a socket's path."""
    if is_sentinel(url):
        return ", ".join(f"{host}:{port}" for host, port in sentinels(url).hosts)
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return unquote(parts.path)
    host = parts.hostname or "localhost"
    return f"{f'[{host}]' if ':' in host else host}:{parts.port or _PORT}"


def user_of(url: str) -> str:
    """Who an address says that we are; Redis' own name for nobody is `default`."""
    if is_sentinel(url):
        return sentinels(url).username or "default"
    return unquote(urlsplit(url).username or "") or "default"
