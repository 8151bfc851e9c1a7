"""One function over many rows: `map` and `amap`, with a journal of the answers, budgets and rate limits."""

# May import: everything below it, stdlib.agents first of all. Read `runner.py` first, then `programs.py`.

from mellea.batch.budget import Budget
from mellea.batch.cancelling import CancelledBatch, acancel_batches, cancel_batches
from mellea.batch.iterators import AsyncRows, Rows
from mellea.batch.limits import RateLimits
from mellea.batch.mapping import amap, map
from mellea.batch.row import Row
from mellea.core.journal import Journal
from mellea.errors import BudgetExceededError

__all__ = [
    "AsyncRows",
    "Budget",
    "BudgetExceededError",
    "CancelledBatch",
    "Journal",
    "RateLimits",
    "Row",
    "Rows",
    "acancel_batches",
    "amap",
    "cancel_batches",
    "map",
]
