"""The sources of a response: thunks, streams of sessions, functions and agents, and the program's own iterators.

`ServedStream` reads each of them in async code, on asyncio and on trio, and can stop it at any moment, which closes
the model's connection.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator, Mapping, Set
from types import AsyncGeneratorType, GeneratorType
from typing import Any

from mellea.core.events import AttemptRejected, AttemptStart, Event, FileEvent, SourceEvent, TextDelta, Usage
from mellea.core.held_span import SpanHold, hold_with
from mellea.core.runtime.tasks import Caller, run_in_thread
from mellea.core.thunk import ModelOutputThunk
from mellea.core.tracing import wrap_generator
from mellea.errors import UsageError, UsageTypeError
from mellea.stdlib.agents import Pending
from mellea.stdlib.agents.stream import AgentStream, AsyncAgentStream
from mellea.stdlib.streaming import AsyncStream, Stream, StreamChunk
from mellea.stdlib.streaming.streams import launch_from_async

__all__ = ["ServedStream", "Streamable"]

Streamable = (
    ModelOutputThunk[Any]
    | AsyncStream[Any]
    | Stream[Any]
    | AsyncAgentStream[Any]
    | AgentStream[Any]
    | AsyncIterator[Any]
    | Iterator[Any]
)
"""What can be served while it is written. An iterator of the program's own gives texts, events or `StreamChunk`s."""

_Read = ModelOutputThunk[Any] | AsyncStream[Any] | AsyncAgentStream[Any]

_END: Any = object()


class ServedStream:
    """A model's output, to be read in async code.

    Args:
        given: what to read, see `Streamable`.

    Raises:
        UsageError: it can't be read.
    """

    def __init__(self, given: Streamable) -> None:
        self._given = given
        self._read: _Read | None = None
        if isinstance(given, (ModelOutputThunk, AsyncStream, AsyncAgentStream)):
            self._read = given
        self._pieces: _Pieces | None = None
        if self._read is None and not isinstance(given, (Stream, AgentStream)):
            self._pieces = _Pieces(given)

    def _go_on_in_(self, hold: SpanHold) -> None:
        if isinstance(self._given, (AsyncGeneratorType, GeneratorType)):
            self._pieces = _Pieces(wrap_generator(self._given, hold))
        else:
            hold_with(self._given, hold)  # other kinds of iterators don't report their end

    async def open(self) -> None:
        """Launch what isn't running yet.

        Raises:
            MelleaError: it can't start.
        """
        given = self._given
        if isinstance(given, (Stream, AgentStream)):
            # A sync stream is launched and read here like an async one; nothing of it runs in a thread that could
            # block.
            await launch_from_async(given)
            self._read = given.to_async()
            # Entered, so that `aclose` stops the run even if nothing has been read yet.
            await self._read.__aenter__()

    def events(self) -> AsyncIterator[Event]:
        """Read the events, from the beginning."""
        if self._pieces is not None:
            return _PieceEvents(self._pieces)
        return self._get_read.events()

    def text(self) -> AsyncIterator[str]:
        """Read the final text, from the beginning; for an agent, the text of its answer."""
        if self._pieces is not None:
            return _PieceTexts(self._pieces)
        read = self._get_read
        if isinstance(read, AsyncAgentStream):
            return _AnswerText(read)
        return AsyncStream.__aiter__(read) if isinstance(read, AsyncStream) else aiter(read)

    def values(self) -> AsyncIterator[Any]:
        """Read the unchanged values of the program's own iterator.

        Raises:
            UsageError: it is something else.
        """
        if self._pieces is None:
            raise UsageError("only the program's own iterators have values")
        return self._pieces

    def partials(self) -> AsyncIterator[Any]:
        """Read a typed result as partial objects while it is written.

        Raises:
            UsageError: it has no type.
        """
        if self._pieces is not None:
            raise UsageError("an iterator of the program's own has no partial objects; serve the stream itself")
        return self._get_read.partials()

    @property
    def is_text(self) -> bool:
        """Whether the result is a string, not a value of some type."""
        if self._pieces is not None:
            return True
        read = self._get_read
        return read.record.format is None if isinstance(read, ModelOutputThunk) else not read.has_format

    @property
    def output(self) -> Any:
        """The typed result, or the text; only after the end.

        Raises:
            MelleaError: the result isn't of its type.
        """
        if self._pieces is not None:
            raise UsageError("an iterator of the program's own has no result besides its pieces")
        read = self._get_read
        if isinstance(read, ModelOutputThunk):
            done = read.deliver()
            return done.value if self.is_text else done.parsed
        return read.output

    def check(self) -> Pending | None:
        """Return the pending questions of a suspended agent run, if any; only after the end.

        Raises:
            MelleaError: the result isn't of its type.
        """
        # A thunk has no run that could wait for a person.
        if isinstance(self._read, (AsyncStream, AsyncAgentStream)):
            return getattr(self._read.result, "pending", None)
        return None

    async def extras(self) -> list[Event]:
        """Return the citations and files of the answer, for readers of its text; only after the end."""
        if isinstance(self._read, AsyncAgentStream):
            return await _find_extras(self._read.events())
        read = self._read.result if isinstance(self._read, AsyncStream) else self._read
        if not isinstance(read, ModelOutputThunk):
            return []
        made = read.so_far()
        files = [FileEvent(file.media_type, file.data, file.url, file.filename) for file in made.files]
        return [*map(SourceEvent, made.sources), *files]

    @property
    def usage(self) -> Usage | None:
        """The tokens used so far, `None` if unknown."""
        read = self._read
        return read.record.usage() if isinstance(read, ModelOutputThunk) else None if read is None else read.usage

    async def aclose(self) -> None:
        """Stop it if it is still running, and wait until the connection to the model is closed."""
        if self._pieces is not None:
            await self._pieces.aclose()
        elif isinstance(self._read, ModelOutputThunk):
            await self._read.cancel()
        elif self._read is not None:
            await self._read.aclose()

    @property
    def _get_read(self) -> _Read:
        if self._read is None:
            raise UsageError("a source is opened before it is read")
        return self._read


