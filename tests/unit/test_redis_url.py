"""REDIS_URL with sentinels."""

import pytest
import redis
from redis.exceptions import ReadOnlyError

from config.celery_settings import celery_settings
from config.redis_url import Sentinels, sentinels
from config.settings import load, read
from tasks.connection import connect, not_the_master

URL = "sentinel://user:s3cret%40@a.example.com:1,b.example.com,[::1]:3/2?master=main&sentinel_password=s3cret2"


def test_all_parts() -> None:
    """Hosts with and without ports, user and password of Redis and of the sentinels, database, master."""
    assert sentinels(URL) == Sentinels(
        hosts=(("a.example.com", 1), ("b.example.com", 26379), ("::1", 3)),
        master="main",
        db=2,
        username="user",
        password="s3cret@",
        sentinel_password="s3cret2",
    )


def test_few_parts() -> None:
    """One sentinel and the master's name are enough."""
    assert sentinels("sentinels://a.example.com?master=main") == Sentinels(
        hosts=(("a.example.com", 26379),), master="main", tls=True
    )


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("sentinel://a/0", "must name the master, as the sentinels call it: …/0?master=<name>"),
        ("sentinel://a/0?master=", "must name the master, as the sentinels call it: …/0?master=<name>"),
        ("sentinel:///0?master=m", "must name the sentinels as host:port,host:port,…"),
        ("sentinel://a,,b/0?master=m", "must name the sentinels as host:port,host:port,…"),
        ("sentinel://:s3cret@a:s3cret/0?master=m", "must name the sentinels as host:port,host:port,…"),
        ("sentinel://:s3cret@a;b/0?master=m", "must name the sentinels as host:port,host:port,…"),
        ("sentinel://:s3cret@a/s3cret?master=m", "must end with a database's number: …/0?master=<name>"),
        ("sentinel://:s3cret@a/0?master=m&x=s3cret", "has an unknown parameter x; there are"),
        ("sentinel://:s3cret@[/0?master=m", "is not a URL"),
    ],
)
def test_what_is_wrong_is_said_without_the_password(url: str, text: str) -> None:
    """In the problem that start-up reports."""
    _, (problem,) = read({"REDIS_URL": url})

    assert problem.startswith(f"environment: REDIS_URL: {text}")
    assert "s3cret" not in problem


def test_the_broker_is_not_named_apart() -> None:
    """One place for the sentinels."""
    _, (problem,) = read({"BROKER_URL": "sentinel://a/0?master=m"})

    assert "REDIS_URL does" in problem


def test_celery_gets_one_sentinel_and_our_transport() -> None:
    """With alternatives in its URL, kombu would go on with its own transport after a failure."""
    conf = celery_settings(load({"REDIS_URL": URL}))
    options = conf["broker_transport_options"]

    assert conf["broker_url"] == "sentinel://user:s3cret%40@a.example.com:1/2"
    assert conf["broker_transport"] == "tasks.transport:SentinelTransport"
    assert (options["master_name"], options["sentinels"]) == ("main", sentinels(URL))
    assert "s3cret" not in repr(options), "Flower shows it"
    assert not conf["broker_use_ssl"]


def test_sentinels_over_tls() -> None:
    """Celery checks certificates, and so does the ledger's client."""
    url = "sentinels://a.example.com?master=main"

    assert celery_settings(load({"REDIS_URL": url}))["broker_use_ssl"]
    pool = connect(url, timeout_s=1).connection_pool
    assert issubclass(pool.connection_class, redis.SSLConnection)


def test_bug_a_unix_socket_passed_the_settings_and_nothing_connected_to_it() -> None:
    """redis-py takes no keep-alive for one, and kombu has another name for it."""
    url = "unix://:s3cret@/run/redis.sock?db=2"
    kwargs = connect(url, timeout_s=1).connection_pool.connection_kwargs
    redis.UnixDomainSocketConnection(**kwargs)

    assert (kwargs["path"], kwargs["db"], kwargs["password"]) == ("/run/redis.sock", 2, "s3cret")
    broker = celery_settings(load({"REDIS_URL": url}))["broker_url"]
    assert broker == "redis+socket://:s3cret@/run/redis.sock?virtual_host=2"


def test_a_client_that_asks_sentinels() -> None:
    """Nothing connects before it is used; database and password go to the master."""
    pool = connect(URL, timeout_s=1, patience_s=5).connection_pool

    assert pool.service_name == "main"
    assert (pool.connection_kwargs["db"], pool.connection_kwargs["password"]) == (2, "s3cret@")


@pytest.mark.parametrize(
    ("error", "yes"),
    [
        (ReadOnlyError("You can't write against a read only replica."), True),
        (redis.ResponseError("ERR Error running script: @user_script:3: -READONLY You can't write"), True),
        (redis.ResponseError("NOREPLICAS Not enough good replicas to write."), True),
        (redis.ResponseError("WRONGTYPE Operation against a key"), False),
    ],
)
def test_who_is_not_the_master(error: Exception, yes: bool) -> None:
    """Scripts of Redis 6.2 hide the word inside the text."""
    assert not_the_master(error) is yes
