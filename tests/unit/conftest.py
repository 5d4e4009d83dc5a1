"""No test in this folder may open a socket."""

import socket
from collections.abc import Iterator
from typing import Any, Self

import pytest
from hypothesis import settings

# How long one example takes says more about the machine than about the code.
settings.register_profile("unit", deadline=None, max_examples=25)
settings.load_profile("unit")


class NoSocket(socket.socket):
    """Whatever would reach for the network fails at once."""

    def __new__(cls, *_: Any, **__: Any) -> Self:
        raise AssertionError("unit tests open no sockets")


@pytest.fixture(scope="module", autouse=True)
def _no_sockets() -> Iterator[None]:
    """Once a file: a fixture for each of the many small tests would take as long as they do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "socket", NoSocket)
        yield
