"""`Stream` and `AsyncStream`: a generation that is launched at the first read.

Both are readers of a thunk's run. The sync one sleeps on a condition in the reading thread, while the run itself works
on the thread of the synchronous verbs. Nothing in a stream is bound to a thread, a task or a context, so each step may
be taken from a different one.

A stream acts like a verb: if a reader's wait is cancelled or interrupted, that reader ends, and the last reader to
leave cancels the generation. This doesn't depend on the stream being dropped, since a traceback or an exception group
may hold it indefinitely.
"""

from __future__ import annotations

import threading
import weakref
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar, cast, overload

import anyio

from mellea.core.attributes import STREAM_WAYS, find_attribute
from mellea.core.displayed import Displayed
from mellea.core.entrance import short_errors
from mellea.core.events import Event, Usage
from mellea.core.iterators import Cursor, EventIterator, TextFilter, TextIterator, make_piece_filter
from mellea.core.iterators import make_text_filter as filter_of_text
from mellea.core.messages import Message
from mellea.core.runtime import Record
from mellea.core.runtime.portal import blocking, is_portal_thread
from mellea.core.runtime.run_observer import hold_until_end
from mellea.core.runtime.tasks import run_in_thread
from mellea.core.sampling import Attempt
from mellea.core.thread_turn import ThreadTurn
from mellea.core.thunk import ComputedModelOutputThunk, ModelOutputThunk
from mellea.core.tracebacks import shorten
from mellea.errors import GenerationCancelledError, UsageError, UsageTypeError

if TYPE_CHECKING:
    from mellea.core.card import Card
    from mellea.core.held_span import SpanHold
    from mellea.core.structured.partials import Partial
    from mellea.core.structured.readers import OnError
    from mellea.stdlib.streaming.readers import ItemReader, PartialReader

__all__ = [
    "AsyncOnly",
    "AsyncReader",
    "AsyncStream",
    "EventReader",
    "PlainOnly",
    "ReaderPlace",
    "Stream",
    "TextReader",
    "launch_from_async",
]

T = TypeVar("T")
I = TypeVar("I")  # noqa: E741 - an item

Launch = Callable[[], ModelOutputThunk[Any]]


class _Plain(Protocol):
    """A sync stream of any kind."""

    def __enter__(self) -> Any: ...


class ReaderPlace:
    """A stream's record of one of its readers, held by that reader."""

    __slots__ = ("__weakref__", "_has_begun", "_has_left", "_is_over", "_stream")

    def __init__(self, stream: _Streaming[Any]) -> None:
        self._stream = stream
        self._has_begun = self._is_over = self._has_left = False

    @property
    def is_reading(self) -> bool:
        """Whether the reader has begun and hasn't finished."""
        return self._has_begun and not self._is_over

    @property
    def is_through(self) -> bool:
        """Whether the reader has begun and has finished."""
        return self._has_begun and self._is_over

    def begin(self) -> None:
        """Record that the reader is reading.

        Raises:
            GenerationCancelledError: it has left.
        """
        if self._has_left:
            raise GenerationCancelledError(
                "this reader of the stream was closed, or its wait was cancelled, which ends it; to stop waiting and "
                "go on later, use a thunk: await m.ainstruct(…, await_result=False)"
            )
        self._has_begun = True

    def end(self) -> None:
        """Record that the reader is done. If the generation has no other reader, post its cancellation."""
        if self._leave():
            self._stream._post_cancel()

    def close(self) -> None:
        """Leave, and wait until the connection is closed if there is no other reader."""
        if self._leave():
            self._stream._close_now()

    async def aclose(self) -> None:
        """Leave, and wait until the connection is closed if there is no other reader."""
        if self._leave() and (thunk := self._stream._thunk) is not None:
            await thunk.cancel()

    def _leave(self) -> bool:
        """Record that the reader is done, and return whether the generation is left without a reader."""
        self._is_over = True
        thunk = self._stream._thunk
        if thunk is None or thunk.record.is_final:
            return False
        self._has_left = True
        return not self._stream._is_read()


