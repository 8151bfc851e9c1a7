"""Several streams read as one: each piece comes with the label of its stream, as soon as it arrives.

The merged stream is a run like any other. Its work is to read all streams at the same time, and its readers are those
of a `Stream` or an `AsyncStream`. So it is launched, left, cancelled and awaited in the same way.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Generator, Iterable, Iterator, Mapping
from functools import partial
from types import TracebackType
from typing import Any, Generic, Literal, Self, TypeVar, get_args

import anyio

from mellea.core.entrance import short_errors
from mellea.core.events import Event, NestedEvent, StreamEnd, TextDelta, ToolProgress
from mellea.core.held_span import SpanHold
from mellea.core.iterators import EventIterator
from mellea.core.runtime import Run
from mellea.core.runtime.launch import launch
from mellea.core.runtime.tasks import run_in_thread, run_together
from mellea.core.single_reader import SingleReader
from mellea.core.thunk import ModelOutputThunk
from mellea.errors import MelleaError, UsageError
from mellea.stdlib.streaming.guards import AsyncOnly, PlainOnly
from mellea.stdlib.streaming.streams import (
    AsyncStream,
    EventReader,
    Stream,
    launch_from_async,
)
from mellea.stdlib.tools.progress import run_generator

__all__ = ["AsyncMergedStream", "MergedStream", "amerge", "merge"]

T = TypeVar("T")

OnError = Literal["raise", "give"]

_VERBS = ("merge({…})", "amerge({…})", "each of its streams")

_TEXT = "text"
"""Marks the event of a piece of text, so that late readers get adjacent pieces joined, as in other streams."""


def merge(streams: Mapping[str, Iterable[T]], *, on_error: OnError = "raise") -> MergedStream[T]:
    """Read several streams as one, in sync code: `for label, piece in merge({"sea": m.stream(…), …})`.

    Args:
        streams: streams by label: streams of text, streams of agents, which yield chunks, or their readers, such as
            `stream.events()` or `stream.items()`. Any other iterable is read in a thread.
        on_error: what to do if one of them fails: `"raise"` its error and stop the others, or `"give"` the error as
            that stream's last piece.

    Raises:
        UsageError: an argument is wrong.
    """
    return MergedStream(_launching(streams, on_error))


def amerge(streams: Mapping[str, AsyncIterable[T]], *, on_error: OnError = "raise") -> AsyncMergedStream[T]:
    """Read several streams as one, in async code: `async for label, piece in amerge({"sea": m.astream(…), …})`.

    Args:
        streams: streams by label: any async iterables, such as streams, streams of agents, or their `events()`.
        on_error: see `merge`.

    Raises:
        UsageError: an argument is wrong.
    """
    return AsyncMergedStream(_launching(streams, on_error))


@short_errors
class MergedStream(Generic[T], Iterator[tuple[str, T]], PlainOnly):
    """Several streams as one, for sync code; made by `merge`.

    It begins at `with`, or at the first read. Leaving the block early stops all streams, and waits until they have
    stopped.
    """

    __slots__ = ("__weakref__", "_reader", "_reader_lock", "_source")

    verbs = _VERBS

    def __init__(self, begin: Callable[[], ModelOutputThunk[Any]]) -> None:
        self._source: Stream[Any] = Stream(begin, has_format=False)
        self._reader: EventReader | None = None
        self._reader_lock = SingleReader()

    def __next__(self) -> tuple[str, T]:
        """Wait for the next piece of any stream, and return it with the label of the stream.

        Raises:
            MelleaError: a stream failed.
        """
        with self._reader_lock:
            if self._reader is None:
                self._reader = self._source.events()
            for event in self._reader:
                if (piece := _read_piece(event)) is not None:
                    return piece
            raise StopIteration

    def _go_on_in_(self, hold: SpanHold) -> None:
        self._source._go_on_in_(hold)

    def close(self) -> None:
        """Stop all streams, and wait until they have stopped."""
        self._source.close()

    def __enter__(self) -> Self:
        self._source.__enter__()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


@short_errors
class AsyncMergedStream(Generic[T], AsyncIterator[tuple[str, T]], AsyncOnly):
    """Several streams as one, for async code; made by `amerge`.

    It begins at `async with`, or at the first read. Leaving the block early stops all streams, and waits until they
    have stopped; cancelling a wait of its reader stops them as well.
    """

    __slots__ = ("__weakref__", "_reader", "_reader_lock", "_source")

    verbs = _VERBS

    def __init__(self, begin: Callable[[], ModelOutputThunk[Any]]) -> None:
        self._source: AsyncStream[Any] = AsyncStream(begin, has_format=False)
        self._reader: EventIterator | None = None

    async def __anext__(self) -> tuple[str, T]:
        """Wait for the next piece of any stream, and return it with the label of the stream.

        Raises:
            MelleaError: a stream failed.
        """
        if self._reader is None:
            self._reader = self._source.events()
        async for event in self._reader:
            if (piece := _read_piece(event)) is not None:
                return piece
        raise StopAsyncIteration

    def _go_on_in_(self, hold: SpanHold) -> None:
        self._source._go_on_in_(hold)

    async def aclose(self) -> None:
        """Stop all streams, and wait until they have stopped."""
        await self._source.aclose()

    async def __aenter__(self) -> Self:
        await self._source.__aenter__()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()


def _launching(streams: Any, on_error: Any) -> Callable[[], ModelOutputThunk[Any]]:
    """Return what launches the run that reads all streams."""
    if not isinstance(streams, Mapping) or not streams or not all(isinstance(label, str) for label in streams):
        raise UsageError(f"merge takes streams by their labels, such as {{'sea': m.stream('…')}}, not {streams!r}")
    for label, stream in streams.items():
        if isinstance(stream, str) or not isinstance(stream, (Iterable, AsyncIterable)):
            raise UsageError(f"merge takes streams, and {label!r} is {stream!r}")
    if on_error not in get_args(OnError):
        raise UsageError(f"on_error takes 'raise' or 'give', not {on_error!r}")
    sources = dict(streams)

    async def work(run: Run) -> None:
        async def read(label: str, stream: Any) -> None:
            try:
                await _read(stream, lambda value: run.emit([_as_event(label, value)]))
            except MelleaError as error:
                if on_error == "raise":
                    raise
                run.emit([_as_event(label, error)])

        readers: list[Callable[[], Awaitable[None]]] = [partial(read, *source) for source in sources.items()]
        await run_together(readers)
        run.emit([StreamEnd("stop")])

    return lambda: ModelOutputThunk(launch(work=work, kind="work", label=f"merge of {', '.join(sources)}"))


async def _read(stream: Any, give: Callable[[Any], object]) -> None:
    """Read one stream to its end, and close it; a cancelled wait closes it too."""
    if hasattr(stream, "to_async"):  # one of our sync streams
        await launch_from_async(stream)
        stream = stream.to_async()
    elif not isinstance(stream, AsyncIterable):
        await _read_in_thread(stream, give)
        return
    iterator = aiter(stream)
    try:
        async for value in iterator:
            give(value)
    finally:
        if (close := getattr(iterator, "aclose", None)) is not None:
            with anyio.CancelScope(shield=True):  # closing one of our streams takes a bounded time
                await close()


async def _read_in_thread(values: Iterable[Any], give: Callable[[Any], object]) -> None:
    def read() -> Generator[Any, None, None]:
        yield from values

    try:
        await run_generator(read(), give)
    finally:
        # This wakes a reader that waits for the model; a generator can't be closed while it is running.
        if (close := getattr(values, "close", None)) is not None and not inspect.isgenerator(values):
            with anyio.CancelScope(shield=True):
                await run_in_thread(close)


def _as_event(label: str, value: Any) -> Event:
    if isinstance(value, str):
        return NestedEvent(_TEXT, label, TextDelta(value))
    return NestedEvent("", label, value) if isinstance(value, Event) else ToolProgress("", label, value)


def _read_piece(event: Event) -> tuple[str, Any] | None:
    match event:
        case NestedEvent(tool_call_id, label, inner):
            return label, inner.chunk if tool_call_id == _TEXT and isinstance(inner, TextDelta) else inner
        case ToolProgress(_, label, value):
            return label, value
    return None
