"""Rejection sampling: try the same again until an attempt passes."""

from __future__ import annotations

from collections.abc import Iterable

from mellea.core.requirement import Requirement
from mellea.core.sampling import Attempt, Generate, SamplingResult, Validate
from mellea.errors import UsageError
from mellea.stdlib.requirements.validation import as_requirements

__all__ = ["RejectionSamplingStrategy"]


class RejectionSamplingStrategy:
    """Makes attempts until one meets every requirement.

    If none does, the first attempt is the result, and its `success` is false.

    Args:
        loop_budget: how many attempts, at most.
        requirements: requirements in addition to those of the call.
    """

    def __init__(self, *, loop_budget: int = 2, requirements: Iterable[str | Requirement] | None = None) -> None:
        if not isinstance(loop_budget, int) or isinstance(loop_budget, bool) or loop_budget < 1:
            raise UsageError(f"loop_budget takes a whole number from 1, not {loop_budget!r}")
        self.loop_budget = loop_budget
        self.requirements = as_requirements(requirements)

    async def sample(self, generate: Generate, validate: Validate) -> SamplingResult:
        """Make attempts until one passes, or none is left."""
        attempts: list[Attempt] = []
        for number in range(self.loop_budget):
            output, context = await generate(number)
            attempts.append(Attempt(output, context, await validate(context)))
            if attempts[-1].success:
                return SamplingResult(True, tuple(attempts), number)
        return SamplingResult(False, tuple(attempts), 0)

    def __repr__(self) -> str:
        return f"RejectionSamplingStrategy(loop_budget={self.loop_budget})"
