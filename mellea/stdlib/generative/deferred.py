"""Generations that do some work first: make a prompt, await arguments, check preconditions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from mellea.core.backend import Backend
from mellea.core.iterators import relay
from mellea.core.runtime import Record, Run, launch
from mellea.core.runtime.failure import describe_error
from mellea.core.structured import make_output_format
from mellea.core.thunk import ModelOutputThunk
from mellea.errors import MelleaError, UsageError

__all__ = ["defer"]


def defer(
    name: str,
    begin: Callable[[], Awaitable[ModelOutputThunk[Any]]],
    *,
    format: Any,
    backend: Backend,
    dependencies: Sequence[Record] = (),
) -> Callable[[], ModelOutputThunk[Any]]:
    """Return a function that launches a run: it awaits `begin`, then relays the generation that this returns.

    Args:
        name: the function's name, for errors.
        begin: does the work, and launches the generation.
        format: the type of the answer, `None` for text.
        backend: the backend that the generation asks.
        dependencies: runs whose results `begin` waits for.
    """

    async def work(run: Run) -> Any:
        try:
            thunk = await begin()
        # These already say what to do; other errors get the name of the function in front.
        except MelleaError:
            raise
        except Exception as error:
            raise UsageError(f"{name} failed before it asked the model: {describe_error(error)}") from error
        inner = thunk.record
        async with thunk:  # cancelling this run cancels the generation, and waits for its close
            try:
                end = await relay(inner, run)
            finally:
                # Also if it failed: the attempts show why.
                run.sampling = inner.sampling
        # Delayed until the inner generation has closed: readers that see the end may close the session at once.
        run.emit([end] if end is not None else [])
        return inner.parsed

    def start() -> ModelOutputThunk[Any]:
        run = launch(
            work=work,
            kind="work",
            label=name,
            format=None if format is None else make_output_format(format),
            dependencies=dependencies,
            backend=backend.name,
            model=backend.model_id,
        )
        return ModelOutputThunk(run)

    return start
