"""An answer that is written whether or not a client reads it, so that readers may leave, return and join late.

Rules:

- The answer is a response whose bytes go into a log. It has its own task, on the loop where it started.
- Every reader gets the whole log from its beginning.
- It is stopped after a while without readers, or by `stop`; readers get the corresponding end.
- After its end it is kept for the same while, unless a reader has read all of it.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, MutableMapping
from typing import Any

import anyio

from mellea.core.runtime.loop import Detached, launch
from mellea.serve.response import StreamResponse

__all__ = ["LogReader", "RunningAnswer"]

_log = logging.getLogger("mellea.serve")

_FIRST_SECONDS = 2.0
"""The least time to wait for its first reader."""

_LARGEST_ANSWER = 64 * 2**20
"""Bytes of an answer; one that gets longer fails."""


class RunningAnswer:
    """One answer and its log.

    Args:
        response: writes it.
        grace: seconds without a reader after which it is stopped, or forgotten.
        on_over: called when it may be forgotten.

    Attributes:
        pieces: what was written so far.
        has_ended: whether nothing will be added.
        is_over: whether it may be forgotten.
    """

    def __init__(self, response: StreamResponse, grace: float, on_over: Callable[[RunningAnswer], object]) -> None:
        self.pieces: list[bytes] = []
        self.has_ended = self.is_over = False
        self._response, self._grace, self._on_over = response, grace, on_over
        self._size = self._readers = 0
        self._is_read_elsewhere = False
        self._was_read = False  # to its end
        self._news = anyio.Event()  # something was written
        self._moved = anyio.Event()  # a reader has joined or left
        self._scope: anyio.CancelScope | None = None
        self._is_stopped = False
        self._task: Detached | None = None

    def start(self) -> None:
        """Start, on the running loop."""
        self._task = launch(self._run, self._end)

    def stop(self) -> None:
        """Stop it; only from its own loop."""
        self._is_stopped = True
        if self._scope is not None:
            self._scope.cancel()

    def read(self) -> LogReader:
        """Read all of it, from the beginning."""
        return LogReader(self)

    @property
    def is_read(self) -> bool:
        """Whether there is a reader now."""
        return self._readers > 0 or self._is_read_elsewhere

    def count(self, readers: int = 0, *, elsewhere: bool | None = None) -> None:
        """Count readers that join or leave, here or in other processes."""
        self._readers += readers
        if elsewhere is not None:
            self._is_read_elsewhere = elsewhere
            self._tell()
        # A new event each time, so that none has to be cleared while something still waits for it.
        moved, self._moved = self._moved, anyio.Event()
        moved.set()

    def news(self) -> anyio.Event:
        """Return the event that is set when something is written, or it has ended."""
        return self._news

    async def _run(self) -> None:
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._watch)
                with anyio.CancelScope() as self._scope:
                    # It may have been stopped between its launch and this line.
                    if self._is_stopped:
                        self._scope.cancel()
                    # There is no client that could leave: readers of the log come and go independently of the response.
                    await self._response({"type": "http"}, _wait_forever, self._take)
                self._end()
                # Late readers still find the end.
                await self._keep()
                group.cancel_scope.cancel()
        except anyio.get_cancelled_exc_class():
            raise
        except Exception:  # noqa: BLE001 - a detached task, from which nothing may escape
            _log.exception("an answer was lost")
        finally:
            self.is_over = True
            self._end()
            self._on_over(self)

    async def _take(self, message: MutableMapping[str, Any]) -> None:
        piece = message.get("body", b"")
        if not piece:
            return
        self._size += len(piece)
        if self._size > _LARGEST_ANSWER:
            raise OSError("the answer is too long")  # this stops the model, as when a client has left
        self.pieces.append(piece)
        self._tell()

    async def _watch(self) -> None:
        """Stop it when there are no more readers."""
        # A client needs a moment to connect, even if later absences aren't tolerated.
        grace = max(self._grace, _FIRST_SECONDS)
        while not self.has_ended:
            with anyio.move_on_after(grace):
                while not self.is_read:
                    await self._moved.wait()
            if not self.is_read:
                self.stop()
                return
            grace = self._grace
            while self.is_read:
                await self._moved.wait()

    def note_end(self) -> None:
        """Record that a reader has read all of it."""
        self._was_read = True
        self._tell()

    async def _keep(self) -> None:
        """Wait until it may be forgotten."""
        # A client that lost its connection just before the end returns, and should find the answer.
        with anyio.move_on_after(self._grace):
            while not self._was_read or self._is_read_elsewhere:
                await self._news.wait()

    def _tell(self) -> None:
        news, self._news = self._news, anyio.Event()
        news.set()

    def _end(self) -> None:
        self.has_ended = True
        self._tell()


class LogReader(AsyncIterator[bytes]):
    """Reads an answer from its beginning."""

    def __init__(self, answer: RunningAnswer) -> None:
        self._answer = answer
        self._next = 0
        self._is_reading = self._has_left = False

    async def __anext__(self) -> bytes:
        answer = self._answer
        # Counted at the first read: an unused reader mustn't keep the answer running.
        if not self._is_reading and not self._has_left:
            self._is_reading = True
            answer.count(1)
        while self._next >= len(answer.pieces):
            if answer.has_ended:
                answer.note_end()
                raise StopAsyncIteration
            await answer.news().wait()
        pieces = answer.pieces[self._next :]
        # Everything so far in one piece, so that a late reader catches up in one step.
        self._next += len(pieces)
        return b"".join(pieces)

    async def aclose(self) -> None:
        """Stop reading."""
        if self._is_reading and not self._has_left:
            self._answer.count(-1)
        self._has_left = True


async def _wait_forever() -> Any:
    await anyio.sleep_forever()
