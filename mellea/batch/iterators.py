"""The iterators of `map` and `amap`: both read the rows that a runner yields.

`amap`'s reads on its own loop; `map`'s reads in the caller's thread, while the runner works on the loop of the
synchronous verbs.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import time
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import nullcontext
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

import anyio

from mellea.batch.feed import Feed, PushFeed
from mellea.batch.row import Row
from mellea.batch.runner import Runner
from mellea.core.displayed import Displayed
from mellea.core.entrance import short_errors
from mellea.core.runtime.loop import ThreadWaiter, create_waiter
from mellea.core.runtime.portal import get_portal_loop
from mellea.core.thread_turn import ThreadTurn
from mellea.core.tracebacks import add_note, shorten
from mellea.errors import StreamingError, UsageTypeError

if TYPE_CHECKING:
    from mellea.core.card import Card
    from mellea.core.held_span import SpanHold

__all__ = ["AsyncRows", "Rows"]

T = TypeVar("T")

_log = logging.getLogger("mellea")

_CLOSE_SECONDS = 1.5
"""How long a map that is closed early waits for its requests to be cancelled and its last answers to be committed."""

_LOOK_SECONDS = 1.0


class _Mapped(Displayed, Generic[T]):
    """What both iterators have in common."""

    def __init__(self, runner: Runner, feed: Feed, journal: str | None) -> None:
        self._runner = runner
        self._feed = feed
        self._journal = journal
        self._ready: deque[Row[T]] = deque()
        self._has_begun = self._is_over = False
        self._hold: SpanHold | None = None
        # It must not wait or take a lock, because the iterator may be dropped at any point in any code.
        self._dropped = weakref.finalize(self, _drop, runner, journal)
        self._dropped.atexit = False
        _open.add(self)

    def _go_on_in_(self, hold: SpanHold) -> None:
        if self._is_over:
            hold.end()
        else:
            self._hold = hold

    def _start(self, start: Callable[[], object]) -> None:
        """Begin the work, in the span of the function that returned the iterator, if there is one."""
        self._has_begun = True
        with nullcontext() if self._hold is None else self._hold.entered():
            start()

    @property
    def done(self) -> int:
        """How many rows are done so far."""
        return self._runner.done

    @property
    def cost(self) -> float | None:
        """What this map has cost so far in US dollars, `None` if a part of it is unknown."""
        return self._runner.cost

    def _take(self) -> bool:
        """Take the rows that are ready; return false if there are none."""
        self._ready.extend(self._runner.outbox.take())
        return bool(self._ready)

    def _end(self, *, is_left: bool = False) -> None:
        """Record that all rows have been yielded, or are no longer wanted."""
        if self._hold is not None:
            self._hold.end(self._runner.outbox.error, is_cancelled=is_left)
        self._is_over = True
        # From here on there is nothing left to stop, and the finalizer would only keep the runner alive.
        self._dropped.detach()
        self._runner.progress.end()

    def _raise_end(self) -> None:
        """Record that all rows have been yielded, and raise the error that ended them, if any."""
        self._end()
        failure = self._runner.outbox.error
        try:
            if failure is not None:
                raise failure
        finally:
            del failure  # its traceback holds this frame

    def _note_interruption(self, error: BaseException, *, is_readers: bool = False) -> None:
        """Stop, and say how to continue.

        Args:
            error: why.
            is_readers: whether it is an error of the code that reads, with which it leaves the map.
        """
        self._is_over = True
        if self._hold is not None:
            self._hold.end(error, is_cancelled=is_readers or not isinstance(error, Exception))
        self._runner.post_stop()
        self._dropped.detach()  # it would stop the runner once more, and tell the same again at the program's end
        if (how := self._say_how_to_go_on()) is not None:
            add_note(error, how)

    def _say_how_to_go_on(self) -> str | None:
        return None if self._journal is None else _say_how_to_go_on(self._runner.done, self._journal)

    def tell_at_exit(self) -> None:
        """Say how to continue, if the program ends in the middle."""
        if self._has_begun and not self._is_over and (how := self._say_how_to_go_on()) is not None:
            self._runner.progress.end()
            _log.warning("the program ends in the middle of a map: %s", how)

    def _card_(self) -> Card:
        from mellea.core.card import Card  # lazy: only a frontend needs it

        state = "done" if self._is_over else "running" if self._has_begun else "not begun"
        facts = [self._runner.name, f"{self.done:,} rows done", "" if self.cost is None else f"${self.cost:,.4f}"]
        return Card(type(self).__name__, state, facts)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._runner.name!r}: {self._runner.done:,} rows done>"


@short_errors
class Rows(_Mapped[T], Iterator[Row[T]]):
    """The rows of a `map`, in sync code. The work begins when the first one is requested.

    Leaving the loop, or the `with` block, cancels the rows in flight. Only one thread at a time may read it.
    """

    def __init__(self, runner: Runner, feed: Feed, journal: str | None) -> None:
        super().__init__(runner, feed, journal)
        self._turn = ThreadTurn()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Row[T]:
        with self._turn:
            return self._next()

    def _next(self) -> Row[T]:
        if self._ready:
            return self._ready.popleft()
        if self._is_over:
            raise StopIteration
        try:
            self._wait()
        except BaseException as error:
            self._note_interruption(error)
            # The interrupt is raised after the requests in flight have been cancelled, so that none of them outlives
            # the program's reaction to it.
            self._wait_for_end()
            shorten(error)
            raise
        if self._ready:
            return self._ready.popleft()
        self._raise_end()
        raise StopIteration

    def _begin(self) -> None:
        self._process = os.getpid()
        # The loop of the synchronous verbs, since the caller's thread is busy in the body of its `for`.
        self._runner.loop = loop = get_portal_loop()
        self._start(lambda: loop.post(self._runner.start))  # with a copy of the context variables

    def _wait(self) -> None:
        """Wait until a row is ready or everything has ended; read rows from their source in the meantime."""
        if not self._has_begun:
            self._begin()
        outbox, feed = self._runner.outbox, self._feed if isinstance(self._feed, PushFeed) else None
        while True:
            waiter = ThreadWaiter()
            outbox.wait_with(waiter)  # before the check: anything that arrives from now on wakes this waiter
            if feed is not None:
                feed.pusher = waiter
            has_ended = outbox.has_ended
            is_idle = not self._take()
            if feed is not None and feed.wants(is_idle=is_idle):
                # Rows are read here, in the caller's thread, where generators and cursors were created.
                feed.pump()
                if is_idle:
                    continue
            if not is_idle or has_ended:
                return
            # The rows that were yielded have made room for others.
            self._runner.post_room()
            waiter.wait(_LOOK_SECONDS)
            # The loop may have ended together with its thread, and then it wakes nobody.
            self._check_alive()

    def _check_alive(self) -> None:
        # After a fork, the working thread exists only in the parent.
        if os.getpid() != self._process:
            raise StreamingError("a map can't be read in a forked child: its work goes on in the parent")
        loop = self._runner.loop
        if loop is not None and not self._runner.outbox.has_ended and (how := loop.explain_loss()) is not None:
            raise StreamingError(f"the thread that the map works on {how}")

    def close(self) -> None:
        """Cancel the rows in flight, and yield nothing more; answers that have arrived are in the journal."""
        self._is_over = True
        self._runner.post_stop()
        self._wait_for_end()
        self._end(is_left=True)
        self._ready.clear()

    def _wait_for_end(self) -> None:
        if not self._has_begun:
            return
        # Bounded: a request that can't be cancelled must not hold up the code that leaves the loop.
        until = time.monotonic() + _CLOSE_SECONDS
        while (left := until - time.monotonic()) > 0:
            waiter = ThreadWaiter()
            self._runner.outbox.wait_with(waiter)
            if self._runner.outbox.has_ended:
                return
            waiter.wait(left)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if exc is not None and not self._is_over:
            self._note_interruption(exc, is_readers=True)
            self._wait_for_end()
        self.close()


@short_errors
class AsyncRows(_Mapped[T], AsyncIterator[Row[T]]):
    """The rows of an `amap`. The work begins when the first one is requested.

    Leaving the loop, or the `async with` block, cancels the rows in flight; so does cancelling a wait for a row.
    """

    if not TYPE_CHECKING:  # what a checker refuses

        def __await__(self) -> Any:
            raise UsageTypeError("the rows of an amap aren't awaited: async for row in mellea.amap(…)")

        def __getitem__(self, index: object) -> Any:  # what `for` tries where there is no __iter__
            raise UsageTypeError("the rows of an amap are read by async for; in plain code, for row in mellea.map(…)")

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Row[T]:
        if self._ready:
            return self._ready.popleft()
        if self._is_over:
            raise StopAsyncIteration
        try:
            await self._wait()
        except BaseException as error:
            self._note_interruption(error)
            shorten(error)
            raise
        if self._ready:
            return self._ready.popleft()
        self._raise_end()
        raise StopAsyncIteration

    async def _wait(self) -> None:
        if not self._has_begun:
            self._start(self._runner.start)
        outbox = self._runner.outbox
        while True:
            waiter = create_waiter()
            outbox.wait_with(waiter)
            has_ended = outbox.has_ended
            if self._take() or has_ended:
                return
            self._runner.post_room()
            await waiter.wait(_LOOK_SECONDS)
            loop = self._runner.loop
            if loop is not None and not loop.is_current() and (how := loop.explain_loss()) is not None:
                raise StreamingError(f"the loop that the map works on {how}")

    async def aclose(self) -> None:
        """Cancel the rows in flight, and yield nothing more; answers that have arrived are in the journal."""
        self._is_over = True
        self._runner.post_stop()
        await self._wait_for_end()
        self._end(is_left=True)
        self._ready.clear()

    async def _wait_for_end(self) -> None:
        # On another loop there is nothing to wait for: that loop carries on by itself.
        if self._has_begun and self._runner.loop is not None and self._runner.loop.is_current():
            # Shielded, because `aclose` is often called during a cancellation.
            with anyio.move_on_after(_CLOSE_SECONDS, shield=True):
                await self._runner.wait_until_ended()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if exc is not None and not self._is_over:
            self._note_interruption(exc, is_readers=True)
            await self._wait_for_end()
        await self.aclose()


_open: weakref.WeakSet[_Mapped[Any]] = weakref.WeakSet()
_left: deque[str] = deque(maxlen=1)
"""How to continue the map that was left last, perhaps by an interrupt in the caller's own code that dropped it."""


def _say_how_to_go_on(done: int, journal: str) -> str:
    return (
        f"{done:,} rows are done and saved in the journal {journal!r}; run the same program again to continue with "
        f"the rest"
    )


def _drop(runner: Runner, journal: str | None) -> None:
    runner.post_stop()
    if journal is not None and not runner.has_ended:
        _left.append(_say_how_to_go_on(runner.done, journal))


def _tell_at_exit() -> None:
    for rows in list(_open):
        rows.tell_at_exit()
    # Python keeps the last uncaught error here; by now the iterator itself is gone.
    if _left and isinstance(getattr(sys, "last_value", None), KeyboardInterrupt):
        _log.warning("the program was interrupted in the middle of a map: %s", _left[0])


atexit.register(_tell_at_exit)
