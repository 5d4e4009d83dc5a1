"""Feeds on their way into the ledger: each row once, whatever happens meanwhile."""

import contextlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from builders import fake_ledger
from hypothesis import given
from hypothesis import strategies as st

from app.feed import Feed, measured
from app.feeding import Bad, Counts, Importer, pieces
from app.source import Source
from app.sources import activatepro
from cli.import_report import Report
from tasks.envelope import Envelope
from tasks.errors import QueueUnavailable
from tasks.import_progress import ImportProgress, Progress
from tasks.ledger import Ledger
from tasks.queue import RedisQueue

PIECE = 10


class Ended(Exception):
    """Stands for the end of the process."""


def row(number: int, **more: Any) -> dict[str, Any]:
    return {"id": f"u{number % 7}", "event": "Message Sent", "messageId": str(number), **more}


def feed(folder: Path, rows: Sequence[Any], name: str = "event_history_1.json") -> Feed:
    path = folder / name
    lines = [each if isinstance(each, str) else json.dumps(each) for each in rows]
    path.write_text("[\n" + ",\n".join(lines) + "\n]\n")
    return measured(path)


class Import:
    """An import into a ledger in memory, and what it was told. `faults` = what each call of accept meets first."""

    def __init__(self, ledger: Ledger, faults: Sequence[Exception | None] = ()) -> None:
        self.ledger = ledger
        self.faults = list(faults)
        self.waited: list[str] = []
        self.reported: list[Bad] = []
        self.accepted: list[int] = []
        self.queue = RedisQueue(ledger)
        self.queue.accept, self._accept = self.accept, self.queue.accept  # type: ignore[method-assign]
        source = Source("crm", activatepro.unwrap)
        progress = ImportProgress(ledger.client)
        self.importer = Importer(source, self.queue, progress, ledger.client, 0.8, self.waits, PIECE)

    def accept(self, envelopes: Sequence[Envelope]) -> list[bool]:
        fault = self.faults.pop(0) if self.faults else None
        if isinstance(fault, Ended):
            raise fault
        self.accepted.append(len(envelopes))
        taken = self._accept(envelopes)
        if fault is not None:
            raise fault
        return taken

    def waits(self, why: str, _: float) -> None:
        self.waited.append(why)
        self.ledger.client.delete("router:accepted", "router:lined")  # the workers are done with them

    def run(self, of: Feed) -> Counts:
        before = self.importer.before(of)
        return self.importer.run(of, of.chunks(), before.rows, self.reported.extend)


def accepted(ledger: Ledger) -> dict[str, int]:
    counts = ledger.counts().get(("source", "crm"), {})
    return {key: counts.get(key, 0) for key in ("accepted", "duplicate")}


@pytest.fixture
def ledger() -> Ledger:
    return fake_ledger(max_waiting=10_000)


def test_a_feed_is_taken_in_pieces(tmp_path: Path, ledger: Ledger) -> None:
    """In its order, so many rows a call; then it is known to be done."""
    of = feed(tmp_path, [row(number) for number in range(2 * PIECE + 1)])
    first = Import(ledger)

    assert first.importer.before(of) == Progress()
    assert first.run(of) == Counts(rows=2 * PIECE + 1, taken=2 * PIECE + 1)
    assert first.accepted == [PIECE, PIECE, 1]
    after = first.importer.before(of)
    assert (after.rows, after.done) == (2 * PIECE + 1, True)
    ids = [id_.decode() for id_ in ledger.client.lrange(ledger.client.keys("router:line:*")[0], 0, -1)]
    events = [json.loads(event.envelope or b"")["event"] for event in ledger.events(ids) if event]
    numbers = [int(event["properties"]["messageId"]) for event in events]
    assert numbers == sorted(numbers)
    assert len(numbers) > 1


def test_nothing_is_taken_beyond_what_one_call_may(tmp_path: Path, ledger: Ledger) -> None:
    """Where fewer events may wait than a piece has, and where one row has the events of one user."""
    events = [{"event": "E", "properties": {"n": n}} for n in range(25)]
    of = feed(tmp_path, [row(1), {"id": "1", "events": events}, {"id": "2", "events": [{"event": "E"}, {}]}])
    import_ = Import(ledger)

    assert import_.run(of) == Counts(rows=3, taken=27, bad=1)
    assert import_.accepted == [10, 10, 7]
    assert import_.reported == [Bad(3, 4, 4, "event is missing: ActivatePro answers NOT_NULL")]


