"""Requests whose result comes all at once, such as vectors or images, rather than as events."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar, cast

from mellea.core.backend import Backend, Request
from mellea.core.events import UsageEvent
from mellea.core.messages import Message
from mellea.core.results import EmbeddingResult, ImageResult
from mellea.core.runtime import Run, change_request, launch
from mellea.core.runtime.ledger import current_ledger
from mellea.core.thunk import ModelOutputThunk
from mellea.stdlib.call import finish

__all__ = ["request_once"]

R = TypeVar("R", EmbeddingResult, ImageResult)


async def request_once(
    kind: str, backend: Backend, messages: Sequence[Message], ask: Callable[[Sequence[Message]], Awaitable[R]]
) -> R:
    """Make a request whose result comes all at once, such as vectors or images, as work of the session around.

    Args:
        kind: what observers are told that it is.
        backend: whom to ask.
        messages: what to ask, before hooks change it.
        ask: asks it.

    Raises:
        MelleaError: the request failed, or was cancelled.
    """

    async def work(run: Run) -> R:
        request = await change_request(run, Request(tuple(messages)))
        result = await ask(request.messages)
        if result.usage is not None:
            # As an event, so that observers and prices find it where they look for every other request.
            run.emit([UsageEvent(result.usage)])
        if (ledger := current_ledger.get()) is not None:
            ledger.add(backend.name, result.model or backend.model_id, result.usage)
        return result

    run = launch(
        work=work, kind=kind, is_request=True, backend=backend.name, model=backend.model_id, server=backend.server
    )
    thunk: ModelOutputThunk[R] = ModelOutputThunk(run)
    await finish(thunk)
    return cast("R", thunk.parsed)
