"""Readers of a generation's text and events, in order.

A text reader gets only text that is final. In a plain generation that is every text delta. Under a strategy it
is the text of the accepted attempt, once it is accepted, and before that only what was committed; in a tool loop it is
the text of all steps. So what was read is always a prefix of the final text.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from mellea.core.accumulator import STEP_BREAK
from mellea.core.events import AttemptAccepted, AttemptStart, ChunkValidated, Event, StepStart, StreamEnd, TextDelta
from mellea.core.runtime import Record, Run
from mellea.core.runtime.run_observer import hold_until_end
from mellea.core.tracebacks import shorten
from mellea.errors import UsageTypeError

if TYPE_CHECKING:
    from mellea.core.held_span import SpanHold

__all__ = [
    "Cursor",
    "EventIterator",
    "Pieces",
    "Place",
    "Poll",
    "Readable",
    "TextFilter",
    "TextIterator",
    "join_text",
    "make_piece_filter",
    "make_text_filter",
    "relay",
]


class Readable(Protocol):
    """The thunk that is read: readers hold it, so that reading keeps the generation alive."""

    @property
    def record(self) -> Record:
        """The generation."""

    def deliver(self) -> Any:
        """Handle a reader's reaching the end; raises the error of a failed generation."""


class Poll:
    """The position of `astream()` in a run's text. Several threads may share it: each gets all text so far."""

    __slots__ = ("_cursor", "_filter", "_lock", "_text", "is_at_end", "is_over")

    def __init__(self, run: Record) -> None:
        self._cursor = Cursor(run)
        self._filter: TextFilter | None = make_text_filter(run)
        self._lock = threading.Lock()
        self._text = ""
        self.is_at_end = False  # all text has been taken, and the run hasn't failed before
        self.is_over = False  # it has been returned

    def is_ready(self) -> bool:
        """Whether `take` would return something."""
        return self._cursor.is_ready()

    def take(self) -> str | None:
        """Return all text so far if there is more of it than at the last call, or if it is at the end."""
        with self._lock:
            new = self._cursor.take()
            text = self._filter(new) if new and self._filter is not None else ""
            self._text += text
            run = self._cursor.run
            # The text comes before the error; the next call raises.
            if new is None or (text and run.is_final and run.error is None):
                self.is_at_end = True
            return self._text if text or self.is_at_end else None

    def end(self) -> None:
        """Release the text, which has been returned."""
        with self._lock:
            self.is_over, self._text, self._filter = True, "", None
            self._cursor.take()  # at the end, where the cursor releases the events


class Place(Protocol):
    """A stream's record of one of its readers; readers of a thunk have none."""

    def begin(self) -> None:
        """Register that the reader has started; raises if it has left."""

    def end(self) -> None:
        """Register that the reader has finished or left."""

    def close(self) -> None:
        """Leave; the last reader waits for the close."""

    async def aclose(self) -> None:
        """Leave; the last reader waits for the close."""


class _Iterator:
    """Base class of a thunk's readers.

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

    def _go_on_in_(self, hold: SpanHold) -> None:
        hold_until_end(self._cursor.run.spans, hold)

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
        live: also read text that may be retracted: that of attempts that aren't accepted yet.
        text_of: extracts text from events, instead.
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
        self._text_of = text_of or make_text_filter(self._cursor.run, live=live)

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
                if new and (text := self._text_of(new)):
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
        self._new: list[Event] = []  # read but not yet returned, the next one last

    if not TYPE_CHECKING:  # what a checker refuses

        def __getitem__(self, index: object) -> Any:  # what `for` tries where there is no __iter__
            raise UsageTypeError("these events are read by async for; in plain code, for event in m.stream(…).events()")

    async def __anext__(self) -> Event:
        if self._new:
            return self._new.pop()
        cursor, place = self._cursor, self._place
        if place is not None:
            place.begin()
        try:
            while (new := cursor.take()) is not None:
                if new:
                    # Reversed, so that they are popped one by one from the end.
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


TextFilter = Callable[[list[Event]], str]
"""Takes the events that came since the last call, and returns the text that they let out."""


def make_text_filter(run: Record, *, live: bool = False) -> TextFilter:
    """Return a new reader's filter; with `live` it passes all text, even if it may be retracted."""
    return _Lasting(live).feed if run.is_composite else join_text


