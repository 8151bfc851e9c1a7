"""Iterators that one thread at a time may advance: a second thread gets an error."""

from __future__ import annotations

import threading

from mellea.errors import UsageError

__all__ = ["SingleReader"]


class SingleReader:
    """Lets one thread at a time advance an iterator, in a `with` block.

    Raises:
        UsageError: another thread is inside, or this one, further up. Waiting could last forever, since the other
            thread may need the one that would wait.
    """

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            raise UsageError(
                "this iterator is being read at this moment, in another thread or further up in this one; give each "
                "thread an iterator of its own, or read in one thread and pass the values on in a queue.Queue"
            )

    def __exit__(self, *error: object) -> None:
        self._lock.release()
