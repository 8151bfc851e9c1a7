"""What a type checker infers of evaluations."""

from __future__ import annotations

from typing import Literal, assert_type

import mellea
from mellea.evaluation import Case, Comparison, Evaluation, Interval, Preference, Report, aprefer, prefer, read_report


@mellea.generative
def classify(text: str) -> Literal["bill", "other"]:
    """Classify a mail."""
    raise NotImplementedError


def is_short(value: str, case: Case) -> tuple[bool, str]:
    return len(value) < 10, f"{case.id} is long"


def plain() -> None:
    report = mellea.evaluate(
        {"one": classify, "other": classify}, [("a", "bill")], checks=[is_short, "polite"], repeat=3
    )
    assert_type(report, Report)
    assert_type(report.rate("one"), Interval)
    assert_type(report.compare(), Comparison)
    assert_type(report.compare().winner, str | None)
    assert_type(report.join(read_report("old.jsonl")), Report)
    assert_type(prefer(report, "kinder", journal="run.db"), Preference)
    assert_type(Evaluation(classify, "cases.csv", at_least=0.8).run(budget=mellea.Budget(cost=1)), Report)


async def asynchronous() -> None:
    report = await mellea.aevaluate(classify, ["a"], journal="run.db")
    assert_type(report, Report)
    assert_type(await aprefer(report, "kinder"), Preference)
