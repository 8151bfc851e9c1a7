"""Async iterators of items and of partial objects, over an iterator of text."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol, TypeVar

from mellea.core.runtime.tasks import ThreadWork
from mellea.core.structured.partials import Partial
from mellea.core.structured.readers import ItemReading, OnError, PartialReading, ReadRun
from mellea.core.tracebacks import shorten
from mellea.errors import ParseError

__all__ = ["ItemIterator", "PartialIterator"]

T = TypeVar("T")


class _Thunk(Protocol):
    """What is read: it is held, so that reading keeps the generation alive."""

    @property
    def _run(self) -> ReadRun: ...

    def deliver(self) -> Any: ...

    async def cancel(self) -> None: ...


class _Iterator(AsyncIterator[T]):
    """Does what may call the user's code in a worker thread, also if the wait for it was cancelled meanwhile."""

    __slots__ = ("_work",)

    def __init__(self) -> None:
        self._work: ThreadWork | None = None

    async def _work_off(self, function: Callable[[], None], *, is_quick: bool) -> None:
        if is_quick:
            function()
            return
        work = self._work = self._work or ThreadWork(function)
        try:
            await work.wait()
        except ParseError:
            self._work = None
            raise
        self._work = None


class ItemIterator(_Iterator[T]):
    """Reads the whole, validated items of a sequence, each as soon as the text holds all of it.

    Args:
        thunk: what to read.
        text: an iterator of its text, which raises nothing at the end.
        on_error: what to do with a bad item.
        by_step: read nothing before the end, so that no later step can supersede it.
    """

    __slots__ = ("_reading", "_text", "_thunk")

    def __init__(self, thunk: _Thunk, text: AsyncIterator[str], on_error: OnError, *, by_step: bool = False) -> None:
        super().__init__()
        self._thunk = thunk
        self._text = text
        self._reading: ItemReading[T] = ItemReading(thunk._run, thunk.deliver, on_error, by_step=by_step)

    async def __anext__(self) -> T:
        reading = self._reading
        try:
            while not reading.ready:
                if self._work is not None or reading.has_work:
                    await self._validate()
                elif reading.is_over:
                    raise StopAsyncIteration
                else:
                    reading.feed(await anext(self._text, None))
        except Exception as error:
            shorten(error)
            raise
        return reading.ready.popleft()

    async def _validate(self) -> None:
        try:
            await self._work_off(self._reading.validate, is_quick=self._reading.is_quick)
        except ParseError:
            if self._reading.is_hopeless:
                await self._thunk.cancel()
            raise


class PartialIterator(_Iterator[Partial[T]]):
    """Reads what is known of a value while it is being written.

    Args:
        thunk: what to read.
        text: an iterator of its text, which raises nothing at the end.
        by_step: read nothing before the end, so that no later step can supersede it.
    """

    __slots__ = ("_reading", "_text", "_thunk")

    def __init__(self, thunk: _Thunk, text: AsyncIterator[str], *, by_step: bool = False) -> None:
        super().__init__()
        self._thunk = thunk
        self._text = text
        self._reading: PartialReading[T] = PartialReading(thunk._run, thunk.deliver, by_step=by_step)

    async def __anext__(self) -> Partial[T]:
        reading = self._reading
        try:
            while self._work is not None or (partial := reading.next()) is None:
                if self._work is not None or reading.has_work:
                    await self._work_off(reading.work, is_quick=False)
                elif reading.is_over:
                    raise StopAsyncIteration
                else:
                    reading.feed(await anext(self._text, None))
        except Exception as error:
            shorten(error)
            raise
        return partial
