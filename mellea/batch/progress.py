"""The progress of a map as one line in a terminal: rows, rows per second, cost, time left."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, TextIO

from mellea.batch.budget import Purse
from mellea.batch.row import Row
from mellea.core.progress import TerminalLine, format_time

__all__ = ["MapProgress"]


class MapProgress:
    """Shows the progress of a map.

    Args:
        total: how many rows there are, if known.
        is_shown: whether it is shown; by default on a terminal, on stderr.
        stream: where to show it instead of stderr.
    """

    def __init__(self, total: int | None, is_shown: bool | None = None, stream: TextIO | None = None) -> None:
        self._total = total
        self._line = TerminalLine(stream)
        self._is_shown = self._line.is_terminal if is_shown is None else is_shown
        self._began = time.monotonic()
        self.done = self.failed = self.cached = 0

    def note(self, rows: Sequence[Row[Any]], purse: Purse) -> None:
        """Count rows that are done, and show the line if it is time."""
        if not self._is_shown:
            return
        self.done += len(rows)
        self.failed += sum(row.error is not None for row in rows)
        self.cached += sum(row.cached for row in rows)
        # Drawing costs more than counting, so it is rate-limited.
        if self._line.is_due():
            self._line.draw(self.line(purse, time.monotonic() - self._began))

    def line(self, purse: Purse, seconds: float) -> str:
        """Return the line."""
        # Rows from the journal arrive at once, and would make the estimate of the remaining time far too short.
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
            parts.append(f"{format_time((self._total - self.done) / rate)} left")
        return " · ".join(parts)

    def end(self, purse: Purse | None = None) -> None:
        """Leave the line as it is, and continue below it."""
        if self._is_shown and self._line.is_shown:
            if purse is not None:
                self._line.draw(self.line(purse, time.monotonic() - self._began))
            self._line.leave()