async def _find_extras(events: AsyncIterator[Event]) -> list[Event]:
    """Return the citations and files among the events of a run, except those of rejected attempts."""
    found: list[Event] = []
    begun = 0
    async for event in events:
        if isinstance(event, AttemptStart):
            begun = len(found)
        elif isinstance(event, AttemptRejected):
            del found[begun:]
        elif isinstance(event, (SourceEvent, FileEvent)):
            found.append(event)
    return found


class _AnswerText(AsyncIterator[str]):
    """Reads the text of an agent's answer."""

    def __init__(self, stream: AsyncAgentStream[Any]) -> None:
        self._chunks = aiter(stream)

    async def __anext__(self) -> str:
        # Chunks without text (reasoning, tools) are skipped; an empty piece would end some clients' readers.
        while not (text := (await anext(self._chunks)).text):
            pass
        return text


class _Pieces(AsyncIterator[Any]):
    """The program's own iterator; a plain one is advanced in worker threads."""

    def __init__(self, given: Any) -> None:
        # A string or a dict can be iterated, too, over its letters or keys.
        is_value = isinstance(given, (str, bytes, bytearray, Mapping, Set))
        if is_value or not (hasattr(given, "__aiter__") or hasattr(given, "__iter__")):
            raise UsageTypeError(
                f"a response is made from a stream, a thunk or an iterator, not {given!r:.100}; "
                "m.astream(…) makes a stream"
            )
        self._call = Caller()  # for everything that a sync iterator does
        self._source: AsyncIterator[Any] | _Plain = aiter(given) if hasattr(given, "__aiter__") else _Plain(iter(given))

    async def __anext__(self) -> Any:
        source = self._source
        if not isinstance(source, _Plain):
            return await anext(source)
        # In a thread: a sync iterator may block for any length of time.
        if (piece := await run_in_thread(source.next, call=self._call)) is _END:
            raise StopAsyncIteration
        return piece

    async def aclose(self) -> None:
        """Stop it, and its calls of models.

        A plain iterator that waits in a thread is closed at its next piece.
        """
        if isinstance(self._source, _Plain):
            self._call.leave()
            await run_in_thread(self._source.close)
        elif (close := getattr(self._source, "aclose", None)) is not None:
            await close()


class _PieceEvents(AsyncIterator[Event]):
    """Reads pieces as events: text becomes `TextDelta`s."""

    def __init__(self, pieces: _Pieces) -> None:
        self._pieces = pieces

    async def __anext__(self) -> Event:
        piece = await anext(self._pieces)
        return piece if isinstance(piece, Event) else TextDelta(_find_text(piece))


class _PieceTexts(AsyncIterator[str]):
    """Reads the text of pieces."""

    def __init__(self, pieces: _Pieces) -> None:
        self._pieces = pieces

    async def __anext__(self) -> str:
        while not (text := _find_text(await anext(self._pieces))):
            pass
        return text


class _Plain:
    """A plain iterator that one thread advances while another one may close it."""

    def __init__(self, iterator: Iterator[Any]) -> None:
        self._iterator = iterator
        self._lock = threading.Lock()
        self._is_running = self._is_closed = False

    def next(self) -> Any:
        """Return the next piece, `_END` at the end."""
        with self._lock:
            if self._is_closed:
                return _END
            self._is_running = True
        try:
            return next(self._iterator, _END)
        finally:
            # Closed here if it was requested while the thread was inside the iterator.
            with self._lock:
                self._is_running, is_closed = False, self._is_closed
            if is_closed:
                self._close()

    def close(self) -> None:
        """Close it, now or when the thread that advances it returns."""
        with self._lock:
            self._is_closed = True
            is_running = self._is_running
        # A running generator can't be closed, but our own stream can, which ends the thread's wait.
        if not is_running or not hasattr(self._iterator, "gi_frame"):
            self._close()

    def _close(self) -> None:
        close = getattr(self._iterator, "close", None)
        if close is not None:
            close()


def _find_text(piece: Any) -> str:
    if isinstance(piece, str):
        return piece
    if isinstance(piece, TextDelta):
        return piece.chunk
    if isinstance(piece, StreamChunk):
        return piece.text
    if isinstance(piece, Event):
        return ""
    raise UsageError(
        f"an iterator that is served gives texts, events or StreamChunks, not {piece!r}; for typed results serve the "
        "stream itself"
    )
