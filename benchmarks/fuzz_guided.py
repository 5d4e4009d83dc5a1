"""The parsers under input that atheris makes, going by what code it reaches.

atheris is none of the locked versions: `.venv/bin/pip install atheris`, then
`.venv/bin/python benchmarks/fuzz_guided.py -max_total_time=600`; the options are libFuzzer's.
"""

import sys

import atheris

with atheris.instrument_imports(include=["app", "tasks"]):
    import fuzz_parsers

_NAMES = list(fuzz_parsers.PARSERS)


def one(data: bytes) -> None:
    """One input: the first byte says for which parser."""
    if len(data) > 1:
        name = _NAMES[data[0] % len(_NAMES)]
        if wrong := fuzz_parsers.tried(name, data[1:]):
            raise AssertionError(f"{name}: {wrong}")


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
