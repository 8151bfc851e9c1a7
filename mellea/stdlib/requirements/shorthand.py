"""Short ways to write requirements."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any

from mellea.core.context import Context
from mellea.core.entrance import entrance
from mellea.core.requirement import Requirement, check_function
from mellea.errors import UsageError
from mellea.stdlib.requirements.judge import JudgedRequirement, as_judge

__all__ = ["check", "get_output_text", "req", "simple_validate"]


@entrance("req")
def req(description: str, *, validation_fn: Callable[[Context], Any] | None = None, judge: Any = None) -> Requirement:
    """Make a requirement that goes into the prompt and is checked.

    Args:
        description: the requirement in words.
        validation_fn: the function that checks it, as in `Requirement`; without one, a model judges.
        judge: the model that judges: a backend, a session or a `Judge`; by default the one that wrote the output.

    Raises:
        UsageError: both a function and a judge are given, or an argument has a wrong type.
    """
    return _make_requirement(description, validation_fn, judge, check_only=False)


@entrance("check")
def check(description: str, *, validation_fn: Callable[[Context], Any] | None = None, judge: Any = None) -> Requirement:
    """Make a requirement that is checked but doesn't go into the prompt.

    The arguments and errors are those of `req`.
    """
    return _make_requirement(description, validation_fn, judge, check_only=True)


def _make_requirement(description: str, validation_fn: Any, judge: Any, *, check_only: bool) -> Requirement:
    if judge is None:
        return Requirement(description, validation_fn, check_only)
    if validation_fn is not None:
        raise UsageError(f"{description!r} takes a validation_fn or a judge, not both")
    return JudgedRequirement(description, check_only=check_only, judge=as_judge(judge))


@entrance("simple_validate")
def simple_validate(function: Callable[[str], Any], *, reason: str | None = None) -> Callable[[Context], Any]:
    """Make a validation function from a function of the output's text.

    Args:
        function: takes the text; returns a bool, `(bool, reason)`, whose reason says why not, or a `ValidationResult`.
            A `ValueError` or an `AssertionError` means no, with its message as the reason; any other exception ends the
            call. Sync or async.
        reason: the reason if the function returns just `False`.

    Raises:
        UsageError: it is not a function of one argument.
    """
    check_function("simple_validate", function, "the text")

    def add_reason(outcome: Any) -> Any:
        return (False, reason) if outcome is False and reason is not None else outcome

    if inspect.iscoroutinefunction(function):

        @wraps(function)
        async def validate_async(context: Context) -> Any:
            return add_reason(await function(get_output_text(context)))

        return validate_async

    @wraps(function)
    def validate(context: Context) -> Any:
        outcome = function(get_output_text(context))
        return _await_outcome(outcome, add_reason) if isinstance(outcome, Awaitable) else add_reason(outcome)

    return validate


async def _await_outcome(outcome: Awaitable[Any], add_reason: Callable[[Any], Any]) -> Any:
    return add_reason(await outcome)


def get_output_text(context: Context) -> str:
    """Return the text of a context's last output, `""` without one."""
    output = context.last_output()
    return (output.value or "") if output is not None else ""
