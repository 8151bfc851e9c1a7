"""Generator tools: yielded values are reported while they run; the return value, or the last yielded one, is the
result."""

from __future__ import annotations

import functools
import threading
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import aclosing
from typing import Any

from mellea.core.runtime.loop import Waiter, create_waiter
from mellea.core.runtime.tasks import find_outcome, run_in_thread, run_together
from mellea.stdlib.tools.returned import ToolReturn

__all__ = ["Report", "ReportQueue", "run_generator"]

Report = Callable[[Any], object]
"""Called, on the loop, with each value that a tool yields."""


async def run_generator(generator: Generator[Any, Any, Any] | AsyncGenerator[Any, Any], report: Report) -> Any:
    """Run a tool's generator to its end, a sync one in one worker thread, and return its result.

    The result is a sync generator's return value, otherwise a yielded `ToolReturn`, otherwise the last yielded value.
    If the wait is cancelled, an async generator is closed, and a sync one at its next `yield`.
    """
    if isinstance(generator, Generator):
        return await _run_sync(generator, report)
    return await find_outcome(functools.partial(_run_async, generator, report))


async def _run_async(generator: AsyncGenerator[Any, Any], report: Report) -> Any:
    result: Any = None
    # Always closed; a dropped async generator would be finished some time later by the loop's hooks.
    async with aclosing(generator):
        async for value in generator:
            result = _later(result, value)
            if not isinstance(value, ToolReturn):
                report(value)
    return result


async def _run_sync(generator: Generator[Any, Any, Any], report: Report) -> Any:
    queue = ReportQueue()

    def drive() -> Any:
        result: Any = None
        try:
            # Threads can't be cancelled: the generator is asked to stop between two values.
            while not queue.is_abandoned:
                value = next(generator)
                result = _later(result, value)
                if not isinstance(value, ToolReturn):
                    queue.put(value)
            generator.close()
        except StopIteration as stop:
            return result if stop.value is None else stop.value
        finally:
            # Whatever happens, or `relay` would wait forever.
            queue.end()
        return result

    async def relay() -> None:
        while (values := await queue.take()) is not None:
            for value in values:
                report(value)

    try:
        # Both in one group, so that neither continues after the other has failed.
        work: list[Callable[[], Awaitable[Any]]] = [functools.partial(run_in_thread, drive), relay]
        return (await run_together(work))[0]
    finally:
        queue.is_abandoned = True


def _later(before: Any, value: Any) -> Any:
    # After a `ToolReturn` was yielded, plain values are only progress.
    return before if isinstance(before, ToolReturn) and not isinstance(value, ToolReturn) else value


class ReportQueue:
    """A queue of values from a worker thread to the loop. The thread never waits, so a dead loop doesn't block it.

    Args:
        limit: how many may wait; beyond that, the oldest are dropped.

    Attributes:
        is_abandoned: whether the reader has left, so that the thread stops at the next value.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.is_abandoned = False
        self._lock = threading.Lock()
        # With a limit the oldest are dropped: if a tool reports faster than it is read, the newest state counts.
        self._values: deque[Any] = deque(maxlen=limit)
        self._waiter: Waiter | None = None
        self._is_over = False

    def put(self, value: Any) -> None:
        """Add a value; from the thread."""
        with self._lock:
            self._values.append(value)
            waiter = self._waiter
        # Outside the lock, so that the loop isn't woken only to wait for it.
        if waiter is not None:
            waiter.wake()

    def end(self) -> None:
        """Signal the end of the values; from the thread."""
        with self._lock:
            self._is_over = True
            waiter = self._waiter
        if waiter is not None:
            waiter.wake()

    async def take(self) -> list[Any] | None:
        """Wait for more values and return them; `None` at the end."""
        while True:
            with self._lock:
                values = list(self._values)
                self._values.clear()
                if not values and not self._is_over:
                    # Created under the lock: otherwise a value that is put after the check would wake nothing.
                    self._waiter = create_waiter()
                waiter = self._waiter
            if values:
                return values
            if self._is_over or waiter is None:
                return None
            await waiter.wait()
