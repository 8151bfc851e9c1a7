"""The progress of a map as one line of a terminal: rows, rows a second, cost, time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any, TextIO

from mellea.batch.budget import Purse
from mellea.batch.row import Row

__all__ = ["Progress"]

_SECONDS = 0.2


class Progress:
    """Shows the progress of a map.

    Args:
        total: how many rows there are, if that is known.
        is_shown: whether it is shown; by default on a terminal, on stderr.
        stream: where, in place of stderr.
    """

    def __init__(self, total: int | None, is_shown: bool | None = None, stream: TextIO | None = None) -> None:
        self._total = total
        self._stream = stream if stream is not None else sys.stderr
        is_terminal = bool(self._stream is not None and self._stream.isatty())
        self._is_shown = is_terminal if is_shown is None else is_shown
        self._began = self._shown = time.monotonic()
        # Of the line that is shown: a shorter one is padded, or the rest of the longer one would stay on the terminal.
        self._width = 0
        self.done = self.failed = self.cached = 0

    def note(self, rows: Sequence[Row[Any]], purse: Purse) -> None:
        """Count rows that are done, and show the line if it is time."""
        if not self._is_shown:
            return
        self.done += len(rows)
        self.failed += sum(row.error is not None for row in rows)
        self.cached += sum(row.cached for row in rows)
        now = time.monotonic()
        # Drawing costs more than counting; at thousands of rows a second each line would be unreadable anyway.
        if now - self._shown >= _SECONDS:
            self._shown = now
            self._write(self.line(purse, now - self._began))

    def line(self, purse: Purse, seconds: float) -> str:
        """Return the line."""
        # Rows from the journal come at once, and would make the estimate of the time that is left far too short.
        asked = self.done - self.cached
        rate = asked / seconds if seconds > 0 else 0.0
        parts = [f"{self.done:,}" + (f" of {self._total:,} rows" if self._total is not None else " rows")]
        if self.cached:
            parts.append(f"{self.cached:,} from the journal")
        if self.failed:
            parts.append(f"{self.failed:,} failed")
        parts.append(f"{rate:,.1f} rows/s")
        if purse.cost:
            parts.append(f"${purse.cost:,.4f}")
        if self._total is not None and rate > 0:
            parts.append(f"{_show_time((self._total - self.done) / rate)} left")
        return " · ".join(parts)

    def end(self, purse: Purse | None = None) -> None:
        """Leave the line as it is, and go on below it."""
        if self._is_shown and self._width:
            if purse is not None:
                self._write(self.line(purse, time.monotonic() - self._began))
            self._stream.write("\n")
            self._stream.flush()
            self._width = 0

    def _write(self, line: str) -> None:
        # A carriage return works everywhere, also in terminals that know no escape sequences.
        self._stream.write("\r" + line.ljust(self._width))
        self._stream.flush()
        self._width = len(line)


def _show_time(seconds: float) -> str:
    whole = int(max(seconds, 0))
    hours, minutes = whole // 3600, whole % 3600 // 60
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"
