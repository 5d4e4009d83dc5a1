"""Looks the locked versions up among known vulnerabilities, with pip-audit in an environment of its own.

Status 1 when one was found. Where its data cannot be reached, that is said, and how old the lock is; status 0.
"""

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[1]
_LOCKS = ("requirements/runtime.txt", "requirements/dev.txt")
_ENVIRONMENT = _ROOT / "var" / "audit"
_TOOL = "pip-audit==2.10.1"
_MOST_S = 300


def main() -> None:
    """Audit both locks."""
    tool = _installed()
    found = 0
    for lock in _LOCKS:
        report = _report(tool, lock) if tool else None
        known = [each for each in report["dependencies"] if "vulns" in each] if report else []
        if not known:
            print(f"{lock}: NOT AUDITED, the data of pip-audit cannot be reached; {_age(lock)}")
            continue
        wrong = [each for each in known if each["vulns"]]
        found += len(wrong)
        # Where an index carries no such data, pip-audit skips a version and calls that no vulnerability.
        skipped = len(report["dependencies"]) - len(known)
        print(f"{lock}: {len(known)} versions looked up, {skipped} not found, {len(wrong)} with known vulnerabilities")
        for each in wrong:
            ids = ", ".join(f"{one['id']} (mended in {' or '.join(one['fix_versions'])})" for one in each["vulns"])
            print(f"  {each['name']} {each['version']}: {ids}")
    sys.exit(1 if found else 0)


def _installed() -> Path | None:
    """pip-audit, not among the locked versions: it brings more of them than it looks after in us."""
    program = _ENVIRONMENT / "bin" / "pip-audit"
    if program.exists():
        return program
    pip = [str(_ENVIRONMENT / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    for command in ([sys.executable, "-m", "venv", str(_ENVIRONMENT)], [*pip, _TOOL]):
        if subprocess.run(command, capture_output=True, check=False, timeout=_MOST_S).returncode:
            return None
    return program


def _report(tool: Path, lock: str) -> Any:
    """What pip-audit says of a lock; None when it could not ask."""
    command = [str(tool), "--requirement", lock, "--disable-pip", "--require-hashes", "--format", "json"]
    try:
        done = subprocess.run(
            [*command, "--progress-spinner", "off", "--timeout", "10"],
            cwd=_ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=_MOST_S,
        )
        return json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError):
        return None


def _age(lock: str) -> str:
    """When the lock was last written: by the history where there is one, else by the file."""
    command = ["git", "log", "-1", "--format=%ct", "--", lock]
    asked = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False).stdout.strip()
    written = datetime.fromtimestamp(int(asked) if asked else (_ROOT / lock).stat().st_mtime, UTC)
    return f"it was locked on {written:%Y-%m-%d}, {(datetime.now(UTC) - written).days} days ago"


if __name__ == "__main__":
    main()
