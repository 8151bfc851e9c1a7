"""Streams of an agent's run: safe chunks of its answer, all its events, typed values, and a way to steer it.

An agent's stream wraps a `Stream` or an `AsyncStream`: it is launched, left and closed in the same way. Chunk
readers read its events.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, cast

from mellea.core.attributes import AGENT_STREAM_WAYS, find_attribute
from mellea.core.displayed import Displayed
from mellea.core.entrance import short_errors
from mellea.core.events import Event, Usage
from mellea.core.iterators import EventIterator
from mellea.core.runtime import Record
from mellea.core.thread_turn import ThreadTurn
from mellea.stdlib.agents.arguments import AgentStreamArguments
from mellea.stdlib.agents.limits import Book
from mellea.stdlib.agents.result import AgentRun, list_steps, make_run, tabulate_steps
from mellea.stdlib.streaming import AsyncStream, ChunkFold, Stream, StreamChunk
from mellea.stdlib.streaming.streams import AsyncOnly, AsyncReader, EventReader, PlainOnly
from mellea.stdlib.verb import check_flag

if TYPE_CHECKING:
    from mellea.core.card import Card
    from mellea.core.held_span import SpanHold
    from mellea.core.structured.partials import Partial
    from mellea.core.structured.readers import OnError
    from mellea.stdlib.streaming.readers import ItemReader, PartialReader

__all__ = ["AgentStream", "AsyncAgentStream", "AsyncChunkReader", "ChunkReader"]

T = TypeVar("T")
S = TypeVar("S", Stream[Any], AsyncStream[Any])


class _AgentStreaming(Displayed, Generic[T, S]):
    """What both kinds of stream share: access to their run, while it is running and afterwards."""

    verbs = ("agent.stream(…)", "agent.astream(…)", "agent.arun(…)")

    def __init__(self, book: Book, source: S, arguments: AgentStreamArguments) -> None:
        self._book = book
        self._source: S = source
        self._arguments = arguments
        self._live, self._chunk_size = arguments.get("live", False), arguments.get("chunk_size")
        check_flag("live", self._live)
        self._chunks()  # reports a wrong size now

    def _chunks(self) -> Chunks:
        # Each reader has its own fold, so that several can read one run from its beginning.
        return Chunks(ChunkFold(live=self._live, size=self._chunk_size), self._book)

    @property
    def has_format(self) -> bool:
        """Whether the answer is a value of some type, not a text."""
        return self._source.has_format

    @property
    def record(self) -> Record | None:
        """The run as its readers see it; `None` before it has started."""
        return self._source.record

    @property
    def text(self) -> str:
        """The text of all steps so far."""
        return self._source.text

    @property
    def usage(self) -> Usage | None:
        """Tokens used so far, `None` if the provider hasn't reported any."""
        return self._source.usage

    @property
    def result(self) -> AgentRun[T]:
        """The result of the run.

        Raises:
            UsageError: the stream hasn't been read to its end.
            MelleaError: the run failed, or its answer is not a value of the agent's output type.
        """
        return make_run(self._source.result.record, self._book)

    @property
    def output(self) -> T:
        """The typed answer where the agent has an `output` type, else the text; raises like `result`."""
        return self.result.output

    def steer(self, text: str) -> None:
        """Send the agent a message while it works; it sees it before its next step.

        If it is already writing its answer, it makes one more step. Safe from any thread.

        Raises:
            UsageError: the agent has finished.
        """
        self._book.steer(text)

    def cancel_tool(self, tool_call_id: str) -> None:
        """Stop one tool call and inform the model; the run continues. Safe from any thread.

        Args:
            tool_call_id: as in the `ToolEnd` event of the call, also of one of a sub-agent. A sync tool runs on in its
                thread, and its result is dropped.

        Raises:
            UsageError: no such call is running.
        """
        self._book.cancel_tool(tool_call_id)

    if not TYPE_CHECKING:  # type checkers then report unknown names

        @short_errors
        def __getattr__(self, name: str) -> Any:
            return find_attribute(self, name, AGENT_STREAM_WAYS)

    def _go_on_in_(self, hold: SpanHold) -> None:
        self._source._go_on_in_(hold)

    def _card_(self) -> Card:
        from mellea.core.card import Card, show_error  # lazy: only a frontend needs it
        from mellea.core.run_card import draw_unlaunched, say_tokens  # lazy, too

        title, record = "AgentRun", self.record
        if record is None:
            return draw_unlaunched(title)
        parts = tabulate_steps(list_steps(record.events[: record.limit], self._book.start)) + show_error(record.error)
        state = "waits for answers" if self._book.pending is not None else record.state.value
        return Card(title, state, [say_tokens(record.usage())], parts)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._source!r}>"


