"""The arguments of `map` and `amap`, declared once."""

# The annotations are objects here, not texts: signatures and docstrings are made of them.

import os
from typing import Annotated, TypedDict

from mellea.batch.budget import Budget
from mellea.batch.limits import RateLimits
from mellea.batch.row import RowId
from mellea.core.journal import Journal

__all__ = ["MapArguments", "RunnerArguments"]


class RunnerArguments(TypedDict, total=False):
    """What everything takes that asks for many rows."""

    journal: Annotated[str | os.PathLike[str] | Journal | None, "the SQLite file that keeps the answers."]
    concurrency: Annotated[
        int | None, "how many rows are in flight at most; by default as many as the model's side takes, up to 256."
    ]
    limits: Annotated[RateLimits | None, "requests and tokens a minute, where the provider's headers don't say."]
    budget: Annotated[Budget | None, "what it may take: `Budget(cost=, tokens=, seconds=)`."]
    version: Annotated[
        str | None,
        "a version of the function of your own. A plain function's answers are kept under it in place of its source, "
        "and those of any function are asked for anew when it changes.",
    ]
    retries: Annotated[
        int, "how often a row is asked again that failed for a reason that may pass, such as a rate limit.", 3
    ]
    batch: Annotated[bool, "use the provider's batches, which cost half and take up to a day.", False]
    progress: Annotated[bool | None, "whether to show how it goes, on stderr; by default if that is a terminal."]


class MapArguments(RunnerArguments, total=False):
    """What `map` and `amap` take besides the function and the rows."""

    id: Annotated[
        RowId, "the field of a row that tells it from others, or a function of the row; by default its number."
    ]
    ordered: Annotated[bool, "whether the outcomes come in the order of the rows, or as they are done.", True]
