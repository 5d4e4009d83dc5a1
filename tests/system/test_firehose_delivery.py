"""A strict stand-in for Firehose delivers records to real processes; benchmarks/firehose.py does it with 10,000."""

import sys
from collections.abc import Callable

from builders import REPOSITORY
from conftest import Router

sys.path.append(str(REPOSITORY / "benchmarks"))
import firehose


def test_every_record_is_accounted_for(make_router: Callable[..., Router]) -> None:
    """1 % broken, every third request sent twice: nothing lost, nothing delivered twice, a dead letter each."""
    router = make_router(WORKER_CONCURRENCY="32")
    router.start_all()

    found = firehose.run(router, 600, 50, twice_every=3)

    assert found.problems() == []
    assert (found.broken, found.sent_again, found.requests) == (6, 200, 16)
    assert [letter.reason for letter in router.connection.letters.find()] == ["undecodable"] * 6
    router.assert_equation()
