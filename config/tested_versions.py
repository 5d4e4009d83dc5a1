"""The library versions that the contract tests have passed; others are refused at start.

We write Celery's messages ourselves and read the broker's keys; an untested version could change either
in silence.
"""

from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Final

TESTED: Final[Mapping[str, tuple[str, ...]]] = {
    "celery": ("5.7.0",),
    "kombu": ("5.7.0",),
    "redis": ("8.1.0",),
}


def problems(installed: Callable[[str], str] = version) -> list[str]:
    """One line for each library whose installed version the contract tests have not passed."""
    return [
        f"installed libraries: {name}: version {installed(name)} is not tested with this router "
        f"(tested: {', '.join(tested)}); install requirements/runtime.txt"
        for name, tested in TESTED.items()
        if installed(name) not in tested
    ]
