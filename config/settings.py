"""Every setting of the router, declared once with its meaning; whatever is wrong is reported all at once."""

import dataclasses
import hmac
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from config.problems import ConfigurationRefused
from config.redis_url import is_sentinel, sentinels

CONFIG_FOLDER: Final = Path(__file__).resolve().parent
#: Room for a few events of the largest size.
_LEAST_SPOOL: Final = 1_048_576


def _text(value: str) -> str:
    return value


def _whole(value: str) -> int:
    number = int(value)
    if number < 1:
        raise ValueError("must be a whole number of 1 or more")
    return number


def _whole_or_none(value: str) -> int:
    number = int(value)
    if number < 0:
        raise ValueError("must be a whole number of 0 or more")
    return number


def _port(value: str) -> int:
    number = int(value)
    if not 0 <= number < 2**16:
        raise ValueError("must be a port, 0 to 65535")
    return number


def _on_off(value: str) -> bool:
    if value not in {"on", "off"}:
        raise ValueError("must be on or off")
    return value == "on"


def _share(value: str) -> float:
    number = float(value)
    if not 0 < number <= 1:
        raise ValueError("must be a number above 0, at most 1")
    return number


def _seconds(value: str) -> float:
    number = float(value)
    if not 0 < number < float("inf"):
        raise ValueError("must be a number of seconds above 0")
    return number


def _bytes_of_spool(value: str) -> int:
    number = int(value)
    if number != 0 and number < _LEAST_SPOOL:
        raise ValueError(f"must be 0 (no spool) or a whole number of {_LEAST_SPOOL} or more")
    return number


def _file(value: str) -> Path:
    path = Path(value)
    if not path.is_file():
        raise ValueError(f"there is no file {value}")
    return path


def _redis_url(value: str) -> str:
    if is_sentinel(value):
        sentinels(value)
        return value
    if not value.startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("must start with redis://, rediss://, unix:// or sentinel://")
    try:
        urlsplit(value).port  # noqa: B018 - parsing is what can fail
    except ValueError:
        raise ValueError("is not a URL") from None  # the library's own message quotes it, password and all
    return _verified(value)


def _verified(url: str) -> str:
    """An address whose parameters do not switch off what TLS is for."""
    given = {name: value.lower() for name, value in parse_qsl(urlsplit(url).query)}
    if not url.startswith("rediss://") and any(name.startswith("ssl_") for name in given):
        raise ValueError("ssl_ parameters go with rediss://; redis:// speaks in the clear")
    if given.get("ssl_cert_reqs", "required") not in {"required", "cert_required"}:
        raise ValueError("ssl_cert_reqs must be required: else anyone can answer in place of Redis")
    if given.get("ssl_check_hostname", "true") not in {"true", "1", "yes"}:
        raise ValueError("ssl_check_hostname must be true: else any certificate of the same CA will do")
    return url


def _broker_url(value: str) -> str:
    if "://" not in value:
        raise ValueError("must be a URL, such as redis://127.0.0.1:6379/0 or amqp://127.0.0.1//")
    if is_sentinel(value):
        raise ValueError("must not name sentinels: REDIS_URL does, and without BROKER_URL that is the broker")
    return _redis_url(value) if value.startswith(("redis", "unix")) else value


def _http_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("must be an http:// or https:// address")
    return value


#: What to do with dead letters that would write old data over newer.
STALE: Final = ("replay", "skip")


def _stale(value: str) -> str:
    if value not in STALE:
        raise ValueError(f"must be {' or '.join(STALE)}")
    return value


def _log_level(value: str) -> str:
    if value.upper() not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
        raise ValueError("must be DEBUG, INFO, WARNING or ERROR")
    return value.upper()


def _log_format(value: str) -> str:
    if value not in {"json", "console"}:
        raise ValueError("must be json or console")
    return value


