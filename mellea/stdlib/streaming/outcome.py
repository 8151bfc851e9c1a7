"""What a strategy came to: whether it is sound, and how the run of its call ends with it."""

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
    """Return a strategy's result if it is one that the call can end with.

    Args:
        result: what `sample` returned.
        drawn: the attempts that it was given.
        strategy: whose result it is.

    Raises:
        UsageError: it is not a result, or it chooses something else than an attempt of this call.
    """
    if not isinstance(result, SamplingResult):
        raise UsageError(f"sample() of {strategy!r} returns a SamplingResult, not {result!r}")
    if not isinstance(result.chosen, int) or not -len(result.attempts) <= result.chosen < len(result.attempts):
        raise UsageError(
            f"sample() of {strategy!r} chose {result.chosen!r} of {len(result.attempts)} attempts; chosen is an index"
        )
    chosen = result.attempts[result.chosen]
    # The run holds events of its own attempts alone, so nothing else could be shown to readers.
    if not any(attempt.number == chosen.number and attempt.output is chosen.output for attempt in drawn):
        raise UsageError(
            f"sample() of {strategy!r} chose an output that isn't one of this call; it takes one of those that "
            "sampler.draw() made, compose= makes an output of several requests"
        )
    return result


def accept(run: Run, result: SamplingResult, *, is_typed: bool, is_strict: bool, let_out: str | None) -> Any:
    """End a call's run with the attempt that was chosen; return the typed result.

    Args:
        run: the run of the call.
        result: what the strategy came to.
        is_typed: whether the answer has to be of a type, so that one which was stopped is none.
        is_strict: whether a result that doesn't meet the requirements is an error.
        let_out: the text that was let out before an attempt was accepted; text that doesn't pass can't follow it.

    Raises:
        RequirementError: the requirements aren't met, and there can be no result without that.
        ParseError: the chosen answer isn't a value of the asked type, or there is none.
        UsageError: the strategy chose an attempt that doesn't begin with what was let out.
    """
    if let_out and not result.attempts[result.chosen].output.value.startswith(let_out):
        if result.success:
            raise UsageError(
                f"the strategy chose an attempt that doesn't begin with the {len(let_out)} characters that were "
                "released; with release= it has to choose the last one"
            )
        # What was let out belongs to the last attempt, which continued it.
        result = replace(result, chosen=len(result.attempts) - 1)
    run.sampling = result
    chosen = result.attempts[result.chosen]
    run.sent = chosen.output.request
    # A text that was stopped is still a text; half a JSON document is no value.
    has_value = chosen.is_complete or not is_typed
    if not result.success and chosen.error is None and (is_strict or not has_value or let_out is not None):
        raise _make_requirement_error(result, let_out)
    output = chosen.output
    if chosen.error is not None and not chosen.has_answer:
        raise chosen.error.clone()  # as a request does that fails: without an end
    run.emit(
        [
            AttemptAccepted(chosen.number, result.success),
            StreamEnd(output.finish_reason or "other", output.response_id, output.model),
        ]
    )
    if chosen.error is not None:
        raise chosen.error.clone()
    return output.parsed


def _make_requirement_error(result: SamplingResult, let_out: str | None) -> RequirementError:
    attempt = result.attempts[result.chosen]
    failed = "; ".join(format_failures(attempt.failures))
    return RequirementError(
        f"no attempt of {len(result.attempts)} met the requirements; the chosen one fails: {failed}",
        results=[[outcome for _, outcome in attempt.validations] for attempt in result.attempts],
        partial=attempt.output.value if let_out is None else let_out,
    )
