"""Paired comparisons: error rates are at most the nominal ones, and what is said is what one can tell."""

from __future__ import annotations

import itertools
import math
import random

import pytest

from mellea.evaluation.comparison import compare_rates, compare_scores, correct, flip_test, t_test


def discordant(better: int, worse: int, even: int = 0) -> list[int]:
    return [1] * better + [-1] * worse + [0] * even


@pytest.mark.parametrize(
    ("better", "worse", "p"),
    # McNemar's exact test, which is that of a binomial with one half: 2 * P(X >= the larger).
    [(0, 0, 1.0), (1, 0, 1.0), (5, 0, 0.0625), (6, 0, 0.03125), (25, 9, 0.00904), (10, 10, 1.0), (121, 59, 4.434e-06)],
)
def test_with_one_sample_it_is_mcnemars_exact_test(better: int, worse: int, p: float) -> None:
    count, larger = better + worse, max(better, worse)
    exact = min(1.0, 2 * sum(math.comb(count, number) for number in range(larger, count + 1)) / 2**count)
    assert flip_test(discordant(better, worse, 40)) == pytest.approx(exact, rel=1e-9)
    assert exact == pytest.approx(p, rel=0.05)


def test_with_several_samples_all_flips_of_signs_are_counted() -> None:
    source = random.Random(3)
    for _ in range(50):
        differences = [source.randint(-4, 4) for _ in range(9)]
        total = abs(sum(differences))
        flips = list(itertools.product((1, -1), repeat=9))
        sums = [sum(sign * each for sign, each in zip(flip, differences, strict=True)) for flip in flips]
        exact = sum(abs(each) >= total for each in sums) / len(flips)
        assert flip_test(differences) == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize("cases", [8, 20, 60])
@pytest.mark.parametrize("level", [0.01, 0.05, 0.1])
def test_equal_variants_are_told_apart_at_most_as_often_as_the_level_says(cases: int, level: float) -> None:
    """Exactly, over all numbers of cases in which they differ."""
    for differing in range(cases + 1):
        rejected = sum(
            math.comb(differing, better)
            for better in range(differing + 1)
            if flip_test(discordant(better, differing - better)) < level
        )
        assert rejected / 2**differing <= level


def _sample(rate: float, source: random.Random) -> tuple[int, int]:
    return sum(source.random() < rate for _ in range(3)), 3


def test_equal_variants_with_several_samples_are_told_apart_at_most_as_often_as_the_level_says() -> None:
    source, clear, tried = random.Random(11), 0, 1500
    for _ in range(tried):
        rates = [source.betavariate(2, 1) for _ in range(25)]
        pairs = [(_sample(rate, source), _sample(rate, source)) for rate in rates]
        clear += compare_rates("a", "b", pairs).is_clear
    assert clear / tried <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / tried)


def test_a_difference_is_found_about_as_often_as_the_number_of_needed_cases_promises() -> None:
    """With as many cases as were said to be needed, four times in five."""
    seen = compare_rates("a", "b", [((0, 1), (1, 1))] * 8 + [((1, 1), (0, 1))] * 4 + [((1, 1), (1, 1))] * 28)
    assert not seen.is_clear
    assert seen.needed is not None
    source, clear, tried = random.Random(5), 0, 400
    for _ in range(tried):
        draws = source.choices(((0, 1), (1, 0), (1, 1)), (8, 4, 28), k=seen.needed)
        clear += compare_rates("a", "b", [((one, 1), (other, 1)) for one, other in draws]).is_clear
    assert clear / tried == pytest.approx(0.8, abs=0.07)


def test_a_clear_difference_says_which_is_better_and_on_how_many_cases() -> None:
    pairs = [((0, 1), (1, 1))] * 19 + [((1, 1), (0, 1))] * 6 + [((1, 1), (1, 1))] * 55
    found = compare_rates("A", "B", pairs)
    assert found.winner == "B"
    assert (
        str(found)
        == "'B' is better than 'A': 92.5% against 76.2%, better on 19 of 80 cases and worse on 6 (p = 0.015)."
    )
    turned = compare_rates("B", "A", [(other, one) for one, other in pairs])
    assert turned.winner == "B"
    assert str(turned) == str(found)


def test_an_unclear_difference_says_how_many_cases_would_show_it() -> None:
    pairs = [((0, 1), (1, 1))] * 7 + [((1, 1), (0, 1))] * 4 + [((1, 1), (1, 1))] * 29
    found = compare_rates("A", "B", pairs)
    assert found.winner is None
    assert str(found) == (
        "Can't tell whether 'B' is better than 'A': 90.0% against 82.5%, better on 7 of 40 cases and worse on 4 "
        "(p = 0.55). About 382 cases would be needed to show a difference of this size."
    )


def test_where_no_case_tells_them_apart_no_number_of_cases_is_named() -> None:
    found = compare_rates("A", "B", [((1, 1), (1, 1))] * 40)
    assert (found.p, found.needed) == (1.0, None)
    assert "No case tells them apart" in str(found)
    assert "no case in common" in str(compare_rates("A", "B", []))


def test_different_numbers_of_samples_can_be_compared() -> None:
    found = compare_rates("A", "B", [((1, 2), (2, 3))] * 12)
    assert (found.better, found.cases) == (12, 12)
    assert found.is_clear


def test_scores_are_compared_by_students_paired_test() -> None:
    # Student 1908, hours of sleep gained by two drugs: t = 4.06 with 9 degrees of freedom.
    one = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    other = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    found = compare_scores("one", "other", list(zip(one, other, strict=True)))
    assert found.p == pytest.approx(0.002833, abs=1e-6)
    assert (round(found.difference.low, 4), round(found.difference.high, 4)) == (0.7001, 2.4599)
    assert found.winner == "other"
    assert t_test([0.0, 0.0]) == 1.0
    assert t_test([0.5]) == 1.0


def test_several_comparisons_are_corrected_by_holms_method() -> None:
    made = [compare_rates("A", name, [((0, 1), (1, 1))] * count) for name, count in (("B", 6), ("C", 8), ("D", 3))]
    assert [each.p for each in made] == pytest.approx([0.03125, 0.0078125, 0.25])
    corrected = correct(made)
    assert [each.p for each in corrected] == pytest.approx([0.0625, 0.0234375, 0.25])
    assert {each.family for each in corrected} == {3}
    unclear = compare_rates("A", "B", [((0, 1), (1, 1))] * 7 + [((1, 1), (0, 1))] * 4)
    needed, needed_of_many = unclear.needed, correct([unclear, *made])[0].needed
    assert needed is not None
    assert needed_of_many is not None
    assert needed_of_many > needed, "more comparisons need more cases"
    assert [each.winner for each in corrected] == [None, "C", None]


def test_of_thousands_of_cases_with_many_samples_the_sum_is_normal() -> None:
    source = random.Random(1)
    differences = [source.randint(-20, 21) for _ in range(700)]
    exact = flip_test(differences)  # few enough for the exact distribution
    deviation = math.sqrt(sum(each * each for each in differences))
    assert exact == pytest.approx(math.erfc(abs(sum(differences)) / deviation / math.sqrt(2)), rel=0.02)
    assert flip_test(differences * 10) == pytest.approx(
        math.erfc(math.sqrt(10) * abs(sum(differences)) / deviation / math.sqrt(2)), rel=1e-9
    )
