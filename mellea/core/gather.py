"""Wait for many thunks at once, or for all thunks inside a structure."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Awaitable, Iterable, Mapping
from functools import partial
from typing import Any, TypeVar, overload

from mellea.core.component import walk
from mellea.core.entrance import short_errors
from mellea.core.progress import ProgressOption, Reporter
from mellea.core.runtime.tasks import run_together
from mellea.core.thunk import ComputedModelOutputThunk, ModelOutputThunk
from mellea.errors import UsageError

__all__ = ["gather", "resolve"]

T = TypeVar("T")
U = TypeVar("U")
V = TypeVar("V")


@overload
async def gather(first: Awaitable[T], second: Awaitable[U], /, *, progress: ProgressOption = False) -> list[T | U]: ...
@overload
async def gather(
    first: Awaitable[T], second: Awaitable[U], third: Awaitable[V], /, *, progress: ProgressOption = False
) -> list[T | U | V]: ...
@overload
async def gather(*awaitables: Awaitable[T], progress: ProgressOption = False) -> list[T]: ...
@short_errors
async def gather(*awaitables: Awaitable[Any], progress: ProgressOption = False) -> list[Any]:
    """Wait for thunks and for coroutines of verbs at the same time; return their results in order.

    If one fails, the coroutines that are still running are cancelled; thunks continue, because other code may hold
    them.

    Args:
        awaitables: thunks, or coroutines of verbs.
        progress: whether a terminal shows how many are done (on stderr), or a function that is called with each
            `Progress`.

    Raises:
        UsageError: one of them can't be awaited, or the function for progress failed.
        BaseException: the first error itself, not an exception group.
    """
    if wrong := [each for each in awaitables if not inspect.isawaitable(each)]:
        _discard(awaitables)
        hint = "put a * before a list" if isinstance(wrong[0], Iterable) else "such as m.ainstruct(…)"
        raise UsageError(f"gather takes thunks and coroutines, not {wrong[0]!r}; {hint}")
    if progress is False:
        return await run_together([partial(_wait, awaitable) for awaitable in awaitables])
    done = 0

    async def count(awaitable: Awaitable[T]) -> T:
        nonlocal done
        result = await awaitable
        done += 1
        reporter.report(done)
        return result

    try:
        reporter = Reporter(f"{len(awaitables)} results", progress, total=len(awaitables))
        reporter.report()
    except UsageError:
        _discard(awaitables)
        raise
    with reporter:
        return await run_together([partial(count, awaitable) for awaitable in awaitables])


def _discard(awaitables: Iterable[Any]) -> None:
    for each in awaitables:
        if inspect.iscoroutine(each):
            each.close()  # it will never be awaited


async def _wait(awaitable: Awaitable[T]) -> T:
    return await awaitable


@overload
async def resolve(structure: ModelOutputThunk[T]) -> T: ...
@overload
async def resolve(structure: list[ModelOutputThunk[T]] | list[ComputedModelOutputThunk[T]]) -> list[T]: ...
@overload
async def resolve(
    structure: dict[U, ModelOutputThunk[T]] | dict[U, ComputedModelOutputThunk[T]],
) -> dict[U, T]: ...
@overload
async def resolve(structure: Any) -> Any: ...
@short_errors
async def resolve(structure: Any) -> Any:
    """Wait for every thunk inside a structure, and return a copy with their typed results.

    Lists, tuples, sets, mappings (which become dicts) and dataclasses are searched and copied; anything else stays the
    same object. The structure itself isn't changed.

    Raises:
        MelleaError: a generation failed.
    """
    thunks = {id(part): part for part in walk(structure) if isinstance(part, ModelOutputThunk)}
    await run_together([thunk.avalue for thunk in thunks.values()])  # until all are computed or the first one fails
    return _fill(structure, set()) if thunks else structure


def _fill(value: Any, around: set[int]) -> Any:
    if isinstance(value, ModelOutputThunk):
        return value.parsed
    if id(value) in around:  # it contains itself, so it can't be copied this way
        return value
    inner = around | {id(value)}
    if isinstance(value, Mapping):
        return {key: _fill(item, inner) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_fill(item, inner) for item in value))
    if isinstance(value, (list, tuple, set, frozenset)):
        return type(value)(_fill(item, inner) for item in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _fill_dataclass(value, inner)
    return value


def _fill_dataclass(value: Any, around: set[int]) -> Any:
    names = [field.name for field in dataclasses.fields(value) if field.init]
    changes = {name: _fill(getattr(value, name), around) for name in names}
    if all(changes[name] is getattr(value, name) for name in names):
        return value
    # Created by its constructor, so that frozen classes work and its own checks run.
    return dataclasses.replace(value, **changes)
