"""Async iterators of items and of partial objects, over an iterator of text."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Protocol, TypeVar

from mellea.core.structured.partials import Partial
from mellea.core.structured.reading import ItemReading, OnError, PartialReading, ReadRun
from mellea.core.worker import in_thread
from mellea.errors import ParseError

__all__ = ["ItemIterator", "PartialIterator"]

T = TypeVar("T")


class _Thunk(Protocol):
    """What is read: it is held, so that reading keeps the generation alive."""

    @property
    def _run(self) -> ReadRun: ...

    def _deliver(self) -> Any: ...

    async def cancel(self) -> None: ...


class ItemIterator(AsyncIterator[T]):
    """Reads the whole, validated items of a sequence, each as soon as the text holds all of it.

    Args:
        thunk: what to read.
        text: an iterator of its text, which raises nothing at the end.
        on_error: what to do with a bad item.
        by_step: read nothing before the end, so that no later step can supersede it.
    """

    __slots__ = ("_reading", "_text", "_thunk")

    def __init__(self, thunk: _Thunk, text: AsyncIterator[str], on_error: OnError, *, by_step: bool = False) -> None:
        self._thunk = thunk
        self._text = text
        self._reading: ItemReading[T] = ItemReading(thunk._run, thunk._deliver, on_error, by_step=by_step)

    async def __anext__(self) -> T:
        reading = self._reading
        while not reading.ready:
            if reading.has_work:
                await self._validate()
            elif reading.is_over:
                raise StopAsyncIteration
            else:
                reading.feed(await anext(self._text, None))
        return reading.ready.popleft()

    async def _validate(self) -> None:
        try:
            if self._reading.is_quick:
                self._reading.validate()
            else:
                await in_thread(self._reading.validate)
        except ParseError:
            await self._thunk.cancel()
            raise


class PartialIterator(AsyncIterator[Partial[T]]):
    """Reads what is known of a value while it is being written.

    Args:
        thunk: what to read.
        text: an iterator of its text, which raises nothing at the end.
        by_step: read nothing before the end, so that no later step can supersede it.
    """

    __slots__ = ("_reading", "_text", "_thunk")

    def __init__(self, thunk: _Thunk, text: AsyncIterator[str], *, by_step: bool = False) -> None:
        self._thunk = thunk
        self._text = text
        self._reading: PartialReading[T] = PartialReading(thunk._run, thunk._deliver, by_step=by_step)

    async def __anext__(self) -> Partial[T]:
        reading = self._reading
        while (partial := reading.next()) is None:
            if reading.has_work:
                await in_thread(reading.work)
            elif reading.is_over:
                raise StopAsyncIteration
            else:
                reading.feed(await anext(self._text, None))
        return partial
