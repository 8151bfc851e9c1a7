"""What arguments have to meet before a model is asked, and the wait for those that are still being written."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from mellea.core.backend import Backend
from mellea.core.component import walk
from mellea.core.gather import resolve
from mellea.core.requirement import Requirement
from mellea.core.runtime import check_wait
from mellea.core.thunk import ComputedModelOutputThunk, ModelOutputThunk
from mellea.errors import RequirementError
from mellea.stdlib.context import SimpleContext
from mellea.stdlib.generative.arguments import Arguments
from mellea.stdlib.generative.wording import Call
from mellea.stdlib.requirements import validate_all

__all__ = ["check_arguments", "computed", "pending"]


def pending(call: Call) -> list[ModelOutputThunk[Any]]:
    """Return the thunks among the arguments, and inside them, that aren't computed yet."""
    found = [part for part in walk(dict(call.values)) if isinstance(part, ModelOutputThunk) and not part.is_computed()]
    return list({id(thunk): thunk for thunk in found}.values())


async def computed(call: Call) -> Call:
    """Wait for all thunks among the arguments; in place of a thunk stands its result then.

    Raises:
        StreamingError: a synchronous call would wait for a thunk of the loop that it holds up.
        MelleaError: one of them failed.
    """
    waiting = pending(call)
    check_wait(thunk.record for thunk in waiting)
    args, kwargs, values = await resolve((call.args, dict(call.kwargs), dict(call.values)))
    return replace(call, args=args, kwargs=kwargs, values=values)


async def check_arguments(name: str, preconditions: Iterable[Requirement], call: Call, backend: Backend) -> None:
    """Check the arguments of a call, which stand as the last output of a context: as text, and `.parsed` by name.

    Raises:
        RequirementError: they fail one; nothing was asked.
    """
    preconditions = tuple(preconditions)
    if not preconditions:
        return
    arguments = Arguments(call.values)
    output = ComputedModelOutputThunk(arguments.format_for_llm(), dict(call.values))
    results = await validate_all(preconditions, SimpleContext().add(arguments).add(output), backend)
    failed = [f"{requirement}{_because(result.reason)}" for requirement, result in results if not result]
    if failed:
        raise RequirementError(
            f"{name}() wasn't asked, since its arguments fail: {'; '.join(failed)}",
            results=[[result for _, result in results]],
        )


def _because(reason: str | None) -> str:
    return f" ({reason})" if reason else ""
