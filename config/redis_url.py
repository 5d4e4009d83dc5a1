"""Where Redis is: one address as redis-py knows it, or the sentinels that know where the master is.

    sentinel://[user:password@]host:port,host:port,host:port/<db>?master=<name>[&sentinel_username=…&sentinel_password=…]

User and password are Redis'; the sentinels have their own, if any. `sentinels://` is the same over TLS.
"""

import dataclasses
from typing import Final
from urllib.parse import SplitResult, parse_qs, quote, unquote, urlsplit

SCHEMES: Final = ("sentinel", "sentinels")
_PORT: Final = 26379
_PARAMETERS: Final = {"master", "sentinel_username", "sentinel_password"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sentinels:
    """The parts of such a URL."""

    hosts: tuple[tuple[str, int], ...]
    master: str
    db: int = 0
    username: str | None = None
    password: str | None = dataclasses.field(default=None, repr=False)
    sentinel_username: str | None = None
    sentinel_password: str | None = dataclasses.field(default=None, repr=False)
    tls: bool = False

    @property
    def first(self) -> str:
        """The URL of one sentinel, as kombu and Flower take it; the others go into kombu's options."""
        host, port = self.hosts[0]
        host = f"[{host}]" if ":" in host else host
        secret = f"{quote(self.username or '', '')}:{quote(self.password, '')}@" if self.password else ""
        return f"sentinel://{secret}{host}:{port}/{self.db}"


def is_sentinel(url: str) -> bool:
    """Whether a URL names sentinels."""
    return url.partition("://")[0] in SCHEMES


def sentinels(url: str) -> Sentinels:
    """A sentinel URL → its parts. Raises ValueError, which never quotes the URL: it may hold a password."""
    parts = _split(url)
    user, _, hosts = parts.netloc.rpartition("@")
    username, _, password = user.partition(":")
    given = parse_qs(parts.query, keep_blank_values=False)
    if unknown := sorted(given.keys() - _PARAMETERS):
        raise ValueError(f"has an unknown parameter {unknown[0]}; there are {', '.join(sorted(_PARAMETERS))}")
    parameters = {name: values[-1] for name, values in given.items()}
    if "master" not in parameters:
        raise ValueError("must name the master, as the sentinels call it: …/0?master=<name>")
    return Sentinels(
        hosts=tuple(_address(host) for host in hosts.split(",")),
        master=parameters["master"],
        db=_database(parts.path.strip("/")),
        username=unquote(username) or None,
        password=unquote(password) or None,
        sentinel_username=parameters.get("sentinel_username"),
        sentinel_password=parameters.get("sentinel_password"),
        tls=parts.scheme == "sentinels",
    )


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:
        raise ValueError("is not a URL") from None


def _address(text: str) -> tuple[str, int]:
    try:
        host = urlsplit(f"//{text}")
        name, port = host.hostname, host.port
    except ValueError:
        name = None
    if not name or ";" in name:  # as in kombu's lists of URLs
        raise ValueError("must name the sentinels as host:port,host:port,…")
    return name, port or _PORT


def _database(text: str) -> int:
    if text and not (text.isascii() and text.isdigit()):
        raise ValueError("must end with a database's number: …/0?master=<name>")
    return int(text or 0)
