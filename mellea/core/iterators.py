"""Readers of a generation's text and events, in the order in which they come."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

from mellea.core.events import Event
from mellea.core.runtime import Record
from mellea.core.runtime.cursor import Cursor
from mellea.core.runtime.visible_text import TextFilter, text_filter
from mellea.core.tracebacks import shorten

__all__ = ["EventIterator", "Place", "Poll", "Readable", "TextIterator"]


class Readable(Protocol):
    """What is read, a thunk: it is held, so that reading keeps the generation alive."""

    @property
    def record(self) -> Record:
        """The generation."""

    def deliver(self) -> Any:
        """Note that a reader has reached the end; raises what the generation failed with."""


class Poll:
    """The place of `astream()` in a run's text. Several threads may share it: none gets less than all text so far."""

    __slots__ = ("_cursor", "_filter", "_lock", "_text", "is_at_end", "is_over")

    def __init__(self, run: Record) -> None:
        self._cursor = Cursor(run)
        self._filter: TextFilter | None = text_filter(run)
        self._lock = threading.Lock()
        self._text = ""
        self.is_at_end = False  # all text has been taken, and the run hasn't failed before
        self.is_over = False  # somebody has returned it

    def is_ready(self) -> bool:
        """Whether `take` has something to say."""
        return self._cursor.is_ready()

    def take(self) -> str | None:
        """Return all text so far if there is more of it than at the last call, or if it is at the end."""
        with self._lock:
            new = self._cursor.take()
            text = self._filter(new) if new and self._filter is not None else ""
            self._text += text
            run = self._cursor.run
            # Before an error comes the text; the next call raises.
            if new is None or (text and run.is_final and run.error is None):
                self.is_at_end = True
            return self._text if text or self.is_at_end else None

    def end(self) -> None:
        """Let go of the text, which has been returned."""
        with self._lock:
            self.is_over, self._text, self._filter = True, "", None
            self._cursor.take()  # at the end, where the cursor lets go of the events


class Place(Protocol):
    """What a stream knows of one of its readers; the readers of a thunk that somebody holds have none."""

    def begin(self) -> None:
        """Note that the reader reads; raises if it has left."""

    def end(self) -> None:
        """Note that the reader is through, or leaves."""

    def close(self) -> None:
        """Leave, and wait for the close if nobody else reads."""

    async def aclose(self) -> None:
        """Leave, and wait for the close if nobody else reads."""


class _Iterator:
    """What the readers of a thunk have in common.

    Args:
        thunk: what to read.
        deliver: what to do at the end; by default, make the thunk computed or raise its error.
        place: what a stream knows of the reader.
    """

    __slots__ = ("_cursor", "_deliver", "_place", "_thunk")

    def __init__(self, thunk: Readable, deliver: Callable[[], Any] | None = None, place: Place | None = None) -> None:
        self._thunk = thunk
        self._deliver = deliver or thunk.deliver
        self._place = place
        self._cursor = Cursor(thunk.record)

    async def aclose(self) -> None:
        """Stop reading; the last reader of a stream cancels the generation, and waits until it is closed."""
        if self._place is not None:
            await self._place.aclose()


class TextIterator(_Iterator, AsyncIterator[str]):
    """Reads a thunk's text, delta by delta. It holds the thunk, so reading keeps the generation alive.

    Args:
        thunk: what to read.
        deliver: what to do at the end; by default, make the thunk computed or raise its error.
        place: what a stream knows of the reader.
        live: read also text that may be taken back: that of attempts which aren't accepted yet.
        text_of: makes text of events, instead.
    """

    __slots__ = ("_text_of",)

    def __init__(
        self,
        thunk: Readable,
        deliver: Callable[[], Any] | None = None,
        place: Place | None = None,
        *,
        live: bool = False,
        text_of: TextFilter | None = None,
    ) -> None:
        super().__init__(thunk, deliver, place)
        self._text_of = text_of or text_filter(thunk.record, live=live)

    async def __anext__(self) -> str:
        cursor, place = self._cursor, self._place
        if place is not None:
            place.begin()
        try:
            while True:
                new = cursor.take()
                if new is None:
                    self._deliver()
                    raise StopAsyncIteration
                if text := self._text_of(new):
                    return text
                await cursor.run.until(cursor.is_ready)
        except BaseException as error:
            if place is not None:
                place.end()
            shorten(error)
            raise


class EventIterator(_Iterator, AsyncIterator[Event]):
    """Reads a thunk's events, one by one; otherwise like `TextIterator`."""

    __slots__ = ("_new",)

    def __init__(self, thunk: Readable, deliver: Callable[[], Any] | None = None, place: Place | None = None) -> None:
        super().__init__(thunk, deliver, place)
        self._new: list[Event] = []  # taken and not yet given, the next one last

    async def __anext__(self) -> Event:
        if self._new:
            return self._new.pop()
        cursor, place = self._cursor, self._place
        if place is not None:
            place.begin()
        try:
            while (new := cursor.take()) is not None:
                if new:
                    self._new = new[::-1]
                    return self._new.pop()
                await cursor.run.until(cursor.is_ready)
            self._deliver()
            raise StopAsyncIteration
        except BaseException as error:
            if place is not None:
                place.end()
            shorten(error)
            raise
