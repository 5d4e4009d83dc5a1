"""Settings out of an environment."""

import dataclasses

import pytest
from builders import REPOSITORY

from config.problems import ConfigurationRefused
from config.settings import Settings, load


def problems(environ: dict[str, str]) -> tuple[str, ...]:
    with pytest.raises(ConfigurationRefused) as caught:
        load(environ)
    return caught.value.problems


def test_defaults() -> None:
    """An empty environment will do."""
    settings = load({})

    assert settings.redis_url == settings.broker == "redis://127.0.0.1:6379/0"
    assert settings.encharge_ingest_url == "https://ingest.encharge.io/v1/"
    assert settings.encharge_api_url == "https://api.encharge.io/v1"
    assert settings.routes_file == REPOSITORY / "config/routes.yaml"
    assert settings.sources_file == REPOSITORY / "config/sources.yaml"
    assert (settings.log_level, settings.log_format) == ("INFO", "json")
    assert settings.api_key == ""


def test_every_setting_says_what_it_means() -> None:
    """Each has a name, a sentence, and a default that parses."""
    fields = dataclasses.fields(Settings)

    assert len({field.metadata["env"] for field in fields}) == len(fields)
    for field in fields:
        assert field.metadata["doc"].endswith(".")
        assert field.metadata["env"] == field.metadata["env"].upper()


def test_values() -> None:
    """Parsed by kind."""
    settings = load({"MAX_WAITING": "7", "LEASE_S": "1.5", "LOG_LEVEL": "debug", "WORKER_CONCURRENCY": " 3 "})

    assert (settings.max_waiting, settings.lease_s, settings.log_level, settings.worker_concurrency) == (
        7,
        1.5,
        "DEBUG",
        3,
    )


def test_empty_is_unset() -> None:
    """A variable without a value gives the default."""
    empty = {field.metadata["env"]: "  " for field in dataclasses.fields(Settings)}

    assert load(empty) == load({})


@pytest.mark.parametrize(
    ("environ", "key"),
    [
        ({}, ""),
        ({"ENCHARGE_WRITE_KEY": "write"}, "write"),
        ({"ENCHARGE_WRITE_KEY": "write", "ENCHARGE_API_KEY": "api"}, "api"),
    ],
)
def test_the_api_key_is_the_write_key_unless_given(environ: dict[str, str], key: str) -> None:
    """Most accounts have one key for both."""
    assert load(environ).api_key == key


def test_another_broker() -> None:
    """The ledger stays in Redis."""
    settings = load({"BROKER_URL": "amqp://127.0.0.1//"})

    assert (settings.broker, settings.redis_url) == ("amqp://127.0.0.1//", "redis://127.0.0.1:6379/0")


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("MAX_WAITING", "0", "must be a whole number of 1 or more (it is '0')"),
        ("MAX_WAITING", "1.5", "must be a number (it is '1.5')"),
        ("SPOOL_MAX_BYTES", "4096", "must be 0 (no spool) or a whole number of 1048576 or more (it is '4096')"),
        ("REDIS_HIGH_WATER", "80", "must be a number above 0, at most 1 (it is '80')"),
        ("REDIS_HIGH_WATER", "0", "must be a number above 0, at most 1 (it is '0')"),
        ("LEASE_S", "soon", "must be a number (it is 'soon')"),
        ("LEASE_S", "nan", "must be a number of seconds above 0 (it is 'nan')"),
        ("LEASE_S", "inf", "must be a number of seconds above 0 (it is 'inf')"),
        ("LEASE_S", "-1", "must be a number of seconds above 0 (it is '-1')"),
        ("LOG_LEVEL", "loud", "must be DEBUG, INFO, WARNING or ERROR (it is 'loud')"),
        ("LOG_FORMAT", "xml", "must be json or console (it is 'xml')"),
        ("ROUTES_FILE", "/nowhere.yaml", "there is no file /nowhere.yaml (it is '/nowhere.yaml')"),
        ("ENCHARGE_API_URL", "example.com", "must be an http:// or https:// address (it is 'example.com')"),
        ("ENCHARGE_API_URL", "https://", "must be an http:// or https:// address (it is 'https://')"),
        ("REDIS_URL", "http://:s3cret@127.0.0.1", "must start with redis://, rediss://, unix:// or sentinel://"),
        ("BROKER_URL", "s3cret", "must be a URL, such as redis://127.0.0.1:6379/0 or amqp://127.0.0.1//"),
        ("REDIS_URL", "redis://:s3cret@[", "is not a URL"),
    ],
)
def test_a_wrong_value(name: str, value: str, text: str) -> None:
    """The problem names the variable, says what it must be, and shows a value unless it may be secret."""
    assert problems({name: value}) == (f"environment: {name}: {text}",)


def test_no_secret_in_the_message_of_a_library() -> None:
    """A host name of odd characters does not show the password before it."""
    assert "s3cret" not in problems({"REDIS_URL": "redis://:s3cret@ho\N{ACCOUNT OF}st/0"})[0]


def test_all_problems_at_once() -> None:
    """Nobody wants to start five times."""
    wrong = {"REDIS_URL": "x", "MAX_WAITING": "x", "LOG_FORMAT": "x", "SOURCES_FILE": "/nowhere", "LEASE_S": "0"}

    assert [problem.split(": ")[1] for problem in problems(wrong)] == [
        "REDIS_URL",
        "SOURCES_FILE",
        "MAX_WAITING",
        "LEASE_S",
        "LOG_FORMAT",
    ]


def test_described_shows_no_secret() -> None:
    """Whatever may carry a password is only set or unset."""
    environ = {
        "REDIS_URL": "redis://:s3cret@127.0.0.1/0",
        "BROKER_URL": "amqp://x:s3cret@127.0.0.1//",
        "ENCHARGE_WRITE_KEY": "s3cret",
    }

    described = load(environ).described()

    assert "s3cret" not in str(described)
    assert [described[name] for name in (*environ, "ENCHARGE_API_KEY")] == ["set", "set", "set", "unset"]
    assert described["MAX_WAITING"] == "200000"
    assert list(described) == [field.metadata["env"] for field in dataclasses.fields(Settings)]
