"""`evaluate`: runs functions on cases with `mellea.map`, and checks the results.

An evaluation is up to three maps: the variants over all samples, checks by functions, checks by models. Answers and
verdicts of models are committed to the journal; a changed check doesn't run any variant again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Unpack

from mellea.batch import AsyncRows, Budget, Row, amap
from mellea.batch.program import Program
from mellea.batch.programs import as_program
from mellea.core.backend import Backend
from mellea.core.numbers import check_whole
from mellea.core.runtime.portal import blocking
from mellea.errors import BudgetExceededError, UsageError
from mellea.evaluation.arguments import EvaluateArguments
from mellea.evaluation.cases import Case, read_cases
from mellea.evaluation.checks import NamedCheck, Output, as_checks, make_context
from mellea.evaluation.findings import Sample, Verdict
from mellea.evaluation.intervals import check_confidence
from mellea.evaluation.programs import AnswerProgram, AnswerRow, CheckProgram, CheckRow, TimedValue
from mellea.evaluation.report import Report
from mellea.evaluation.types import FunctionTypes, read_types
from mellea.stdlib.verb import verb

__all__ = ["aevaluate", "evaluate"]

_WAYS = {
    **dict.fromkeys(
        ("metrics", "scorers", "evaluators", "graders", "scores", "assertions", "judges", "requirements"),
        "it is 'checks' here: checks=[…] takes requirements, functions and texts that a model judges",
    ),
    **dict.fromkeys(("data", "dataset", "examples", "rows", "icl_examples"), "the cases are the second argument"),
    **dict.fromkeys(("n", "num_samples", "epochs", "trials", "runs"), "it is 'repeat' here: repeat=…"),
    "at_least": "an Evaluation has it, for `mellea eval`, and @pytest.mark.generative",
    **dict.fromkeys(("prompts", "prompt"), "what is evaluated is the first argument, such as a @generative function"),
}


@verb("evaluate", EvaluateArguments, **_WAYS)
async def aevaluate(function: Any, cases: Any, **arguments: Unpack[EvaluateArguments]) -> Report:
    """Run a function, or several variants of it, on cases, check the results, and report.

    It runs on `map`: many samples at once, within budget and rate limits, and with a journal it continues where it
    ended, whatever ended it. A function or a check that fails is recorded and stops nothing. If a budget is used up,
    the report covers the samples so far, and says so.

    Args:
        function: the function: anything that `map` accepts. Several variants are a dict by name, or a list; the others
            are compared with the first.
        cases: `Case`s, pairs of inputs and expected value, dicts or dataclasses with a field `expected`, bare inputs;
            the path of a `.csv`, `.jsonl` or `.parquet` file of them, or a data frame.

    Raises:
        UsageError: an argument is wrong, there are no cases, or an expected value isn't of the function's type.
        ConfigurationError: there is a budget for the cost, and the price of a model is unknown.
        StateError: the journal can't be read.
        AuthError: a key is rejected.
    """
    variants = _name_variants(function)
    repeat = arguments.get("repeat", 1)
    check_whole("repeat=", repeat)
    version = arguments.get("version")
    programs = {name: as_program(each, version, "evaluate") for name, each in variants.items()}
    found = await read_cases(cases, _join_parameters(programs))
    plan = _Plan(
        programs,
        {name: read_types(each) for name, each in variants.items()},
        found,
        as_checks(arguments.get("checks"), found),
        repeat,
    )
    plan.read_expected()
    confidence = check_confidence(arguments.get("confidence", 0.95))
    name = arguments.get("name") or " and ".join(dict.fromkeys(variants))
    if not isinstance(name, str):
        raise UsageError(f"name= takes a string, or None, not {name!r}")
    report = await _Run(plan, arguments).finish()
    return replace(report, name=name, confidence=confidence)


evaluate = blocking(aevaluate)


def _name_variants(function: Any) -> dict[str, Any]:
    if isinstance(function, Mapping):
        variants = {str(name): each for name, each in function.items()}
    elif isinstance(function, (list, tuple)):
        variants = {}
        for each in function:
            name, number = _name(each), 1
            while name in variants:
                number += 1
                name = f"{_name(each)} ({number})"
            variants[name] = each
    else:
        variants = {_name(function): function}
    if not variants:
        raise UsageError("there is no function to evaluate")
    return variants


def _name(function: Any) -> str:
    while hasattr(function, "func") and hasattr(function, "keywords"):  # a partial
        function = function.func
    return str(getattr(function, "__name__", None) or getattr(function, "name", None) or type(function).__name__)


def _join_parameters(programs: Mapping[str, Program]) -> frozenset[str] | None:
    """Return the names that any variant takes, `None` if one takes all."""
    known = [program.parameters for program in programs.values()]
    return None if None in known else frozenset().union(*(each for each in known if each is not None))


@dataclass(slots=True)
class _Plan:
    """The work to do."""

    programs: dict[str, Program]
    types: dict[str, FunctionTypes]
    cases: list[Case]
    checks: tuple[NamedCheck, ...]
    repeat: int

    def read_expected(self) -> None:
        """Read all expected values, so that a wrong one is reported before any request."""
        for types in self.types.values():
            for case in self.cases:
                types.read_expected(case)

    @property
    def labels(self) -> tuple[Any, ...] | None:
        """The possible values of results, if all variants choose among the same few and cases have expected ones."""
        known = [types.labels for types in self.types.values()]
        if not known[0] or any(each != known[0] for each in known) or not any(map(_has_expected, self.cases)):
            return None
        return tuple(known[0])

    def list_samples(self) -> list[tuple[Sample, AnswerRow]]:
        """List all samples in order, with their rows: all variants of a case one after the other."""
        return [
            (
                Sample(name, case, number, label=types.read_expected(case) if case.has_expected else None),
                AnswerRow(name, case.id, number, types.read_inputs(case)),
            )
            for case in self.cases
            for number in range(1, self.repeat + 1)
            for name, types in self.types.items()
        ]


def _has_expected(case: Case) -> bool:
    return case.has_expected


class _Run:
    """A running evaluation.

    Args:
        plan: the work to do.
        arguments: those of `evaluate`.
    """

    def __init__(self, plan: _Plan, arguments: EvaluateArguments) -> None:
        self._plan = plan
        self._arguments = arguments
        self._cost: float | None = 0.0  # of the requests in this run
        self._tokens = 0
        self._stopped: str | None = None

    async def finish(self) -> Report:
        """Run everything, and return the report."""
        plan = self._plan
        planned = plan.list_samples()
        samples: dict[int, Sample] = {}
        rows = self._map(AnswerProgram(plan.programs), [row for _, row in planned], is_kept=True)
        async for row in self._until_spent(rows):
            samples[row.index] = _fill(planned[row.index][0], row)
        judge_cost = await self._check(samples)
        # By variant within a case, as the report groups them.
        done = [samples[place] for place in sorted(samples)]
        return Report(
            "",
            tuple(plan.programs),
            tuple(check.name for check in plan.checks),
            tuple(done),
            plan.labels,
            stopped=self._stopped,
            judge_cost=judge_cost,
        )

    async def _check(self, samples: dict[int, Sample]) -> float | None:
        """Check all samples, and return the cost of judges."""
        outputs = {
            place: self._make_output(sample) for place, sample in sorted(samples.items()) if sample.error is None
        }  # fmt: skip
        verdicts: dict[tuple[int, str], Verdict] = {}
        costs: list[float | None] = []
        for is_judged in (False, True):
            rows = [
                CheckRow(place, check, output, self._backend_of(samples[place]), f"{_id(samples[place])} {check.name}")
                for place, output in outputs.items()
                for check in self._plan.checks
                if check.is_judged is is_judged
            ]
            if not rows:
                continue
            # Functions are run again each time: they cost nothing, and may have been changed.
            async for row in self._until_spent(self._map(CheckProgram(), rows, is_kept=is_judged)):
                verdicts[rows[row.index].sample, rows[row.index].check.name] = _read_verdict(rows[row.index], row)
                costs.append(row.cost)
        for place in outputs:
            said = [verdicts.get((place, check.name), _missing(check)) for check in self._plan.checks]
            samples[place] = replace(samples[place], verdicts=tuple(said))
        return None if None in costs else sum(cost for cost in costs if cost is not None)

    def _make_output(self, sample: Sample) -> Output:
        return make_context(sample.case, sample.label, sample.value)

    def _backend_of(self, sample: Sample) -> Backend | None:
        return next(iter(self._plan.programs[sample.variant].backends()), None)

    def _map(self, program: Program, rows: Sequence[Any], *, is_kept: bool) -> AsyncRows[Any] | None:
        """Map a program over rows with the remaining budget; `None` if it is used up."""
        arguments = self._arguments
        budget = self._budget_left()
        if is_kept and budget is None and arguments.get("budget") is not None:
            return None
        return amap(
            program,
            rows,
            id=lambda row: row.id,
            ordered=False,
            journal=arguments.get("journal") if is_kept else None,
            concurrency=arguments.get("concurrency"),
            limits=arguments.get("limits"),
            budget=budget if is_kept else None,
            retries=arguments.get("retries", 3),
            batch=arguments.get("batch", False) and is_kept,
            progress=arguments.get("progress") if is_kept else False,
        )

    def _budget_left(self) -> Budget | None:
        """Return the remaining budget, `None` if it is used up, or if there is none."""
        whole = self._arguments.get("budget")
        if not isinstance(whole, Budget):  # `map` reports what is wrong with anything but `None`
            return whole
        cost = None if whole.cost is None or self._cost is None else whole.cost - self._cost
        tokens = None if whole.tokens is None else whole.tokens - self._tokens
        if self._stopped is not None or any(each is not None and each <= 0 for each in (cost, tokens)):
            return None
        return replace(whole, cost=cost, tokens=tokens)

    async def _until_spent(self, rows: AsyncRows[Any] | None) -> Any:
        """Yield rows until there are no more, or the budget is used up, and count their cost."""
        if rows is None:
            self._stopped = self._stopped or "the budget is used up"
            return
        async with rows:
            try:
                async for row in rows:
                    if not row.cached:
                        self._cost = None if self._cost is None or row.cost is None else self._cost + row.cost
                        self._tokens += 0 if row.usage is None else row.usage.total_tokens or 0
                    yield row
            except BudgetExceededError as error:
                self._stopped = str(error)


def _id(sample: Sample) -> str:
    return AnswerRow(sample.variant, sample.case.id, sample.number, None).id


def _fill(sample: Sample, row: Row[TimedValue]) -> Sample:
    error = None if row.error is None else f"{type(row.error).__name__}: {row.error}"
    return replace(
        sample,
        value=None if row.value is None else row.value.value,
        error=error,
        seconds=None if row.value is None else row.value.seconds,
        usage=row.usage,
        cost=row.cost,
        cached=row.cached,
    )


def _read_verdict(asked: CheckRow, row: Row[Any]) -> Verdict:
    if row.error is not None or row.value is None:
        return Verdict(asked.check.name, None, error=f"{type(row.error).__name__}: {row.error}")
    return Verdict(asked.check.name, row.value.result, row.value.reason, row.value.score)


def _missing(check: NamedCheck) -> Verdict:
    return Verdict(check.name, None, error="it wasn't checked, since the budget was used up")
