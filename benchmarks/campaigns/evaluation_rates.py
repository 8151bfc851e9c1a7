"""Rates: how often intervals hold the true value, and how often comparisons say what isn't so, in simulations.

    uv run python -m benchmarks.campaigns.evaluation_rates              # 4,000 evaluations of each kind: some minutes
    uv run python -m benchmarks.campaigns.evaluation_rates 400

Cases differ in how hard they are; samples of one case are alike (`alike`: their correlation). Checked:

- 95 % intervals of a rate hold the true rate in 95 % of evaluations, within one percent on average, and in at least
  92 % at each place;
- 95 % intervals of a difference hold the true difference in at least 94 % on average;
- of two variants that are equally good, at most 5 % are told apart (three standard errors allowed);
- the power that `needed` promises, 80 %, within seven percent.
"""

from __future__ import annotations

import argparse
import itertools
import math
import random
from collections.abc import Iterator

from mellea.evaluation.comparison import compare_rates
from mellea.evaluation.intervals import rate_interval

CASES = (20, 50, 150)
REPEATS = (1, 3, 5)
ALIKE = (0.1, 0.4, 0.8)
RATES = (0.5, 0.8, 0.9)


def draw_rate(rate: float, alike: float, source: random.Random) -> float:
    """Return the rate of one case; over all cases their mean is `rate`."""
    return source.betavariate(rate * (1 - alike) / alike, (1 - rate) * (1 - alike) / alike)


def draw_counts(rate: float, repeat: int, source: random.Random) -> tuple[int, int]:
    return sum(source.random() < rate for _ in range(repeat)), repeat


def kinds() -> Iterator[tuple[int, int, float, float]]:
    # With one sample a case, how alike samples are makes no difference.
    yield from itertools.product(CASES, (1,), (0.4,), RATES)
    yield from itertools.product(CASES, REPEATS[1:], ALIKE, RATES)


def measure_coverage(tries: int, source: random.Random) -> None:
    found = []
    for cases, repeat, alike, rate in kinds():
        held = sum(
            rate
            in rate_interval([draw_counts(draw_rate(rate, alike, source), repeat, source) for _ in range(cases)])
            for _ in range(tries)
        )  # fmt: skip
        found.append((held / tries, cases, repeat, alike, rate))
    mean, worst = sum(each[0] for each in found) / len(found), min(found)
    print(f"intervals of a rate: {mean:.1%} hold it, {worst[0]:.1%} at the worst place {worst[1:]}")
    if abs(mean - 0.95) > 0.01 or worst[0] < 0.92 - 3 * math.sqrt(0.05 / tries):
        raise AssertionError("the intervals of a rate don't hold it as often as they say")


def measure_comparisons(tries: int, source: random.Random) -> None:
    """Two variants on the same cases, equally good, then the other worse by a tenth of each case's rate."""
    held, false, power, count = 0, [], [], 0
    for cases, repeat, alike, rate in kinds():
        wrong = 0
        for factor in (1.0, 0.9):
            clear = 0
            for _ in range(tries):
                rates = [draw_rate(rate, alike, source) for _ in range(cases)]
                pairs = [
                    (draw_counts(each, repeat, source), draw_counts(each * factor, repeat, source)) for each in rates
                ]  # fmt: skip
                comparison = compare_rates("one", "other", pairs)
                held += rate * (factor - 1) in comparison.difference
                clear += comparison.is_clear
                count += 1
            wrong = clear if factor == 1.0 else wrong
            power += [] if factor == 1.0 else [clear / tries]
        false.append(wrong / tries)
    print(f"intervals of a difference: {held / count:.1%} hold it")
    print(f"equal variants told apart: {sum(false) / len(false):.1%} on average, {max(false):.1%} at the worst place")
    print(f"a tenth less found: {min(power):.0%} to {max(power):.0%} of the time")
    if held / count < 0.94:
        raise AssertionError("the intervals of a difference don't hold it as often as they say")
    if max(false) > 0.05 + 4 * math.sqrt(0.05 * 0.95 / tries):
        raise AssertionError("equal variants are told apart too often")


def measure_needed(tries: int, source: random.Random) -> None:
    """Take as many cases as an evaluation that couldn't tell says that it needs."""
    outcomes, weights = (((1, 1), (1, 1)), ((0, 1), (1, 1)), ((1, 1), (0, 1))), (28, 8, 4)
    pairs = [pair for pair, weight in zip(outcomes, weights, strict=True) for _ in range(weight)]
    needed = compare_rates("one", "other", pairs).needed
    assert needed is not None, "there is a difference"
    clear = sum(
        compare_rates("one", "other", source.choices(outcomes, weights, k=needed)).is_clear for _ in range(tries)
    )  # fmt: skip
    print(f"with the {needed} cases that are said to be needed: {clear / tries:.0%} tell")
    if abs(clear / tries - 0.8) > 0.07:
        raise AssertionError("the number of needed cases is wrong")


def main(tries: int, seed: int) -> None:
    source = random.Random(seed)
    measure_coverage(tries, source)
    measure_comparisons(max(tries // 4, 50), source)
    measure_needed(max(tries, 1_000), source)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tries", type=int, nargs="?", default=4_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    main(given.tries, given.seed)