class AsyncOnly:
    """Explains how to read an async stream, when it is read as a sync one or awaited.

    Attributes:
        verbs: how its sync and async verbs are written, and the verb that returns the whole answer.
    """

    verbs = ("m.stream(…)", "m.astream(…)", "m.ainstruct(…)")

    if not TYPE_CHECKING:  # type checkers reject this

        @short_errors
        def __await__(self) -> Any:
            _, streams, asks = self.verbs
            raise UsageTypeError(
                f"a stream isn't awaited: async for piece in {streams}; for the whole answer, await {asks}"
            )

        @short_errors
        def __enter__(self) -> Any:
            raise UsageTypeError(
                f"an async stream takes async with; in sync code, with {self.verbs[0]} as stream: for piece in stream"
            )

        def __exit__(self, *error: object) -> None:
            """Do nothing: no block is entered."""

        @short_errors
        def __getitem__(self, index: object) -> Any:  # what `for` tries where there is no __iter__
            plain, streams, _ = self.verbs
            raise UsageTypeError(
                f"an async stream is read by async for piece in {streams}; in sync code, for piece in {plain}"
            )


class PlainOnly:
    """Explains how to read a sync stream, when it is read as an async one.

    Attributes:
        verbs: see `AsyncOnly`.
    """

    verbs = AsyncOnly.verbs

    if not TYPE_CHECKING:  # type checkers reject this
        # There is no __aiter__, which would have web frameworks take this for an async stream.
        @short_errors
        async def __aenter__(self) -> Any:
            raise UsageTypeError(
                f"a sync stream takes with and for; in async code, async for piece in {self.verbs[1]}, with or "
                "without async with"
            )

        async def __aexit__(self, *error: object) -> None:
            """Do nothing: no block is entered."""


