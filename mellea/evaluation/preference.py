"""Pairwise judging: a model is asked twice, in both orders, which of two variants' values it prefers.

Models tend to prefer the first value, or the second. So a preference only counts if it stays the same when the two are
swapped; otherwise it is a tie.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, make_dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal, Unpack

from mellea.batch import amap
from mellea.batch.arguments import RunnerArguments
from mellea.batch.identity import find_form, make_digest
from mellea.batch.program import Program, Work
from mellea.core.accumulator import Generation
from mellea.core.backend import Backend
from mellea.core.component import TemplateRepresentation
from mellea.core.runtime.ledger import Meter, current_ledger
from mellea.core.runtime.portal import blocking
from mellea.errors import UsageError
from mellea.evaluation.checks import CaseInput, get_text
from mellea.evaluation.comparison import Comparison, compare_rates, format_p
from mellea.evaluation.findings import Findings, Sample
from mellea.stdlib.requirements.judge import Judge, as_judge
from mellea.stdlib.session import current_session
from mellea.stdlib.verb import verb

__all__ = ["Preference", "aprefer", "prefer"]

_LONGEST_REASON = 300
"""Characters; a small model might not stop otherwise."""

Choice = Literal["first", "second", "tie"]


@dataclass(frozen=True, slots=True)
class Preference:
    """Which of two variants a judge prefers.

    Attributes:
        criterion: the criterion that the judge was given.
        base: the name of one variant.
        other: the name of the other.
        for_base: in how many pairs it prefers the base's value, in both orders.
        for_other: in how many it prefers the other's.
        ties: in how many it prefers neither, or a different one in each order.
        steady: in how many pairs it chose the same in both orders.
        first: the share of choices, apart from ties, in which it chose the first value; 0.5 is fair.
        comparison: the test by case; a rate is the share of preferences, where a tie counts half.
        errors: for how many pairs the judge gave no verdict.
        cost: the judge's cost in US dollars, `None` if unknown.
    """

    criterion: str
    base: str
    other: str
    for_base: int
    for_other: int
    ties: int
    steady: int
    first: float
    comparison: Comparison
    errors: int = 0
    cost: float | None = 0.0

    @property
    def winner(self) -> str | None:
        """The name of the preferred variant, `None` if the result isn't clear."""
        return self.comparison.winner

    def __str__(self) -> str:
        whole = self.for_base + self.for_other + self.ties
        ahead, behind = (self.other, self.base), (self.for_other, self.for_base)
        if self.winner == self.base or (self.winner is None and self.for_base > self.for_other):
            ahead, behind = (self.base, self.other), (self.for_base, self.for_other)
        figures = (
            f"{ahead[0]!r} in {behind[0]} of {whole} pairs, {ahead[1]!r} in {behind[1]}, neither in {self.ties} "
            f"({format_p(self.comparison.p)})"
        )
        said = f"{self.winner!r} is preferred" if self.winner else "Can't tell which is preferred"
        steady = (
            f"The judge chose the same in both orders of {self.steady} pairs, and the first one in {self.first:.0%} of "
            "its choices."
        )
        failed = f" It gave no verdict on {self.errors}." if self.errors else ""
        return f"{said}: {figures}. {steady}{failed}"


@verb("prefer", RunnerArguments)
async def aprefer(
    report: Findings,
    criterion: str,
    base: str | None = None,
    other: str | None = None,
    *,
    judge: Any = None,
    **arguments: Unpack[RunnerArguments],
) -> Preference:
    """Ask a model which of two variants' values it prefers, for each sample that both have.

    It is asked twice, in both orders. Like `aevaluate`, this runs on `map`.

    Args:
        report: the report with the values.
        criterion: the criterion, such as `"The kinder answer is better."`.
        base: the name of one variant, by default the first.
        other: the name of the other, by default the second.
        judge: a backend, a session or a `Judge`; by default the current session.

    Raises:
        UsageError: there are no two such variants, or they have no sample in common.
        BudgetExceededError: the budget is used up.
    """
    if not isinstance(report, Findings):
        raise UsageError(f"prefer takes a report, such as that of mellea.evaluate(…), not {report!r:.100}")
    if not isinstance(criterion, str):
        raise UsageError(f"criterion takes a string, not {criterion!r}")
    base, other = report.find_pair(base, other)
    pairs = _pair_samples(report, base, other)
    asked = as_judge(judge) if judge is not None else Judge(current_session())
    rows = [row for pair in pairs for row in _make_rows(*pair, criterion)]
    said: dict[str, Choice] = {}
    costs: list[float | None] = []
    program = _PreferenceProgram(asked)
    async for row in amap(program, rows, id=lambda row: row.id, ordered=False, **arguments):
        costs.append(row.cost)
        if row.error is None and row.value is not None:
            said[row.id] = row.value
    cost = None if None in costs else sum(each for each in costs if each is not None)
    return _count(criterion, (base, other), pairs, said, cost, report.confidence)


prefer = blocking(aprefer)


