"""How rows get to a map without blocking its loop: read directly, by a thread, awaited, or pushed by the caller.

Rules:

- `take` returns at least one row, and an empty list at the end. A slow source is asked for one row at a time.
- A source that fails ends the rows. Rows that were already started are yielded first, then the source's error is
  raised.
- In sync code the rows are read in the caller's own thread, while it waits for results, because cursors and generators
  often can't be used in another.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from itertools import islice
from typing import Any

from mellea.core.runtime.loop import Loop, ThreadWaiter, Waiter, create_waiter
from mellea.core.runtime.tasks import run_in_thread

__all__ = ["Feed", "PushFeed", "make_feed"]

_PULL_SECONDS = 0.005
"""How long one pull keeps taking rows after its first one."""

_SLOW_SECONDS = 0.002
"""A source that takes longer than this for a row is only read when there is nothing else to do."""


class Feed(ABC):
    """Rows, for a loop.

    Attributes:
        error: the source's error.
    """

    error: BaseException | None = None

    @abstractmethod
    async def take(self, most: int) -> list[Any]:
        """Return at most so many rows; none at the end."""

    async def aclose(self) -> None:  # noqa: B027 - most have nothing to close
        """Close the source."""


class _ReadyFeed(Feed):
    """Rows that are in memory, or may be read on the loop."""

    def __init__(self, rows: Iterable[Any]) -> None:
        self._rows = iter(rows)

    async def take(self, most: int) -> list[Any]:
        try:
            return list(islice(self._rows, most))
        except Exception as error:  # noqa: BLE001 - the user's source; a list that was made shorter, a cursor
            self.error = error
            return []


class _ThreadFeed(Feed):
    """Rows of a sync iterator, read in worker threads, one at a time."""

    def __init__(self, rows: Iterable[Any]) -> None:
        self._rows = rows
        self._iterator: Iterator[Any] | None = None
        self._is_over = False

    async def take(self, most: int) -> list[Any]:
        if self._is_over:
            return []
        # One call at a time: the next one starts when this one has returned, so a sync generator is never entered
        # twice.
        found, self._is_over, self.error = await run_in_thread(self._pull, most)
        return found

    def _pull(self, most: int) -> tuple[list[Any], bool, BaseException | None]:
        if self._iterator is None:
            # In the thread, not before: creating a generator, or running a cursor's query, may block as well.
            self._iterator = iter(self._rows)
        return pull(self._iterator, most, _PULL_SECONDS)


class _AsyncFeed(Feed):
    """Rows of an async iterable."""

    def __init__(self, rows: AsyncIterable[Any]) -> None:
        self._iterator: AsyncIterator[Any] = aiter(rows)

    async def take(self, most: int) -> list[Any]:
        try:
            # One at a time: waiting for more would hold back a row that has already arrived.
            return [await anext(self._iterator)]
        except StopAsyncIteration:
            return []
        except Exception as error:  # noqa: BLE001 - the user's source
            self.error = error
            return []

    async def aclose(self) -> None:
        close = getattr(self._iterator, "aclose", None)
        if close is not None:
            await close()


class PushFeed(Feed):
    """Rows that the caller's thread reads from their source and puts here.

    Args:
        rows: the source.
    """

    def __init__(self, rows: Iterable[Any]) -> None:
        self._source = rows
        self._iterator: Iterator[Any] | None = None
        self._lock = threading.Lock()
        self._rows: list[Any] = []
        self._is_over = False
        self._is_slow = False
        self._wanted = 0
        self._taker: Waiter | None = None
        self.pusher: ThreadWaiter | None = None  # the caller's, to be woken when rows are wanted
        self.loop: Loop | None = None

    def wants(self, *, is_idle: bool) -> bool:
        """Whether rows should be read now: soon if the caller has nothing else to do, or if they come quickly."""
        return self._wanted > 0 and not self._is_over and (is_idle or not self._is_slow)

    def pump(self) -> None:
        """Read rows from the source, in the caller's thread."""
        if self._iterator is None:
            # Also in the caller's thread, where the source was created.
            self._iterator = iter(self._source)
        began = time.monotonic()
        found, is_over, error = pull(self._iterator, self._wanted, _PULL_SECONDS)
        # Per row: a source that takes longer but returns many rows isn't slow.
        self._is_slow = time.monotonic() - began > _SLOW_SECONDS * max(len(found), 1)
        with self._lock:
            self._rows += found
            self._wanted = max(0, self._wanted - len(found))
            self._is_over, self.error = is_over, error
            taker = self._taker
        if taker is not None:
            # Outside the lock, because the woken thread takes the lock at once.
            taker.wake()

    async def take(self, most: int) -> list[Any]:
        """Return at most so many, or a few more, of the rows that the caller has put here; none at the end."""
        while True:
            with self._lock:
                if self._rows:
                    found, self._rows = self._rows, []
                    return found
                if self._is_over:
                    return []
                # Set under the same lock under which the rows are checked: otherwise a pump in between would find no
                # waiter to wake.
                self._wanted = most
                taker = self._taker = create_waiter()
                pusher = self.pusher
            if pusher is not None:
                pusher.wake()
            await taker.wait()


def pull(iterator: Iterator[Any], most: int, seconds: float) -> tuple[list[Any], bool, BaseException | None]:
    """Read rows until there are enough or the time is up; returns them, whether that was all, and the error, if any."""
    found: list[Any] = []
    until = time.monotonic() + seconds
    try:
        while len(found) < max(most, 1):
            found.append(next(iterator))
            # Checked only once there is a row, so a slow source still yields one row per call.
            if time.monotonic() > until:
                break
    except StopIteration:
        return found, True, None
    except Exception as error:  # noqa: BLE001 - the user's source
        return found, True, error
    return found, False, None


def make_feed(rows: Iterable[Any] | AsyncIterable[Any], *, is_ready: bool, is_sync: bool) -> Feed:
    """Return the right kind of feed for some rows.

    Args:
        rows: the rows.
        is_ready: whether they are in memory.
        is_sync: whether the caller is sync code.
    """
    if isinstance(rows, AsyncIterable):
        return _AsyncFeed(rows)
    if is_ready:
        return _ReadyFeed(rows)
    if is_sync:
        return PushFeed(rows)
    # An SQLite cursor belongs to the thread that made it, which is usually the loop's.
    return _ReadyFeed(rows) if isinstance(rows, sqlite3.Cursor) else _ThreadFeed(rows)
