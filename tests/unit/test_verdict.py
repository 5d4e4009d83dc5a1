"""What an answer of a destination means."""

import pytest

from tasks.destinations.http import Response, verdict
from tasks.errors import (
    DestinationRejected,
    DestinationThrottled,
    DestinationUnauthorized,
    DestinationUnavailable,
    TransientError,
)


def answer(status: int, **headers: str) -> Response:
    return Response(status, {name.replace("_", "-"): value for name, value in headers.items()}, "body")


def expected(status: int) -> type[Exception] | None:
    if 200 <= status <= 299:
        return None
    if status == 429:
        return DestinationThrottled
    if status in {408, 423, 425} or (500 <= status <= 599 and status != 501):
        return DestinationUnavailable
    return DestinationUnauthorized if status in {401, 403} else DestinationRejected


def test_each_status_has_its_class() -> None:
    """Every status means exactly one thing, and the message says which it was."""
    for status in range(100, 600):
        error = verdict(answer(status), 0)
        assert (None if error is None else type(error)) == expected(status), status
        assert error is None or str(error) == f"answered {status}"


def test_what_is_transient() -> None:
    """Exactly 408, 423, 425, 429 and 5xx but 501 are tried again."""
    transient = {status for status in range(100, 600) if isinstance(verdict(answer(status), 0), TransientError)}

    assert transient == {408, 423, 425, 429, *range(500, 600)} - {501}


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_travels_with_the_error(status: int) -> None:
    """A destination may ask for time with any answer that is tried again."""
    error = verdict(answer(status, Retry_After="17"), 0)

    assert isinstance(error, TransientError)
    assert error.retry_after_s == 17
