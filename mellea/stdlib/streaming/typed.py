"""Readers of the typed values in a plain stream: items, and partial objects."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, TypeVar

from mellea.core.structured.partials import Partial
from mellea.core.structured.reading import ItemReading, OnError, PartialReading
from mellea.core.thunk import ModelOutputThunk
from mellea.errors import ParseError

__all__ = ["ItemReader", "PartialReader"]

T = TypeVar("T")


class Source(Protocol):
    """The stream that is read."""

    @property
    def _by_step(self) -> bool: ...

    def _started(self) -> ModelOutputThunk[Any]: ...

    def close(self) -> None:
        """Cancel the generation if it still runs."""


class ItemReader(Iterator[T]):
    """Reads the items of a plain stream, in the reading thread; see `ModelOutputThunk.items`."""

    def __init__(self, stream: Source, text: Iterator[str], on_error: OnError) -> None:
        self._stream = stream
        self._on_error = on_error
        self._text = text
        self._reading: ItemReading[T] | None = None

    def __next__(self) -> T:
        reading = self._reading
        if reading is None:
            thunk = self._stream._started()
            reading = self._reading = ItemReading(
                thunk._run, thunk._deliver, self._on_error, by_step=self._stream._by_step
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
            reading.validate()
        except ParseError:
            self.close()
            raise

    def close(self) -> None:
        """Close the stream, as web frameworks do with an iterator that they stop reading."""
        self._stream.close()


class PartialReader(Iterator[Partial[T]]):
    """Reads what is known of a plain stream's result so far; see `ModelOutputThunk.partials`."""

    def __init__(self, stream: Source, text: Iterator[str]) -> None:
        self._stream = stream
        self._text = text
        self._reading: PartialReading[T] | None = None

    def __next__(self) -> Partial[T]:
        reading = self._reading
        if reading is None:
            thunk = self._stream._started()
            reading = self._reading = PartialReading(thunk._run, thunk._deliver, by_step=self._stream._by_step)
        while (partial := reading.next()) is None:
            if reading.has_work:
                reading.work()
            elif reading.is_over:
                raise StopIteration
            else:
                reading.feed(next(self._text, None))
        return partial

    def close(self) -> None:
        """Close the stream, as web frameworks do with an iterator that they stop reading."""
        self._stream.close()
