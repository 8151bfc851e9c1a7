"""Budget forcing: make a thinking model think for a given number of tokens, no less and no more."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mellea.core.entrance import entrance
from mellea.core.events import Event, ReasoningDelta, StreamEnd, TextDelta, Usage, UsageEvent
from mellea.core.numbers import check_whole
from mellea.core.options import ModelOption
from mellea.core.requirement import Requirement
from mellea.core.sampling import Generate, Sampler, SamplingResult
from mellea.core.thunk import ComputedModelOutputThunk, make_computed
from mellea.errors import UsageError
from mellea.stdlib.requirements.validation import as_requirements
from mellea.stdlib.sampling.draws import rank_attempt

__all__ = ["BudgetForcingStrategy"]


class BudgetForcingStrategy:
    """Makes the model think between two markers for a number of tokens, and then answer.

    If the model stops thinking early, it is made to continue with `wait`; if its tokens are used up, the thinking is
    ended. After "s1: Simple test-time scaling" (Muennighoff et al., 2025). This needs a backend that can continue a
    given beginning of the answer (`prefill`). The output's `thinking` holds the thoughts, its text is the answer alone.

    Args:
        think_tokens: the most tokens for thinking.
        answer_tokens: the most tokens for the answer; by default the limit of the call.
        more: how many times the model is made to continue when it stops thinking.
        wait: the text to continue with.
        start: the marker before the thoughts.
        end: the marker after them.
        answer_prefix: the beginning of the answer, such as `"The final answer is "`.
        loop_budget: the most attempts until one meets the requirements.
        requirements: requirements in addition to those of the call.
    """

    is_sequential = False  # the text of an attempt is only known when its last request has ended

    @entrance("BudgetForcingStrategy")
    def __init__(
        self,
        *,
        think_tokens: int = 512,
        answer_tokens: int | None = None,
        more: int = 1,
        wait: str = "Wait",
        start: str = "<think>\n",
        end: str = "\n</think>\n\n",
        answer_prefix: str = "",
        loop_budget: int = 1,
        requirements: Iterable[str | Requirement] | None = None,
    ) -> None:
        check_whole("more", more, 0)
        if not start.strip() or not end.strip():
            raise UsageError(f"start and end are the markers around the thinking, not {start!r} and {end!r}")
        self.think_tokens = check_whole("think_tokens", think_tokens)
        self.answer_tokens = None if answer_tokens is None else check_whole("answer_tokens", answer_tokens)
        self.more, self.wait = more, wait
        self.start, self.end, self.answer_prefix = start, end, answer_prefix
        self.loop_budget = check_whole("loop_budget", loop_budget)
        self.requirements = as_requirements(requirements)

    async def sample(self, sampler: Sampler) -> SamplingResult:
        """Make attempts until one passes or the budget is used up."""
        attempts = [await sampler.draw(compose=self._compose)]
        while not attempts[-1].success and len(attempts) < self.loop_budget:
            attempts.append(await sampler.draw(compose=self._compose))
        chosen = max(range(len(attempts)), key=lambda number: (rank_attempt(attempts[number]), -number))
        return SamplingResult(attempts[chosen].success, tuple(attempts), chosen)

    async def _compose(self, generate: Generate) -> ComputedModelOutputThunk[Any]:
        requests: list[ComputedModelOutputThunk[Any]] = []
        text, left = self.start, self.think_tokens
        for again in range(self.more + 1):
            if again:
                text += self.wait
            # The stop sequence is the marker itself: models end their thoughts with it, and what follows would be an
            # answer too soon.
            options: dict[str, Any] = {ModelOption.MAX_NEW_TOKENS: left, ModelOption.STOP_SEQUENCES: [self.end.strip()]}
            requests.append(await generate(text, options, is_answer=False))
            thought = self._read_thought(requests[-1], text)
            text += thought
            left -= _count_tokens(requests[-1], thought)
            # Out of tokens: the marker is written for the model, as the paper does.
            if left <= 0 or requests[-1].finish_reason == "length":
                break
        # Everything so far is the beginning of the answer, which the backend continues, hence `prefill`.
        begun = text + self.end + self.answer_prefix
        answer_options: dict[str, Any] = (
            {} if self.answer_tokens is None else {ModelOption.MAX_NEW_TOKENS: self.answer_tokens}
        )
        requests.append(await generate(begun, answer_options))
        return make_computed(self._make_events(text, requests[-1].value[len(text + self.end) :], requests))

    def _read_thought(self, request: ComputedModelOutputThunk[Any], before: str) -> str:
        """Return the thoughts that a request added after `before`, up to the end marker if there is one."""
        thought = request.thinking + request.value[len(before) :]  # some backends separate the thinking themselves
        return thought.partition(self.end.strip())[0].rstrip()

    def _make_events(self, thought: str, answer: str, requests: list[ComputedModelOutputThunk[Any]]) -> list[Event]:
        last = requests[-1]
        usages = [request.usage for request in requests if request.usage is not None]
        return [
            ReasoningDelta(thought[len(self.start) :]),
            # Some models write the marker once more.
            TextDelta(answer.lstrip().removeprefix(self.end.strip()).lstrip()),
            # Only what belongs to the answer, such as sources; usage is summed over all requests, since all were paid
            # for.
            *(event for event in last.record.events if type(event) not in _OWN),
            *([UsageEvent(sum(usages, start=Usage()))] if usages else []),
            StreamEnd(last.finish_reason or "other", last.response_id, last.model),
        ]

    def __repr__(self) -> str:
        return f"BudgetForcingStrategy(think_tokens={self.think_tokens}, more={self.more})"


_OWN = (TextDelta, ReasoningDelta, UsageEvent, StreamEnd)
"""The events that are built from those of all requests."""


def _count_tokens(request: ComputedModelOutputThunk[Any], text: str) -> int:
    """Return how many tokens a request wrote; an estimate of four characters each if the provider doesn't report it."""
    known = request.usage.output_tokens if request.usage is not None else None
    # At least one, so that a model that writes nothing can't keep the loop going forever.
    return max(1, len(text) // 4) if known is None else max(1, known)
