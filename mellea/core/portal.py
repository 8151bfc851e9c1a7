"""The one thread on which synchronous verbs run their async twins.

The thread and its loop start at the first use. They are forgotten after a fork (the child starts its
own) and stopped when the interpreter leaves.
"""

from __future__ import annotations

import atexit
import functools
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextvars import ContextVar
from typing import Any, ParamSpec, TypeVar

import anyio
from anyio.from_thread import BlockingPortal

from mellea.core.loop import Loop, Waiter, current_loop, is_loop_running, new_waiter
from mellea.core.run import cancel_all
from mellea.errors import StreamingError

__all__ = ["blocked_loops", "blocking"]

P = ParamSpec("P")
R = TypeVar("R")

_CANCEL_SECONDS = 3.0
"""How long Ctrl-C, and the end of the program, wait for the verbs to give back what they hold."""

blocked_loops: ContextVar[tuple[Loop, ...]] = ContextVar("blocked_loops", default=())
"""The loops that stand still until the running synchronous verb returns."""


class _Portal:
    """The thread, while there is one."""

    def __init__(self) -> None:
        self.forget()
        atexit.register(self.stop)

    def forget(self) -> None:
        self._lock = threading.Lock()
        self._portal: BlockingPortal | None = None
        self._thread: threading.Thread | None = None
        self._stop: Waiter | None = None

    def start(self) -> BlockingPortal:
        """Return the running portal; it is started at the first call."""
        if self._thread is threading.current_thread():
            raise StreamingError(
                "a synchronous verb was called on the thread that runs them all, so it would wait for itself; "
                "inside async code use the a… verb"
            )
        with self._lock:
            if self._portal is None or self._thread is None or not self._thread.is_alive():
                opened: Future[tuple[BlockingPortal, Waiter]] = Future()
                # No context manager holds it: a forked child that drops one would wait for its parent's thread.
                self._thread = threading.Thread(target=_serve, args=(opened,), name="mellea-portal", daemon=True)
                self._thread.start()
                self._portal, self._stop = opened.result()
            return self._portal

    def stop(self) -> None:
        """Cancel all runs, and wait until the thread has ended: at most 3 s."""
        cancel_all()
        with self._lock:
            thread, stop = self._thread, self._stop
            self._portal = self._stop = None
        if thread is not None and stop is not None:
            stop.wake()
            thread.join(_CANCEL_SECONDS)


def _serve(opened: Future[tuple[BlockingPortal, Waiter]]) -> None:
    async def main() -> None:
        async with BlockingPortal() as portal:
            stop = new_waiter()
            opened.set_result((portal, stop))
            await stop.wait()
            await portal.stop(cancel_remaining=True)

    try:
        anyio.run(main)
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
                f"{name.removeprefix('a')!r}, which returns finished results only; stream with m.stream(...), or use {name!r} in async code"
            )
        return _call(functools.partial(verb, *args, **kwargs))

    call.__name__ = name.removeprefix("a")
    call.__qualname__ = verb.__qualname__.removesuffix(name) + call.__name__
    call.__doc__ = f"Do what `{name}` does, and wait for it."
    return call


def _call(verb: Callable[[], Coroutine[Any, Any, R]]) -> R:
    portal = _portal.start()
    has_ended = threading.Event()
    token = blocked_loops.set((*blocked_loops.get(), current_loop())) if is_loop_running() else None
    try:
        future: Future[tuple[R | None, BaseException | None]] = portal.start_task_soon(_outcome, verb, has_ended)
    finally:
        if token is not None:
            blocked_loops.reset(token)
    try:
        result, error = future.result()
    except BaseException:  # Ctrl-C, or the portal was stopped
        future.cancel()
        has_ended.wait(_CANCEL_SECONDS)
        raise
    if error is not None:
        raise error
    return result  # type: ignore[return-value]


async def _outcome(
    verb: Callable[[], Coroutine[Any, Any, R]], has_ended: threading.Event
) -> tuple[R | None, BaseException | None]:
    """Return what the verb returned or raised: an exit asked for inside it goes to the caller, not to the portal."""
    try:
        return await verb(), None
    except anyio.get_cancelled_exc_class():
        raise
    except BaseException as error:  # noqa: BLE001
        return None, error
    finally:
        has_ended.set()
