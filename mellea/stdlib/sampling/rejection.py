"""Strategies that try again until an attempt passes: with the same prompt, or with the failures added to it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mellea.core.blocks import ToolOutput
from mellea.core.entrance import entrance
from mellea.core.messages import Message
from mellea.core.numbers import check_whole
from mellea.core.requirement import Requirement
from mellea.core.sampling import Attempt, Sampler, SamplingResult
from mellea.stdlib import components
from mellea.stdlib import context as contexts
from mellea.stdlib.requirements.validation import as_requirements
from mellea.stdlib.sampling.draws import draw_together, rank_attempt

__all__ = ["FormatRepairStrategy", "MultiTurnStrategy", "RejectionSamplingStrategy", "RepairTemplateStrategy"]


_BUDGET = "loop_budget=… is the number of attempts"


class RejectionSamplingStrategy:
    """Makes attempts with the same prompt until one meets every requirement.

    If none does, the result is the first attempt of those that meet the most requirements, and its `success` is false.

    Args:
        loop_budget: the maximum number of attempts.
        requirements: requirements in addition to those of the call.
        concurrency_budget: how many attempts run at the same time; when one passes, the others are cancelled.
    """

    @entrance("RejectionSamplingStrategy", max_retries=_BUDGET, retries=_BUDGET, max_attempts=_BUDGET, n=_BUDGET)
    def __init__(
        self,
        *,
        loop_budget: int = 2,
        requirements: Iterable[str | Requirement] | None = None,
        concurrency_budget: int = 1,
    ) -> None:
        self.loop_budget = check_whole("loop_budget", loop_budget)
        self.concurrency_budget = check_whole("concurrency_budget", concurrency_budget)
        self.requirements = as_requirements(requirements)

    @property
    def is_sequential(self) -> bool:
        """Whether attempts are made one after the other."""
        return self.concurrency_budget == 1

    async def sample(self, sampler: Sampler) -> SamplingResult:
        """Make attempts until one passes or the budget is used up."""
        attempts = await draw_together(
            # Only the attempt that has just ended can be the first to pass; the earlier ones have been checked.
            sampler.draw,
            self.loop_budget,
            self.concurrency_budget,
            lambda found: found[-1].success,
        )
        return _choose(attempts, prefers_last=False)

    def __repr__(self) -> str:
        return f"RejectionSamplingStrategy(loop_budget={self.loop_budget})"


class _Correcting(ABC):
    """A strategy whose next attempt is told what was wrong with the last one."""

    is_sequential = True

    @entrance("the strategy", max_retries=_BUDGET, retries=_BUDGET, max_attempts=_BUDGET, n=_BUDGET)
    def __init__(self, *, loop_budget: int = 2, requirements: Iterable[str | Requirement] | None = None) -> None:
        self.loop_budget = check_whole("loop_budget", loop_budget)
        self.requirements = as_requirements(requirements)

    async def sample(self, sampler: Sampler) -> SamplingResult:
        """Make attempts until one passes or the budget is used up."""
        attempts = [await sampler.draw()]
        # Only the last one can pass: the loop ends with the first success.
        while not attempts[-1].success and len(attempts) < self.loop_budget and self._has_hope(attempts[-1]):
            answered = [attempt for attempt in attempts if attempt.has_answer]
            # Without an answer there is nothing to correct, so the model is asked as before.
            changes = await self._prepare_retry(sampler, answered) if answered else {}
            attempts.append(await sampler.draw(**changes))
        return _choose(attempts, prefers_last=True)

    def _has_hope(self, attempt: Attempt) -> bool:
        # An answer that was cut off at the token limit isn't wrong, and would be cut off again.
        return attempt.error is None or attempt.output.finish_reason != "length"

    @abstractmethod
    async def _prepare_retry(self, sampler: Sampler, attempts: Sequence[Attempt]) -> Mapping[str, Any]:
        """Return the arguments of the next draw, after attempts that the model has answered."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(loop_budget={self.loop_budget})"


class RepairTemplateStrategy(_Correcting):
    """Makes attempts whose prompts include the previous answer, the requirements that it failed, and why.

    If no attempt meets every requirement, the result is the last of those that meet most.

    Args:
        loop_budget: the maximum number of attempts.
        requirements: requirements in addition to those of the call.
    """

    async def _prepare_retry(self, sampler: Sampler, attempts: Sequence[Attempt]) -> Mapping[str, Any]:
        last = attempts[-1]
        return {"component": components.Repair(sampler.component, last.failures, last.output.value)}


class FormatRepairStrategy(RepairTemplateStrategy):
    """Asks the model to correct an answer that isn't valid; verbs with a `format` use it by themselves.

    Options that shape the answer, such as its length or tools, don't apply to the second request: the answer exists,
    and only its format has to be corrected. Where tools were run, the model is asked in the same conversation, so that
    it knows what they gave.
    """

    begins_plainly = True
    has_own_options = True

    async def _prepare_retry(self, sampler: Sampler, attempts: Sequence[Attempt]) -> Mapping[str, Any]:
        if any(message.role == "tool" for message in attempts[-1].output.so_far().messages):
            return await _go_on(sampler, attempts[-1:])
        return await super()._prepare_retry(sampler, attempts)


class MultiTurnStrategy(_Correcting):
    """Makes attempts in a conversation, in which the model is told what was wrong with each answer.

    If no attempt meets every requirement, the result is the last of those that meet most. The session's context gets
    one turn: the task and the chosen answer.

    Args:
        loop_budget: the maximum number of attempts.
        requirements: requirements in addition to those of the call.
    """

    async def _prepare_retry(self, sampler: Sampler, attempts: Sequence[Attempt]) -> Mapping[str, Any]:
        return await _go_on(sampler, attempts)


async def _go_on(sampler: Sampler, attempts: Sequence[Attempt]) -> Mapping[str, Any]:
    """Return the arguments of a draw in the same conversation: after the attempts, the model is told what fails."""
    context = contexts.ChatContext()
    # A copy of what the model sees, turn by turn: the attempts must not end up in the session's own context.
    for turn in await sampler.context.prepare_view():
        context = context.add(turn.input) if turn.input is not None else context
        context = context.add(turn.output) if turn.output is not None else context
    for attempt in attempts:
        # Each attempt with the words that led to it, or the model would read several answers to one question.
        context = context.add(attempt.component).add(attempt.output)
        for call in attempt.output.tool_calls:  # providers reject a history with a call that has no result
            unrun = ToolOutput(call.tool_call_id, call.tool_name, "It wasn't run.", is_error=True)
            context = context.add(Message("tool", unrun))
    return {"component": components.Correction(sampler.component, attempts[-1].failures), "context": context}


def _choose(attempts: Sequence[Attempt], *, prefers_last: bool) -> SamplingResult:
    numbered = list(enumerate(attempts))
    if prefers_last:
        # `max` keeps the first of equals, so the last attempt has to come first.
        numbered.reverse()
    chosen = max(numbered, key=lambda pair: rank_attempt(pair[1]))[0]
    return SamplingResult(attempts[chosen].success, tuple(attempts), chosen)