@given(ends=st.lists(st.integers(0, 3), max_size=4), timed=st.booleans())
def test_ended_anywhere_and_begun_again_each_row_is_taken_once(
    ends: list[int], timed: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Also rows without a time, of which the same content would otherwise be another event."""
    ledger = fake_ledger(max_waiting=10_000)
    more = {"timestamp": "2022-01-11T00:00:00Z"} if timed else {}
    rows: list[Any] = [row(number, **more) for number in range(3 * PIECE + 10)]
    rows[5], rows[PIECE + 5] = "{broken", {"id": "1"}
    folder = tmp_path_factory.mktemp("feed")
    of = feed(folder, rows)
    for faults in [*([*[None] * end, Ended()] for end in ends), []]:
        import_ = Import(ledger, faults)
        before = import_.importer.before(of)
        if not before.done:
            report = Report(folder / "report", of.path, resumed=before.begun)
            with contextlib.suppress(Ended):
                import_.importer.run(of, of.chunks(), before.rows, report.add)

    counts = accepted(ledger)
    assert counts["accepted"] - counts["duplicate"] == len(rows) - 2
    assert counts["duplicate"] == 0
    lines = [json.loads(line) for line in (folder / "report").read_text().splitlines()]
    assert [(line["row"], line["line"]) for line in lines] == [(6, 7), (PIECE + 6, PIECE + 7)]


def test_ended_between_taking_and_noting(tmp_path: Path, ledger: Ledger) -> None:
    """Those rows come again, and are known by their ids; so are their lines in the report."""
    of = feed(tmp_path, [row(1), {"id": "1"}, *map(row, range(2, 15))])
    report = tmp_path / "report"

    class Deaf(ImportProgress):
        heard = False

        def write(self, *_: Any, **__: Any) -> None:
            if self.heard:
                raise Ended
            self.heard = True

    first = Import(ledger)
    deaf = Importer(first.importer.source, first.queue, Deaf(ledger.client), ledger.client, 0.8, first.waits, PIECE)
    with pytest.raises(Ended):
        deaf.run(of, of.chunks(), 0, Report(report, of.path, resumed=False).add)
    assert accepted(ledger) == {"accepted": PIECE - 1, "duplicate": 0}

    again = Import(ledger)
    assert again.run(of).duplicates == PIECE - 1
    assert accepted(ledger) == {"accepted": 14 + PIECE - 1, "duplicate": PIECE - 1}


def test_redis_away_or_full_is_waited_for(tmp_path: Path) -> None:
    """What may have been taken is sent again; what workers must make room for waits."""
    ledger = fake_ledger(max_waiting=PIECE)
    of = feed(tmp_path, [row(number) for number in range(3 * PIECE)])
    import_ = Import(ledger, [QueueUnavailable("TimeoutError")])

    counts = import_.run(of)

    assert (counts.rows, counts.taken + counts.duplicates) == (3 * PIECE, 3 * PIECE)
    assert set(import_.waited) == {
        "Redis does not answer",
        "as many events wait for the workers as an import may add to",
    }
    counted = accepted(ledger)
    assert counted["accepted"] - counted["duplicate"] == 3 * PIECE


def test_memory_nearly_full_is_waited_for(tmp_path: Path, ledger: Ledger) -> None:
    """Before senders are refused for a feed's sake."""
    of = feed(tmp_path, [row(1)])
    import_ = Import(ledger)
    shares = iter([79, 81, 75, 60])

    class Filling:
        def info(self, _: str) -> dict[str, int]:
            return {"maxmemory": 100, "used_memory": next(shares)}

    client: Any = Filling()
    next(shares)
    importer = Importer(
        import_.importer.source, import_.queue, ImportProgress(ledger.client), client, 0.8, import_.waits, PIECE
    )
    assert importer.run(of, of.chunks(), 0, import_.reported.extend).taken == 1
    assert import_.waited == ["Redis' memory is nearly full"] * 2


def test_bug_rows_were_taken_without_the_keys_that_their_source_says_are_personal(tmp_path: Path) -> None:
    """What came by the doors was marked, what was imported was not: commands and Flower showed it."""
    source = Source("crm", activatepro.unwrap, personal=("shoeSize",))
    (piece,) = pieces(source, "abc", iter([b'[{"id": "u1", "event": "Message Sent", "shoeSize": "43"}]']), 0, PIECE)

    assert [event.personal for event in piece.events] == [("shoeSize",)]


def test_each_source_has_a_progress_of_its_own(ledger: Ledger) -> None:
    """The same file may be two sources'; what is known expires some day."""
    progress = ImportProgress(ledger.client)
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    progress.write("abc", "crm", 250, moment, done=False)
    progress.write("abc", "shop", 500, moment, done=True)

    assert progress.read("abc", "crm") == Progress(250, done=False, at="2026-01-02T03:04:05.000Z")
    assert progress.read("abc", "shop").done
    assert progress.read("abd", "crm") == Progress()
    assert 0 < ledger.client.ttl("router:import:abc") <= 90 * 24 * 3600
