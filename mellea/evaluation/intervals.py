"""Confidence intervals for a pass rate, a mean score, and the difference between two variants.

Rules:

- The case is the unit. Several samples of one case are alike, so more samples of the same cases say less than the same
  number of new cases; an interval uses the spread between cases, not between samples.
- Intervals are two-sided. A rate's is Wilson's (Wilson 1927), with the effective number of samples instead of their
  number if cases have several (Franco, Little, Louis & Slud, J. Surv. Stat. Methodol. 2019).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist, fmean, variance

from mellea.errors import UsageError

__all__ = [
    "Interval",
    "check_confidence",
    "difference_interval",
    "mean_interval",
    "rate_interval",
    "t_quantile",
    "t_tail",
]

Counts = tuple[int, int]
"""For a case: how many samples passed, of how many."""


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate, and the range in which the true value lies with some confidence.

    Attributes:
        estimate: the best guess: a rate, a mean or a difference; NaN without data.
        low: the lower end.
        high: the upper end.
        confidence: how often such an interval contains the true value, from 0 to 1.
    """

    estimate: float
    low: float
    high: float
    confidence: float = 0.95

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    def __str__(self) -> str:
        if math.isnan(self.estimate):
            return "unknown, without a sample"
        return f"{self.estimate:.1%} ({self.low:.1%} to {self.high:.1%})"


def check_confidence(confidence: float) -> float:
    """Return a confidence that lies between 0 and 1.

    Raises:
        UsageError: it doesn't.
    """
    if not isinstance(confidence, (int, float)) or not 0 < confidence < 1:
        raise UsageError(f"confidence= takes a number between 0 and 1, such as 0.95, not {confidence!r}")
    return float(confidence)


def rate_interval(counts: Sequence[Counts], confidence: float = 0.95) -> Interval:
    """Return the pass rate of cases, with Wilson's interval.

    Args:
        counts: for each case, how many of its samples passed and how many there are; those without samples don't count.
        confidence: how often such intervals contain the true rate.

    Raises:
        UsageError: a case has more passes than samples, or a negative number.
    """
    check_confidence(confidence)
    for passed, of in counts:
        if not 0 <= passed <= of:
            raise UsageError(f"a case has (passed, samples) with 0 <= passed <= samples, not {(passed, of)!r}")
    known = [(passed, of) for passed, of in counts if of]
    total = sum(of for _, of in known)
    if not total:
        return Interval(math.nan, 0.0, 1.0, confidence)
    rate = sum(passed for passed, _ in known) / total
    if total == len(known):
        return _wilson(rate, total, _z(confidence), confidence)
    size = _effective_size(known, rate, total)
    # The spread between few cases is itself uncertain, which Student's t accounts for.
    width = t_quantile(0.5 + confidence / 2, len(known) - 1) if len(known) > 1 else _z(confidence)
    return _wilson(rate, size, width, confidence)


def _effective_size(counts: Sequence[Counts], rate: float, total: int) -> float:
    """Return how many independent samples would be as informative as these."""
    cases = len(counts)
    # If all samples agree, nothing shows how similar the samples of one case are; then each case counts once.
    if cases < 2 or rate in (0.0, 1.0):
        return cases
    spread = sum((passed - rate * of) ** 2 for passed, of in counts) * cases / (cases - 1) / total**2
    return min(max(rate * (1 - rate) / spread, cases), total) if spread else total


def _wilson(rate: float, size: float, z: float, confidence: float) -> Interval:
    middle = (rate + z * z / (2 * size)) / (1 + z * z / size)
    half = z / (1 + z * z / size) * math.sqrt(rate * (1 - rate) / size + z * z / (4 * size * size))
    # Set exactly, where rounding would leave them slightly off.
    low = 0.0 if rate == 0.0 else middle - half
    return Interval(rate, low, 1.0 if rate == 1.0 else middle + half, confidence)


def mean_interval(means: Sequence[float], confidence: float = 0.95) -> Interval:
    """Return the mean of the cases' own means, such as of scores, with Student's interval."""
    check_confidence(confidence)
    if not means:
        return Interval(math.nan, -math.inf, math.inf, confidence)
    middle = fmean(means)
    if len(means) < 2:
        return Interval(middle, -math.inf, math.inf, confidence)
    half = t_quantile(0.5 + confidence / 2, len(means) - 1) * math.sqrt(variance(means) / len(means))
    return Interval(middle, middle - half, middle + half, confidence)


def difference_interval(differences: Sequence[float], repeat: int = 1, confidence: float = 0.95) -> Interval:
    """Return the mean difference between two pass rates of the same cases, with an interval.

    It is the adjusted Wald interval of Bonett & Price (J. Educ. Behav. Stat. 2012), which adds one case in favour of
    each side; its coverage also holds for few cases.

    Args:
        differences: for each case, the rate of one variant minus that of the other, from -1 to 1.
        repeat: the number of samples behind each rate.
        confidence: how often such intervals contain the true difference.
    """
    check_confidence(confidence)
    if not differences:
        return Interval(math.nan, -1.0, 1.0, confidence)
    # With several samples per case, the differences vary less, so the two that are added have to as well.
    added = 1 / math.sqrt(repeat)
    size = len(differences) + 2
    middle = sum(differences) / size
    spread = (sum(each * each for each in differences) + 2 * added * added) / size - middle * middle
    half = _z(confidence) * math.sqrt(spread / size)
    return Interval(fmean(differences), max(middle - half, -1.0), min(middle + half, 1.0), confidence)


def _z(confidence: float) -> float:
    return NormalDist().inv_cdf(0.5 + confidence / 2)


# -- Student's t ------------------------------------------------------------------------------------------


def t_tail(t: float, freedom: float) -> float:
    """Return the probability that Student's t with some degrees of freedom is beyond `t`, upwards."""
    if math.isinf(t):
        return 0.0 if t > 0 else 1.0
    tail = _beta_ratio(freedom / (freedom + t * t), freedom / 2, 0.5) / 2
    return tail if t >= 0 else 1 - tail


@lru_cache(maxsize=256)
def t_quantile(probability: float, freedom: float) -> float:
    """Return the value that Student's t with some degrees of freedom is below with a probability."""
    if probability < 0.5:
        return -t_quantile(1 - probability, freedom)
    low, high = 0.0, 1.0
    while t_tail(high, freedom) > 1 - probability and high < 1e12:
        low, high = high, high * 2
    for _ in range(80):  # halves the range each time, down to the last bit
        middle = (low + high) / 2
        low, high = (middle, high) if t_tail(middle, freedom) > 1 - probability else (low, middle)
    return (low + high) / 2


def _beta_ratio(x: float, a: float, b: float) -> float:
    """Return the regularised incomplete beta function (DLMF 8.17.22, a continued fraction)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):  # where the fraction converges quickly
        return 1 - _beta_ratio(1 - x, b, a)
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    ) / a  # fmt: skip
    # Lentz's method: the ratio of two neighbouring convergents, until it doesn't change any more.
    tiny = 1e-300
    fraction, upper, lower = 1.0, 1.0, 0.0
    for step in range(500):
        half = step // 2
        if step == 0:
            term = 1.0
        elif step % 2 == 0:
            term = half * (b - half) * x / ((a + 2 * half - 1) * (a + 2 * half))
        else:
            term = -(a + half) * (a + b + half) * x / ((a + 2 * half) * (a + 2 * half + 1))
        lower = 1 / (1 + term * lower or tiny)
        upper = 1 + term / upper or tiny
        fraction *= upper * lower
        if abs(1 - upper * lower) < 1e-15:
            break
    return front * (fraction - 1)
