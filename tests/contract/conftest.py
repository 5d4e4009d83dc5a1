"""Property tests here run many Lua scripts an example: fewer examples, and no deadline; some want a real Redis."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

from cli import redis_server

settings.register_profile("contract", deadline=None, max_examples=40)
settings.load_profile("contract")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[redis_server.Server]:
    """A Redis of one file's tests."""
    found = redis_server.ensure({}, tmp_path_factory.mktemp("redis"))
    yield found
    redis_server.stop(found)
