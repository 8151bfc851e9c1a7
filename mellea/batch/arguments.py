"""The arguments of `map` and `amap`, declared once."""

# The annotations are objects here, not strings, because signatures and docstrings are made from them.

import os
from typing import Annotated, TypedDict

from mellea.batch.budget import Budget
from mellea.batch.limits import RateLimits
from mellea.batch.row import RowId
from mellea.core.journal import Journal

__all__ = ["MapArguments", "RunnerArguments"]


class RunnerArguments(TypedDict, total=False):
    """The arguments of everything that processes many rows."""

    journal: Annotated[str | os.PathLike[str] | Journal | None, "the SQLite file that keeps the answers."]
    concurrency: Annotated[
        int | None, "the most rows in flight at once; by default as many as the backend allows, up to 256."
    ]
    limits: Annotated[RateLimits | None, "requests and tokens per minute, if the provider's headers don't say."]
    budget: Annotated[Budget | None, "what it may use: `Budget(cost=, tokens=, seconds=)`."]
    version: Annotated[
        str | None,
        "your own version of the function. For a plain function it takes the place of its source in the keys of "
        "answers; when it changes, the answers of any function are requested again.",
    ]
    retries: Annotated[int, "how often to retry a row that failed for a temporary reason, such as a rate limit.", 3]
    batch: Annotated[bool, "use the provider's batches, which cost half and take up to a day.", False]
    progress: Annotated[
        bool | None, "whether to show progress; by default on a terminal, on stderr, and in a notebook."
    ]


class MapArguments(RunnerArguments, total=False):
    """The arguments of `map` and `amap` besides the function and the rows."""

    id: Annotated[RowId, "the field that identifies a row, or a function of the row; by default its number."]
    ordered: Annotated[bool, "whether results come in the order of the rows, or as they complete.", True]
