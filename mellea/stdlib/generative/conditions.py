"""Preconditions on the arguments of a prompt function, and the wait for arguments that are still being generated."""

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
from mellea.stdlib.generative.wording import Arguments, BoundArguments
from mellea.stdlib.requirements import validate_all

__all__ = ["await_thunks", "check_arguments", "find_pending"]


def find_pending(bound: BoundArguments) -> list[ModelOutputThunk[Any]]:
    """Return the thunks among the arguments, and inside them, that aren't computed yet."""
    found = [part for part in walk(dict(bound.values)) if isinstance(part, ModelOutputThunk) and not part.is_computed()]
    # One thunk may be in several arguments; compared by identity, since thunks with equal text are different
    # generations.
    return list({id(thunk): thunk for thunk in found}.values())


async def await_thunks(bound: BoundArguments) -> BoundArguments:
    """Wait for all thunks among the arguments, and return the arguments with each thunk replaced by its result.

    Raises:
        StreamingError: a synchronous call would wait for a thunk of the loop that it blocks.
        MelleaError: one of them failed.
    """
    waiting = find_pending(bound)
    # Before the first await: afterwards the loop that has to produce them may be blocked.
    check_wait([thunk.record for thunk in waiting])
    args, kwargs, values = await resolve((bound.args, dict(bound.kwargs), dict(bound.values)))
    return replace(bound, args=args, kwargs=kwargs, values=values)


async def check_arguments(
    name: str, preconditions: Iterable[Requirement], bound: BoundArguments, backend: Backend
) -> None:
    """Check the arguments against preconditions.

    A precondition gets them as the last output of its context: as text in `.value`, by name in `.parsed`.

    Raises:
        RequirementError: they fail a precondition; the model wasn't asked.
    """
    preconditions = tuple(preconditions)
    if not preconditions:
        return
    arguments = Arguments(bound.values)
    # Wrapped as an output, so that every requirement, including judges, can check arguments like answers.
    output = ComputedModelOutputThunk(arguments.format_for_llm(), dict(bound.values))
    results = await validate_all(preconditions, SimpleContext().add(arguments).add(output), backend)
    failed = [f"{requirement}{_explain(result.reason)}" for requirement, result in results if not result]
    if failed:
        raise RequirementError(
            f"{name}() wasn't called: its arguments don't meet their requirements: {'; '.join(failed)}",
            results=[[result for _, result in results]],
        )


def _explain(reason: str | None) -> str:
    return f" ({reason})" if reason else ""
