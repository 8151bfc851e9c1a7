"""The user's synchronous callables, in worker threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import anyio
import anyio.to_thread

__all__ = ["in_thread"]

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
