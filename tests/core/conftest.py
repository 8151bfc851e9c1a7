"""One factory: a thunk over a scripted backend, as the session's verbs make them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol

import pytest

from mellea.core.backend import Backend, Request
from mellea.core.options import Deadlines
from mellea.core.runtime import Parse, Run, launch
from mellea.core.thunk import ModelOutputThunk


class Launch(Protocol):
    def __call__(
        self,
        backend: Backend,
        *,
        deadlines: Deadlines = ...,
        parse: Parse | None = None,
        before: Callable[[], Awaitable[Any]] | None = None,
        dependencies: Iterable[Run] = (),
    ) -> ModelOutputThunk[Any]: ...


@pytest.fixture(name="launch")
def launch_() -> Launch:
    """Return what launches a generation on the running loop and gives its thunk."""
    return launch_run


def launch_run(
    backend: Backend,
    *,
    deadlines: Deadlines = Deadlines(),  # noqa: B008 - it is frozen
    parse: Parse | None = None,
    before: Callable[[], Awaitable[Any]] | None = None,
    dependencies: Iterable[Run] = (),
) -> ModelOutputThunk[Any]:
    async def ready(run: Run) -> None:
        if before is not None:
            await before()

    run = launch(
        lambda run: backend.run(Request(())),
        ready=ready,
        parse=parse,
        deadlines=deadlines,
        dependencies=list(dependencies),
        backend=backend.name,
        model=backend.model_id,
    )
    return ModelOutputThunk(run)
