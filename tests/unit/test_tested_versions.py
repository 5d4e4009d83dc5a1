"""Only versions that the contract tests have passed."""

from config import tested_versions


def test_what_is_installed_has_been_tested() -> None:
    """The environment of these tests may start."""
    assert tested_versions.problems() == []


def test_another_version_is_named() -> None:
    """With what is installed, what would do, and how to get it."""
    installed = {"celery": "5.7.0", "kombu": "9.9.9", "redis": "8.1.0"}

    (problem,) = tested_versions.problems(installed.__getitem__)

    assert problem.startswith("installed libraries: kombu: version 9.9.9 is not tested with this router ")
    assert problem.endswith("(tested: 5.7.0); install requirements/runtime.txt")


def test_all_at_once() -> None:
    """One line for each."""
    found = tested_versions.problems(lambda _: "0.1")

    assert len(found) == len(tested_versions.TESTED)
