"""The one thread on which synchronous verbs run their async twins.

The thread and its loop start at the first use. They are forgotten after a fork (the child starts its
own) and stopped when the interpreter leaves.
"""

from __future__ import annotations

import atexit
import functools
import os
import sys
import threading
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import Future
from contextvars import ContextVar
from typing import Any, Generic, ParamSpec, TypeVar, cast

import anyio

from mellea.core.loop import (
    Loop,
    Waiter,
    asking_thread,
    current_loop,
    is_loop_running,
    launch,
    new_waiter,
    run_until_exit,
)
from mellea.core.run import Run, cancel_all, deadlock, runs_around
from mellea.errors import StreamingError

__all__ = ["blocked_loops", "blocking", "check_wait"]

P = ParamSpec("P")
R = TypeVar("R")

_CANCEL_SECONDS = 3.0
"""How long Ctrl-C, and the end of the program, wait for the verbs to give back what they hold."""

_LOOK_SECONDS = 1.0
"""How often a caller looks whether the portal's loop is still there."""

blocked_loops: ContextVar[tuple[Loop, ...]] = ContextVar("blocked_loops", default=())
"""The loops that stand still until the running synchronous verb returns."""


class _Portal:
    """The thread, while there is one."""

    def __init__(self) -> None:
        self.forget()
        atexit.register(self.stop)

    def forget(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._opened: Future[tuple[Loop, Waiter]] = Future()

    def start(self) -> Loop:
        """Return the thread's loop; both are started at the first call."""
        if self._thread is threading.current_thread():
            raise StreamingError(
                "a synchronous verb was called on the thread that runs them all, so it would wait for itself; "
                "inside async code use the a… verb"
            )
        if sys.is_finalizing():  # a new thread would never get its turn
            raise _stopped()
        with self._lock:
            # Ctrl-C may come at any point here; a thread that is being started then is the next call's.
            if self._thread is None or not self._thread.is_alive():
                self._opened = Future()
                self._thread = threading.Thread(target=_serve, args=(self._opened,), name="mellea-portal", daemon=True)
                try:
                    self._thread.start()
                except RuntimeError as error:  # from Python 3.12 on, at the end of the program
                    raise _stopped() from error
            return self._opened.result()[0]

    def stop(self) -> None:
        """Cancel all runs, and wait until the thread has ended: at most 3 s."""
        cancel_all()
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None and thread.is_alive():
            self._opened.result()[1].wake()
            thread.join(_CANCEL_SECONDS)


def _serve(opened: Future[tuple[Loop, Waiter]]) -> None:
    async def main() -> None:
        stop = new_waiter()
        opened.set_result((current_loop(), stop))
        await stop.wait()

    try:
        run_until_exit(main)
    except BaseException as error:
        if opened.done():
            raise
        opened.set_exception(error)


_portal = _Portal()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_portal.forget)


def blocking(verb: Callable[P, Coroutine[Any, Any, R]]) -> Callable[P, R]:
    """Make the synchronous twin of an async verb.

    It works in plain functions, in threads and inside a running loop, carries the caller's context
    variables, and cancels the verb on Ctrl-C. `await_result` may only be true.

    Raises:
        StreamingError: `await_result=False`; or called on the thread that runs synchronous verbs.
    """
    name = verb.__name__

    @functools.wraps(verb)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if kwargs.get("await_result", True) is not True:
            raise StreamingError(
                f"await_result={kwargs['await_result']!r} was given to the synchronous verb "
                f"{name.removeprefix('a')!r}, which returns finished results only; stream with m.stream(...), "
                f"or use {name!r} in async code"
            )
        return _call(functools.partial(verb, *args, **kwargs))

    call.__name__ = name.removeprefix("a")
    call.__qualname__ = verb.__qualname__.removesuffix(name) + call.__name__
    call.__doc__ = f"Do what `{name}` does, and wait for it."
    return call


def _call(verb: Callable[[], Coroutine[Any, Any, R]]) -> R:
    loop, running = _portal.start(), _Running(verb)
    token = blocked_loops.set((*blocked_loops.get(), current_loop())) if is_loop_running() else None
    asked = asking_thread.set(threading.get_ident())
    try:
        loop.post(running.begin)  # with a copy of the context variables
        running.wait(loop)
    except BaseException:  # Ctrl-C at whatever moment, or the loop has gone
        loop.post(running.cancel)
        running.has_ended.wait(_CANCEL_SECONDS)
        raise
    finally:
        asking_thread.reset(asked)
        if token is not None:
            blocked_loops.reset(token)
    return running.result()


class _Running(Generic[R]):
    """One verb on the portal's loop, and a caller that waits for it in another thread."""

    def __init__(self, verb: Callable[[], Coroutine[Any, Any, R]]) -> None:
        self.has_ended = threading.Event()
        self._verb = verb
        self._scope: anyio.CancelScope | None = None
        self._is_cancelled = False
        self._outcome: tuple[R | None, BaseException | None] = (None, _stopped())

    def begin(self) -> None:
        launch(self._main, self.has_ended.set)

    def cancel(self) -> None:
        self._is_cancelled = True
        if self._scope is not None:
            self._scope.cancel()

    async def _main(self) -> None:
        with anyio.CancelScope() as self._scope:
            if self._is_cancelled:
                return
            try:
                self._outcome = await self._verb(), None
            except anyio.get_cancelled_exc_class():
                raise
            except BaseException as error:  # noqa: BLE001 - an exit asked for in a verb is the caller's, not the loop's
                self._outcome = None, error

    def wait(self, loop: Loop) -> None:
        while not self.has_ended.wait(_LOOK_SECONDS):
            if loop.obituary() is not None and not self.has_ended.is_set():
                raise _stopped()

    def result(self) -> R:
        result, error = self._outcome
        if error is None:
            return cast("R", result)
        try:
            raise error
        finally:
            del error, self._outcome  # an error that held itself through its traceback would hold the thunks, too


def _stopped() -> StreamingError:
    return StreamingError("the thread of the synchronous verbs was stopped while this one ran: the program is ending")


def check_wait(runs: Iterable[Run]) -> None:
    """Refuse to wait for runs that can't end before the wait does.

    Raises:
        StreamingError: one needs a loop that stands still until the running synchronous verb returns, or the call
            is part of its own work.
    """
    loops = blocked_loops.get()
    around = [run for known in runs_around.get() if (run := known()) is not None and not run.is_final]
    for run in runs if loops or around else ():
        if run.needs(loops):
            raise deadlock()
        if run.needs((), around):
            raise StreamingError(
                "this call would wait for an answer that itself waits for the call, which is made inside a "
                "requirement, a tool or a parser of it; make it on a session of its own there, such as "
                "start_session(m.backend)"
            )
