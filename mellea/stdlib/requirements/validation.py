"""Check an output against its requirements, by functions or by a model that judges."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from mellea.core.backend import Backend
from mellea.core.context import Context
from mellea.core.observer import span_around
from mellea.core.requirement import Requirement, ValidationResult, run_validation
from mellea.core.runtime.tasks import run_together
from mellea.core.thunk import ModelOutputThunk
from mellea.errors import MelleaError, UsageError
from mellea.stdlib.components import Instruction
from mellea.stdlib.requirements.streaming import Watch

__all__ = ["add_own_requirements", "as_requirements", "validate_all"]


def as_requirements(
    requirements: Iterable[str | Requirement] | None, name: str = "requirements"
) -> tuple[Requirement, ...]:
    """Make requirements from texts and requirements, in their order.

    Args:
        requirements: the texts and requirements.
        name: the argument that they were given as, for errors.

    Raises:
        UsageError: one of them is neither.
    """
    if requirements is None or requirements == ():
        return ()
    if isinstance(requirements, (str, Requirement, Mapping)) or not isinstance(requirements, Iterable):
        raise UsageError(f"{name} takes a list, not {requirements!r}; put it into one")
    found = [Requirement(item) if isinstance(item, str) else item for item in requirements]
    for item in found:
        if not isinstance(item, Requirement):
            raise UsageError(
                f"{name} takes strings and Requirements, not {item!r}; "
                "req(…, validation_fn=simple_validate(…)) makes one of a function of the text"
            )
    return tuple(found)


def add_own_requirements(component: Any, requirements: Sequence[Requirement]) -> tuple[Requirement, ...]:
    """Return the requirements of an answer: first those of the component itself, if it is an instruction."""
    own = as_requirements(component.requirements) if isinstance(component, Instruction) else ()
    if not requirements:
        return own
    # A requirement that is given in both places is checked once.
    return (*own, *[requirement for requirement in requirements if requirement not in own])


async def validate_all(
    requirements: Iterable[Requirement], context: Context, backend: Backend, *, is_watched: bool = False
) -> tuple[tuple[Requirement, ValidationResult], ...]:
    """Check the last output of the context against every requirement, all at the same time.

    The results are in the order of the requirements. A requirement without a function is judged by a model. One that
    only checks chunks is run on the chunks of the output, unless the output `is_watched`: then it was checked while it
    was written.

    Raises:
        UsageError: there is no output.
        MelleaError: the judging model failed.
        Exception: what a validation function raised; the first, if several do.
    """
    output = context.last_output()
    if output is None:
        raise UsageError(
            "there is no output to validate in the context; a SimpleContext remembers the last one only while the "
            "program holds it, so keep it in a variable, or use a ChatContext"
        )

    async def check(requirement: Requirement) -> tuple[Requirement, ValidationResult]:
        # It has seen every chunk, and a rejection would have stopped the stream.
        if is_watched and requirement.is_streaming and not requirement.has_function:
            return requirement, ValidationResult(True)
        with span_around("check", str(requirement), requirement=requirement) as span:
            outcome = await _check(requirement, output, context, backend)
            if span is not None:
                span.outcome = outcome
        return requirement, outcome

    # Concurrently: judges are requests, and running them one after the other would add up their times.
    return tuple(await run_together([partial(check, requirement) for requirement in requirements]))


async def _check(
    requirement: Requirement, output: ModelOutputThunk[Any], context: Context, backend: Backend
) -> ValidationResult:
    if requirement.has_function:
        return await run_validation(requirement, context)
    if requirement.is_streaming:
        return await _validate_by_chunk(requirement, output)
    from mellea.stdlib.requirements.judge import Judge, JudgedRequirement  # lazy: needed if no function checks

    judge = requirement.judge if isinstance(requirement, JudgedRequirement) else Judge()
    try:
        return await judge.judge(requirement, context, backend)
    except MelleaError as error:
        error.add_note(f"raised while a model judged the requirement {str(requirement)!r}")
        raise


async def _validate_by_chunk(requirement: Requirement, output: ModelOutputThunk[Any]) -> ValidationResult:
    watch, text = Watch([requirement], output.record.format, is_told=False), await output.avalue()

    async def read() -> bool:
        watch.add(text)
        return True

    failure = await watch.run(read)
    return ValidationResult(True) if failure is None else failure[1]