def setting(env: str, doc: str, parse: Callable[[str], Any], default: str | None = "", *, secret: bool = False) -> Any:
    """Declare one field of Settings; a default of None means: must be set."""
    return dataclasses.field(metadata={"env": env, "doc": doc, "parse": parse, "default": default, "secret": secret})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What the environment says, parsed. Times are seconds, sizes are bytes."""

    redis_url: str = setting(
        "REDIS_URL",
        "The Redis (7.0 or newer) that holds the ledger and, unless BROKER_URL says otherwise, the queue; "
        "or its sentinels: sentinel://host:port,host:port,host:port/0?master=name.",
        _redis_url,
        "redis://127.0.0.1:6379/0",
        secret=True,
    )
    broker_url: str = setting(
        "BROKER_URL",
        "Celery's broker, if it is not the Redis of REDIS_URL (RabbitMQ: amqp://…).",
        lambda value: value and _broker_url(value),
        secret=True,
    )
    encharge_write_key: str = setting(
        "ENCHARGE_WRITE_KEY",
        "Write key of the Encharge account (Ingest API). Without it nothing can be delivered.",
        _text,
        secret=True,
    )
    encharge_api_key: str = setting(
        "ENCHARGE_API_KEY",
        "API key of the Encharge account (REST API); the write key if not set.",
        _text,
        secret=True,
    )
    encharge_ingest_url: str = setting(
        "ENCHARGE_INGEST_URL", "Address of the Ingest API.", _http_url, "https://ingest.encharge.io/v1/"
    )
    encharge_api_url: str = setting(
        "ENCHARGE_API_URL", "Address of the REST API.", _http_url, "https://api.encharge.io/v1"
    )
    activatepro_token: str = setting(
        "ACTIVATEPRO_TOKEN", "Master API key of the ActivatePro account.", _text, secret=True
    )
    activatepro_url: str = setting(
        "ACTIVATEPRO_URL", "Address of ActivatePro's API.", _http_url, "https://api.crossengage.io"
    )
    segment_write_key: str = setting(
        "SEGMENT_WRITE_KEY",
        "Write key of the Segment source that events are sent to; not one that our own sources know.",
        _text,
        secret=True,
    )
    segment_url: str = setting(
        "SEGMENT_URL", "Address of the Tracking API that they are sent to.", _http_url, "https://api.segment.io/v1"
    )
    routes_file: Path = setting("ROUTES_FILE", "Which events go where.", _file, str(CONFIG_FOLDER / "routes.yaml"))
    sources_file: Path = setting(
        "SOURCES_FILE", "Who may send, and how we know them.", _file, str(CONFIG_FOLDER / "sources.yaml")
    )
    publishers_file: Path = setting(
        "PUBLISHERS_FILE",
        "Who publishes tasks: lists of their own, and quotas.",
        _file,
        str(CONFIG_FOLDER / "publishers.yaml"),
    )
    max_waiting: int = setting(
        "MAX_WAITING",
        "Events that may wait (for a worker, in work, for a retry) in Redis; those beyond it are spooled, or refused.",
        _whole,
        "200000",
    )
    dedupe_window_s: int = setting("DEDUPE_WINDOW_S", "How long a settled event's id is remembered.", _whole, "86400")
    archive_events: int = setting(
        "ARCHIVE_EVENTS",
        "Ended events whose payload is kept to look at (explain --last, check); 0 = none. Those above 64 KiB are not.",
        _whole_or_none,
        "1000",
    )
    accept_timeout_s: float = setting(
        "ACCEPT_TIMEOUT_S", "How long the endpoint waits for Redis before it spools the event.", _seconds, "0.05"
    )
    correlation_wait_s: float = setting(
        "CORRELATION_WAIT_S",
        "How long an event that names nobody waits for one that tells whom it is about; then it goes on without.",
        _seconds,
        "30",
    )
    correlation_ttl_s: int = setting(
        "CORRELATION_TTL_S",
        "How long it is remembered whom a message or an experience is about; each takes some 300 bytes.",
        _whole,
        "604800",
    )
    spool_folder: Path = setting(
        "SPOOL_FOLDER",
        "Where web processes keep events while Redis takes none: on a local disk, shared by those of one machine.",
        Path,
        "var/spool",
    )
    spool_max_bytes: int = setting(
        "SPOOL_MAX_BYTES",
        "Most that the spool takes; what is beyond is refused. 0 = no spool.",
        _bytes_of_spool,
        "268435456",
    )
    redis_high_water: float = setting(
        "REDIS_HIGH_WATER",
        "Used share of Redis' maxmemory from which the endpoint spools, or refuses, until it is 0.1 lower.",
        _share,
        "0.8",
    )
    worker_concurrency: int = setting("WORKER_CONCURRENCY", "Threads of one worker process.", _whole, "16")
    worker_grace_s: float = setting(
        "WORKER_GRACE_S",
        "How long a worker that is told to stop may finish what it holds; then it hands the rest back and ends.",
        _seconds,
        "25",
    )
    heartbeat_dead_s: float = setting(
        "HEARTBEAT_DEAD_S",
        "How long a worker may consume nothing, its own heartbeat included, before it counts as dead and ends itself.",
        _seconds,
        "30",
    )
    lease_s: float = setting(
        "LEASE_S",
        "How long a worker may be silent before its events go to another; renewed three times in it.",
        _seconds,
        "10",
    )
    lease_most_s: float = setting(
        "LEASE_MOST_S",
        "How long a worker may work on a ticket in all; then it counts as hung, and its events go to another.",
        _seconds,
        "600",
    )
    hardened_door: bool = setting(
        "HARDENED_DOOR",
        "on: the router itself checks published messages and takes them off the queue: none is lost or harms a worker. "
        "off: Celery's stock transport does, with its losses. Web and workers must agree.",
        _on_off,
        "on",
    )
    result_ttl_s: int = setting(
        "RESULT_TTL_S", "How long the result of a task is kept whose publisher asked for it (reply).", _whole, "3600"
    )
    sweep_interval_s: float = setting(
        "SWEEP_INTERVAL_S", "How often each worker looks for due retries and lost work.", _seconds, "0.5"
    )
    ticket_grace_s: float = setting(
        "TICKET_GRACE_S", "How long a ticket may be overtaken before it counts as lost.", _seconds, "5"
    )
    crash_limit: int = setting(
        "CRASH_LIMIT", "Worker deaths during one event that make it a dead letter (poison).", _whole, "4"
    )
    retry_max_attempts: int = setting(
        "RETRY_MAX_ATTEMPTS", "Attempts of one delivery, the first included.", _whole, "12"
    )
    retry_max_age_s: float = setting(
        "RETRY_MAX_AGE_S", "Age of an event beyond which nothing is tried again.", _seconds, "86400"
    )
    retry_base_s: float = setting(
        "RETRY_BASE_S", "Longest wait before the second attempt; doubles with each.", _seconds, "2"
    )
    retry_max_delay_s: float = setting("RETRY_MAX_DELAY_S", "Longest wait between two attempts.", _seconds, "3600")
    retry_after_cap_s: float = setting(
        "RETRY_AFTER_CAP_S", "Longest wait that a destination's Retry-After may ask for.", _seconds, "3600"
    )
    breaker_failures: int = setting(
        "BREAKER_FAILURES",
        "Failures of a destination in a row after which its deliveries are parked, and one at a time probes it.",
        _whole,
        "10",
    )
    breaker_wait_s: float = setting(
        "BREAKER_WAIT_S", "Wait before the first probe; doubles with each that fails.", _seconds, "1"
    )
    breaker_most_wait_s: float = setting("BREAKER_MOST_WAIT_S", "Longest wait between two probes.", _seconds, "30")
    unauthorized_wait_s: float = setting(
        "UNAUTHORIZED_WAIT_S", "Wait between two probes of a destination that refuses our key.", _seconds, "60"
    )
    route_pause_failures: int = setting(
        "ROUTE_PAUSE_FAILURES",
        "Deliveries of a route that fail by its own fault (bug, invalid) before it pauses itself.",
        _whole,
        "20",
    )
    route_pause_ratio: float = setting(
        "ROUTE_PAUSE_RATIO", "Share of its deliveries within the window that must fail so.", _share, "0.5"
    )
    route_pause_window_s: float = setting("ROUTE_PAUSE_WINDOW_S", "That window.", _seconds, "60")
    replay_stale: str = setting(
        "REPLAY_STALE",
        "Dead letters that would write old data over newer: replay (the plan warns of them) or skip.",
        _stale,
        "replay",
    )
    http_connect_timeout_s: float = setting("HTTP_CONNECT_TIMEOUT_S", "Time to reach a destination.", _seconds, "3.05")
    http_read_timeout_s: float = setting(
        "HTTP_READ_TIMEOUT_S", "Time between two bytes of a destination's answer.", _seconds, "10"
    )
    kinesis_lease_s: float = setting(
        "KINESIS_LEASE_S",
        "How long a process that reads a stream may be silent before others take its shards over.",
        _seconds,
        "10",
    )
    kinesis_poll_s: float = setting(
        "KINESIS_POLL_S",
        "Time between two reads of a shard that has nothing new (else 0.25).",
        _seconds,
        "1",
    )
    metrics_token: str = setting(
        "METRICS_TOKEN",
        "Bearer token that /metrics wants; without one it answers only to this machine.",
        _text,
        secret=True,
    )
    worker_metrics_port: int = setting(
        "WORKER_METRICS_PORT",
        "Port at which a worker has /metrics too; 0 = none. It tells what web's tells, but for streams and the spool.",
        _port,
        "0",
    )
    worker_metrics_host: str = setting("WORKER_METRICS_HOST", "Address that it listens at.", _text, "127.0.0.1")
    pseudonym_key: str = setting(
        "PSEUDONYM_KEY",
        "Key of the hashes that stand for people where commands hide them; if not set, one made of ENCHARGE_WRITE_KEY, "
        "and without that a new one for each run.",
        _text,
        secret=True,
    )
    log_level: str = setting("LOG_LEVEL", "DEBUG, INFO, WARNING or ERROR.", _log_level, "INFO")
    log_format: str = setting("LOG_FORMAT", "json or console.", _log_format, "json")

    @property
    def has_door(self) -> bool:
        """Whether published messages come through the router's own door."""
        return self.hardened_door and self.broker == self.redis_url

    @property
    def api_key(self) -> str:
        """The key for Encharge's REST API."""
        return self.encharge_api_key or self.encharge_write_key

    @property
    def pseudonym_secret(self) -> bytes:
        """The key of people's hashes; empty when nothing is set to make one of."""
        if self.pseudonym_key or not self.encharge_write_key:
            return self.pseudonym_key.encode()
        # Not the write key itself: who knows some people's addresses and hashes could test guesses of it.
        return hmac.digest(self.encharge_write_key.encode(), b"event-router pseudonyms", "sha256")

    @property
    def broker(self) -> str:
        """The address of Celery's broker."""
        return self.broker_url or self.redis_url

    def described(self) -> dict[str, str]:
        """The effective configuration by environment name; secrets only as set or unset."""
        return {
            field.metadata["env"]: ("set" if getattr(self, field.name) else "unset")
            if field.metadata["secret"]
            else str(getattr(self, field.name))
            for field in dataclasses.fields(self)
        }


def variable_of(name: str) -> str:
    """The environment variable of a field of Settings."""
    (variable,) = (field.metadata["env"] for field in dataclasses.fields(Settings) if field.name == name)
    return str(variable)


def load(environ: Mapping[str, str]) -> Settings:
    """Settings out of an environment; an empty variable counts as unset.

    Raises ConfigurationRefused with every problem.
    """
    values, problems = read(environ)
    if problems:
        raise ConfigurationRefused(tuple(problems))
    return Settings(**values)


def read(environ: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """The values that are right, by field name, and the problems of the others."""
    values: dict[str, Any] = {}
    problems: list[str] = []
    for field in dataclasses.fields(Settings):
        meta = field.metadata
        raw = environ.get(meta["env"], "").strip() or meta["default"]
        try:
            values[field.name] = meta["parse"](raw)
        except ValueError as error:
            shown = "" if meta["secret"] else f" (it is {raw!r})"
            problems.append(f"environment: {meta['env']}: {_plain(error)}{shown}")
    return values, problems


def _plain(error: ValueError) -> str:
    text = str(error)
    return "must be a number" if "could not convert" in text or "invalid literal" in text else text
