"""The generated pages are what the code says."""

import functools
import importlib.util
from pathlib import Path

import pytest

from tasks import contract

DOCS = Path(__file__).parents[2] / "docs"
TASKS = sorted(contract.TASKS)


@functools.cache
def pages() -> dict[str, str]:
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {name: make() for name, make in module.PAGES.items()}


@pytest.mark.parametrize(
    "name",
    [
        "envelope.schema.json",
        "reference.md",
        "metrics.md",
        "vocabulary.md",
        "contract/asyncapi.yaml",
        "publishing.md",
        "../publisher.py",
        *(f"contract/v1/{task}.schema.json" for task in TASKS),
    ],
)
def test_page_is_up_to_date(name: str) -> None:
    """`make docs` would write the page as it is."""
    assert (DOCS / name).read_text() == pages()[name]


def test_no_page_is_left_over() -> None:
    """A task that is gone leaves no schema behind."""
    assert sorted(path.name.removesuffix(".schema.json") for path in DOCS.glob("contract/v1/*.schema.json")) == TASKS


def test_environment_example_names_every_setting() -> None:
    """.env.example has each variable of the reference."""
    example = (DOCS.parent / ".env.example").read_text()
    settings = [
        line.split("`")[1] for line in pages()["reference.md"].splitlines() if line.startswith("| `") and "_" in line
    ]
    wanted = [name for name in settings if name.isupper()]
    assert wanted
    assert [name for name in wanted if name not in example] == []
