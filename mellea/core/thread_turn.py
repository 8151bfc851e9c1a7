"""Turns of threads: an iterator that one thread at a time may advance says so to a second one."""

from __future__ import annotations

import threading

from mellea.errors import UsageError

__all__ = ["ThreadTurn"]


class ThreadTurn:
    """The turn of the thread that advances an iterator, as a `with` block.

    Raises:
        UsageError: somebody has it. Waiting could last forever: the other one may need the thread that would wait.
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
