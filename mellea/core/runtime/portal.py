"""The portal: one thread with an event loop, on which synchronous verbs run their async twins.

The thread and its loop start at the first use. They are forgotten after a fork (the child starts its
own) and stopped when the interpreter exits.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar, cast

from mellea.core.entrance import unwrap_entrance, wrap_entrance
from mellea.core.runtime import Hold, cancel_all
from mellea.core.runtime.loop import Loop, ThreadWaiter, get_current_loop, is_loop_running
from mellea.core.runtime.loop_thread import Errand, LoopThread
from mellea.errors import StreamingError

__all__ = ["blocking", "get_portal_loop", "is_portal_thread"]

P = ParamSpec("P")
R = TypeVar("R")

_CANCEL_SECONDS = 3.0
"""How long Ctrl-C and the end of the program wait for verbs to clean up, in seconds."""

_GRACE = 600.0
"""How long a function may block the loop, in seconds, before its runs count as lost."""

_LOOK_SECONDS = 1.0
"""How often a waiting caller checks that the portal's loop is alive, in seconds."""


class _Portal(LoopThread):
    """The thread and its loop, once they have been started."""

    def __init__(self) -> None:
        super().__init__("mellea-portal", _CANCEL_SECONDS, grace=_GRACE)

    def start(self) -> Loop:
        """Return the thread's loop; both are started at the first call."""
        if self.is_current():
            raise StreamingError(
                "a synchronous verb was called on the thread that runs them all, so it would wait for itself; "
                "inside async code use the a… verb"
            )
        return super().start()

    def stop(self) -> None:
        """Cancel all runs, and wait at most 3 s for the thread to end."""
        # The runs first, while the loop can still close their connections.
        cancel_all()
        super().stop()

    def make_stopped_error(self) -> StreamingError:
        """Create the error for verbs that were lost because the program ends."""
        return StreamingError(
            "the thread of the synchronous verbs was stopped while this one ran: the program is ending"
        )

    def make_held_up_error(self, how: str) -> StreamingError:
        """Create the error for verbs that were lost because something blocks the loop."""
        return StreamingError(
            f"the thread of the synchronous verbs {how}: one of your async validators, tools or functions blocks it; "
            f"await the blocking call, or make that function a sync one, which runs in its own thread"
        )


_portal = _Portal()


def get_portal_loop() -> Loop:
    """Return the loop of synchronous verbs, started at its first use.

    Raises:
        StreamingError: called on its own thread, which can't wait for itself.
    """
    return _portal.start()


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
        # Rejected here: the thunk would belong to the portal's loop, and a later wait could block on that.
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
    first, _, rest = (inspect.getdoc(verb) or "").partition("\n\n")
    call.__doc__ = f"{first}\n\nThis waits until it is done; `{name}` does the same in async code.\n\n{rest}".strip()
    return cast("Callable[P, R]", wrap_entrance(call, check))


def _call(verb: Callable[[], Coroutine[Any, Any, R]]) -> R:
    loop, waiter = _portal.start(), ThreadWaiter()
    errand = Errand(verb, _portal.make_stopped_error())
    errand.waiter = waiter
    # Before the verb is posted: its work must already know which loop it blocks.
    hold = Hold(get_current_loop()) if is_loop_running() else None
    try:
        loop.post(errand.begin)  # with a copy of the context variables
        while not errand.has_ended:
            # In short waits: a dead loop wakes nothing.
            waiter.wait(_LOOK_SECONDS)
            if not errand.has_ended and (how := loop.explain_loss()) is not None:
                raise _portal.make_stopped_error() if loop.has_ended() else _portal.make_held_up_error(how)
    except BaseException:  # Ctrl-C at any moment, or the loop has gone
        # Posted, as the errand belongs to the portal's loop, and may be anywhere in its work.
        loop.post(errand.cancel)
        if not errand.has_ended:
            waiter.wait(_CANCEL_SECONDS)
        # No further wait: control returns to the caller.
        errand.forget()
        raise
    finally:
        if hold is not None:
            hold.end()
    return errand.take_result()
