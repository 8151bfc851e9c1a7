"""Intervals: they are those of the literature, and hold the true value as often as they say."""

from __future__ import annotations

import math
import random
import re
from fractions import Fraction

import pytest

from mellea.errors import UsageError
from mellea.evaluation.intervals import difference_interval, mean_interval, rate_interval, t_quantile, t_tail


def ones(passed: int, of: int) -> list[tuple[int, int]]:
    return [(1, 1)] * passed + [(0, 1)] * (of - passed)


@pytest.mark.parametrize(
    ("passed", "of", "low", "high"),
    [
        # Newcombe, Statistics in Medicine 1998, table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (29, 29, 0.8830, 1.0000),
    ],
)
def test_a_rate_has_wilsons_interval(passed: int, of: int, low: float, high: float) -> None:
    found = rate_interval(ones(passed, of))
    assert (round(found.low, 4), round(found.high, 4)) == (low, high)
    assert found.estimate == passed / of


def _chance(count: int, of: int, rate: float) -> float:
    return math.comb(of, count) * rate**count * (1 - rate) ** (of - count)


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
@pytest.mark.parametrize("of", [15, 40, 100, 250])
def test_an_interval_of_a_rate_holds_the_true_rate_as_often_as_it_says(of: int, confidence: float) -> None:
    """Exactly, over all outcomes, for true rates from 2 % to 98 %: on average within one percent."""
    ends = [rate_interval(ones(count, of), confidence) for count in range(of + 1)]
    rates = [number / 200 for number in range(4, 197)]
    held = [sum(_chance(count, of, rate) for count in range(of + 1) if rate in ends[count]) for rate in rates]
    assert sum(held) / len(held) == pytest.approx(confidence, abs=0.01)


def _sample(case_rate: float, repeat: int, source: random.Random) -> tuple[int, int]:
    return sum(source.random() < case_rate for _ in range(repeat)), repeat


def test_an_interval_of_several_samples_a_case_holds_the_true_rate_as_often_as_it_says() -> None:
    """Cases differ, from hardly to nearly always passing or failing; samples of one case are alike."""
    source, held, tried, naive = random.Random(7), 0, 0, 0
    for rate in (0.5, 0.7, 0.85):
        for _ in range(400):
            rates = [source.betavariate(rate * 1.5, (1 - rate) * 1.5) for _ in range(60)]
            counts = [_sample(each, 4, source) for each in rates]
            held += rate in rate_interval(counts)
            naive += rate in rate_interval(ones(sum(passed for passed, _ in counts), 240))
            tried += 1
    assert held / tried == pytest.approx(0.95, abs=0.02)
    assert naive / tried < 0.88, "an interval that takes samples for cases is too narrow here"


def test_samples_that_say_the_same_count_once_for_each_case() -> None:
    """Five times the same says no more than once; the interval is even wider, as it can't know that it was the same."""
    for passed in (6, 10):
        one, five = rate_interval(ones(passed, 10)), rate_interval([(5, 5)] * passed + [(0, 5)] * (10 - passed))
        assert one.low - 0.1 < five.low < one.low
        assert five.high >= one.high


def test_without_data_anything_is_possible() -> None:
    found = rate_interval([])
    assert math.isnan(found.estimate)
    assert (found.low, found.high) == (0.0, 1.0)
    assert math.isnan(mean_interval([]).estimate)
    assert mean_interval([0.5]).high == math.inf
    assert math.isnan(difference_interval([]).estimate)


def test_a_rate_without_samples_says_so() -> None:
    assert str(rate_interval([])) == "unknown, without a sample"


@pytest.mark.parametrize("confidence", [0, 1, 1.5, "95"])
def test_a_confidence_lies_between_0_and_1(confidence: float) -> None:
    with pytest.raises(UsageError, match="between 0 and 1"):
        rate_interval([(1, 1)], confidence)


# Student 1908 and any table since: the upper points of t.
@pytest.mark.parametrize(
    ("probability", "freedom", "value"),
    [(0.975, 1, 12.7062), (0.975, 4, 2.7764), (0.95, 10, 1.8125), (0.995, 30, 2.7500), (0.975, 1e6, 1.9600)],
)
def test_students_t_is_that_of_the_tables(probability: float, freedom: float, value: float) -> None:
    assert t_quantile(probability, freedom) == pytest.approx(value, abs=6e-5)
    assert t_tail(value, freedom) == pytest.approx(1 - probability, rel=1e-3)
    assert t_quantile(1 - probability, freedom) == pytest.approx(-value, abs=6e-5)


def test_students_t_has_its_closed_forms() -> None:
    for t in (0.0, 0.3, 1.0, 5.0, 200.0):
        assert t_tail(t, 1) == pytest.approx(0.5 - math.atan(t) / math.pi, rel=1e-9)
        assert t_tail(t, 2) == pytest.approx(0.5 - t / (2 * math.sqrt(2 + t * t)), rel=1e-7)


def test_a_mean_has_students_interval() -> None:
    found = mean_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    half = 2.7764 * math.sqrt(2.5 / 5)
    assert (found.estimate, found.low, found.high) == (
        3.0,
        pytest.approx(3 - half, 1e-4),
        pytest.approx(3 + half, 1e-4),
    )


@pytest.mark.parametrize(("cases", "both", "one", "other"), [(30, 0.5, 0.15, 0.15), (60, 0.6, 0.2, 0.05)])
def test_an_interval_of_a_difference_holds_the_true_difference_at_least_as_often_as_it_says(
    cases: int, both: float, one: float, other: float
) -> None:
    """Exactly, over all outcomes of pairs: how many cases only the one passes, how many only the other."""
    held = 0.0
    for better in range(cases + 1):
        for worse in range(cases + 1 - better):
            even = cases - better - worse
            ways = math.comb(cases, better) * math.comb(cases - better, worse)
            chance = ways * one**better * other**worse * (1 - one - other) ** even
            if chance > 1e-12 and (one - other) in difference_interval([1] * better + [-1] * worse + [0] * even):
                held += chance
    assert 0.94 <= held <= 0.98, both


def test_figures_are_exact_where_they_can_be() -> None:
    assert rate_interval([(1, 3), (2, 3)]).estimate == float(Fraction(1, 2))


@pytest.mark.parametrize("counts", [(2, 1), (-1, 3), (1, 0), (0, -1)])
def test_more_passes_than_samples_are_an_error(counts: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match=re.escape(repr(counts))):
        rate_interval([(1, 2), counts])
