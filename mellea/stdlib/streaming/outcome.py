"""Checks a strategy's result, and ends the run of its call with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mellea.core.events import AttemptAccepted, StreamEnd
from mellea.core.runtime import Run
from mellea.core.sampling import Attempt, SamplingResult
from mellea.errors import RequirementError, UsageError
from mellea.stdlib.components.repair import format_failures

__all__ = ["accept", "check_result"]


def check_result(result: object, drawn: Sequence[Attempt], strategy: object) -> SamplingResult:
    """Return a strategy's result if it is valid for the call.

    Args:
        result: what `sample` returned.
        drawn: the attempts that it made.
        strategy: the strategy.

    Raises:
        UsageError: it is not a result, or chooses something other than an attempt of this call.
    """
    if not isinstance(result, SamplingResult):
        raise UsageError(f"sample() of {strategy!r} returns a SamplingResult, not {result!r}")
    if not isinstance(result.chosen, int) or not -len(result.attempts) <= result.chosen < len(result.attempts):
        raise UsageError(
            f"sample() of {strategy!r} chose {result.chosen!r} of {len(result.attempts)} attempts; chosen is an index"
        )
    chosen = result.attempts[result.chosen]
    # The run only has events of its own attempts, so readers couldn't see anything else.
    if not any(attempt.number == chosen.number and attempt.output is chosen.output for attempt in drawn):
        raise UsageError(
            f"sample() of {strategy!r} chose an output that doesn't belong to this call; choose one that "
            f"sampler.draw() returned, or use compose= to make an output from several requests"
        )
    return result


def accept(run: Run, result: SamplingResult, *, is_typed: bool, is_strict: bool, let_out: str | None) -> Any:
    """End a call's run with the attempt that was chosen; return the typed result.

    Args:
        run: the run of the call.
        result: the strategy's result.
        is_typed: whether the answer needs a type, so that a stopped one isn't valid.
        is_strict: whether a result that doesn't meet the requirements is an error.
        let_out: the text that was released before an attempt was accepted; rejected text can't follow it.

    Raises:
        RequirementError: the requirements aren't met, but have to be.
        ParseError: the chosen answer isn't a value of the requested type, or there is none.
        UsageError: the strategy chose an attempt that doesn't begin with the released text.
    """
    if let_out and not result.attempts[result.chosen].output.value.startswith(let_out):
        if result.success:
            raise UsageError(
                f"the strategy chose an attempt that doesn't begin with the {len(let_out)} characters that were "
                "released; with release= it has to choose the last one"
            )
        # The released text belongs to the last attempt, which continued it.
        result = replace(result, chosen=len(result.attempts) - 1)
    run.sampling = result
    chosen = result.attempts[result.chosen]
    run.sent = chosen.output.request
    # A stopped text is still a text; half a JSON document isn't a value.
    has_value = chosen.is_complete or not is_typed
    if not result.success and chosen.error is None and (is_strict or not has_value or let_out is not None):
        raise _make_requirement_error(result, let_out, has_value=has_value)
    output = chosen.output
    if chosen.error is not None and not chosen.has_answer:
        raise chosen.error.clone()  # like a failed request: without an end
    run.emit(
        [
            AttemptAccepted(chosen.number, result.success),
            StreamEnd(output.finish_reason or "other", output.response_id, output.model),
        ]
    )
    if chosen.error is not None:
        raise chosen.error.clone()
    return output.parsed


def _make_requirement_error(result: SamplingResult, let_out: str | None, *, has_value: bool) -> RequirementError:
    attempt = result.attempts[result.chosen]
    failed = "; ".join(format_failures(attempt.failures))
    stopped = "" if has_value else "; it was stopped there, so it has no value of the requested type"
    return RequirementError(
        f"no attempt out of {len(result.attempts)} met the requirements; the chosen one fails: {failed}{stopped}",
        results=[[outcome for _, outcome in attempt.validations] for attempt in result.attempts],
        partial=attempt.output.value if let_out is None else let_out,
    )