def _pair_samples(report: Findings, base: str, other: str) -> list[tuple[Sample, Sample]]:
    known = {(sample.case.id, sample.number): sample for sample in report.of(base) if sample.error is None}
    pairs = [
        (known[sample.case.id, sample.number], sample)
        for sample in report.of(other)
        if sample.error is None and (sample.case.id, sample.number) in known
    ]
    if not pairs:
        raise UsageError(f"{base!r} and {other!r} have no sample in common that a judge could compare")
    return pairs


@dataclass(frozen=True, slots=True)
class _PreferenceRow:
    """Two texts in one order."""

    id: str
    task: str
    first: str
    second: str
    criterion: str
    name = "preference"  # in traces

    def parts(self) -> Sequence[Any]:
        return ()

    def format_for_llm(self) -> TemplateRepresentation:
        args = {"task": self.task, "first": self.first, "second": self.second, "criterion": self.criterion}
        return TemplateRepresentation("Preference", args)

    def parse(self, generation: Generation) -> str:
        return generation.text


def _make_id(sample: Sample, *, is_swapped: bool) -> str:
    return f"{sample.case.id} {sample.number} {'swapped' if is_swapped else 'straight'}"


def _make_rows(one: Sample, two: Sample, criterion: str) -> list[_PreferenceRow]:
    """Return both orders of a pair; none if there is nothing to choose."""
    task, first, second = str(CaseInput(one.case, None)), get_text(one.value), get_text(two.value)
    if first == second:
        return []
    return [
        _PreferenceRow(_make_id(one, is_swapped=False), task, first, second, criterion),
        _PreferenceRow(_make_id(one, is_swapped=True), task, second, first, criterion),
    ]


class _PreferenceProgram(Program):
    """A judge over pairs of texts."""

    def __init__(self, judge: Judge) -> None:
        super().__init__(None, None, "mellea.evaluate.preferences")
        self.judge = judge
        self.backend: Backend = getattr(judge.model, "backend", judge.model) or current_session().backend

    async def prepare(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Work:
        """Return the work of a row."""
        return _PreferenceWork(self, args[0])

    def backends(self) -> list[Backend]:
        """Return the judge's backend."""
        return [self.backend]


class _PreferenceWork(Work):
    __slots__ = ("_asked", "_judge", "_row")

    def __init__(self, program: _PreferenceProgram, row: _PreferenceRow) -> None:
        self._judge, self._row, self._asked = program.judge, row, program.backend
        self.backend = program.backend
        self.digest = b""
        if program.is_keyed:
            self.digest = make_digest("prefer", find_form(program.judge), find_form(row))

    async def ask(self, meter: Meter) -> Choice:
        token = current_ledger.set(meter)
        try:
            answer: Any = (await self._judge.ask(self._row, _make_form(), self._asked)).parsed
        finally:
            current_ledger.reset(token)
        choice: Choice = answer.choice
        return choice

    def dump(self, value: Choice) -> str:
        return json.dumps(value)

    async def load(self, text: str) -> Choice:
        choice: Choice = json.loads(text)
        return choice


@lru_cache(maxsize=1)
def _make_form() -> Any:
    from pydantic import Field  # lazy: only judges need it

    # The reason comes first in the schema, so that the model weighs before it decides; the other way round it would
    # justify.
    reason = Annotated[str, Field(max_length=_LONGEST_REASON)]
    return make_dataclass("Preferred", [("reason", reason), ("choice", Choice)])


_SWAPPED: dict[Choice, Choice] = {"first": "second", "second": "first", "tie": "tie"}


def _count(
    criterion: str,
    names: tuple[str, str],
    pairs: Sequence[tuple[Sample, Sample]],
    said: Mapping[str, Choice],
    cost: float | None,
    confidence: float,
) -> Preference:
    by_case: dict[str, list[int]] = {}
    steady = errors = 0
    choices: list[Choice] = []
    for one, two in pairs:
        if get_text(one.value) == get_text(two.value):
            straight: Choice | None = "tie"
            swapped: Choice | None = "tie"
        else:
            straight, swapped = (said.get(_make_id(one, is_swapped=swap)) for swap in (False, True))
            choices += [choice for choice in (straight, swapped) if choice is not None]
        if straight is None or swapped is None:
            errors += 1
            continue
        is_steady = straight == _SWAPPED[swapped]
        steady += is_steady
        # 1 for the other variant, -1 for the base.
        outcome = {"first": -1, "second": 1, "tie": 0}[straight] if is_steady else 0
        by_case.setdefault(one.case.id, []).append(outcome)
    outcomes = [outcome for case in by_case.values() for outcome in case]
    halves = [
        ((sum(1 - outcome for outcome in case), 2 * len(case)), (sum(1 + outcome for outcome in case), 2 * len(case)))
        for case in by_case.values()
    ]
    decided = [choice for choice in choices if choice != "tie"]
    return Preference(
        criterion,
        *names,
        for_base=outcomes.count(-1),
        for_other=outcomes.count(1),
        ties=outcomes.count(0),
        steady=steady,
        first=decided.count("first") / len(decided) if decided else 0.5,
        comparison=compare_rates(*names, halves, confidence=confidence),
        errors=errors,
        cost=cost,
    )
