"""Two solvers: a fast model tries first, and a slow one solves what it can't."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, get_args

from mellea.core.backend import Backend
from mellea.core.entrance import entrance
from mellea.core.numbers import check_whole
from mellea.core.requirement import Requirement
from mellea.core.sampling import Attempt, Sampler, SamplingResult
from mellea.errors import UsageError
from mellea.stdlib.components import Repair
from mellea.stdlib.requirements.validation import as_requirements
from mellea.stdlib.sampling.draws import rank_attempt

__all__ = ["SOFAIStrategy"]

Handover = Literal["fresh", "repair"]


class SOFAIStrategy:
    """Lets the session's model try and correct itself, and then asks a stronger model.

    The fast model tries until an attempt passes, its budget is used up, or an attempt meets no more requirements than
    the previous one. Then the slow model makes one attempt. SOFAI stands for Slow and Fast AI, after "Thinking Fast and
    Slow in AI" (Ganapini et al., 2021), where a metacognitive module governs two solvers.

    Args:
        slow: the stronger model: a backend, or a session whose backend is used.
        fast: the model that tries first, given in the same way; by default the call's.
        loop_budget: the most attempts of the fast model.
        handover: what the slow model gets: the task alone (`"fresh"`), or also the fast model's best answer and what is
            wrong with it (`"repair"`).
        requirements: requirements in addition to those of the call.
    """

    is_sequential = True

    @entrance("SOFAIStrategy")
    def __init__(
        self,
        slow: Any,
        *,
        fast: Any = None,
        loop_budget: int = 3,
        handover: Handover = "fresh",
        requirements: Iterable[str | Requirement] | None = None,
    ) -> None:
        if handover not in get_args(Handover):
            raise UsageError(f"handover takes 'fresh' or 'repair', not {handover!r}")
        self.slow = _take_backend("slow", slow)
        self.fast = None if fast is None else _take_backend("fast", fast)
        self.loop_budget = check_whole("loop_budget", loop_budget)
        self.handover = handover
        self.requirements = as_requirements(requirements)

    @property
    def backends(self) -> tuple[Backend, ...]:
        """The backends that may be used besides the one of the call."""
        return (self.slow,) if self.fast is None else (self.fast, self.slow)

    async def sample(self, sampler: Sampler) -> SamplingResult:
        """Make attempts with the fast model, and one with the slow one if none passes."""
        attempts = [await sampler.draw(backend=self.fast)]
        while not attempts[-1].success and len(attempts) < self.loop_budget and _is_improving(attempts):
            attempts.append(await sampler.draw(_repair(sampler, attempts[-1]), backend=self.fast))
        if not attempts[-1].success:
            # Not the last one: a correction may have made things worse, which ended the loop.
            best = max(attempts, key=rank_attempt)
            component = _repair(sampler, best) if self.handover == "repair" else None
            attempts.append(await sampler.draw(component, backend=self.slow))
        # Ties go to the later one, so that the slow model is preferred.
        chosen = max(range(len(attempts)), key=lambda number: (rank_attempt(attempts[number]), number))
        return SamplingResult(attempts[chosen].success, tuple(attempts), chosen)

    def __repr__(self) -> str:
        return f"SOFAIStrategy({self.slow!r}, loop_budget={self.loop_budget})"


def _take_backend(name: str, value: Any) -> Backend:
    # Only the session's backend is used: its context belongs to another conversation.
    backend = getattr(value, "backend", value)
    if not isinstance(backend, Backend):
        raise UsageError(f"{name} takes a Backend or a session, not {value!r}")
    return backend


def _is_improving(attempts: list[Attempt]) -> bool:
    return len(attempts) < 2 or rank_attempt(attempts[-1]) > rank_attempt(attempts[-2])


def _repair(sampler: Sampler, attempt: Attempt) -> Repair:
    return Repair(sampler.component, attempt.failures, attempt.output.value)
