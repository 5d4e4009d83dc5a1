"""A strict stand-in for Firehose delivers records to real processes; benchmarks/firehose.py does it with 10,000."""

import sys
from collections.abc import Callable

from builders import REPOSITORY
from conftest import SECRET, Router
from firehose_standin import Standin, request, unreadable

sys.path.append(str(REPOSITORY / "benchmarks"))
import firehose


def test_every_record_is_accounted_for(make_router: Callable[..., Router]) -> None:
    """1 % broken, every third request sent twice: nothing lost, nothing delivered twice, a dead letter each."""
    router = make_router(WORKER_CONCURRENCY="32")
    router.start_all()
    hears_why_it_is_refused(router, SECRET, 400)
    hears_why_it_is_refused(router, "wrong", 401)

    found = firehose.run(router, 600, 50, twice_every=3)

    assert found.problems() == []
    assert (found.broken, found.sent_again, found.requests) == (6, 200, 16)
    assert [letter.reason for letter in router.connection.letters.find()] == ["undecodable"] * 6
    router.assert_equation()


def hears_why_it_is_refused(router: Router, key: str, status: int) -> None:
    """Also with a body that nobody reads to its end."""
    standin = Standin(router.web_port, "/firehose/encharge", key)
    answer = standin.post(*request("large", [b"x" * 1_000_000] * 20, key))
    standin.close()
    assert (answer.status, unreadable(answer, "large")) == (status, "")