@short_errors
class _Streaming(Displayed, Generic[T]):
    """What both kinds of stream know about their generation, while it runs and afterwards."""

    def __init__(self, launch: Launch, *, has_format: bool, live: bool = False, by_step: bool = False) -> None:
        self._launch = launch
        self._has_format = has_format
        self._live = live
        self._by_step = by_step  # typed readers yield nothing that a later step may supersede
        self._lock = threading.Lock()  # two threads may begin to read at once
        self._thunk: ModelOutputThunk[Any] | None = None
        self._first: Cursor | None = None  # made at the launch, before anything is joined, for the first plain reader
        self._places: list[weakref.ref[ReaderPlace]] = []

    def _place(self) -> ReaderPlace:
        """Make a place for one more reader."""
        place = ReaderPlace(self)
        self._places = [known for known in self._places if known() is not None]
        self._places.append(weakref.ref(place))
        return place

    def _is_read(self) -> bool:
        """Whether a reader that has begun and hasn't finished is still alive."""
        return any(place.is_reading for known in self._places if (place := known()) is not None)

    def _post_cancel(self) -> None:
        if self._thunk is not None:
            self._thunk.record.post_cancel()

    def _close_now(self) -> None:
        """Cancel the generation if it still runs, and wait until its connection is closed."""
        if self._thunk is None or self._thunk.record.is_closed:
            return
        if is_portal_thread():  # the garbage collector closes a generator there, which can't wait for its own loop
            self._thunk.record.cancel()
        else:
            _cancel(self._thunk)

    def _ensure_started(self) -> ModelOutputThunk[Any]:
        if self._thunk is None:
            with self._lock:
                if self._thunk is None:
                    self._thunk = self._start()
                    self._thunk.record.is_left = True  # a loop may be left with `break` just before the program ends
                    self._leave_if_left()
        return self._thunk

    def _leave_if_left(self) -> None:
        """Cancel a generation whose reader was closed from another thread while launching it: nothing else will."""
        places = [place for known in self._places if (place := known()) is not None]
        if any(place.is_through for place in places) and not any(place.is_reading for place in places):
            self._post_cancel()

    def _start(self) -> ModelOutputThunk[Any]:
        return self._launch()

    def _go_on_in_(self, hold: SpanHold) -> None:
        with self._lock:
            if (thunk := self._thunk) is None:
                self._launch = partial(_launch_in, hold, self._launch)
        if thunk is not None:
            hold_until_end(thunk.record.spans, hold)

    @property
    def has_format(self) -> bool:
        """Whether the result is a value of some type rather than text."""
        return self._has_format

    @property
    def record(self) -> Record | None:
        """The generation as its readers know it; `None` before it is launched."""
        return None if self._thunk is None else self._thunk.record

    @property
    def text(self) -> str:
        """The text so far; empty before the first read, which launches the generation."""
        return "" if self._thunk is None else self._thunk.partial

    @property
    def message(self) -> Message:
        """The answer so far, as a message; the final one afterwards."""
        return Message("assistant") if self._thunk is None else self._thunk.so_far().message

    @property
    def usage(self) -> Usage | None:
        """The tokens used so far, `None` if the provider hasn't reported any."""
        return None if self._thunk is None else self._thunk.record.usage()

    @property
    def result(self) -> ComputedModelOutputThunk[T]:
        """The computed thunk.

        Raises:
            UsageError: the stream hasn't been read to its end.
            MelleaError: the generation failed, or its text isn't a value of the requested format.
        """
        if self._thunk is None or not self._thunk.record.is_final:
            raise UsageError("the stream hasn't ended yet; read it to its end before .result, .output and .parsed")
        return self._thunk.deliver()

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """Every attempt of the strategy, in order; empty without a strategy, or before the end."""
        sampling = None if self._thunk is None else self._thunk.record.sampling
        return () if sampling is None else sampling.attempts

    @property
    def parsed(self) -> T | None:
        """The typed result; raises like `result`."""
        return self.result.parsed

    @property
    def output(self) -> T:
        """The typed result if there is a `format`, otherwise the text; raises like `result`."""
        result = self.result
        return cast("T", result.parsed if self._has_format else result.value)

    def _reach_end(self) -> None:
        """Record that a reader has finished. Text that doesn't fit the format is no error here; `output` raises it."""
        thunk = self._thunk
        if thunk is not None and not thunk.record.is_misread:
            thunk.deliver()

    if not TYPE_CHECKING:  # type checkers then report unknown names

        @short_errors
        def __getattr__(self, name: str) -> Any:
            return find_attribute(self, name, STREAM_WAYS)

    def _card_(self) -> Card:
        from mellea.core.run_card import RunCard, draw_unlaunched  # lazy: only a frontend needs it

        return draw_unlaunched("Stream") if self.record is None else RunCard(self.record).draw()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'not launched' if self._thunk is None else self._thunk.record.state.value}>"


def _launch_in(hold: SpanHold, launch: Launch) -> ModelOutputThunk[Any]:
    """Launch a stream as part of the function that returned it."""
    with hold.entered():
        thunk = launch()
    hold_until_end(thunk.record.spans, hold)
    return thunk


