"""The bad rows of imported files, as JSON lines: {"file", "row", "line", "until", "reason"}."""

import contextlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

from app.feeding import Bad
from cli.incoming_events import Unusable


class Report:
    """Bad rows as JSON lines; made when there is one. What an earlier run reported is not reported again."""

    def __init__(self, path: Path, feed: Path, *, resumed: bool) -> None:
        self.path = path
        self.used = False
        self._file = feed.name
        self._last = self._reported() if resumed else 0

    def add(self, bad: Sequence[Bad]) -> None:
        """Write them down. Ends the command when that cannot be done."""
        self.used |= bool(bad)
        new = [each for each in bad if each.row > self._last]
        if not new:
            return
        try:
            whole = self._whole()
            with self.path.open("a", encoding="utf-8") as file:
                if not whole:
                    file.write("\n")
                file.writelines(json.dumps({"file": self._file, **vars(each)}) + "\n" for each in new)
        except OSError as error:
            why = f"{self.path} cannot be written: {type(error).__name__}; name another file with --report"
            raise Unusable(why) from None

    def _whole(self) -> bool:
        """Whether the last line has its end; it has not where a run was killed while it wrote."""
        if not self.path.exists() or not self.path.stat().st_size:
            return True
        with self.path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read() == b"\n"

    def _reported(self) -> int:
        """The last row of the file that it names."""
        last = 0
        with contextlib.suppress(OSError), self.path.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    noted = json.loads(line)
                    last = max(last, int(noted["row"])) if noted["file"] == self._file else last
        return last
