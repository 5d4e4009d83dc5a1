"""With what Flower starts, and without what it does not."""

import os
import runpy
import sys
from pathlib import Path

import pytest

from config import celery_settings

OPTIONS = Path(celery_settings.__file__).with_name("flower.py")


@pytest.fixture
def options(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """The environment, without anything about Flower, and as if it were started as ours."""
    for name in [name for name in os.environ if name.startswith("FLOWER_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("FLOWER_DB", str(tmp_path / "flower" / "rows"))
    monkeypatch.setitem(sys.modules, "tasks.flower", sys)
    return monkeypatch


@pytest.mark.parametrize(
    "login", ["", "operator", "operator:", ":secret", " : ", "op:secret,open:", "op:secret,", "op:secret, : ", ","]
)
def test_bug_one_of_several_logins_could_be_empty(options: pytest.MonkeyPatch, login: str) -> None:
    """Each of them is a way in."""
    options.setenv("FLOWER_BASIC_AUTH", login)

    with pytest.raises(SystemExit, match="FLOWER_BASIC_AUTH: must be user:password"):
        runpy.run_path(str(OPTIONS))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FLOWER_BASIC_AUTH", "op:secret"),
        ("FLOWER_BASIC_AUTH", "op:secret:more,other:word"),
        ("FLOWER_AUTH", ".*@example[.]com"),
        ("FLOWER_UNAUTHENTICATED_API", "true"),
    ],
)
def test_ways_in(options: pytest.MonkeyPatch, tmp_path: Path, name: str, value: str) -> None:
    """Logins, somebody else's, or none if asked for; on the loopback address, and its rows are nobody else's."""
    options.setenv(name, value)

    assert runpy.run_path(str(OPTIONS))["address"] == "127.0.0.1"
    assert (tmp_path / "flower").stat().st_mode & 0o777 == 0o700


def test_bug_flower_without_our_ears_showed_everything(options: pytest.MonkeyPatch) -> None:
    """Started as `celery -A tasks flower` it would hear whatever anybody tells."""
    options.setenv("FLOWER_BASIC_AUTH", "op:secret")
    options.delitem(sys.modules, "tasks.flower")

    with pytest.raises(SystemExit, match="event-router flower"):
        runpy.run_path(str(OPTIONS))
