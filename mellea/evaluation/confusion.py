"""A confusion matrix of expected and returned values, and the agreement of two judges."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from statistics import NormalDist
from typing import Any

from mellea.errors import UsageError
from mellea.evaluation.intervals import Interval, check_confidence

__all__ = ["Agreement", "Confusion", "count_confusion", "measure_agreement"]


@dataclass(frozen=True, slots=True)
class Confusion:
    """How often each label was returned for each expected one.

    Attributes:
        labels: the labels, in the order of the type.
        counts: a row for each expected label, with a number for each returned label.
    """

    labels: tuple[Any, ...]
    counts: tuple[tuple[int, ...], ...]

    def count(self, expected: Any, came: Any) -> int:
        """Return how often one label was returned when another was expected."""
        return self.counts[self.labels.index(expected)][self.labels.index(came)]

    def recall(self, label: Any) -> float:
        """Return how often a label was returned when it was expected; NaN if it never was."""
        place = self.labels.index(label)
        return _divide(self.counts[place][place], sum(self.counts[place]))

    def precision(self, label: Any) -> float:
        """Return how often a label was expected when it was returned; NaN if it never was."""
        place = self.labels.index(label)
        return _divide(self.counts[place][place], sum(row[place] for row in self.counts))

    def names(self) -> list[str]:
        """Return the labels as text."""
        return [str(label.value if isinstance(label, Enum) else label) for label in self.labels]


def _divide(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def count_confusion(pairs: Iterable[tuple[Any, Any]], labels: Sequence[Any]) -> Confusion:
    """Count pairs of an expected and a given label; those that aren't among the labels don't count."""
    counts = Counter(pair for pair in pairs if all(isinstance(each, Hashable) for each in pair))
    return Confusion(tuple(labels), tuple(tuple(counts[one, other] for other in labels) for one in labels))


@dataclass(frozen=True, slots=True)
class Agreement:
    """How well two judges of the same things agree.

    Attributes:
        count: how many things both judged.
        observed: how often they agree.
        expected: how often they would agree by chance, each with its own frequencies.
        kappa: Cohen's kappa with its interval: 0 is chance, 1 is complete agreement; NaN if both always give the same
            single label.
        confusion: the first one's labels as rows, the other's as columns.
    """

    count: int
    observed: float
    expected: float
    kappa: Interval
    confusion: Confusion

    def __str__(self) -> str:
        if math.isnan(self.kappa.estimate):
            return f"they agree on {self.observed:.0%} of {self.count}, but use only one label, so kappa says nothing"
        kappa = self.kappa
        return (
            f"they agree on {self.observed:.0%} of {self.count}, Cohen's kappa {kappa.estimate:.2f} "
            f"({kappa.low:.2f} to {kappa.high:.2f})"
        )


def measure_agreement(one: Sequence[Any], other: Sequence[Any], *, confidence: float = 0.95) -> Agreement:
    """Measure how well two lists of labels for the same things agree, such as a judge's and a person's.

    `None` and NaN are missing labels: a thing that either of the two didn't label isn't counted.

    Args:
        one: the labels from one judge.
        other: the labels from the other, in the same order.
        confidence: the confidence level of the interval, whose error is Fleiss, Cohen & Everitt's (Psychol. Bull.
            1969).

    Raises:
        UsageError: there is nothing that both labelled, the lists have different lengths, or a label isn't hashable.
    """
    check_confidence(confidence)
    if len(one) != len(other) or not len(one):
        raise UsageError(
            f"both lists label the same things, so they need the same length above 0, not {len(one)} and {len(other)}"
        )
    pairs = [pair for pair in zip(one, other, strict=True) if not any(map(_is_missing, pair))]
    if not pairs:
        raise UsageError(f"there is nothing that both labelled: in each of the {len(one)} pairs a label is missing")
    labels = tuple(dict.fromkeys(label for pair in zip(*pairs, strict=True) for label in pair))
    count = len(pairs)
    confusion = count_confusion(pairs, labels)
    shares = [[number / count for number in row] for row in confusion.counts]
    rows = [math.fsum(row) for row in shares]
    columns = [math.fsum(column) for column in zip(*shares, strict=True)]
    observed = math.fsum(shares[place][place] for place in range(len(labels)))
    expected = math.fsum(row * column for row, column in zip(rows, columns, strict=True))
    if expected >= 1 - 1e-12:
        return Agreement(count, observed, expected, Interval(math.nan, -1.0, 1.0, confidence), confusion)
    kappa = (observed - expected) / (1 - expected)
    half = NormalDist().inv_cdf(0.5 + confidence / 2) * math.sqrt(_kappa_variance(shares, rows, columns, kappa) / count)
    interval = Interval(kappa, max(kappa - half, -1.0), min(kappa + half, 1.0), confidence)
    return Agreement(count, observed, expected, interval, confusion)


def _is_missing(label: Any) -> bool:
    if not isinstance(label, Hashable):
        raise UsageError(f"a label is a plain value, such as a text or True, not {label!r}")
    return label is None or (isinstance(label, float) and math.isnan(label))


def _kappa_variance(
    shares: Sequence[Sequence[float]], rows: Sequence[float], columns: Sequence[float], kappa: float
) -> float:
    """Return the variance of kappa for one thing (equation 13 of Fleiss, Cohen & Everitt)."""
    places = range(len(rows))
    expected = math.fsum(rows[place] * columns[place] for place in places)
    same = math.fsum(
        shares[place][place] * (1 - (rows[place] + columns[place]) * (1 - kappa)) ** 2 for place in places
    )  # fmt: skip
    apart = (1 - kappa) ** 2 * math.fsum(
        shares[row][column] * (columns[row] + rows[column]) ** 2 for row in places for column in places if row != column
    )
    chance = (kappa - expected * (1 - kappa)) ** 2
    return max(same + apart - chance, 0.0) / (1 - expected) ** 2
