"""No test in this folder may open a socket."""

import pytest
from hypothesis import settings

# How long one example takes says more about the machine than about the code.
settings.register_profile("unit", deadline=None)
settings.load_profile("unit")


@pytest.fixture(autouse=True)
def _no_sockets(socket_disabled: None) -> None:
    """Whatever would reach for the network fails at once."""
