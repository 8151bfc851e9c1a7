"""The user's callables: synchronous ones in worker threads, asynchronous ones on the loop.

Rules for the threads:

- The process shares them, so that a thousand answers that end at once don't start a thousand threads.
- Such a function may call a synchronous verb, whose own functions need threads, too: each depth of such calls has
  its own places, so that the outer ones can't take them all and wait for the inner ones.
- Functions may also wait for each other in ways that can't be detected. If nothing at a depth has finished for a
  moment, one more is admitted: slowly, but always.
- If the system starts no more threads, a call waits for one to end.
- If a wait is cancelled, its thread runs on, and its place is free when the function returns. The function's calls of
  models are cancelled, and its next synchronous verb raises.
"""

from __future__ import annotations

import inspect
import os
import threading
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar

import anyio
import anyio.to_thread

from mellea.core.runtime.loop import Waiter, create_waiter, is_being_cancelled

__all__ = ["Caller", "ThreadWork", "current_caller", "find_outcome", "run_in_thread", "run_together"]

T = TypeVar("T")

_PLACES = 32
"""How many functions of one depth run at once, as long as they finish."""

_STALL_SECONDS = 0.1
"""How long nothing may finish before one more function is admitted."""

_LOOK_SECONDS = 1.0
"""How often waiters that aren't next check whether the next one's loop has gone."""

_DEEPEST = 50
"""From this depth on functions share places, so that endless recursion doesn't create endless places."""

_depth: ContextVar[int] = ContextVar("mellea_thread_depth", default=0)


class Cancellable(Protocol):
    """Work that a function in a thread may have started."""

    def cancel(self) -> None:
        """End it; safe from any thread, returns at once."""


class Caller:
    """Code whose result may be dropped while it runs, and the unfinished work that it has started.

    That is one call of a function in a worker thread, or one cell of a notebook.

    Attributes:
        is_left: whether nothing waits for it any more.
        name: what errors call it.
    """

    __slots__ = ("_begun", "_lock", "is_left", "name")

    def __init__(self, name: str = "the function that made this request") -> None:
        self.name = name
        self._begun: dict[Cancellable, None] = {}  # in order: work before what it has started itself
        self._lock = threading.Lock()
        self.is_left = False

    def add(self, work: Cancellable) -> None:
        """Register work that it has started."""
        with self._lock:
            self._begun[work] = None
            is_left = self.is_left
        if is_left:  # since it was asked for
            work.cancel()

    def discard(self, work: Cancellable) -> None:
        """Forget work that has ended."""
        with self._lock:
            self._begun.pop(work, None)

    def leave(self) -> None:
        """Cancel what it has started: its result won't be used."""
        with self._lock:
            self.is_left = True
            begun = list(self._begun)
        for work in begun:
            work.cancel()


current_caller: ContextVar[Caller | None] = ContextVar("mellea_caller", default=None)
"""The call of a function in a thread, or the cell of a notebook, that the current code is part of."""


class _Ticket:
    """One call that waits for a place."""

    __slots__ = ("looked", "waiter")

    def __init__(self) -> None:
        self.waiter: Waiter | None = None
        self.looked = 0.0


class _Place:
    """The right to run one function in a thread.

    It is released when both the function and the wait for it are done. Only then is the thread idle, so that the next
    call finds it; released by the function itself, the place would be free a moment too early. A cancelled wait is done
    immediately.
    """

    __slots__ = ("_is_left", "_is_returned", "_places", "has_begun", "taken")

    def __init__(self, places: _Places, taken: float) -> None:
        self._places = places
        self.taken = taken
        self.has_begun = self._is_returned = self._is_left = False

    def end(self) -> None:
        """The function has returned."""
        self._is_returned = True
        if self._is_left:
            self._places.take_back(self)

    def leave(self) -> None:
        """Nothing waits any more."""
        self._is_left = True
        if self._is_returned or not self.has_begun:
            self._places.take_back(self)


