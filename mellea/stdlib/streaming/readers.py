"""Readers of the typed values in a sync stream: items, and partial objects."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from mellea.core.iterators import Place
from mellea.core.structured.partials import Partial
from mellea.core.structured.readers import ItemReading, OnError, PartialReading
from mellea.core.thread_turn import ThreadTurn
from mellea.core.thunk import ModelOutputThunk
from mellea.core.tracebacks import shorten
from mellea.errors import ParseError

if TYPE_CHECKING:
    from mellea.core.held_span import SpanHold

__all__ = ["ItemReader", "PartialReader"]

T = TypeVar("T")


class StreamSource(Protocol):
    """The stream that is read."""

    @property
    def _by_step(self) -> bool: ...

    def _ensure_started(self) -> ModelOutputThunk[Any]: ...

    def _close_now(self) -> None: ...

    def _go_on_in_(self, hold: SpanHold) -> None: ...


class _TypedReader(Iterator[T]):
    def __init__(self, stream: StreamSource, text: Iterator[str], place: Place) -> None:
        self._stream = stream
        self._text = text
        self._place = place
        self._turn = ThreadTurn()

    def __next__(self) -> T:
        with self._turn:
            self._place.begin()
            try:
                return self._next()
            except BaseException as error:
                self._place.end()
                shorten(error)
                raise

    @abstractmethod
    def _next(self) -> T:
        """Return the next value; raises `StopIteration` at the end."""

    def _go_on_in_(self, hold: SpanHold) -> None:
        self._stream._go_on_in_(hold)

    def close(self) -> None:
        """Stop reading; the last reader cancels the generation, and waits until its connection is closed."""
        self._place.close()


class ItemReader(_TypedReader[T]):
    """Reads the items of a sync stream, in the reading thread; see `ModelOutputThunk.items`."""

    def __init__(self, stream: StreamSource, text: Iterator[str], on_error: OnError, place: Place) -> None:
        super().__init__(stream, text, place)
        self._on_error = on_error
        self._reading: ItemReading[T] | None = None

    def _next(self) -> T:
        reading = self._reading
        if reading is None:
            thunk = self._stream._ensure_started()
            reading = self._reading = ItemReading(
                thunk.record, thunk.deliver, self._on_error, by_step=self._stream._by_step
            )
        while not reading.ready:
            if reading.has_work:
                self._validate(reading)
            elif reading.is_over:
                raise StopIteration
            else:
                reading.feed(next(self._text, None))
        return reading.ready.popleft()

    def _validate(self, reading: ItemReading[T]) -> None:
        try:
            reading.work()
        except ParseError:
            if reading.is_hopeless:
                self._stream._close_now()
            raise


class PartialReader(_TypedReader[Partial[T]]):
    """Reads the partial result of a sync stream; see `ModelOutputThunk.partials`."""

    def __init__(self, stream: StreamSource, text: Iterator[str], place: Place) -> None:
        super().__init__(stream, text, place)
        self._reading: PartialReading[T] | None = None

    def _next(self) -> Partial[T]:
        reading = self._reading
        if reading is None:
            thunk = self._stream._ensure_started()
            reading = self._reading = PartialReading(thunk.record, thunk.deliver, by_step=self._stream._by_step)
        while (partial := reading.next()) is None:
            if reading.has_work:
                reading.work()
            elif reading.is_over:
                raise StopIteration
            else:
                reading.feed(next(self._text, None))
        return partial
