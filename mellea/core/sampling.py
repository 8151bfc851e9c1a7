"""What sampling strategies give back, and what one is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from mellea.core.context import Context
from mellea.core.events import Usage
from mellea.core.requirement import Requirement, ValidationResult
from mellea.core.thunk import ComputedModelOutputThunk

__all__ = ["Attempt", "Generate", "SamplingResult", "SamplingStrategy", "Validate"]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try: the output, the context it stands in, and what each requirement said about it, in order.

    An attempt that was pickled has no context, and its requirements have no functions any more.
    """

    output: ComputedModelOutputThunk[Any]
    context: Context | None
    validations: tuple[tuple[Requirement, ValidationResult], ...]

    @property
    def success(self) -> bool:
        """Whether every requirement is met."""
        return all(result for _, result in self.validations)


@dataclass(frozen=True, slots=True)
class SamplingResult:
    """What a strategy came to.

    Attributes:
        success: whether an attempt met every requirement.
        attempts: every attempt, in order.
        chosen: index of the attempt that is the result.
    """

    success: bool
    attempts: tuple[Attempt, ...] = field(repr=False)
    chosen: int

    @property
    def result(self) -> ComputedModelOutputThunk[Any]:
        """The output that was chosen: one that met the requirements, or else what the strategy prefers."""
        return self.attempts[self.chosen].output

    def __reduce__(self) -> Any:
        return SamplingResult, (self.success, portable(self).attempts, self.chosen)

    @property
    def value(self) -> str | None:
        """The text of the result."""
        return self.result.value

    @property
    def usage(self) -> Usage | None:
        """Tokens of all attempts together, `None` if the provider didn't say."""
        known = [attempt.output.usage for attempt in self.attempts if attempt.output.usage is not None]
        return sum(known[1:], start=known[0]) if known else None


def portable(result: SamplingResult) -> SamplingResult:
    """Return the result without what doesn't pickle: the functions of requirements, and contexts."""
    return replace(result, attempts=tuple(_portable(attempt) for attempt in result.attempts))


def _portable(attempt: Attempt) -> Attempt:
    validations = tuple(
        (Requirement(str(requirement), check_only=requirement.check_only), outcome)
        for requirement, outcome in attempt.validations
    )
    return Attempt(attempt.output.without_sampling(), None, validations)


Generate = Callable[[int], Awaitable[tuple[ComputedModelOutputThunk[Any], Context]]]
"""Makes the attempt with that number, from 0."""

Validate = Callable[[Context], Awaitable[tuple[tuple[Requirement, ValidationResult], ...]]]
"""Checks the last output of a context."""


class SamplingStrategy(Protocol):
    """A way to come to an output that meets the requirements."""

    @property
    def requirements(self) -> Sequence[Requirement]:
        """Requirements that the strategy adds to those of the call."""

    async def sample(self, generate: Generate, validate: Validate) -> SamplingResult:
        """Make attempts until one is good enough, or none is left."""
