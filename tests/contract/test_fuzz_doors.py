"""Damaged requests to each door, in this process; `make fuzz` does the same to a real one, for as long as is wanted."""

import random
import sys
from typing import Any

import pytest
from builders import REPOSITORY, fake_ledger
from hypothesis import given, settings
from hypothesis import strategies as st
from werkzeug.test import EnvironBuilder, run_wsgi_app

from app import create_app
from app.source import Source
from app.sources import activatepro, activity_sync, encharge, segment
from tasks.queue import RedisQueue

sys.path.append(str(REPOSITORY / "benchmarks"))
import fuzz_parsers
from fuzz_requests import DOORS, KEY, SECRET, Post
from mutations import damaged_often, damaged_value, written

EXPECTED = {200, 202, 204, 400, 401, 404, 405, 411, 413, 415}


@pytest.fixture(scope="module")
def app() -> Any:
    ledger = fake_ledger(max_waiting=10**9)
    sources = {
        "encharge": Source("encharge", encharge.unwrap, (SECRET,)),
        "hook": Source("hook", segment.unwrap_webhook, (SECRET,), signed=True),
        "stream": Source("stream", segment.unwrap_webhook, (SECRET,), several=True),
        "activity": Source("activity", activity_sync.unwrap, (SECRET,), several=True),
        "crm": Source("crm", activatepro.unwrap, (SECRET,), several=True),
        "site": Source("site", None, write_keys={"web": KEY}),
    }
    return create_app(sources, RedisQueue(ledger), ledger)


def status_of(app: Any, dice: random.Random, post: Post) -> int:
    path, _, query = post.path.partition("?")
    headers = [line.split(": ", 1) for line in post.headers]
    if dice.random() < 0.3:
        headers.append([dice.choice(("Content-Encoding", "Content-Type", "X-Signature", "Origin")), "gzip"])
    body = written(damaged_often(dice, post.value))
    built = EnvironBuilder(path, method=post.method, query_string=query, headers=headers, data=body)
    _, status, _ = run_wsgi_app(app.wsgi_app, built.get_environ())
    return int(status.split()[0])


@pytest.mark.parametrize("door", DOORS)
@settings(max_examples=40)
@given(seed=st.integers(0, 2**32))
def test_no_damaged_request_is_answered_with_a_failure(app: Any, door: str, seed: int) -> None:
    """Taken or refused, never 500."""
    dice = random.Random(seed)
    assert status_of(app, dice, DOORS[door](dice)) in EXPECTED


@pytest.mark.parametrize("name", fuzz_parsers.PARSERS)
@settings(max_examples=40)
@given(seed=st.integers(0, 2**32))
def test_no_damaged_input_makes_a_parser_raise_anything_else(name: str, seed: int) -> None:
    """Each parser takes an input or refuses it with its own error, and none takes the square of its time."""
    dice = random.Random(seed)
    assert fuzz_parsers.tried(name, fuzz_parsers.damaged(dice, dice.choice(fuzz_parsers.CORPUS[name]))) == ""


def test_the_damage_is_the_same_for_the_same_seed() -> None:
    """What a run found, another finds again."""
    first, second = (damaged_value(random.Random(5), {"a": [1, {"b": "c"}]}) for _ in range(2))
    assert first == second
