"""Async iterators of items and of partial objects, over an iterator of text."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from mellea.core.runtime.tasks import ThreadWork
from mellea.core.structured.partials import Partial
from mellea.core.structured.readers import ItemReading, OnError, PartialReading, ReadRun
from mellea.core.tracebacks import shorten
from mellea.errors import OutputError

if TYPE_CHECKING:
    from mellea.core.held_span import SpanHold

__all__ = ["ItemIterator", "PartialIterator"]

T = TypeVar("T")

NOTHING: Any = object()
"""Marks a value that hasn't arrived yet; `None` may be an item."""


class _Thunk(Protocol):
    """The object that is read: held, so that reading keeps the generation alive."""

    @property
    def _run(self) -> ReadRun: ...

    def deliver(self) -> Any: ...

    async def cancel(self) -> None: ...

    def _go_on_in_(self, hold: SpanHold) -> None: ...


class _ReadingIterator(AsyncIterator[T]):
    """An iterator over the values that a reading makes from text.

    Anything that may call user code runs in a worker thread. A wait for it may be cancelled; the next one then waits
    for the same work, so that no text is read twice.
    """

    __slots__ = ("_text", "_thunk", "_work")

    _reading: ItemReading[Any] | PartialReading[Any]

    def __init__(self, thunk: _Thunk, text: AsyncIterator[str]) -> None:
        self._thunk = thunk
        self._text = text
        self._work: ThreadWork | None = None

    async def __anext__(self) -> T:
        reading = self._reading
        try:
            while self._work is not None or (value := self._take()) is NOTHING:
                if self._work is not None or reading.has_work:
                    await self._do_work()
                elif reading.is_over:
                    raise StopAsyncIteration
                else:
                    reading.feed(await anext(self._text, None))
        except Exception as error:
            shorten(error)
            raise
        return cast("T", value)

    def _go_on_in_(self, hold: SpanHold) -> None:
        self._thunk._go_on_in_(hold)

    @abstractmethod
    def _take(self) -> Any:
        """Return the next value, `NOTHING` if there is none yet."""

    async def _do_work(self) -> None:
        reading = self._reading
        if reading.is_quick:
            reading.work()
            return
        work = self._work = self._work or ThreadWork(reading.work)
        try:
            await work.wait()
        except OutputError:
            self._work = None
            raise
        self._work = None  # not if the wait was cancelled: the thread continues


class ItemIterator(_ReadingIterator[T]):
    """Reads the whole, validated items of a sequence, each as soon as the text holds all of it.

    Args:
        thunk: the thunk to read.
        text: an iterator of its text, which raises nothing at the end.
        on_error: what to do with a bad item.
        by_step: read nothing before the end, so that no later step can supersede it.
    """

    __slots__ = ("_reading",)

    def __init__(self, thunk: _Thunk, text: AsyncIterator[str], on_error: OnError, *, by_step: bool = False) -> None:
        super().__init__(thunk, text)
        self._reading: ItemReading[T] = ItemReading(thunk._run, thunk.deliver, on_error, by_step=by_step)

    def _take(self) -> Any:
        ready = self._reading.ready
        return ready.popleft() if ready else NOTHING

    async def _do_work(self) -> None:
        try:
            await super()._do_work()
        except OutputError:
            if self._reading.is_hopeless:
                await self._thunk.cancel()
            raise


class PartialIterator(_ReadingIterator[Partial[T]]):
    """Reads what is known of a value while it is being written.

    Args:
        thunk: the thunk to read.
        text: an iterator of its text, which raises nothing at the end.
        by_step: read nothing before the end, so that no later step can supersede it.
    """

    __slots__ = ("_reading",)

    def __init__(self, thunk: _Thunk, text: AsyncIterator[str], *, by_step: bool = False) -> None:
        super().__init__(thunk, text)
        self._reading: PartialReading[T] = PartialReading(thunk._run, thunk.deliver, by_step=by_step)

    def _take(self) -> Any:
        return self._reading.next() or NOTHING
