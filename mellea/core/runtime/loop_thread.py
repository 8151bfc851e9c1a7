"""A thread with its own event loop: for synchronous verbs, and for objects that outlive the loops that use them.

Rules:

- The thread and its loop start at the first use. They are forgotten after a fork, and stopped when the interpreter
  exits.
- `run` sends work to that loop and waits on the caller's own. If the wait is cancelled, so is the work, and its
  result is dropped.
- When the thread stops, `close` runs on its loop first, for a limited time.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import weakref
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, Generic, TypeVar, cast

import anyio

from mellea.core.runtime.loop import (
    Loop,
    ThreadWaiter,
    Waiter,
    be_patient,
    create_waiter,
    get_current_loop,
    launch,
    run_until_exit,
)
from mellea.errors import ConfigurationError, MelleaError, UsageError

__all__ = ["Errand", "LoopThread"]

T = TypeVar("T")

_LOOK_SECONDS = 1.0
"""How often a waiting caller checks that the thread's loop is alive, in seconds."""


class LoopThread:
    """A daemon thread with an event loop, started at its first use.

    Args:
        name: the thread's name.
        close_seconds: how long closing may take when the thread stops.
        close: called on the loop then, to close open resources.
        grace: how long a function may block the loop, in seconds, before its runs count as lost; by default
            as on any loop.
    """

    def __init__(
        self,
        name: str,
        close_seconds: float,
        close: Callable[[], Coroutine[Any, Any, None]] | None = None,
        *,
        grace: float | None = None,
    ) -> None:
        self._name = name
        self._close = close
        self._close_seconds = close_seconds
        self._grace = grace
        self.forget()
        atexit.register(self.stop)
        _threads.add(self)

    def forget(self) -> None:
        """Forget the thread, which doesn't exist in the child of a fork."""
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._opened: Future[tuple[Loop, Waiter]] = Future()

    def start(self) -> Loop:
        """Return the thread's loop; both are started at the first call.

        Raises:
            MelleaError: the program is ending.
        """
        if sys.is_finalizing():  # a new thread would never be scheduled
            raise self.make_stopped_error()
        with self._lock:
            # Ctrl-C may arrive at any point here; the next call then uses the thread that is being started.
            if self._thread is None or not self._thread.is_alive():
                self._opened = Future()
                self._thread = threading.Thread(target=self._serve, args=(self._opened,), name=self._name, daemon=True)
                try:
                    self._thread.start()
                except RuntimeError as error:  # no more threads; or, from Python 3.12 on, the end of the program
                    is_ending = "shutdown" in str(error)
                    raise self.make_stopped_error() if is_ending else self._make_unstarted_error(error) from error
            try:
                return self._opened.result()[0]
            except OSError as error:  # no more files, for the loop's own sockets
                raise self._make_unstarted_error(error) from error

    def is_current(self) -> bool:
        """Whether the calling thread is this one."""
        return self._thread is threading.current_thread()

    def stop(self) -> None:
        """Close open resources, and wait a limited time for the thread to end; a later use starts another."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None and thread.is_alive():
            self._opened.result()[1].wake()
            thread.join(self._close_seconds)

    def _serve(self, opened: Future[tuple[Loop, Waiter]]) -> None:
        async def main() -> None:
            if self._grace is not None:
                be_patient(self._grace)
            stop = create_waiter()
            opened.set_result((get_current_loop(), stop))
            await stop.wait()
            if self._close is not None:
                await self._close()

        try:
            run_until_exit(main)
        except BaseException as error:
            if opened.done():
                raise
            opened.set_exception(error)

    async def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run `work()` on the thread's loop, with a copy of the caller's context variables, and return its result.

        Raises:
            MelleaError: the thread was stopped, or its loop is blocked.
            Exception: what the work raises.
        """
        loop = self.start()
        if loop.is_current():
            return await work()
        errand = Errand(work, self.make_stopped_error())
        loop.post(errand.begin)
        try:
            while True:
                errand.waiter = waiter = create_waiter()  # before the check: ending the errand wakes this waiter
                if errand.has_ended:
                    break
                await waiter.wait(_LOOK_SECONDS)
                if not errand.has_ended and (how := loop.explain_loss()) is not None:
                    raise self.make_stopped_error() if loop.has_ended() else self.make_held_up_error(how)
        finally:
            if not errand.has_ended:
                loop.post(errand.cancel)
        return errand.take_result()

    def _make_unstarted_error(self, error: Exception) -> ConfigurationError:
        return ConfigurationError(
            f"the thread {self._name!r}, which synchronous code needs, can't be started: {error}; raise the system's "
            "limit (ulimit -n, ulimit -u), or use fewer threads and open files"
        )

    def make_stopped_error(self) -> MelleaError:
        """Create the error for work that was lost because the thread was stopped."""
        return MelleaError(f"the thread {self._name!r} was stopped: the program is ending")

    def make_held_up_error(self, how: str) -> UsageError:
        """Create the error for work that was lost because something blocks the loop."""
        return UsageError(
            f"the loop of the thread {self._name!r} {how}: code on it blocks; await the blocking call instead"
        )


class Errand(Generic[T]):
    """A piece of work on the thread's loop, for which its caller waits elsewhere.

    Args:
        work: what to do.
        if_lost: the error if it is cancelled by the loop's end.

    Attributes:
        waiter: the caller's waiter, on its loop or in its thread.
        has_ended: whether there is a result.
    """

    def __init__(self, work: Callable[[], Coroutine[Any, Any, T]], if_lost: BaseException) -> None:
        self.waiter: Waiter | ThreadWaiter | None = None
        self.has_ended = False
        self._work = work
        self._scope: anyio.CancelScope | None = None
        self._is_cancelled = False
        self._if_lost = if_lost
        self._outcome: tuple[T | None, BaseException | None] = (None, if_lost)

    def begin(self) -> None:
        """Start the work; on the loop. It gets a copy of the context variables."""
        launch(self._main, self._end)

    def forget(self) -> None:
        """Drop the result, such as a thunk: the traceback of an interrupt may keep this object alive."""
        self._outcome = (None, self._if_lost)

    def cancel(self) -> None:
        """Cancel the work; on the loop."""
        self._is_cancelled = True
        if self._scope is not None:
            self._scope.cancel()

    async def _main(self) -> None:
        with anyio.CancelScope() as self._scope:
            if self._is_cancelled:
                return
            try:
                self._outcome = await self._work(), None
            except anyio.get_cancelled_exc_class():
                raise
            except BaseException as error:  # noqa: BLE001 - it is the caller's, not the loop's
                self._outcome = None, error

    def _end(self) -> None:
        self.has_ended = True
        if self.waiter is not None:
            self.waiter.wake()

    def take_result(self) -> T:
        """Return the result of the work, and release it."""
        result, error = self._outcome
        if error is None:
            return cast("T", result)
        try:
            raise error
        finally:
            del error, self._outcome  # the traceback refers to this frame: an error stored here would keep itself alive


_threads: weakref.WeakSet[LoopThread] = weakref.WeakSet()


def _forget_all() -> None:
    for thread in _threads:
        thread.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)  # the parent's threads don't exist here
