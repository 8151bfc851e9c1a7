"""The results of an evaluation: samples, and their rates, comparisons, cost and time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from statistics import fmean, median
from typing import Any, Self

from mellea.core.events import Usage
from mellea.errors import UsageError
from mellea.evaluation.cases import Case
from mellea.evaluation.comparison import Comparison, compare_rates, compare_scores, correct
from mellea.evaluation.confusion import Agreement, Confusion, count_confusion, measure_agreement
from mellea.evaluation.intervals import Interval, check_confidence, mean_interval, rate_interval

__all__ = ["Findings", "Sample", "Timing", "Verdict"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of one check on one sample.

    Attributes:
        check: the name of the check.
        passed: whether the requirement is met; `None` if the check failed.
        reason: why or why not.
        score: how well it is met, from 0 to 1, if known.
        error: why the check itself failed.
    """

    check: str
    passed: bool | None
    reason: str | None = None
    score: float | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """One result of a variant on a case.

    Attributes:
        variant: the name of the variant.
        case: the case.
        number: of the sample, from 1.
        value: the function's result, `None` if it failed.
        error: why it failed, `None` if it didn't.
        verdicts: the results of the checks.
        label: the expected value, if the case has one.
        seconds: how long it took, `None` if that is unknown.
        usage: the tokens that it used.
        cost: its cost in US dollars, without judges; `None` if unknown.
        cached: whether the answer came from the journal.
    """

    variant: str
    case: Case
    number: int
    value: Any = None
    error: str | None = None
    verdicts: tuple[Verdict, ...] = ()
    label: Any = None
    seconds: float | None = None
    usage: Usage | None = field(default=None, repr=False)
    cost: float | None = None
    cached: bool = field(default=False, compare=False)

    @property
    def passed(self) -> bool | None:
        """Whether it passed all checks; `None` if a check gave no verdict. If the function failed, it hasn't passed."""
        return self.passes(None)

    def passes(self, check: str | None) -> bool | None:
        """Whether it passed one check, or all of them (`None`)."""
        if self.error is not None:
            return False
        said = [verdict.passed for verdict in self.verdicts if check in (None, verdict.check)]
        if False in said:
            return False
        return None if None in said else True

    def score(self, check: str) -> float | None:
        """Return the score of a check, `None` if there is none."""
        return next((verdict.score for verdict in self.verdicts if verdict.check == check), None)


@dataclass(frozen=True, slots=True)
class Timing:
    """How long the samples of a variant took, in seconds: half of them at most `median`, 95 % at most `p95`."""

    median: float
    p95: float


