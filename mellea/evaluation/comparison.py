"""Is one variant better than another? Both were run on the same cases, so each case is compared with itself.

Rules:

- A case's difference is its pass rate (or mean score) with one variant minus that with the other. If there were no
  difference between the variants, each would be as likely with the other sign.
- For pass rates, the test flips signs at random, and is computed exactly over all flips. With one sample for each case
  it is the exact McNemar test. Its error rate is never above the nominal one.
- For scores it is Student's paired t test.
- Several comparisons are corrected by Holm's method (Scand. J. Stat. 1979).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist, fmean, variance
from typing import Literal

from mellea.evaluation.intervals import Interval, difference_interval, mean_interval, t_tail

__all__ = ["Comparison", "compare_rates", "compare_scores", "correct", "flip_test", "format_p", "t_test"]

Paired = Sequence[tuple[tuple[int, int], tuple[int, int]]]
"""For each case: how many samples passed, of how many, with one variant and with the other."""

_MOST_CASES = 100_000
"""Larger numbers of cases aren't recommended: a difference that small is as good as none."""

_POWER = 0.8

_MOST_STEPS = 5_000_000
"""The maximum number of steps for the exact distribution if cases have several samples; takes well under a second."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two variants on the same cases.

    Attributes:
        base: the name of the variant that the other is compared with.
        other: the name of the other one.
        check: the check that is compared, `None` for all of them together.
        kind: `"rate"` of passes, or `"score"`.
        difference: the other's rate or score minus the base's, with its interval.
        p: how probable a difference at least this large would be if there were none, corrected for other comparisons.
        better: on how many cases the other does better.
        worse: on how many cases the other does worse.
        cases: how many cases both have.
        base_value: the rate or mean score of the base on these cases.
        other_value: the other's.
        square: the mean square of the cases' differences, which `needed` uses.
        family: how many comparisons `p` is corrected for.
        level: the significance level: with this `p` or more, it isn't called a difference.
    """

    base: str
    other: str
    check: str | None
    kind: Literal["rate", "score"]
    difference: Interval
    p: float
    better: int
    worse: int
    cases: int
    base_value: float
    other_value: float
    square: float
    family: int = 1
    level: float = 0.05

    @property
    def is_clear(self) -> bool:
        """Whether the difference is significant."""
        return self.p < self.level

    @property
    def needed(self) -> int | None:
        """About how many cases would show a difference of this size four times out of five; `None` if too many."""
        return _find_needed(self.difference.estimate, self.square, self.level / self.family)

    @property
    def winner(self) -> str | None:
        """The name of the better variant, `None` if the result isn't clear."""
        if not self.is_clear:
            return None
        return self.other if self.difference.estimate > 0 else self.base

    def __str__(self) -> str:
        at = "" if self.check is None else f" at {self.check!r}"
        if self.winner == self.base:
            return f"{self.base!r} is better than {self.other!r}{at}: {self._swap()._list_figures()}."
        if self.is_clear:
            return f"{self.other!r} is better than {self.base!r}{at}: {self._list_figures()}."
        doubt = f"Can't tell whether {self.other!r} is better than {self.base!r}{at}"
        if not self.cases:
            what = "verdict" if self.kind == "rate" else "score"
            return f"{doubt}: they have no case in common in which both have a {what}."
        return f"{doubt}: {self._list_figures()}. {self._advise()}"

    def _swap(self) -> Comparison:
        """Return the same comparison from the other side, except for the interval."""
        return replace(
            self,
            better=self.worse,
            worse=self.better,
            base_value=self.other_value,
            other_value=self.base_value,
        )

    def _list_figures(self) -> str:
        if self.kind == "rate":
            values = f"{self.other_value:.1%} against {self.base_value:.1%}"
        else:
            values = f"a mean score of {self.other_value:.3f} against {self.base_value:.3f}"
        return f"{values}, better on {self.better} of {self.cases} cases and worse on {self.worse} ({format_p(self.p)})"

    def _advise(self) -> str:
        if self.better == self.worse == 0:
            return "No case tells them apart."
        if self.needed is None:
            return "If there is a difference, it is too small to be found with any reasonable number of cases."
        if self.needed <= self.cases:
            return f"It is close: a few more than these {self.cases} cases would probably show it."
        return f"About {self.needed:,} cases would be needed to show a difference of this size."


