"""What libraries log: their own words, and nothing that they quote."""

import logging
from typing import Any

import pytest

from config.logging import without_quotations


def line(text: str, *args: Any) -> str:
    record = logging.LogRecord("celery", logging.ERROR, "here.py", 1, text, args, None)
    assert without_quotations(record)
    return record.getMessage()


class MasterConnectionError(Exception):
    """As redis-py and kombu name theirs."""


@pytest.mark.parametrize(
    ("told", "text", "args"),
    [
        ("Task t raised: …", "Task %(name)s raised: %(exc)s", ({"name": "t", "exc": "KeyError('anna')"},)),
        ("Couldn't ack 7, reason:'ValueError'", "Couldn't ack %r, reason:%r", (7, ValueError("anna@example.com"))),
        ("Cannot connect: refused", "Cannot connect: %s", (ConnectionRefusedError("refused"),)),
        ("Cannot connect: refused", "Cannot connect: %s", (MasterConnectionError("refused"),)),
        ("ready", "ready", ()),
    ],
)
def test_no_exception_is_quoted(told: str, text: str, args: tuple[Any, ...]) -> None:
    """An exception's text may be what a sender sent; a connection's is about the connection."""
    assert line(text, *args) == told
