"""Checking an output against its requirements, by function or by a model's judgement."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from mellea.core.backend import Backend
from mellea.core.context import Context
from mellea.core.requirement import Requirement, ValidationResult, validated
from mellea.errors import UsageError
from mellea.stdlib.call import Call, finish
from mellea.stdlib.components import Instruction
from mellea.stdlib.context import SimpleContext

__all__ = ["as_requirements", "validate_all"]

_JUDGE = "Does the text meet the requirement? Answer yes or no."


def as_requirements(requirements: Iterable[str | Requirement] | None) -> tuple[Requirement, ...]:
    """Take texts and requirements as requirements, in their order.

    Raises:
        UsageError: one of them is neither.
    """
    is_list = requirements is None or isinstance(requirements, Iterable)
    if isinstance(requirements, (str, Requirement)) or not is_list:
        raise UsageError(f"requirements takes a list, not {requirements!r}; put it into one")
    found = [Requirement(item) if isinstance(item, str) else item for item in requirements or ()]
    for item in found:
        if not isinstance(item, Requirement):
            raise UsageError(f"requirements takes texts and Requirements, not {item!r}")
    return tuple(found)


async def validate_all(
    requirements: Iterable[Requirement], context: Context, backend: Backend
) -> tuple[tuple[Requirement, ValidationResult], ...]:
    """Check the last output of the context against every requirement, in order.

    Raises:
        UsageError: there is no output, or a requirement without a function and a backend that can't judge.
    """
    if context.last_output() is None:
        raise UsageError(
            "there is no output to validate in the context; a SimpleContext remembers the last one only while the "
            "program holds it, so keep it in a variable, or use a ChatContext"
        )
    results = []
    for requirement in requirements:
        if requirement.has_function:
            results.append((requirement, await validated(requirement, context)))
        elif requirement.is_streaming:  # its chunks have been checked while it was written
            results.append((requirement, ValidationResult(True)))
        else:
            results.append((requirement, await _judge(requirement, context, backend)))
    return tuple(results)


async def _judge(requirement: Requirement, context: Context, backend: Backend) -> ValidationResult:
    """Ask the model for a verdict: one of two values of a schema, not a word somewhere in a text."""
    question = Instruction(_JUDGE, grounding_context={"text": context.last_output(), "requirement": str(requirement)})
    verdict, _ = Call.make(question, backend, format=Literal["yes", "no"]).launch(SimpleContext())
    await finish(verdict)
    met = verdict.parsed == "yes"
    return ValidationResult(met, None if met else f"a model judged that it doesn't meet: {requirement}")
