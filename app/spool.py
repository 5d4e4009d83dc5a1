"""Events on local disk while Redis cannot take them: in order, fsynced, bounded, shared by a machine's web processes.

    <folder>/spool.db   SQLite in WAL mode; table `spooled`, one row an event, oldest first
    <folder>/holding    there while anything is spooled; changed only within a write transaction of the database
    <folder>/full       there while the drainer finds Redis full; what sources with `when_full: refuse` go by
    <folder>/drainer    locked (flock) by the process that drains
    <folder>/opening    locked by a process that opens the database, so that only one at a time prepares it

Why it is safe between processes: docs/adr/0009-accept-without-redis.md.
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import structlog

from tasks.envelope import Envelope, Rejected, encode
from tasks.errors import InvalidEnvelope, QueueFull, QueueUnavailable

log: Final = structlog.get_logger("app.spool")

#: How long a request waits for its turn to write: within what the most impatient sender grants (2 s).
_PATIENCE_S: Final = 0.8
#: With less room than this, the spool counts as full for whoever asks before there is an event.
_LEAST_ROOM: Final = 65_536
#: How long a refusal speaks for the next event: afterwards senders come again, and show it.
_REFUSAL_COUNTS_S: Final = 5.0
#: How long SQLite itself waits for another process before we ask again, and how long we wait in between.
_STEP_MS: Final = 3
_PAUSE_S: Final = 0.0005
_DATABASE: Final = "spool.db"
#: AUTOINCREMENT: a number never comes back, so that numbers of rows that went never mean other rows.
_TABLE: Final = (
    "CREATE TABLE IF NOT EXISTS spooled"
    " (n INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, envelope BLOB NOT NULL, error TEXT)"
)


@dataclasses.dataclass(frozen=True)
class Spooled:
    """One event that waits on disk."""

    n: int  #: its place in the order
    at: float  #: when it was spooled, Unix time
    text: bytes  #: the envelope, encoded
    wrong: str | None  #: what is wrong with it as JSON, when it is to be kept as a dead letter

    @cached_property
    def envelope(self) -> Envelope:
        """The envelope as it was, unvalidated like that of any event just accepted. Raises InvalidEnvelope."""
        try:
            return Envelope(**json.loads(self.text))
        except (ValueError, TypeError):
            raise InvalidEnvelope("the spooled envelope is of another version") from None

    @property
    def rejected(self) -> Rejected:
        """The event as it was rejected, when it was. Raises InvalidEnvelope."""
        try:
            return Rejected(self.envelope, **json.loads(self.wrong or ""))
        except (ValueError, TypeError):  # as a version before this one wrote it: the text alone
            return Rejected(self.envelope, self.wrong or "")


@dataclasses.dataclass(frozen=True)
class Size:
    """How much is spooled."""

    events: int
    bytes: int
    oldest_s: float  #: age of the oldest event; 0 when there is none
    room: int  #: bytes that may still be added


@dataclasses.dataclass(frozen=True)
class Drained:
    """What a spool that is empty again has carried."""

    events: int
    seconds: float


@dataclasses.dataclass
class _Turn:
    """One request's events on their way to the disk."""

    rows: Sequence[tuple[float, bytes, str | None]]
    why: str
    done: bool = False
    error: Exception | None = None