@short_errors
class AsyncStream(_Streaming[T], AsyncOnly):
    """A stream for async code: `async for chunk in stream`, with or without `async with`.

    It is launched at `async with`, or when the reading begins. Leaving the block early cancels the
    generation and waits until its connection is closed. A wait of its last reader that is cancelled, and
    dropping the stream, cancel it as well.
    """

    def __aiter__(self) -> TextIterator:
        """Read the text, delta by delta, from the beginning."""
        return TextIterator(self._ensure_started(), self._reach_end, self._place(), live=self._live)

    def events(self) -> EventIterator:
        """Read the typed events, from the beginning; only inside a running event loop."""
        return EventIterator(self._ensure_started(), self._reach_end, self._place())

    @overload
    def items(self: AsyncStream[list[I]], on_error: OnError = "raise") -> AsyncReader[I]: ...
    @overload
    def items(self: AsyncStream[Sequence[I]], on_error: OnError = "raise") -> AsyncReader[I]: ...
    @overload
    def items(self: AsyncStream[Iterable[I]], on_error: OnError = "raise") -> AsyncReader[I]: ...
    @overload
    def items(self, on_error: OnError = "raise") -> AsyncReader[Any]: ...
    def items(self, on_error: OnError = "raise") -> AsyncReader[Any]:
        """Read the items of a sequence, as `ModelOutputThunk.items` does."""
        return AsyncReader(self._ensure_started().read_items(on_error, by_step=self._by_step), self._place())

    def partials(self) -> AsyncReader[Partial[T]]:
        """Read what is known of the result so far, as `ModelOutputThunk.partials` does."""
        return AsyncReader(self._ensure_started().read_partials(by_step=self._by_step), self._place())

    async def aclose(self) -> None:
        """Cancel the generation if it still runs, and wait until its connection is closed."""
        if self._thunk is not None:
            await self._thunk.cancel()

    async def __aenter__(self) -> Self:
        self._ensure_started()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()


@short_errors
class Stream(_Streaming[T], PlainOnly):
    """A stream for plain code: `for chunk in stream`, with or without `with`.

    It works in functions, in threads and inside a running loop, and is launched at `with` or at the first
    item. Leaving the block early cancels the generation and waits until its connection is closed. A wait of
    its last reader that is interrupted cancels it, and `break` without `with` when the stream is dropped.
    """

    def __iter__(self) -> TextReader:
        """Read the text, delta by delta, from the beginning."""
        return TextReader(self)

    def events(self) -> EventReader:
        """Read the typed events, from the beginning."""
        return EventReader(self)

    @overload
    def items(self: Stream[list[I]], on_error: OnError = "raise") -> ItemReader[I]: ...
    @overload
    def items(self: Stream[Sequence[I]], on_error: OnError = "raise") -> ItemReader[I]: ...
    @overload
    def items(self: Stream[Iterable[I]], on_error: OnError = "raise") -> ItemReader[I]: ...
    @overload
    def items(self, on_error: OnError = "raise") -> ItemReader[Any]: ...
    def items(self, on_error: OnError = "raise") -> ItemReader[Any]:
        """Read the items of a sequence, as `ModelOutputThunk.items` does."""
        from mellea.stdlib.streaming.readers import ItemReader  # lazy: plain text doesn't need it

        return ItemReader(self, TextReader(self, _do_nothing, text_filter=make_piece_filter), on_error, self._place())

    def partials(self) -> PartialReader[T]:
        """Read what is known of the result so far, as `ModelOutputThunk.partials` does."""
        from mellea.stdlib.streaming.readers import PartialReader  # lazy: plain text doesn't need it

        return PartialReader(self, TextReader(self, _do_nothing, text_filter=make_piece_filter), self._place())

    def close(self) -> None:
        """Cancel the generation if it still runs, and wait until its connection is closed."""
        self._close_now()

    def to_async(self) -> AsyncStream[T]:
        """Return a stream for async code that reads the same generation, as a web server does."""
        return AsyncStream(self._ensure_started, has_format=self._has_format, live=self._live, by_step=self._by_step)

    def __enter__(self) -> Self:
        self._ensure_started()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _start(self) -> ModelOutputThunk[Any]:
        thunk, self._first = _start(self._launch)
        return thunk

    def _open_cursor(self) -> Cursor:
        """Return a new reader's place at the beginning."""
        record = self._ensure_started().record
        with self._lock:
            first, self._first = self._first, None
        return first or Cursor(record)


