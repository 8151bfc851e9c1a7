"""Several things at the same time, with one outcome: all results in their order, or the first error, plain."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import anyio

__all__ = ["together"]

T = TypeVar("T")


async def together(calls: Iterable[Callable[[], Awaitable[T]]]) -> list[T]:
    """Make calls at the same time, and return their results in the order of the calls.

    The first that raises ends the others, and its own exception comes out, never a group.
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
        errors.clear()  # an error that held itself through its traceback would hold all that is in it
    return [results[number] for number in range(len(waiting))]