class Pieces(str):
    """Text of a run that may have steps, with the pieces that it consists of.

    Attributes:
        parts: the pieces; `None` marks the start of another step.
    """

    __slots__ = ("parts",)

    parts: list[str | None]

    def __new__(cls, parts: list[str | None]) -> Pieces:
        """Join the pieces."""
        pieces = super().__new__(cls, _join(parts))
        pieces.parts = parts
        return pieces


def make_piece_filter(run: Record) -> TextFilter:
    """Return a new reader's filter that marks the ends of steps: for a run with steps it returns `Pieces`."""
    if not run.is_composite:
        return join_text
    lasting = _Lasting(False)
    return lambda events: Pieces(lasting.pieces(events))


def join_text(events: Sequence[Event]) -> str:
    """Join the text deltas among the events."""
    if len(events) == 1:
        event = events[0]
        return event.chunk if type(event) is TextDelta else ""
    return "".join([event.chunk for event in events if type(event) is TextDelta])


class _Lasting:
    """The filter for a run that consists of other runs."""

    def __init__(self, live: bool) -> None:
        self._live = live
        self._attempts: dict[int, list[str | None]] = {}  # and the pieces of each; `None` separates two steps
        self._held: list[str | None] | None = None  # that of the current attempt, if any
        self._let_out = 0  # characters of the attempts' texts, which all begin with them
        self._has_text = self._is_new_step = False

    def feed(self, events: list[Event]) -> str:
        return _join(self.pieces(events))

    def pieces(self, events: list[Event]) -> list[str | None]:
        """Return the pieces of text that the events release; `None` marks the start of another step."""
        out: list[str | None] = []
        for event in events:
            kind = type(event)
            if kind is TextDelta:
                self._write(event.chunk, out)  # type: ignore[attr-defined]
            elif isinstance(event, AttemptStart) and not self._live:
                # Attempts may run in parallel and be rejected, so their text is held until one is accepted.
                self._held = self._attempts.setdefault(event.number, [event.text])
                self._has_text = self._is_new_step = False
            elif isinstance(event, ChunkValidated) and event.is_committed and not self._live:
                self._let_out += len(event.chunk)
                out.append(event.chunk)
            elif isinstance(event, AttemptAccepted) and not self._live:
                parts = self._attempts.get(event.number, [])
                # Only the part that readers haven't got yet.
                out += [_join(parts)[self._let_out :]] if self._let_out else parts
                self._attempts.clear()
            elif kind is StepStart:
                # A break separates two texts; there is none before the first.
                self._is_new_step = self._has_text
        return out

    def _write(self, chunk: str, out: list[str | None]) -> None:
        if not chunk:
            return
        to = out if self._held is None else self._held
        if self._is_new_step:
            to.append(None)
            self._is_new_step = False
        self._has_text = True
        to.append(chunk)


def _join(parts: Sequence[str | None]) -> str:
    return "".join([STEP_BREAK if part is None else part for part in parts])


class Cursor:
    """One reader's position in a run's events. Reading never removes anything."""

    __slots__ = ("_events", "_index", "run")

    def __init__(self, run: Record) -> None:
        self.run = run
        self._events = run.events
        self._index = 0

    def take(self) -> list[Event] | None:
        """Return the events since the last call: `[]` if there are none yet, `None` at the end."""
        run, events, index = self.run, self._events, self._index
        limit = run.limit  # read before the length: a run that has ended gets no more events
        stop = len(events) if limit is None else min(limit, len(events))
        if index < stop:
            self._index = stop
            return events[index:stop]
        if limit is not None:
            self._events = []
            self._index = 0
            return None
        return []

    async def more(self) -> list[Event] | None:
        """Wait for new events and return them; `None` at the end."""
        while (new := self.take()) == []:
            await self.run.until(self.is_ready)
        return new

    def is_ready(self) -> bool:
        """Whether `take` would return something."""
        return self._index < len(self._events) or self.run.limit is not None


async def relay(inner: Record, outer: Run) -> StreamEnd | None:
    """Forward the events of a run to its outer run as they arrive; its end is returned instead.

    Raises:
        MelleaError: the inner run failed.
    """
    end: StreamEnd | None = None
    cursor = Cursor(inner)
    while (new := await cursor.more()) is not None:
        end = next((event for event in new if isinstance(event, StreamEnd)), end)
        outer.emit([event for event in new if event is not end])
    inner.raise_error()
    return end