class Spool:
    """One process's hand on the spool. Safe to share between threads."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        """Open it, or make it. Raises OSError or sqlite3.Error when the folder cannot be used."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._holding = str(folder / "holding")
        self._full = str(folder / "full")
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._turns: deque[_Turn] = deque()
        self._refused_at = -_REFUSAL_COUNTS_S
        with _locked(folder / "opening", wait=True):
            self._database = sqlite3.connect(
                folder / _DATABASE, timeout=_PATIENCE_S, isolation_level=None, check_same_thread=False
            )
            self._prepare()

    def close(self) -> None:
        """Let go of the database."""
        with self._lock:
            self._database.close()

    def _prepare(self) -> None:
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "journal_size_limit = 4194304"):
            self._database.execute(f"PRAGMA {pragma}")
        self._database.execute(f"PRAGMA busy_timeout = {_STEP_MS}")
        self._page = self._one("PRAGMA page_size")
        # SQLite itself refuses what would go beyond it.
        self._database.execute(f"PRAGMA max_page_count = {max(self._max_bytes // self._page, 1)}")
        with self._transaction():
            self._database.execute(_TABLE)
            # A machine that lost power may have kept the rows and not the file.
            if not self.holding() and (first := self._one("SELECT min(n) FROM spooled")) is not None:
                self._mark(first - 1)

    # --- the endpoint's side ----------------------------------------------------------------------------------

    def holding(self) -> bool:
        """Whether any process's events are spooled, so that what comes now must queue behind them. About 1 µs."""
        return os.access(self._holding, os.F_OK)

    def full(self) -> bool:
        """Whether events are held up because Redis is full, as the drainer last found."""
        return os.access(self._full, os.F_OK)

    def append(self, events: Sequence[Envelope | Rejected], why: str) -> None:
        """Keep events behind all others; when this returns, they are on the disk. `why` is for the log.

        Raises QueueFull (no room) or QueueUnavailable (the disk does not take them).
        """
        now = time.time()
        rows = [(now, *_as_row(event)) for event in events]
        turn = _Turn(rows, why)
        self._turns.append(turn)
        # Group commit without a thread of its own: whoever gets the lock writes for all who wait for it.
        if not self._lock.acquire(timeout=_PATIENCE_S):
            with contextlib.suppress(ValueError):
                self._turns.remove(turn)
            raise QueueUnavailable("the spool does not answer")
        try:
            if not turn.done:
                self._write([self._turns.popleft() for _ in range(len(self._turns))])
        finally:
            self._lock.release()
        if turn.error is not None:
            raise _refusal(turn.error) from None

    def _write(self, turns: Sequence[_Turn]) -> None:
        begun, error = False, None
        try:
            with self._transaction():
                rows = [row for turn in turns for row in turn.rows]
                self._database.executemany("INSERT INTO spooled (at, envelope, error) VALUES (?, ?, ?)", rows)
                if begun := not self.holding():
                    self._mark(self._last() - len(rows))
        except (sqlite3.Error, OSError) as caught:
            error = caught
        self._refused_at = -_REFUSAL_COUNTS_S if error is None else time.monotonic()
        for turn in turns:
            turn.error, turn.done = error, True
        if begun and error is None:
            log.warning("spool.begun", why=turns[0].why)

    # --- the drainer's side -----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def only_drainer(self) -> Iterator[bool]:
        """Whether the caller is the one that may drain, of all processes; the right ends with the context."""
        with _locked(self._folder / "drainer", wait=False) as mine:
            yield mine

    def head(self, most: int, most_bytes: int) -> list[Spooled]:
        """The oldest events: at most `most`, of `most_bytes` together or one larger one."""
        rows: list[Spooled] = []
        size = 0
        with self._lock, contextlib.closing(self._database.execute(_HEAD, (most,))) as found:
            for row in found:
                size += len(row[2])
                if rows and size > most_bytes:
                    break
                rows.append(Spooled(*row))
        return rows

    def forget(self, through: int) -> None:
        """Drop the events up to that place: Redis has them. Raises sqlite3.Error."""
        with self._lock, self._transaction():
            self._database.execute("DELETE FROM spooled WHERE n <= ?", (through,))

    def release(self) -> Drained | None:
        """Let new events go to Redis again, if none is spooled any more; None when there is. Raises sqlite3.Error.

        Nobody can append meanwhile: the look and the change are one write transaction.
        """
        with self._lock, self._transaction():
            if self._one("SELECT min(n) FROM spooled") is not None:
                return None
            holding = Path(self._holding)
            try:
                begun_at, after = holding.stat().st_mtime, int(holding.read_text())
            except (FileNotFoundError, ValueError):  # whoever made it died over it
                begun_at, after = time.time(), self._last()
            self.note_full(full=False)
            holding.unlink(missing_ok=True)
            return Drained(self._last() - after, max(time.time() - begun_at, 0.0))

    def note_full(self, *, full: bool) -> None:
        """Say whether Redis is full."""
        if full and not self.full():
            Path(self._full).touch()
        elif not full and self.full():
            Path(self._full).unlink(missing_ok=True)

    # --- look -------------------------------------------------------------------------------------------------

    def size(self) -> Size:
        """How much is spooled, by whichever process. Raises sqlite3.Error."""
        with self._lock:
            events, oldest = self._database.execute(_COUNT).fetchone()
            used = (self._one("PRAGMA page_count") - self._one("PRAGMA freelist_count")) * self._page
        age = max(time.time() - oldest, 0.0) if events else 0.0
        return Size(events, used if events else 0, age, max(self._max_bytes - used, 0))

    def takes(self) -> bool:
        """Whether an event of usual size would be taken now, as far as one can say without one."""
        try:
            return time.monotonic() - self._refused_at >= _REFUSAL_COUNTS_S and self.size().room >= _LEAST_ROOM
        except sqlite3.Error:
            return False

    # --- the database -----------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        """The one write transaction of all processes; the caller has the lock of this one."""
        self._begin()
        try:
            yield
            self._database.execute("COMMIT")
        except BaseException:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise

    def _begin(self) -> None:
        """Wait for the right to write. SQLite's own wait grows to 100 ms a step, and busy processes starve others."""
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                self._database.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(_PAUSE_S)
            else:
                return

    def _mark(self, after: int) -> None:
        """Make the file `holding`, which says after which row the spooling began; the caller is in a transaction."""
        Path(self._holding).write_text(str(after))

    def _last(self) -> int:
        """The number of the newest row there ever was."""
        return int(self._one("SELECT seq FROM sqlite_sequence WHERE name = 'spooled'") or 0)

    def _one(self, query: str) -> Any:
        row = self._database.execute(query).fetchone()
        return row[0] if row else None


