"""Requirements: what an output has to be like, and how that is found out."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from mellea.core.context import Context
from mellea.core.worker import in_thread
from mellea.errors import UsageError

__all__ = ["Requirement", "ValidationResult"]

ValidationFunction = Callable[[Context], Any]


@dataclass(frozen=True, slots=True)
class ValidationResult:
    """Whether an output meets a requirement.

    Args:
        result: yes or no.
        reason: why, in words for a person or for the next attempt's prompt.
        score: how well, from 0 to 1, where that is known.
    """

    result: bool
    reason: str | None = None
    score: float | None = None

    def __bool__(self) -> bool:
        return self.result


@dataclass(frozen=True, slots=True)
class Requirement:
    """Something that an output has to meet.

    Args:
        description: the requirement in words; it goes into the prompt unless `check_only`.
        validation_fn: takes the context, whose `last_output()` is the output, and returns a
            `ValidationResult`, a bool, or `(bool, reason)`; sync (then it runs in a thread) or async.
            Without one, a model judges.
        check_only: keep the description out of the prompt.
    """

    description: str | None = None
    validation_fn: ValidationFunction | None = None
    check_only: bool = False

    def __post_init__(self) -> None:
        if self.description is None and self.validation_fn is None:
            raise UsageError("a Requirement takes a description, a validation_fn, or both")
        if self.validation_fn is not None and not callable(self.validation_fn):
            raise UsageError(f"a Requirement's validation_fn takes a function, not {self.validation_fn!r}")

    def __str__(self) -> str:
        if self.description is not None:
            return self.description
        return getattr(self.validation_fn, "__name__", "requirement")

    async def validate(self, context: Context) -> ValidationResult:
        """Run the validation function on the context's last output.

        Raises:
            UsageError: there is no function, or it returned something else than it may.
        """
        function = self.validation_fn
        if function is None:
            raise UsageError(f"the requirement {str(self)!r} has no validation_fn; a model has to judge it")
        if inspect.iscoroutinefunction(function):
            outcome = await function(context)
        else:
            outcome = await in_thread(function, context)
            if isinstance(outcome, Awaitable):
                outcome = await outcome
        return _as_result(outcome, self)


def _as_result(outcome: Any, requirement: Requirement) -> ValidationResult:
    match outcome:
        case ValidationResult():
            return outcome
        case bool():
            return ValidationResult(outcome)
        case (bool() as result, (str() | None) as reason):
            return ValidationResult(result, reason)
        case _:
            raise UsageError(
                f"the validation_fn of {str(requirement)!r} returns a ValidationResult, a bool or (bool, reason), "
                f"not {outcome!r}"
            )
