"""Judges: pairs in both orders, and how far they agree with people."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

import mellea
from mellea.core.backend import Request
from mellea.errors import UsageError
from mellea.evaluation import Case, Report, aprefer, measure_agreement, prefer
from mellea.stdlib.requirements import check
from mellea.testing import ScriptedBackend

pytestmark = pytest.mark.anyio


async def write_short(text: str) -> str:
    return f"{text}!"


async def write_long(text: str) -> str:
    return f"Dear reader, {text}!"


async def make_report(count: int = 12) -> Report:
    return await mellea.aevaluate([write_short, write_long], [f"thing {number}" for number in range(count)])


def choose(rule: Any) -> ScriptedBackend:
    """Make a judge that chooses by a rule of the first and the second text."""

    def reply(request: Request) -> str:
        text = request.messages[-1].text
        first, second = (
            text.partition(f"<{name}>")[2].partition(f"</{name}>")[0].strip() for name in ("first", "second")
        )
        return json.dumps({"reason": "so", "choice": rule(first, second)})

    return ScriptedBackend(reply)


async def test_a_preference_that_both_orders_share_counts() -> None:
    judge = choose(lambda first, second: "first" if len(first) > len(second) else "second")
    found = await aprefer(await make_report(), "The longer one is better.", judge=judge)
    assert (found.for_base, found.for_other, found.ties, found.steady, found.first) == (0, 12, 0, 12, 0.5)
    assert found.winner == "write_long"
    assert str(found) == (
        "'write_long' is preferred: 'write_long' in 12 of 12 pairs, 'write_short' in 0, neither in 0 (p < 0.001). "
        "The judge chose the same in both orders of 12 pairs, and the first one in 50% of its choices."
    )
    assert len(judge.requests) == 24
    prompt = judge.requests[0].messages[-1].text
    assert "The longer one is better." in prompt
    assert re.search(r"<task>\nthing \d+\n</task>", prompt)


async def test_a_judge_that_goes_by_the_place_prefers_neither() -> None:
    found = await aprefer(await make_report(), "Either.", judge=choose(lambda first, second: "first"))
    assert (found.ties, found.steady, found.first, found.winner) == (12, 0, 1.0, None)
    assert "Can't tell which is preferred" in str(found)


async def test_a_tie_is_half_of_a_preference_for_each() -> None:
    found = await aprefer(await make_report(), "Either.", judge=choose(lambda first, second: "tie"))
    assert (found.ties, found.steady, found.comparison.base_value) == (12, 12, 0.5)


async def test_equal_values_are_a_tie_and_nobody_is_asked() -> None:
    judge = choose(lambda first, second: "first")
    report = await mellea.aevaluate({"one": write_short, "other": write_short}, ["a", "b"])
    found = await aprefer(report, "Either.", judge=judge)
    assert (found.ties, len(judge.requests)) == (2, 0)


async def test_what_a_judge_fails_to_say_is_counted_apart() -> None:
    judge = ScriptedBackend("no idea")
    found = await aprefer(await make_report(3), "Either.", judge=judge)
    assert (found.errors, found.ties) == (3, 0)
    assert "It gave no verdict on 3." in str(found)


def test_preferences_come_out_of_the_journal(tmp_path: Path) -> None:
    judge = choose(lambda first, second: "first" if len(first) > len(second) else "second")
    report = mellea.evaluate([write_short, write_long], ["a", "b", "c"])
    found = [prefer(report, "The longer one.", judge=judge, journal=tmp_path / "run.db") for _ in range(2)]
    assert found[0] == found[1]
    assert len(judge.requests) == 6


async def test_one_variant_alone_has_nothing_to_be_preferred_to() -> None:
    report = await mellea.aevaluate(write_short, ["a"])
    with pytest.raises(UsageError, match="only one variant"):
        await aprefer(report, "Either.")


# -- agreement --------------------------------------------------------------------------------------------------


def test_agreement_is_cohens_kappa() -> None:
    """Two who sort a hundred things into three kinds."""
    counts = {("a", "a"): 75, ("a", "b"): 1, ("a", "c"): 4, ("b", "a"): 5, ("b", "b"): 4, ("b", "c"): 1, ("c", "c"): 10}
    one = [pair[0] for pair, count in counts.items() for _ in range(count)]
    other = [pair[1] for pair, count in counts.items() for _ in range(count)]
    found = measure_agreement(one, other)
    assert found.count == 100
    assert (found.observed, round(found.expected, 9)) == (0.89, 0.66)
    assert found.kappa.estimate == pytest.approx(0.23 / 0.34)
    # Its standard error by the equation of Fleiss, Cohen & Everitt (1969), written out.
    error = (found.kappa.high - found.kappa.low) / 2 / 1.959964
    assert error == pytest.approx(_write_out_error(one, other), rel=1e-6)


def _write_out_error(one: list[str], other: list[str]) -> float:
    labels, size = ("a", "b", "c"), len(one)
    share = {
        (i, j): sum(pair == (i, j) for pair in zip(one, other, strict=True)) / size for i in labels for j in labels
    }
    row = {i: sum(share[i, j] for j in labels) for i in labels}
    column = {j: sum(share[i, j] for i in labels) for j in labels}
    expected = sum(row[i] * column[i] for i in labels)
    kappa = (sum(share[i, i] for i in labels) - expected) / (1 - expected)
    first = sum(share[i, i] * (1 - (row[i] + column[i]) * (1 - kappa)) ** 2 for i in labels)
    second = (1 - kappa) ** 2 * sum(share[i, j] * (column[i] + row[j]) ** 2 for i in labels for j in labels if i != j)
    third = (kappa - expected * (1 - kappa)) ** 2
    return math.sqrt((first + second - third) / (size * (1 - expected) ** 2))


def test_two_who_always_say_the_same_thing_show_no_agreement() -> None:
    found = measure_agreement([True] * 5, [True] * 5)
    assert math.isnan(found.kappa.estimate)
    assert "kappa says nothing" in str(found)
    with pytest.raises(UsageError, match="need the same length"):
        measure_agreement([True], [])


def test_missing_labels_are_neither_agreement_nor_against_it() -> None:
    known = measure_agreement([True, False, True, False], [True, False, False, False])
    nan = float("nan")
    gaps = measure_agreement([True, None, False, nan, True, False, None], [True, None, False, True, False, False, nan])
    assert gaps == known
    assert gaps.count == 4
    with pytest.raises(UsageError, match="nothing that both labelled: in each of the 2 pairs a label is missing"):
        measure_agreement([None, True], [True, None])
    with pytest.raises(UsageError, match=r"a label is a plain value, .* not \['a'\]"):
        measure_agreement([["a"]], [["a"]])


async def test_a_judge_is_compared_with_peoples_labels() -> None:
    judge = ScriptedBackend(
        lambda request: json.dumps(
            {"reason": "", "verdict": "yes" if "please" in request.messages[-1].text.split("<text>")[1] else "no"}
        )
    )

    async def repeat(text: str) -> str:
        return text

    labelled = [("please do", "yes"), ("do", "no"), ("do it, please", "yes"), ("kindly do", "yes"), ("now", "no")]
    cases = [Case(text, data={"label": label}) for text, label in labelled]
    report = await mellea.aevaluate(repeat, cases, checks=[check("It is polite.", judge=judge)])
    found = report.agreement("It is polite.", "label")
    assert (found.count, found.observed) == (5, 0.8)
    assert found.kappa.estimate == pytest.approx((0.8 - 0.48) / 0.52)
    with pytest.raises(UsageError, match="'mood'"):
        report.agreement("It is polite.", "mood")
    with pytest.raises(UsageError, match="a label is true or false"):
        (await mellea.aevaluate(repeat, [Case("x", data={"label": 3})], checks=[len_check])).agreement(
            "len_check", "label"
        )


def len_check(value: str) -> bool:
    return len(value) > 0