_HEAD: Final = "SELECT n, at, envelope, error FROM spooled ORDER BY n LIMIT ?"
#: Rows come at the end and go from the beginning, so no number is missing between the two.
_COUNT: Final = "SELECT coalesce(max(n) - min(n) + 1, 0), (SELECT at FROM spooled ORDER BY n LIMIT 1) FROM spooled"


def spooled(folder: Path) -> list[Spooled]:
    """Everything that waits in a spool's folder, oldest first, for people and commands; opens it for reading only.

    Raises sqlite3.Error when it cannot be read.
    """
    file = (folder / _DATABASE).absolute()
    if not file.exists():
        return []
    with contextlib.closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True, timeout=_PATIENCE_S)) as database:
        return [Spooled(*row) for row in database.execute(_HEAD, (-1,))]


def problem(folder: Path) -> str | None:
    """Why a folder cannot be a spool's, or None; changes nothing."""
    there = folder.absolute()
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir():
        return f"{there} is no folder"
    if not os.access(there, os.W_OK | os.X_OK):
        return f"{there} is not writable"
    return None


def _as_row(event: Envelope | Rejected) -> tuple[bytes, str | None]:
    """An event's envelope, encoded, and what is wrong with it."""
    if isinstance(event, Envelope):
        return encode(event), None
    wrong = {"error": event.error, "reason": event.reason, "code": event.code}
    return encode(event.envelope), json.dumps(wrong)


def _refusal(error: Exception) -> QueueFull | QueueUnavailable:
    # Errors of the module itself, not of SQLite, have no code.
    if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
        return QueueFull("the spool is full")
    return QueueUnavailable(f"the spool cannot be written ({type(error).__name__})")


@contextlib.contextmanager
def _locked(file: Path, *, wait: bool) -> Iterator[bool]:
    """Hold a lock that ends with this process at the latest; gives whether we have it."""
    with file.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True