class AsyncReader(AsyncIterator[T]):
    """One reader of an async stream: of its items, or of its partial objects."""

    __slots__ = ("_place", "_source")

    def __init__(self, source: AsyncIterator[T], place: ReaderPlace) -> None:
        self._source = source
        self._place = place

    async def __anext__(self) -> T:
        self._place.begin()
        try:
            return await anext(self._source)
        except BaseException as error:
            self._place.end()
            shorten(error)
            raise

    def _go_on_in_(self, hold: SpanHold) -> None:
        self._place._stream._go_on_in_(hold)

    async def aclose(self) -> None:
        """Stop reading; the last reader cancels the generation, and waits until its connection is closed."""
        await self._place.aclose()


class _Reader(Generic[T], Iterator[T]):
    """One reader of a plain stream; it may be advanced from any thread, one at a time."""

    def __init__(self, stream: Stream[Any], deliver: Callable[[], Any] | None = None) -> None:
        self._stream = stream
        self._deliver = deliver or stream._reach_end
        self._place = stream._place() if deliver is None else None  # otherwise the reader that is made from it has one
        self._cursor: Cursor | None = None
        self._turn = ThreadTurn()

    def __next__(self) -> T:
        with self._turn:
            place = self._place
            if place is not None:
                place.begin()
            try:
                return self._next()
            except BaseException as error:
                if place is not None:
                    place.end()
                shorten(error)
                raise

    @abstractmethod
    def _next(self) -> T:
        """Return the next value; raises `StopIteration` at the end."""

    def _go_on_in_(self, hold: SpanHold) -> None:
        self._stream._go_on_in_(hold)

    def _more(self) -> list[Event]:
        """Wait for new events and return them; there are none at the end."""
        cursor = self._cursor
        if cursor is None:
            cursor = self._cursor = self._stream._open_cursor()
        while True:
            new = cursor.take()
            if new:
                return new
            if new is None:
                self._deliver()
                return []
            cursor.run.wait_until_blocking(cursor.is_ready)

    def close(self) -> None:
        """Stop reading; the last reader cancels the generation, and waits until its connection is closed."""
        if self._place is not None:
            self._place.close()


class TextReader(_Reader[str]):
    """Reads the text of a plain stream."""

    def __init__(
        self,
        stream: Stream[Any],
        deliver: Callable[[], Any] | None = None,
        *,
        text_filter: Callable[[Record], TextFilter] | None = None,
    ) -> None:
        super().__init__(stream, deliver)
        self._text_filter = text_filter or partial(filter_of_text, live=stream._live)
        self._text_of: TextFilter | None = None

    def _next(self) -> str:
        while new := self._more():
            if self._text_of is None:
                self._text_of = self._text_filter(self._stream._ensure_started().record)
            if text := self._text_of(new):
                return text
        raise StopIteration


class EventReader(_Reader[Event]):
    """Reads the events of a plain stream."""

    def __init__(self, stream: Stream[Any]) -> None:
        super().__init__(stream)
        self._new: list[Event] = []  # read but not yet returned, the next one last

    def _next(self) -> Event:
        self._new = self._new or self._more()[::-1]
        if not self._new:
            raise StopIteration
        return self._new.pop()


def _do_nothing() -> None:
    """Leave the end of a text to the reader that is made of it."""


async def launch_from_async(stream: _Plain) -> None:
    """Launch a plain stream in a worker thread, since this may be the thread that runs synchronous verbs.

    A cancelled wait still lasts until the launch is over; otherwise nothing would close what was launched.

    Args:
        stream: a plain stream, of a session or of an agent; `to_async()` reads it then.

    Raises:
        MelleaError: it can't begin.
    """
    with anyio.CancelScope(shield=True):
        await run_in_thread(stream.__enter__)


async def _astart(launch: Launch) -> tuple[ModelOutputThunk[Any], Cursor]:
    # The run works on another thread. It may have ended, and its deltas may have been joined, before the reading thread
    # continues.
    thunk = launch()
    return thunk, Cursor(thunk.record)


_start = blocking(_astart)
_cancel = blocking(ModelOutputThunk.cancel)
