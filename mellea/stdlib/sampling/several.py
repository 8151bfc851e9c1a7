"""Strategies that always make several attempts, and choose one of them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from math import isnan
from numbers import Real
from typing import Any

from pydantic_core import PydanticSerializationError, to_jsonable_python

from mellea.core.entrance import entrance
from mellea.core.numbers import check_whole
from mellea.core.requirement import Requirement, check_function
from mellea.core.runtime.tasks import find_outcome
from mellea.core.sampling import Attempt, Sampler, SamplingResult
from mellea.core.thunk import ComputedModelOutputThunk
from mellea.core.tracebacks import add_note
from mellea.errors import UsageError
from mellea.stdlib.requirements.validation import as_requirements
from mellea.stdlib.sampling.draws import draw_together, rank_attempt

__all__ = ["BestOfNStrategy", "MajorityVotingStrategy"]

_NUMBER = dict.fromkeys(
    ("num_samples", "number_of_samples", "best_of", "num_generations", "loop_budget", "k"),
    "n=… is the number of attempts",
)

Scorer = Callable[[ComputedModelOutputThunk[Any]], Any]


class BestOfNStrategy:
    """Makes n attempts and chooses the one with the highest score among those that meet the requirements.

    If none meets them, the result is the best of those that meet most, and its `success` is false.

    Args:
        n: the number of attempts.
        scorer: takes the output and returns a number, the higher the better; sync (then it runs in a thread) or
            async. By default the mean of the validations' scores, where a yes without a score is 1 and a no is 0.
        requirements: requirements in addition to those of the call.
        concurrency_budget: how many attempts run at the same time; all of them by default.
    """

    is_sequential = False

    @entrance("BestOfNStrategy", **_NUMBER)
    def __init__(
        self,
        n: int = 3,
        *,
        scorer: Scorer | None = None,
        requirements: Iterable[str | Requirement] | None = None,
        concurrency_budget: int | None = None,
    ) -> None:
        if scorer is not None:
            check_function("scorer", scorer, "the output")
        self.n = check_whole("n", n)
        self.scorer = scorer
        self.requirements = as_requirements(requirements)
        self.concurrency_budget = check_whole(
            "concurrency_budget", n if concurrency_budget is None else concurrency_budget
        )

    async def sample(self, sampler: Sampler) -> SamplingResult:
        """Make all attempts, and choose one."""
        attempts = await draw_together(sampler.draw, self.n, self.concurrency_budget, lambda found: False)
        # One after the other: a user's scorer may not support concurrent calls.
        scores = [await self._score(attempt) for attempt in attempts]
        # The rank comes first: an attempt that fails a requirement never wins by its score. Ties go to the first.
        chosen = max(range(len(attempts)), key=lambda number: (rank_attempt(attempts[number]), scores[number]))
        return SamplingResult(attempts[chosen].success, tuple(attempts), chosen)

    async def _score(self, attempt: Attempt) -> float:
        if self.scorer is None:
            scores = [
                float(result.result) if result.score is None else result.score for _, result in attempt.validations
            ]
            return sum(scores) / len(scores) if scores else 0.0
        # The scorer would get a truncated text, or no value; it needn't handle either.
        if not attempt.is_complete or attempt.error is not None:
            return float("-inf")
        score = await _call(self.scorer, attempt, f"the scorer of {self!r}")
        # NaN compares as false with everything, so it would make the choice depend on the order.
        if isinstance(score, bool) or not isinstance(score, Real) or isnan(score):
            raise UsageError(f"the scorer of {self!r} returns a number, not {score!r}")
        return float(score)

    def __repr__(self) -> str:
        return f"BestOfNStrategy({self.n})"


class MajorityVotingStrategy:
    """Makes several attempts and chooses the answer that most of them agree on.

    Only attempts that meet the requirements vote, unless none does. If there is a tie, the earliest answer wins. Once
    the outcome is certain, the attempts that are still running are cancelled.

    Args:
        n: the most attempts.
        key: takes the output and returns the value to compare; by default the typed result with a `format`, otherwise
            the text, ignoring case and surrounding white space. Sync or async.
        requirements: requirements in addition to those of the call.
        concurrency_budget: how many attempts run at the same time; all of them by default.
    """

    is_sequential = False

    @entrance("MajorityVotingStrategy", **_NUMBER)
    def __init__(
        self,
        n: int = 5,
        *,
        key: Scorer | None = None,
        requirements: Iterable[str | Requirement] | None = None,
        concurrency_budget: int | None = None,
    ) -> None:
        if key is not None:
            check_function("key", key, "the output")
        self.n = check_whole("n", n)
        self.key = key
        self.requirements = as_requirements(requirements)
        self.concurrency_budget = check_whole(
            "concurrency_budget", n if concurrency_budget is None else concurrency_budget
        )

    async def sample(self, sampler: Sampler) -> SamplingResult:
        """Make attempts until a majority is certain, and choose its first."""
        ballots = _Ballots()

        async def draw() -> Attempt:
            attempt = await sampler.draw()
            ballots.cast(attempt, await self._find_choice(attempt))
            return attempt

        def is_certain(found: list[Attempt]) -> bool:
            counts = ballots.count(attempt for attempt in found if attempt.success).most_common(2)
            # Certain once the second choice can't catch up with all remaining votes; a tie isn't enough, since
            # the earlier answer would win it.
            second = counts[1][1] if len(counts) > 1 else 0
            return bool(counts) and counts[0][1] > second + self.n - len(found)

        attempts = await draw_together(draw, self.n, self.concurrency_budget, is_certain)
        chosen = _elect(attempts, ballots)
        return SamplingResult(attempts[chosen].success, tuple(attempts), chosen)

    async def _find_choice(self, attempt: Attempt) -> Any:
        output = attempt.output
        if attempt.error is None and attempt.is_complete and self.key is not None:
            return await _call(self.key, attempt, f"the key of {self!r}")
        has_value = attempt.error is None and output.record.format is not None
        if isinstance(output.parsed, str) or (output.parsed is None and not has_value):
            # Prose is rarely identical; without this there would be as many choices as attempts.
            return " ".join(output.value.split()).casefold()
        return output.parsed

    def __repr__(self) -> str:
        return f"MajorityVotingStrategy({self.n})"


async def _call(function: Scorer, attempt: Attempt, what: str) -> Any:
    try:
        return await find_outcome(function, attempt.output)
    except Exception as error:
        add_note(error, f"raised while {what} looked at attempt {attempt.number}")
        if isinstance(error, (AttributeError, TypeError)) and type(attempt.output).__name__ in str(error):
            add_note(error, "its argument is the output's thunk: .value is the text, .parsed the typed result")
        raise


class _Ballots:
    """The votes: which attempt chose which value; equal values are one choice."""

    def __init__(self) -> None:
        self._choices: list[tuple[Any, str]] = []  # each with its canonical text
        self._votes: dict[int, int] = {}  # from an attempt's number to the index of its choice

    def cast(self, attempt: Attempt, value: Any) -> None:
        # Users' values may not be hashable, so they are compared one by one; there are few.
        text = _write_canonically(value)
        place = next((place for place, known in enumerate(self._choices) if _is_same(known, (value, text))), None)
        if place is None:
            place = len(self._choices)
            self._choices.append((value, text))
        self._votes[attempt.number] = place

    def count(self, voters: Iterable[Attempt]) -> Counter[int]:
        return Counter(self.get_choice(attempt) for attempt in voters)

    def get_choice(self, attempt: Attempt) -> int:
        return self._votes[attempt.number]


def _elect(attempts: Sequence[Attempt], ballots: _Ballots) -> int:
    most = max(rank_attempt(attempt) for attempt in attempts)
    voters = [attempt for attempt in attempts if rank_attempt(attempt) == most]
    votes = ballots.count(voters)
    return attempts.index(max(voters, key=lambda attempt: votes[ballots.get_choice(attempt)]))


def _is_same(one: tuple[Any, str], other: tuple[Any, str]) -> bool:
    if one[1] == other[1]:
        return True
    try:
        # Equal by the type's own `==`, such as sets in another order, which have other texts.
        return bool(one[0] == other[0]) and not _differ_in_truth(_to_plain(one[0]), _to_plain(other[0]))
    except Exception:  # noqa: BLE001 - users' values, which may not compare
        return False


def _differ_in_truth(one: Any, other: Any) -> bool:
    """Whether one has a boolean where the other has a number: `True == 1` in Python, but the answers differ."""
    if isinstance(one, list) and isinstance(other, list):
        return any(map(_differ_in_truth, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return any(_differ_in_truth(one[key], other[key]) for key in one.keys() & other.keys())
    return isinstance(one, bool) is not isinstance(other, bool)


def _to_plain(value: Any) -> Any:
    try:
        return to_jsonable_python(value)
    except (PydanticSerializationError, ValueError, TypeError):
        return value


def _write_canonically(value: Any) -> str:
    """Return a text that is the same for values with the same content, even if it includes NaN."""
    try:
        return json.dumps(to_jsonable_python(value), sort_keys=True)
    except (PydanticSerializationError, ValueError, TypeError):
        return repr(value)
