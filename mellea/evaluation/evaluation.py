"""An evaluation that is declared first and run later, by `mellea eval` or by its own `run`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Unpack

from mellea.core.numbers import check_number
from mellea.core.runtime.portal import blocking
from mellea.evaluation.arguments import EvaluateArguments
from mellea.evaluation.report import Report
from mellea.evaluation.run import aevaluate

__all__ = ["Evaluation"]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What to evaluate, on which cases, and how good it has to be.

    Args:
        function: as in `evaluate`: a function, or several variants.
        cases: as in `evaluate`.
        checks: as in `evaluate`.
        repeat: how many samples to take of each case.
        at_least: the pass rate that every variant has to reach; `None` if none has to.
        name: the name of the report.

    Raises:
        UsageError: `at_least` isn't a rate.
    """

    function: Any
    cases: Any
    checks: Iterable[Any] | None = None
    repeat: int = 1
    at_least: float | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        check_number("at_least=", self.at_least, above=0, most=1, or_none=True)

    async def arun(self, **arguments: Unpack[EvaluateArguments]) -> Report:
        """Run it; the arguments are those of `aevaluate`, and take precedence over its own."""
        own: EvaluateArguments = {"checks": self.checks, "repeat": self.repeat, "name": self.name}
        own.update(arguments)
        return await aevaluate(self.function, self.cases, **own)

    run = blocking(arun)

    def find_missed(self, report: Report, *, is_sure: bool = False) -> list[str]:
        """Return the variants of a report whose rate isn't high enough, in words.

        Args:
            report: of this evaluation.
            is_sure: whether the lower end of the interval has to be high enough, rather than the rate itself.
        """
        if self.at_least is None:
            return []
        missed = []
        for variant in report.variants:
            rate = report.rate(variant)
            reached = rate.low if is_sure else rate.estimate
            # The rate of zero samples is NaN, which is never high enough.
            if not reached >= self.at_least:
                missed.append(f"{variant!r} has {rate}, and at least {self.at_least:.0%} was wanted")
        return missed
