"""What a run found, as a table for people and as JSON for programs."""

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from cli.table import table
from torture.arrivals import good
from torture.checks import WITHHELD, slowest
from torture.run import Outcome

#: Findings that make a run fail, in the order of the table.
FAILURES: Final = (
    "lost", "stuck", "dead", "misrouted", "misplaced", "reordered", "stale", "unexplained", "equation",
    "verify", "not survived", "refused", "broken",
)  # fmt: skip
_MOST_SHOWN: Final = 20


def failed(outcome: Outcome) -> bool:
    """Whether anything was not as promised."""
    return any(finding.what in FAILURES for finding in outcome.findings)


def text(outcome: Outcome) -> str:
    """The tables, and below them what failed, one line each."""
    return "\n\n".join((_faults(outcome), _totals(outcome), _verdict(outcome)))


def write(outcome: Outcome, path: Path, logs: Path | None) -> None:
    """`path` gets the JSON, the same name with .txt the text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(_data(outcome, logs), indent=1))
    path.with_suffix(".txt").write_text(f"seed {outcome.options.seed}\n\n{text(outcome)}\n")


def _faults(outcome: Outcome) -> str:
    kinds = sorted({fault.kind for fault in outcome.faults})
    explained = Counter(double.explained_by for double in outcome.doubles)
    rows: list[tuple[object, ...]] = []
    for kind in kinds:
        some = [fault for fault in outcome.faults if fault.kind == kind]
        survived = sum(not fault.error for fault in some)
        recovery_s = [outcome.recovery_s[fault] for fault in some if fault in outcome.recovery_s]
        in_flight = sum(len(fault.in_flight or ()) for fault in some)
        rows.append((kind, len(some), survived, in_flight, explained[kind], _one_digit(recovery_s)))
    rows.append((f"(destination: {WITHHELD})", "", "", "", explained[WITHHELD], ""))
    return table(("fault", "times", "survived", "in flight", "doubles", "recovery s"), rows)


def _totals(outcome: Outcome) -> str:
    numbers = _numbers(outcome)
    return table(("", "events"), [(name.replace("_", " "), value) for name, value in numbers.items()])


def _numbers(outcome: Outcome) -> dict[str, Any]:
    states = Counter(end.state if end else "missing" for end in outcome.ends.values())
    found = Counter(finding.what for finding in outcome.findings)
    return {
        "accepted": len(outcome.taken),
        "delivered": states["delivered"],
        "filtered": states["filtered"],
        "dead": states["dead"],
        "waiting": len(outcome.taken) - states["delivered"] - states["filtered"] - states["dead"],
        "arrivals": sum(map(good, outcome.came)),
        "faults": len(outcome.faults),
        "faults_survived": sum(not fault.error for fault in outcome.faults),
        "lost": found["lost"],
        "duplicated": len(outcome.doubles),
        "unexplained": found["unexplained"],
        "reordered": found["reordered"] + found["stale"] + found["misplaced"],
        "given_up": found["given up"],
        "other_failures": sum(
            found[what] for what in FAILURES if what not in {"lost", "unexplained", "reordered", "stale", "misplaced"}
        ),
        "worst_recovery_s": _one_digit(outcome.recovery_s.values()),
        "slowest_delivery_s": round(slowest(outcome.taken, outcome.came)[0], 1),
        "settled_after_s": round(outcome.settled_s, 1),
    }


def _one_digit(seconds: Iterable[float]) -> float | str:
    """The longest; "" = there is none."""
    return max((round(each, 1) for each in seconds), default="")


def _verdict(outcome: Outcome) -> str:
    answers = ", ".join(f"{name} {count}" for name, count in outcome.answers.most_common())
    lines = [f"answers to senders: {answers}"]
    lines += [f"ended by itself, started again: {each}" for each in outcome.exits]
    lines += [
        f"{fault.kind}({fault.target}): {fault.remark}"
        for fault in outcome.faults
        if fault.kind == "worker.term" and fault.remark
    ]
    for what in (*FAILURES, "given up"):
        some = [finding for finding in outcome.findings if finding.what == what]
        lines += [f"{what}: {finding.id}: {finding.seen}" for finding in some[:_MOST_SHOWN]]
        if len(some) > _MOST_SHOWN:
            lines.append(f"{what}: {len(some) - _MOST_SHOWN} more in the report")
    took = f"{outcome.took_s:.0f} s, seed {outcome.options.seed}"
    lines.append(f"FAILED ({took})" if failed(outcome) else f"passed ({took})")
    return "\n".join(lines)


def _data(outcome: Outcome, logs: Path | None) -> dict[str, Any]:
    return {
        "options": dataclasses.asdict(outcome.options),
        "passed": not failed(outcome),
        "slowest": slowest(outcome.taken, outcome.came)[1],
        "took_s": round(outcome.took_s, 1),
        "numbers": _numbers(outcome),
        "answers": dict(outcome.answers),
        "exits": list(outcome.exits),
        "findings": [dataclasses.asdict(finding) for finding in outcome.findings],
        "faults": [
            {**dataclasses.asdict(fault), "recovery_s": outcome.recovery_s.get(fault)} for fault in outcome.faults
        ],
        "doubles": [
            {
                "subject": double.again.subject,
                "number": double.again.number,
                "destination": double.again.destination,
                "first_at": double.first.at,
                "again_at": double.again.at,
                "explained_by": double.explained_by,
            }
            for double in outcome.doubles
        ],
        "ledger": outcome.counts,
        "logs": str(logs) if logs else None,
    }
