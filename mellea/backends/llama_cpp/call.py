"""One call of the engine: a worker thread writes chunks, the event loop reads them.

Rules:

- The engine's thread appends chunks and only wakes the loop if a reader is waiting, so that a slow
  loop takes all chunks at once and costs the writer nothing.
- A reader registers its waiter under the lock, after it has found no chunks.
- Once cancelled, chunks are dropped, and the engine is told to stop by its next callback.
- The worker sets `is_started` and then checks `is_cancelled`; cancelling does it the other way round. So
  one of them sees the other, and a call that hasn't started never reaches the engine.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

from mellea.core.runtime.loop import Waiter, create_waiter

__all__ = ["Chunk", "EngineCall"]

Chunk = Mapping[str, Any]


class EngineCall:
    """One generation in the engine.

    Attributes:
        payload: the request to the engine.
        is_started: whether a worker has started it.
        is_done: whether the engine has returned from it, or never got it.
        is_cancelled: whether its reader has cancelled it.
        error: the engine's error.
    """

    def __init__(self, payload: dict[str, Any]) -> None:
        self.payload = payload
        self.is_started = False
        self.is_done = False
        self.is_cancelled = False
        self.error: Exception | None = None
        self._reason: Exception | None = None
        self._lock = threading.Lock()
        self._chunks: list[Chunk] = []
        self._waiter: Waiter | None = None

    def put(self, chunk: Chunk) -> bool:
        """Take one chunk from the engine; true tells the engine to stop."""
        # The engine calls this for each chunk, so this is the earliest moment at which it can stop.
        if self.is_cancelled:
            return True
        with self._lock:
            self._chunks.append(chunk)
            waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.wake()
        return False

    def finish(self, error: Exception | None = None) -> None:
        """Mark the call as finished: no more chunks will come."""
        with self._lock:
            self.error = error or self._reason
            self.is_done = True
            waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.wake()

    def cancel(self, reason: Exception | None = None) -> None:
        """Make the engine stop at its next chunk, from any thread; a reader gets `reason`."""
        # Before the flag: the engine's thread may see the flag and finish at once.
        self._reason = reason
        self.is_cancelled = True

    async def take(self, timeout: float) -> list[Chunk]:
        """Return all new chunks; if there are none, wait for some, for the end or the time-out."""
        with self._lock:
            # Under the lock: a chunk that arrives after this check finds the waiter.
            if not self._chunks and not self.is_done:
                waiter = self._waiter = create_waiter()
            else:
                waiter = None
        if waiter is not None:
            await waiter.wait(timeout)
        with self._lock:
            chunks, self._chunks = self._chunks, []
        return chunks

    async def wait_done(self, timeout: float) -> None:
        """Wait until the engine has returned from a cancelled call, at most `timeout` seconds."""
        deadline = time.monotonic() + timeout
        # A chunk in flight when the call was cancelled may still wake the waiter.
        while (left := deadline - time.monotonic()) > 0:
            with self._lock:
                if self.is_done:
                    return
                waiter = self._waiter = create_waiter()
            await waiter.wait(left)
