"""Who may reach what: keys of the sandbox, addresses of Redis, names that are shown."""

from typing import Any

import pytest

from config.celery_settings import celery_settings, tls_options
from config.problems import ConfigurationRefused
from config.settings import load
from sandbox.server import API_KEY, WRITE_KEY, OpenToAll, create_sandbox, is_loopback, keys_of, serve
from tasks.consumer import shown_task


@pytest.mark.parametrize(
    ("environ", "keys"),
    [
        ({}, (WRITE_KEY, API_KEY)),
        ({"ENCHARGE_WRITE_KEY": "w"}, ("w", "w")),
        ({"ENCHARGE_WRITE_KEY": "w", "ENCHARGE_API_KEY": "a"}, ("w", "a")),
        ({"ENCHARGE_WRITE_KEY": "", "ENCHARGE_API_KEY": "a"}, (WRITE_KEY, "a")),
    ],
)
def test_the_sandboxs_keys(environ: dict[str, str], keys: tuple[str, str]) -> None:
    """Those of the environment, as the router reads them; never of the command line."""
    assert keys_of(environ) == keys


@pytest.mark.parametrize("keys", [(WRITE_KEY, API_KEY), ("own", API_KEY), (WRITE_KEY, "own")])
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "sandbox"])
def test_no_known_key_where_others_reach_it(host: str, keys: tuple[str, str]) -> None:
    """It does not even listen."""
    with pytest.raises(OpenToAll):
        serve(host, 0, keys)


def test_loopback() -> None:
    """Only what no other machine reaches."""
    assert all(map(is_loopback, ("127.0.0.1", "127.9.9.9", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "", "localhost.example.com")))


@pytest.mark.parametrize(
    ("auth", "status"), [(None, 401), (("any", "wrong"), 401), (("any", "\xff"), 401), (("any", "key"), 200)]
)
def test_the_page_wants_the_key(auth: Any, status: int) -> None:
    """Page, people and faults; health stays open, the APIs have keys of their own."""
    client = create_sandbox("w", "key", console_key="key").test_client()
    for path in ("/", "/_sandbox/state", "/_sandbox/events", "/_sandbox/faults"):
        assert client.get(path, auth=auth).status_code == status
    assert client.get("/_sandbox/health").status_code == 200
    assert client.get("/api/v1/fields", headers={"X-Encharge-Token": "k\xe9y"}).status_code == 401


@pytest.mark.parametrize(
    ("url", "wrong"),
    [
        ("rediss://redis.example.com?ssl_cert_reqs=none", "ssl_cert_reqs"),
        ("rediss://redis.example.com?ssl_cert_reqs=optional", "ssl_cert_reqs"),
        ("rediss://redis.example.com?ssl_check_hostname=false", "ssl_check_hostname"),
        ("redis://redis.example.com?ssl_ca_certs=ca.crt", "in the clear"),
    ],
)
@pytest.mark.parametrize("variable", ["REDIS_URL", "BROKER_URL"])
def test_tls_that_verifies_nothing_is_refused(variable: str, url: str, wrong: str) -> None:
    """At the start, and without the address, which may hold a password."""
    with pytest.raises(ConfigurationRefused, match=wrong) as refused:
        load({variable: url.replace("//", "//user:pass-w0rd@")})
    assert "pass-w0rd" not in str(refused.value)


def test_bug_celery_spoke_in_the_clear_to_a_tls_address() -> None:
    """Kombu takes rediss:// without options for an ordinary connection, and would send the password over it."""
    assert tls_options("rediss://x")["ssl_cert_reqs"].name == "CERT_REQUIRED"
    options = celery_settings(load({"REDIS_URL": "rediss://x/0?ssl_ca_certs=ca.crt&ssl_certfile=c.crt&db=1"}))
    assert options["broker_use_ssl"]["ssl_ca_certs"] == "ca.crt"
    assert options["broker_use_ssl"]["ssl_certfile"] == "c.crt"
    assert "db" not in options["broker_use_ssl"]
    assert "broker_use_ssl" not in celery_settings(load({}))


def test_bug_an_unknown_tasks_name_was_logged_whole() -> None:
    """Without addresses, and cut: it is somebody else's text, and comparing it with ours is quadratic."""
    assert shown_task("billing.someone@example.com") == "…"
    assert len(shown_task("x" * 10**6)) == 100
    assert shown_task("a\ud800") == "a?"
