"""A short run of the torture program; longer ones with `make torture`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import HERE


@pytest.mark.timeout(180)
def test_a_short_storm(tmp_path: Path) -> None:
    """Every kind of fault within a minute: nothing lost, out of order, or twice without a reason."""
    report = tmp_path / "report.json"
    command = [sys.executable, "-m", "torture", "--seconds", "60", "--seed", "1", "--report", str(report)]
    program = subprocess.Popen(
        command, cwd=HERE.parent.parent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        output, _ = program.communicate(timeout=135)
    finally:
        program.terminate()  # in time, it has ended; else it ends what it started
        program.wait()
    print(output)
    assert program.returncode == 0, output
    numbers = json.loads(report.read_text())["numbers"]
    assert numbers["accepted"] > 500
    assert numbers["faults"] > 15, "the test proves nothing"
    assert numbers["duplicated"] > 0, "no fault hit a delivery in flight: the test proves nothing"
