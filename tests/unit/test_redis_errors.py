"""What commands say of a Redis that does not do what was asked; and the file by which they find theirs."""

import os
from pathlib import Path

import pytest
import redis

from cli.redis_errors import told
from cli.redis_server import Server
from cli.stack import Stack
from cli.up import environment_file
from tasks.errors import QueueUnavailable

URL = "redis://web:p%40ss-secret@redis.example.com:6380/0"
GONE = "no connection to Redis at redis.example.com:6380 (REDIS_URL; beside `make up`: . var/up/environment)"
RIGHTS = 'the Redis user web may not do this; docs/security.md, "Redis with users", says which user may'


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (redis.ConnectionError("to web:p@ss-secret"), GONE),
        (redis.TimeoutError(), GONE),
        (
            redis.AuthenticationError("WRONGPASS"),
            "Redis at redis.example.com:6380 refuses the user (web) or the password of REDIS_URL",
        ),
        (redis.exceptions.NoPermissionError("No permissions to access a key"), RIGHTS),
        (redis.ResponseError("ACL failure in script: User web has no permissions"), RIGHTS),
        (
            redis.BusyLoadingError(),
            "Redis at redis.example.com:6380 answers, and does not do this now (BusyLoadingError)",
        ),
        (redis.ResponseError("wrong number of arguments"), None),
        (ValueError(), None),
    ],
)
def test_each_error_has_its_text(error: Exception, text: str | None) -> None:
    """Where, who, and what to do; what is an error of ours stays one, with its traceback."""
    assert told(error, URL) == text
    caused = QueueUnavailable(type(error).__name__)
    caused.__cause__ = error
    assert told(caused, URL) == text


@pytest.mark.parametrize(
    ("url", "place", "user"),
    [
        ("redis://127.0.0.1", "127.0.0.1:6379", "default"),
        ("rediss://:secret@[::1]:7000/0?ssl_ca_certs=x", "[::1]:7000", "default"),
        ("unix://web:secret@/run/redis.sock", "/run/redis.sock", "web"),
        ("sentinel://web:secret@a:1,b:2/0?master=m&sentinel_password=secret", "a:1, b:2", "web"),
    ],
)
def test_where_and_who_without_the_password(url: str, place: str, user: str) -> None:
    refused = told(redis.AuthenticationError(), url)
    assert refused == f"Redis at {place} refuses the user ({user}) or the password of REDIS_URL"


def test_commands_beside_up_have_its_files(tmp_path: Path) -> None:
    """Wherever the shell stands that reads it: a file that was named for `up` is named for them, from the root."""
    environ = {"REDIS_URL": URL, "PUBLISHERS_FILE": "publishers.yaml", "ROUTES_FILE": "/etc/routes.yaml"}
    server = Server(URL, "set", ours=False)
    file = environment_file(Stack(environ, tmp_path, server, "http://127.0.0.1:8080", None, "secret", {}))

    lines = file.read_text().splitlines()
    assert f"export PUBLISHERS_FILE={Path.cwd() / 'publishers.yaml'}" in lines
    assert f"export ROUTES_FILE={os.path.realpath('/etc/routes.yaml')}" in lines
    assert not any("SOURCES_FILE" in line for line in lines)
