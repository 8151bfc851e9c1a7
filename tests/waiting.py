"""Waits for what happens, however busy the machine is: bounded, but by a limit that only a hang comes to."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import anyio

__all__ = ["SECONDS", "cancel_once", "quickest", "until", "until_here"]

SECONDS = 30.0


async def until(is_so: Callable[[], object]) -> None:
    """Let the loop run until something is so.

    Raises:
        TimeoutError: it doesn't come to be.
    """
    with anyio.fail_after(SECONDS):
        while not is_so():
            await anyio.sleep(0.002)


def until_here(is_so: Callable[[], object]) -> None:
    """Wait in plain code until something is so.

    Raises:
        TimeoutError: it doesn't come to be.
    """
    end = time.monotonic() + SECONDS
    while not is_so():
        if time.monotonic() > end:
            raise TimeoutError(f"it wasn't so within {SECONDS:g} s")
        time.sleep(0.002)


async def cancel_once(is_there: Callable[[], object], work: Callable[[], Awaitable[object]]) -> None:
    """Do some work, and cancel it once it has come so far: not after a time, in which a busy machine does nothing.

    Raises:
        AssertionError: it has ended by itself.
    """
    async with anyio.create_task_group() as group:

        async def watch() -> None:
            await until(is_there)
            group.cancel_scope.cancel()

        group.start_soon(watch)
        await work()
        raise AssertionError("the work ended before it was cancelled")


def quickest(seconds: Callable[[], float], limit: float, tries: int = 5) -> float:
    """Return the least seconds of some tries; after one below the limit no more are made.

    A busy machine slows one down, and not all of them.
    """
    least = seconds()
    for _ in range(tries - 1):
        if least < limit:
            break
        least = min(least, seconds())
    return least