@dataclass(frozen=True)
class Findings:
    """The results of an evaluation; a `Report` can also show them.

    Attributes:
        name: the name of the evaluation.
        variants: the names of the variants; the others are compared with the first.
        checks: the names of the checks.
        samples: all samples, by case, variant and number.
        labels: the possible values of a result, if it is a choice among a few.
        confidence: the confidence level of all intervals.
        stopped: why it ended before all samples were done, `None` if it didn't.
        judge_cost: the cost of judges in US dollars, `None` if unknown.
    """

    name: str
    variants: tuple[str, ...]
    checks: tuple[str, ...]
    samples: tuple[Sample, ...] = field(repr=False)
    labels: tuple[Any, ...] | None = None
    confidence: float = 0.95
    stopped: str | None = None
    judge_cost: float | None = 0.0

    def __post_init__(self) -> None:
        check_confidence(self.confidence)
        by_variant: dict[str, list[Sample]] = {name: [] for name in self.variants}
        for sample in self.samples:
            by_variant[sample.variant].append(sample)
        object.__setattr__(self, "_by_variant", by_variant)

    # -- samples ------------------------------------------------------------------------------------------

    def of(self, variant: str | None = None) -> list[Sample]:
        """Return the samples of a variant, by default the only one.

        Raises:
            UsageError: there is no such variant, or there are several.
        """
        known: Mapping[str, list[Sample]] = self.__dict__["_by_variant"]
        if variant is None:
            if len(self.variants) > 1:
                raise UsageError(f"name one of the variants: {', '.join(map(repr, self.variants))}")
            variant = self.variants[0]
        if variant not in known:
            raise UsageError(f"there is no variant {variant!r}; there are {', '.join(map(repr, self.variants))}")
        return known[variant]

    def failures(self, variant: str | None = None) -> list[Sample]:
        """Return the samples of a variant that haven't passed."""
        return [sample for sample in self.of(variant) if sample.passed is False]

    def errors(self, variant: str | None = None) -> list[Sample]:
        """Return the samples of a variant in which the function, or a check, failed."""
        return [
            sample
            for sample in self.of(variant)
            if sample.error is not None or any(verdict.error is not None for verdict in sample.verdicts)
        ]

    @property
    def cases(self) -> list[Case]:
        """The cases, each once."""
        return list({sample.case.id: sample.case for sample in self.samples}.values())

    # -- figures ------------------------------------------------------------------------------------------

    def rate(self, variant: str | None = None, check: str | None = None) -> Interval:
        """Return the pass rate of a variant with its interval.

        Args:
            variant: by default the only one.
            check: the check, by default all of them together.
        """
        self._find_check(check)
        return rate_interval(list(self._count(variant, check).values()), self.confidence)

    def score(self, variant: str | None = None, check: str | None = None) -> Interval | None:
        """Return the mean score of a variant with its interval, `None` if there are no scores.

        Args:
            variant: by default the only one.
            check: the check that gives the scores, by default the only one.
        """
        means = self._mean_scores(variant, self._find_scored(check))
        return mean_interval(list(means.values()), self.confidence) if means else None

    def timing(self, variant: str | None = None) -> Timing | None:
        """Return how long the samples of a variant took, `None` if unknown."""
        seconds = sorted(sample.seconds for sample in self.of(variant) if sample.seconds is not None)
        if not seconds:
            return None
        return Timing(median(seconds), seconds[math.ceil(0.95 * len(seconds)) - 1])

    def cost(self, variant: str | None = None) -> float | None:
        """Return the cost of a variant's samples in US dollars, without judges; `None` if a part is unknown."""
        costs = [sample.cost for sample in self.of(variant)]
        return None if None in costs else math.fsum(cost for cost in costs if cost is not None)

    def tokens(self, variant: str | None = None) -> int | None:
        """Return the tokens of a variant's samples, `None` if no provider reported any."""
        known = [sample.usage.total_tokens or 0 for sample in self.of(variant) if sample.usage is not None]
        return sum(known) if known else None

    def confusion(self, variant: str | None = None) -> Confusion | None:
        """Return how often each value was returned for each expected one; `None` unless there are only a few values."""
        if self.labels is None:
            return None
        return count_confusion(
            [(sample.label, sample.value) for sample in self.of(variant) if sample.error is None], self.labels
        )  # fmt: skip

    # -- comparisons --------------------------------------------------------------------------------------

    def compare(self, base: str | None = None, other: str | None = None, *, check: str | None = None) -> Comparison:
        """Compare two variants on the cases that both have.

        Args:
            base: the name of one, by default the first.
            other: the name of the other, by default the second.
            check: the check, by default all of them together. `p` isn't corrected for other comparisons; those in
                `comparisons` are.

        Raises:
            UsageError: there is no such variant or check, or only one variant.
        """
        base, other = self.find_pair(base, other)
        self._find_check(check)
        one, two = self._count(base, check), self._count(other, check)
        pairs = [(one[case], two[case]) for case in one if case in two and one[case][1] and two[case][1]]
        return compare_rates(base, other, pairs, check=check, confidence=self.confidence)

    def compare_scores(
        self, base: str | None = None, other: str | None = None, *, check: str | None = None
    ) -> Comparison:
        """Compare the mean scores of two variants; otherwise like `compare`.

        Args:
            base: the name of one, by default the first.
            other: the name of the other, by default the second.
            check: the check that gives the scores, by default the only one.

        Raises:
            UsageError: there is no such variant or check, only one variant, or the check gives no scores.
        """
        base, other = self.find_pair(base, other)
        check = self._find_scored(check)
        if check not in self.scored:
            scored = ", ".join(map(repr, self.scored)) or "none"
            raise UsageError(
                f"the check {check!r} gives no scores (of the checks that do there are: {scored}); compare its pass "
                f"rates by compare(check={check!r})"
            )
        one, two = self._mean_scores(base, check), self._mean_scores(other, check)
        pairs = [(one[case], two[case]) for case in one if case in two]
        return compare_scores(base, other, pairs, check=check, confidence=self.confidence)

    @property
    def comparisons(self) -> list[Comparison]:
        """Each other variant compared with the first, over all checks; `p` is corrected for their number."""
        return correct([self.compare(self.variants[0], other) for other in self.variants[1:]])

    @property
    def check_comparisons(self) -> list[Comparison]:
        """The same for each check, if there are several, and for scores; also corrected for their number."""
        found = []
        for other in self.variants[1:]:
            base = self.variants[0]
            if len(self.checks) > 1:
                found += [self.compare(base, other, check=check) for check in self.checks]
            found += [self.compare_scores(base, other, check=check) for check in self.scored]
        return correct(found)

    @property
    def scored(self) -> list[str]:
        """The names of the checks that give scores."""
        known = {verdict.check for sample in self.samples for verdict in sample.verdicts if verdict.score is not None}
        return [check for check in self.checks if check in known]

    def find_pair(self, base: str | None = None, other: str | None = None) -> tuple[str, str]:
        """Return the names of two variants to compare, by default of the first two.

        Raises:
            UsageError: there is no such variant, or only one.
        """
        if len(self.variants) < 2:
            raise UsageError(f"there is only one variant, {self.variants[0]!r}, and nothing to compare it with")
        base = base or next(name for name in self.variants if name != other)
        other = other or next(name for name in self.variants if name != base)
        if base == other:
            raise UsageError(f"{base!r} can't be compared with itself")
        self.of(base), self.of(other)
        return base, other

    def agreement(self, check: str, label: str, *, variant: str | None = None) -> Agreement:
        """Measure how far a check, such as a judge, agrees with labels that cases have as data.

        Args:
            check: the name of the check.
            label: the name of the field of the cases' data: true or false, yes or no, 1 or 0.
            variant: by default the only one.

        Raises:
            UsageError: there is no such check, no case with such a label, or a label is something else.
        """
        self._find_check(check)
        pairs = [
            (passed, _read_label(sample, label))
            for sample in self.of(variant)
            if label in sample.case.data and (passed := sample.passes(check)) is not None
        ]
        if not pairs:
            raise UsageError(f"no case has data {label!r} and a verdict of {check!r}")
        return measure_agreement(
            [passed for passed, _ in pairs], [known for _, known in pairs], confidence=self.confidence
        )  # fmt: skip

    def join(self, other: Findings) -> Self:
        """Return one report of two runs, to compare their variants; names that both have get a number.

        Raises:
            UsageError: they have different checks.
        """
        if self.checks != other.checks:
            raise UsageError(f"the reports have different checks: {self.checks} and {other.checks}")
        names = {name: _number(name, self.variants) for name in other.variants}
        samples = [replace(sample, variant=names[sample.variant]) for sample in other.samples]
        costs = (self.judge_cost, other.judge_cost)
        return replace(
            self,
            variants=(*self.variants, *names.values()),
            samples=(*self.samples, *samples),
            stopped=self.stopped or other.stopped,
            judge_cost=None if None in costs else math.fsum(cost for cost in costs if cost is not None),
        )

    # -- inside -------------------------------------------------------------------------------------------

    def _count(self, variant: str | None, check: str | None) -> dict[str, tuple[int, int]]:
        """Return for each case how many samples passed, of how many; those that no check could judge don't count."""
        counts = {}
        for case, samples in _by_case(self.of(variant)):
            passed = [found for sample in samples if (found := sample.passes(check)) is not None]
            counts[case] = sum(passed), len(passed)
        return counts

    def _mean_scores(self, variant: str | None, check: str) -> dict[str, float]:
        means = {}
        for case, samples in _by_case(self.of(variant)):
            scores = [score for sample in samples if (score := sample.score(check)) is not None]
            if scores:
                means[case] = fmean(scores)
        return means

    def _find_check(self, check: str | None) -> None:
        if check is not None and check not in self.checks:
            known = ", ".join(map(repr, self.checks)) or "none"
            raise UsageError(f"there is no check {check!r}; there are {known}")

    def _find_scored(self, check: str | None) -> str:
        self._find_check(check)
        if check is not None:
            return check
        likely = self.scored or self.checks
        if len(likely) != 1:
            raise UsageError(f"name one of the checks: {', '.join(map(repr, likely)) or 'there are none'}")
        return likely[0]


def _by_case(samples: Iterable[Sample]) -> Iterator[tuple[str, Sequence[Sample]]]:
    for case, group in groupby(samples, key=lambda sample: sample.case.id):
        yield case, list(group)


def _number(name: str, taken: Sequence[str]) -> str:
    number, found = 1, name
    while found in taken:
        number += 1
        found = f"{name} ({number})"
    return found


def _read_label(sample: Sample, label: str) -> bool:
    value = sample.case.data[label]
    found = _LABELS.get(str(value).strip().lower())
    if found is None:
        raise UsageError(f"{label!r} of the case {sample.case.id!r} is {value!r}; a label is true or false, yes or no")
    return found


_LABELS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
