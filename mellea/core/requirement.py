"""Requirements: what an output has to be like, and how that is found out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mellea.core.chunk import SCOPES, Chunk, Scope
from mellea.core.context import Context
from mellea.core.worker import outcome_of
from mellea.errors import UsageError

__all__ = ["Requirement", "ValidationResult", "stream_validated", "validated"]

ValidationFunction = Callable[[Context], Any]
StreamValidationFunction = Callable[[Chunk], Any]


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

    def __post_init__(self) -> None:
        if not isinstance(self.result, bool):
            raise UsageError(f"a ValidationResult's result is True or False, not {self.result!r}")

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
        stream_validation_fn: takes a `Chunk` while the output is being written, and says yes, no, or `None`
            where it can't tell yet; otherwise like `validation_fn`. The first no stops the generation. Without
            a `validation_fn` besides, an output whose chunks all passed meets the requirement.
        scope: what a chunk is: `"word"`, `"sentence"`, `"paragraph"`, `"line"` or `"item"` (of a JSON list).

    A subclass may define `validate` and `stream_validate` as methods instead of giving functions.
    """

    description: str | None = None
    validation_fn: ValidationFunction | None = None
    check_only: bool = False
    stream_validation_fn: StreamValidationFunction | None = None
    scope: Scope | None = None

    def __post_init__(self) -> None:
        if self.description is None and not self.has_function and not self.is_streaming:
            raise UsageError("a Requirement takes a description, a validation_fn, or both")
        for name in ("validation_fn", "stream_validation_fn"):
            function = getattr(self, name)
            if function is not None and not callable(function):
                raise UsageError(f"a Requirement's {name} takes a function, not {function!r}")
        if self.scope is not None and self.scope not in SCOPES:
            raise UsageError(f"a Requirement's scope is one of {', '.join(map(repr, SCOPES))}, not {self.scope!r}")
        if self.is_streaming and self.scope is None:
            object.__setattr__(self, "scope", "sentence")

    @property
    def has_function(self) -> bool:
        """Whether complete outputs are checked by a function; otherwise a model judges, or only chunks are checked."""
        return self.validation_fn is not None or type(self).validate is not Requirement.validate

    @property
    def is_streaming(self) -> bool:
        """Whether chunks of an output are checked while it is being written."""
        return self.stream_validation_fn is not None or type(self).stream_validate is not Requirement.stream_validate

    def __str__(self) -> str:
        if self.description is not None:
            return self.description
        return getattr(self.validation_fn or self.stream_validation_fn, "__name__", type(self).__name__)

    async def validate(self, context: Context) -> ValidationResult:
        """Run the validation function on the context's last output.

        Raises:
            UsageError: there is no function, or it returned something else than it may.
        """
        function = self.validation_fn
        if function is None:
            raise UsageError(f"the requirement {str(self)!r} has no validation_fn; a model has to judge it")
        return as_result(await outcome_of(function, context), self)

    async def stream_validate(self, chunk: Chunk) -> ValidationResult | None:
        """Run the stream's validation function on a chunk; `None` is a verdict that has to wait.

        Raises:
            UsageError: there is no function, or it returned something else than it may.
        """
        function = self.stream_validation_fn
        if function is None:
            raise UsageError(f"the requirement {str(self)!r} has no stream_validation_fn")
        outcome = await outcome_of(function, chunk)
        return None if outcome is None else as_result(outcome, self)


async def validated(requirement: Requirement, context: Context) -> ValidationResult:
    """Check a context's last output, by a requirement whose `validate` may be a subclass's own, sync or async."""
    return as_result(await _asked(requirement, requirement.validate, context), requirement)


async def stream_validated(requirement: Requirement, chunk: Chunk) -> ValidationResult | None:
    """Check a chunk, by a requirement whose `stream_validate` may be a subclass's own, sync or async."""
    outcome = await _asked(requirement, requirement.stream_validate, chunk)
    return None if outcome is None else as_result(outcome, requirement)


async def _asked(requirement: Requirement, function: Callable[..., Any], about: object) -> Any:
    try:
        return await outcome_of(function, about)
    except Exception as error:
        error.add_note(f"raised while the requirement {str(requirement)!r} was checked")
        raise


def as_result(outcome: Any, requirement: Requirement) -> ValidationResult:
    match outcome:
        case ValidationResult():
            return outcome
        case bool():
            return ValidationResult(outcome)
        case (bool() as result, (str() | None) as reason):
            return ValidationResult(result, reason)
        case _:
            raise UsageError(
                f"the validation of {str(requirement)!r} returns a ValidationResult, a bool or (bool, reason), "
                f"not {outcome!r}"
            )
