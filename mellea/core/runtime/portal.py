"""The portal: one thread with an event loop, on which synchronous verbs run their async twins.

The thread and its loop start at the first use. They are forgotten after a fork (the child starts its
own) and stopped when the interpreter exits.
"""

from __future__ import annotations

import atexit
import functools
import inspect
import os
import sys
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, Generic, ParamSpec, TypeVar, cast

import anyio

from mellea.core.runtime import Hold, cancel_all
from mellea.core.runtime.loop import (
    Loop,
    Waiter,
    be_patient,
    current_loop,
    is_loop_running,
    launch,
    new_waiter,
    run_until_exit,
)
from mellea.core.tracebacks import unwrap_entrance, wrap_entrance
from mellea.errors import StreamingError

__all__ = ["blocking", "is_portal_thread"]

P = ParamSpec("P")
R = TypeVar("R")

_CANCEL_SECONDS = 3.0
"""How long Ctrl-C and the end of the program wait for verbs to clean up, in seconds."""

_GRACE = 600.0
"""How long a blocking function may hold up the loop, in seconds, before its runs count as lost."""

_LOOK_SECONDS = 1.0
"""How often a waiting caller checks that the portal's loop is alive, in seconds."""


class _Portal:
    """The thread and its loop, once they have been started."""

    def __init__(self) -> None:
        self.forget()
        atexit.register(self.stop)

    def forget(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._opened: Future[tuple[Loop, Waiter]] = Future()

    def start(self) -> Loop:
        """Return the thread's loop; both are started at the first call."""
        if self.is_current():
            raise StreamingError(
                "a synchronous verb was called on the thread that runs them all, so it would wait for itself; "
                "inside async code use the a… verb"
            )
        if sys.is_finalizing():  # a new thread would never be scheduled
            raise _stopped()
        with self._lock:
            # Ctrl-C may come at any point here; the next call then uses the thread that is being started.
            if self._thread is None or not self._thread.is_alive():
                self._opened = Future()
                self._thread = threading.Thread(target=_serve, args=(self._opened,), name="mellea-portal", daemon=True)
                try:
                    self._thread.start()
                except RuntimeError as error:  # from Python 3.12 on, at the end of the program
                    raise _stopped() from error
            return self._opened.result()[0]

    def is_current(self) -> bool:
        """Whether this is the thread."""
        return self._thread is threading.current_thread()

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
        be_patient(_GRACE)
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


def is_portal_thread() -> bool:
    """Whether the current code runs on the thread of synchronous verbs, which can't wait for itself."""
    return _portal.is_current()


def blocking(
    verb: Callable[P, Coroutine[Any, Any, R]], prepare: Callable[[dict[str, Any]], None] | None = None
) -> Callable[P, R]:
    """Make the synchronous twin of an async verb.

    It works in plain functions, in threads and inside a running loop, carries the caller's context
    variables, and cancels the verb on Ctrl-C. `await_result` may only be true.

    Args:
        verb: the async verb.
        prepare: called with the keyword arguments in the caller's own thread, and may replace them.

    Raises:
        StreamingError: `await_result=False`; or called on the thread that runs synchronous verbs.
    """
    name = verb.__name__
    inner, check = unwrap_entrance(verb)

    @functools.wraps(verb)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if kwargs.get("await_result", True) is not True:
            raise StreamingError(
                f"await_result={kwargs['await_result']!r} was given to the synchronous verb "
                f"{name.removeprefix('a')!r}, which returns finished results only; stream with m.stream(...), "
                f"or use {name!r} in async code"
            )
        if prepare is not None:
            prepare(kwargs)
        return cast("R", _call(functools.partial(inner, *args, **kwargs)))

    call.__name__ = name.removeprefix("a")
    call.__qualname__ = verb.__qualname__.removesuffix(name) + call.__name__
    call.__doc__ = f"Do what `{name}` does, and wait for it.\n\n{inspect.getdoc(verb) or ''}".strip()
    return cast("Callable[P, R]", wrap_entrance(call, check))


def _call(verb: Callable[[], Coroutine[Any, Any, R]]) -> R:
    loop, running = _portal.start(), _Running(verb)
    hold = Hold(current_loop()) if is_loop_running() else None
    try:
        loop.post(running.begin)  # with a copy of the context variables
        running.wait(loop)
    except BaseException:  # Ctrl-C at whatever moment, or the loop has gone
        loop.post(running.cancel)
        running.has_ended.wait(_CANCEL_SECONDS)
        running.forget()
        raise
    finally:
        if hold is not None:
            hold.end()
    return running.result()


class _Running(Generic[R]):
    """One verb that runs on the portal's loop while its caller waits in another thread."""

    def __init__(self, verb: Callable[[], Coroutine[Any, Any, R]]) -> None:
        self.has_ended = threading.Event()
        self._verb = verb
        self._scope: anyio.CancelScope | None = None
        self._is_cancelled = False
        self._outcome: tuple[R | None, BaseException | None] = (None, _stopped())

    def begin(self) -> None:
        launch(self._main, self.has_ended.set)

    def forget(self) -> None:
        """Drop the result, such as a thunk: the traceback of an interrupt may keep this object alive."""
        self._outcome = (None, _stopped())

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
            if (how := loop.obituary()) is not None and not self.has_ended.is_set():
                raise _stopped() if loop.has_ended() else _held_up(how)

    def result(self) -> R:
        result, error = self._outcome
        if error is None:
            return cast("R", result)
        try:
            raise error
        finally:
            del (
                error,
                self._outcome,
            )  # the traceback refers to this frame: an error kept here would keep itself and the thunks alive


def _held_up(how: str) -> StreamingError:
    return StreamingError(
        f"the thread of the synchronous verbs {how}: something that blocks runs on it, in an async validator, tool or "
        "function of yours; await it, or make that function a plain one, which runs in a thread of its own"
    )


def _stopped() -> StreamingError:
    return StreamingError("the thread of the synchronous verbs was stopped while this one ran: the program is ending")
