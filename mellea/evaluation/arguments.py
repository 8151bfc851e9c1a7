"""The arguments of `evaluate` and `aevaluate`, declared once."""

# The annotations are objects here, not strings, because signatures and docstrings are made from them.

from collections.abc import Iterable
from typing import Annotated, Any

from mellea.batch.arguments import RunnerArguments

__all__ = ["EvaluateArguments"]


class EvaluateArguments(RunnerArguments, total=False):
    """The arguments of `evaluate` and `aevaluate` besides the function and the cases."""

    checks: Annotated[
        Iterable[Any] | None,
        "requirements, texts that a model judges, and functions of the value, or of the value and the case; by "
        "default, whether the value equals what the case expects.",
    ]
    repeat: Annotated[int, "how many samples to take of each case.", 1]
    confidence: Annotated[float, "the confidence level of the intervals; comparisons are tested at 1 minus this.", 0.95]
    name: Annotated[str | None, "the name of the report; by default, the function's."]