def format_p(p: float) -> str:
    """Return a p value as it is usually written."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def compare_rates(
    base: str, other: str, pairs: Paired, *, check: str | None = None, confidence: float = 0.95
) -> Comparison:
    """Compare the pass rates of two variants.

    Args:
        base: the name of one.
        other: the name of the other.
        pairs: for each case that both have: how many samples passed of how many, with the base, then with the other.
        check: the check that is compared.
        confidence: the confidence level of the interval; 1 minus it is the level of the test.
    """
    differences = [passed / of - base_passed / base_of for (base_passed, base_of), (passed, of) in pairs]
    repeat = min((min(base_of, of) for (_, base_of), (_, of) in pairs), default=1)
    return _compare(
        base,
        other,
        check,
        "rate",
        differences,
        (fmean([passed / of for (passed, of), _ in pairs] or [math.nan]),
         fmean([passed / of for _, (passed, of) in pairs] or [math.nan])),
        flip_test(_to_integers(pairs)),
        difference_interval(differences, repeat, confidence),
    )  # fmt: skip


def compare_scores(
    base: str, other: str, pairs: Sequence[tuple[float, float]], *, check: str | None = None, confidence: float = 0.95
) -> Comparison:
    """Compare the mean scores of two variants.

    Args:
        base: the name of one.
        other: the name of the other.
        pairs: for each case that both have: the mean score with the base, then with the other.
        check: the check that is compared.
        confidence: the confidence level of the interval; 1 minus it is the level of the test.
    """
    differences = [score - base_score for base_score, score in pairs]
    means = (fmean([each[0] for each in pairs] or [math.nan]), fmean([each[1] for each in pairs] or [math.nan]))
    p, interval = t_test(differences), mean_interval(differences, confidence)
    return _compare(base, other, check, "score", differences, means, p, interval)


def _compare(
    base: str,
    other: str,
    check: str | None,
    kind: Literal["rate", "score"],
    differences: Sequence[float],
    means: tuple[float, float],
    p: float,
    interval: Interval,
) -> Comparison:
    return Comparison(
        base,
        other,
        check,
        kind,
        interval,
        p,
        better=sum(each > 0 for each in differences),
        worse=sum(each < 0 for each in differences),
        cases=len(differences),
        base_value=means[0],
        other_value=means[1],
        square=fmean([each * each for each in differences] or [math.nan]),
        level=1 - interval.confidence,
    )


def _find_needed(middle: float, square: float, level: float) -> int | None:
    """Return how many cases show a difference of this size with a power of 80 % (Connor, Biometrics 1987)."""
    # NaN if there are no cases.
    if not abs(middle) > 1e-12:
        return None
    z, power = NormalDist().inv_cdf(1 - level / 2), NormalDist().inv_cdf(_POWER)
    rest = math.sqrt(max(square - middle * middle, 0.0))
    needed = math.ceil((z * math.sqrt(square) + power * rest) ** 2 / middle**2)
    return needed if needed <= _MOST_CASES else None


def correct(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Return comparisons whose `p` is corrected for all of them together, by Holm's method."""
    order = sorted(range(len(comparisons)), key=lambda place: comparisons[place].p)
    corrected, least = list(comparisons), 0.0
    for rank, place in enumerate(order):
        least = max(least, min(1.0, comparisons[place].p * (len(order) - rank)))
        corrected[place] = replace(comparisons[place], p=least, family=len(order))
    return corrected


# -- the tests ------------------------------------------------------------------------------------------------


def _to_integers(pairs: Paired) -> list[int]:
    """Return the cases' differences in whole units: numbers of samples, over a common denominator."""
    common = math.lcm(*(of for pair in pairs for _, of in pair)) if pairs else 1
    return [
        passed * (common // of) - base_passed * (common // base_of)
        for (base_passed, base_of), (passed, of) in pairs
    ]  # fmt: skip


def flip_test(differences: Sequence[int]) -> float:
    """Return the two-sided p value of the exact test that flips the sign of each case's difference.

    Args:
        differences: one for each case, in whole units; zeros have no effect. With only -1, 0 and 1 this is the exact
            McNemar test, which is a sign test.
    """
    sizes = Counter(abs(each) for each in differences if each)
    if not sizes:
        return 1.0
    unit = math.gcd(*sizes)
    reach = sum(size * count for size, count in sizes.items()) // unit
    if len(sizes) > 1 and reach * sizes.total() > _MOST_STEPS:
        # With this many, the sum is normally distributed to every digit that is shown.
        deviation = math.sqrt(sum(size * size * count for size, count in sizes.items()))
        return min(1.0, 2 * NormalDist().cdf(-abs(sum(differences)) / deviation))
    total = abs(sum(differences)) // unit
    chances = _sum_chances({size // unit: count for size, count in sizes.items()})
    # The other tail is the same, and 0 is in both.
    tail = math.fsum(chance for value, chance in chances.items() if value >= total)
    return min(1.0, 2 * tail)


def _sum_chances(sizes: Mapping[int, int]) -> dict[int, float]:
    """Return the distribution of the sum of numbers whose signs are random, so many of each size."""
    chances = {0: 1.0}
    for size, count in sizes.items():
        # The sum of numbers of equal size is binomial; logarithms, since the counts may be in the thousands.
        whole = math.lgamma(count + 1) - count * math.log(2)
        steps = {
            size * (2 * ups - count): math.exp(whole - math.lgamma(ups + 1) - math.lgamma(count - ups + 1))
            for ups in range(count + 1)
        }
        steps = {value: chance for value, chance in steps.items() if chance > 1e-18}
        mixed: dict[int, float] = {}
        for value, chance in chances.items():
            for step, part in steps.items():
                mixed[value + step] = mixed.get(value + step, 0.0) + chance * part
        chances = mixed
    return chances


def t_test(differences: Sequence[float]) -> float:
    """Return the two-sided p value of Student's test that the mean of some differences is 0."""
    if len(differences) < 2:
        return 1.0
    middle, spread = fmean(differences), variance(differences)
    if not spread:
        return 1.0 if not middle else 0.0
    return min(1.0, 2 * t_tail(abs(middle) / math.sqrt(spread / len(differences)), len(differences) - 1))