class _Places:
    """The places of one depth, granted in order, across loops."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._moved = 0.0  # when a place was last released, or one more was admitted
        self._most = _PLACES  # until _short_until
        self._short_until = 0.0
        self._held = set[_Place]()
        self._queue: dict[_Ticket, None] = {}

    async def take(self) -> _Place:
        """Wait for a place."""
        ticket = _Ticket()
        try:
            while True:
                waiter, is_next = self._look(ticket)
                if isinstance(waiter, _Place):
                    return waiter
                await waiter.wait(_STALL_SECONDS if is_next else _LOOK_SECONDS)
        finally:
            self._leave(ticket)

    def _look(self, ticket: _Ticket) -> tuple[Waiter | _Place, bool]:
        """Take a place, or return a waiter and whether it is next."""
        now = time.monotonic()
        with self._lock:
            self._queue.setdefault(ticket)
            ticket.looked = now
            first = next(iter(self._queue))
            while first is not ticket and now - first.looked > 3 * _LOOK_SECONDS:
                del self._queue[first]  # its loop has gone or is blocked; if it recovers it queues again
                first = next(iter(self._queue))
            is_next = first is ticket
            if is_next and self._may_enter(now):
                place = _Place(self, now)
                self._held.add(place)
                return place, True
            ticket.waiter = create_waiter()
            return ticket.waiter, is_next

    def _may_enter(self, now: float) -> bool:
        if len(self._held) < (self._most if now < self._short_until else _PLACES):
            return True
        if now - self._moved < _STALL_SECONDS:
            return False
        self._moved = now
        return True

    def _leave(self, ticket: _Ticket) -> None:
        with self._lock:
            self._queue.pop(ticket, None)
        self._call_next()

    def take_back(self, place: _Place) -> None:
        """Release the place; a second time does nothing."""
        with self._lock:
            if place not in self._held:
                return
            self._held.discard(place)
            self._moved = time.monotonic()
        self._call_next()

    def take_back_unused(self, place: _Place) -> bool:
        """Release the place of a call for which the system started no thread, and admit no more than are running.

        Returns:
            Whether to wait: a call is running, or has ended since this place was taken.
        """
        with self._lock:
            self._held.discard(place)
            self._most = max(1, len(self._held))
            self._short_until = time.monotonic() + _LOOK_SECONDS
            return bool(self._held) or self._moved > place.taken

    def _call_next(self) -> None:
        with self._lock:
            first = next(iter(self._queue), None)
            waiter = first.waiter if first is not None else None
        if waiter is not None:
            waiter.wake()


_depths: defaultdict[int, _Places] = defaultdict(_Places)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_depths.clear)  # the parent's threads aren't there any more


async def run_in_thread(function: Callable[..., T], *args: object, call: Caller | None = None) -> T:
    """Call a function of the user's in a worker thread; if the wait is cancelled, it runs on and its result is dropped.

    Its calls of models are cancelled then; see the rules above.

    Args:
        function: what to call.
        args: its arguments.
        call: shared by related calls, such as those that advance one iterator.

    Raises:
        RuntimeError: the system starts no thread, and none is running.
    """
    depth = _depth.get()
    places = _depths[depth]
    while True:
        place = await places.take()
        whole = Caller() if call is None else call

        def call_boxed(place: _Place = place, whole: Caller = whole) -> tuple[T]:
            place.has_begun = True
            current_caller.set(whole)
            _depth.set(min(depth + 1, _DEEPEST))  # in the thread's copy of the context
            try:
                return (function(*args),)  # trio rejects a coroutine as a thread's result
            except GeneratorExit as error:  # to a generator that waits for this, it would look like its own close
                raise RuntimeError("GeneratorExit was raised by a function that isn't a generator") from error
            finally:
                place.end()

        try:
            # Without a limit of its own: the places are the limit.
            limiter = anyio.CapacityLimiter(1)
            (result,) = await anyio.to_thread.run_sync(call_boxed, abandon_on_cancel=True, limiter=limiter)
            return result
        except RuntimeError:
            if place.has_begun or not places.take_back_unused(place):
                raise
        except anyio.get_cancelled_exc_class():
            whole.leave()
            raise
        finally:
            place.leave()


class ThreadWork:
    """A user's function called in a worker thread; the wait for it may be cancelled and resumed."""

    def __init__(self, function: Callable[[], object]) -> None:
        self._function = function
        self._lock = threading.Lock()
        self._waiters: list[Waiter] = []
        self._has_begun = self._is_done = False
        self._error: BaseException | None = None

    async def wait(self) -> None:
        """Call the function, once, and wait until it has returned; raises what it raises."""
        if not self._has_begun:
            await run_in_thread(self._call)
        while not self._is_done:  # in the thread of an earlier wait
            waiter = create_waiter()
            with self._lock:
                self._waiters.append(waiter)
            if not self._is_done:
                await waiter.wait()
        if self._error is not None:
            raise self._error

    def _call(self) -> None:
        with self._lock:
            if self._has_begun:
                return
            self._has_begun = True
        try:
            self._function()
        except BaseException as error:  # noqa: BLE001 - it belongs to the waiting code
            self._error = error
        with self._lock:
            self._is_done, waiters = True, self._waiters
        for waiter in waiters:
            waiter.wake()


async def find_outcome(function: Callable[..., Any], *args: object) -> Any:
    """Call a user's function, synchronous (in a worker thread) or not, and return its result.

    Raises:
        RuntimeError: it raised a cancellation of its own, for example by awaiting a cancelled task, which would
            silently end everything around it.
    """
    try:
        if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None)):  # noqa: B004
            return await function(*args)
        if inspect.isasyncgenfunction(function):  # creating the generator runs none of its code
            return function(*args)
        outcome = await run_in_thread(function, *args)
        return await outcome if isinstance(outcome, Awaitable) else outcome
    except anyio.get_cancelled_exc_class() as error:
        if is_being_cancelled():
            raise
        raise RuntimeError(f"{type(error).__name__} was raised, though nobody cancelled the call") from error


async def run_together(calls: Iterable[Callable[[], Awaitable[T]]]) -> list[T]:
    """Run calls concurrently, and return their results in the order of the calls.

    The first that raises cancels the others, and its own exception is raised, never a group.
    """
    waiting = list(calls)
    if len(waiting) == 1:
        return [await waiting[0]()]
    results: dict[int, T] = {}
    errors: list[BaseException] = []

    async def make(number: int, call: Callable[[], Awaitable[T]]) -> None:
        try:
            results[number] = await call()
        except anyio.get_cancelled_exc_class():
            raise
        except BaseException as error:  # noqa: BLE001 - it is raised below
            errors.append(error)
            group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        for number, call in enumerate(waiting):
            group.start_soon(make, number, call)
    try:
        if errors:
            raise errors[0]
    finally:
        errors.clear()  # an error stored here would keep itself alive through its traceback
    return [results[number] for number in range(len(waiting))]
