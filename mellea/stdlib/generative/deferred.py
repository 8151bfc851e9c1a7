"""Generations that have work to do first: make a prompt, await arguments, check preconditions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from mellea.core.backend import Backend
from mellea.core.runtime import Record, Run
from mellea.core.runtime.cursor import relay
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
    dependencies: Iterable[Record] = (),
    note: Callable[[ModelOutputThunk[Any]], object],
) -> Callable[[], ModelOutputThunk[Any]]:
    """Return a function that launches a run: it awaits `begin`, then relays the generation that this returns.

    Args:
        name: the function's name, for errors.
        begin: does the work, and launches the generation.
        format: the type of the answer, `None` for text.
        backend: the backend that the generation asks.
        dependencies: runs whose results `begin` waits for.
        note: called with the thunk, so that the session can cancel it.
    """

    async def work(run: Run) -> Any:
        try:
            thunk = await begin()
        except MelleaError:
            raise
        except Exception as error:
            reason = "; ".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ())])
            raise UsageError(f"{name} failed before it asked the model: {reason}") from error
        inner = thunk._run
        async with thunk:  # cancelling this run cancels the generation, and waits for its close
            try:
                end = await relay(inner, run)
            finally:
                run.sampling = inner.sampling
        run.emit([end] if end is not None else [])
        return inner.parsed

    def launch() -> ModelOutputThunk[Any]:
        run = Run(
            work=work,
            format=None if format is None else make_output_format(format),
            dependencies=dependencies,
            backend=backend.name,
            model=backend.model_id,
        )
        run.launch()
        thunk: ModelOutputThunk[Any] = ModelOutputThunk(run)
        note(thunk)
        return thunk

    return launch
