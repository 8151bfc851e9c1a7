"""The arguments of `evaluate` and `aevaluate`, declared once."""

# The annotations are objects here, not strings, because signatures and docstrings are made from them.

from collections.abc import Iterable
from typing import Annotated, Any

from mellea.batch.arguments import RunnerArguments

__all__ = ["EvaluateArguments"]


class EvaluateArguments(RunnerArguments, total=False):
    """What `evaluate` and `aevaluate` take besides the function and the cases."""

    checks: Annotated[
        Iterable[Any] | None,
        "requirements, texts that a model judges, and functions of the value, or of the value and the case; by "
        "default, whether the value equals what the case expects.",
    ]
    repeat: Annotated[int, "how many samples to take of each case.", 1]
    confidence: Annotated[float, "that of the intervals; 1 minus it is the level of the comparisons.", 0.95]
    name: Annotated[str | None, "what the report is called; by default as the function."]
