"""Rows on their way from a map's loop to its reader, possibly in another thread: in order, or as they complete."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from typing import Any

from mellea.batch.row import Row
from mellea.core.runtime.loop import ThreadWaiter, Waiter

__all__ = ["Outbox"]


class Outbox:
    """The rows that are done but not yet yielded.

    Args:
        is_ordered: whether they are yielded in the order of their indices.

    Attributes:
        taken: how many rows have been yielded.
        error: the error that ended the map; raised after the rows that are done.
        has_ended: whether there are no more.
    """

    def __init__(self, *, is_ordered: bool) -> None:
        self._is_ordered = is_ordered
        self._lock = threading.Lock()
        self._ready: deque[Row[Any]] = deque()
        self._held: dict[int, Row[Any]] = {}  # rows that wait for an earlier one
        self._next = 0
        self._waiter: Waiter | ThreadWaiter | None = None
        self.taken = 0
        self.error: BaseException | None = None
        self.has_ended = False

    def put(self, rows: Iterable[Row[Any]]) -> None:
        """Add rows, and wake the reader if it can read something."""
        with self._lock:
            if not self._is_ordered:
                self._ready.extend(rows)
            else:
                held = self._held
                # Held until the row before it is done; `_room` of the runner limits how many can be held.
                for row in rows:
                    held[row.index] = row
                while self._next in held:
                    self._ready.append(held.pop(self._next))
                    self._next += 1
            # Nothing can be read yet: waking the reader for a row that waits for an earlier one would only cost a task
            # switch.
            waiter = self._waiter if self._ready else None
        if waiter is not None:
            waiter.wake()

    def end(self, error: BaseException | None) -> None:
        """Let the reader have the remaining rows, and then the end or an error."""
        with self._lock:
            # The rest in order, with gaps: after a failure, rows that were started but not finished are missing.
            self._ready.extend(self._held[index] for index in sorted(self._held))
            self._held = {}
            self.error, self.has_ended = error, True
            waiter = self._waiter
        if waiter is not None:
            waiter.wake()

    def wait_with(self, waiter: Waiter | ThreadWaiter | None) -> None:
        """Register the waiter to wake; check again afterwards."""
        self._waiter = waiter

    def take(self) -> list[Row[Any]]:
        """Take all rows that are ready."""
        # Without the lock: the reader checks this after each row, and a deque's truth value is read atomically.
        if not self._ready:
            return []
        with self._lock:
            rows, self._ready = list(self._ready), deque()
            self.taken += len(rows)
        return rows
