"""The user's callables: synchronous ones in worker threads, asynchronous ones on the loop."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import anyio
import anyio.to_thread

__all__ = ["in_thread", "outcome_of"]

T = TypeVar("T")


async def in_thread(function: Callable[..., T], *args: object) -> T:
    """Call a function of the user's in a worker thread; a cancelled wait leaves it to itself.

    Each call has a limiter of its own: such a function may call a synchronous verb, which needs a thread
    again, so that a shared limit would have them wait for each other.
    """

    def boxed() -> tuple[T]:
        return (function(*args),)  # trio refuses a thread's result that is a coroutine

    (result,) = await anyio.to_thread.run_sync(boxed, abandon_on_cancel=True, limiter=anyio.CapacityLimiter(1))
    return result


async def outcome_of(function: Callable[..., Any], *args: object) -> Any:
    """Call a function of the user's, synchronous (in a worker thread) or not, and return what it comes to."""
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None)):  # noqa: B004
        return await function(*args)
    outcome = await in_thread(function, *args)
    return await outcome if isinstance(outcome, Awaitable) else outcome