@short_errors
class AgentStream(_AgentStreaming[T, Stream[Any]], PlainOnly):
    """The run of an agent for plain code: `for chunk in stream`, with or without `with`.

    It starts at `with` or at the first chunk. Leaving the block early cancels the run and waits until everything in it
    has stopped: the request, the tools, the sub-agents.
    """

    def __iter__(self) -> ChunkReader:
        """Read the answer in chunks, from the beginning."""
        return ChunkReader(self._source.events(), self._chunks())

    def events(self) -> EventReader:
        """Read the typed events of every step as they arrive, from the beginning."""
        return self._source.events()

    def items(self, on_error: OnError = "raise") -> ItemReader[Any]:
        """Read the items of a sequence, as `ModelOutputThunk.items` does."""
        return self._source.items(on_error)

    def partials(self) -> PartialReader[T]:
        """Read the known part of the typed answer so far, like `ModelOutputThunk.partials`."""
        return self._source.partials()

    def close(self) -> None:
        """Cancel the run if it is still running, and wait until everything in it has stopped."""
        self._source.close()

    def to_async(self) -> AsyncAgentStream[T]:
        """Return a stream for async code that reads the same run, as a web server does."""
        # Both streams share one run and one book: usage, limits and steering are the same whichever is read.
        return AsyncAgentStream(self._book, self._source.to_async(), self._arguments)

    def __enter__(self) -> Self:
        self._source.__enter__()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._source.__exit__(exc_type, exc, traceback)


@short_errors
class AsyncAgentStream(_AgentStreaming[T, AsyncStream[Any]], AsyncOnly):
    """The run of an agent for async code: `async for chunk in stream`, with or without `async with`.

    It starts at `async with`, or at the first read. Leaving the block early cancels the run and waits until
    everything in it has stopped: the request, the tools, the sub-agents.
    """

    def __aiter__(self) -> AsyncChunkReader:
        """Read the answer in chunks, from the beginning."""
        return AsyncChunkReader(self._source.events(), self._chunks())

    def events(self) -> EventIterator:
        """Read the typed events of every step as they arrive, from the beginning; only inside a running event loop."""
        return self._source.events()

    def items(self, on_error: OnError = "raise") -> AsyncReader[Any]:
        """Read the items of a sequence, as `ModelOutputThunk.items` does."""
        return self._source.items(on_error)

    def partials(self) -> AsyncReader[Partial[T]]:
        """Read the known part of the typed answer so far, like `ModelOutputThunk.partials`."""
        return cast("AsyncReader[Partial[T]]", self._source.partials())

    async def aclose(self) -> None:
        """Cancel the run if it is still running, and wait until everything in it has stopped."""
        await self._source.aclose()

    async def __aenter__(self) -> Self:
        await self._source.__aenter__()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._source.__aexit__(exc_type, exc, traceback)


class Chunks:
    """Folds the events of a run into chunks, for one reader."""

    __slots__ = ("_book", "_fold", "is_over")

    def __init__(self, fold: ChunkFold, book: Book) -> None:
        self._fold = fold
        self._book = book
        self.is_over = False

    def put(self, event: Event | None) -> None:
        """Take the next event; `None` is the end."""
        if event is not None:
            self._fold.feed(event)
            return
        self.is_over = True
        # A suspended run has no answer, so what was held back isn't one either.
        self._fold.finish(is_suspended=self._book.pending is not None)

    def take(self) -> StreamChunk | None:
        """Return the next chunk, or `None` if more events are needed."""
        return self._fold.ready.popleft() if self._fold.ready else None


class ChunkReader(Iterator[StreamChunk]):
    """Reads the chunks of an agent's run; it may be advanced from any thread, one at a time."""

    def __init__(self, events: EventReader, chunks: Chunks) -> None:
        self._events = events
        self._chunks = chunks
        self._turn = ThreadTurn()

    def __next__(self) -> StreamChunk:
        with self._turn:
            # One event may result in no chunk, or in several.
            while (chunk := self._chunks.take()) is None:
                if self._chunks.is_over:
                    raise StopIteration
                self._chunks.put(next(self._events, None))
            return chunk

    def _go_on_in_(self, hold: SpanHold) -> None:
        self._events._go_on_in_(hold)

    def close(self) -> None:
        """Stop reading; the last reader cancels the run, and waits until everything in it has stopped."""
        self._events.close()


class AsyncChunkReader(AsyncIterator[StreamChunk]):
    """Reads the chunks of an agent's run."""

    def __init__(self, events: EventIterator, chunks: Chunks) -> None:
        self._events = events
        self._chunks = chunks

    async def __anext__(self) -> StreamChunk:
        while (chunk := self._chunks.take()) is None:
            if self._chunks.is_over:
                raise StopAsyncIteration
            self._chunks.put(await anext(self._events, None))
        return chunk

    def _go_on_in_(self, hold: SpanHold) -> None:
        self._events._go_on_in_(hold)

    async def aclose(self) -> None:
        """Stop reading; the last reader cancels the run, and waits until everything in it has stopped."""
        await self._events.aclose()
