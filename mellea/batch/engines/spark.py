"""Rows on a Spark cluster, as an RDD."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from mellea.batch.budget import Budget
from mellea.batch.limits import RateLimits
from mellea.batch.partition import WAYS, Outcome, Partition, list_rows
from mellea.batch.row import RowId
from mellea.core.entrance import entrance
from mellea.errors import MissingExtraError, UsageError

__all__ = ["SCHEMA", "map"]

SCHEMA = (
    "id string, value string, error string, message string, input_tokens long, output_tokens long, cost double,"
    " cached boolean"
)
"""The columns of a data frame of outcomes."""


@entrance("map", **WAYS)
def map(
    function: Callable[..., Any] | str,
    rows: Any,
    *,
    id: RowId,
    journal: str | os.PathLike[str] | None = None,
    concurrency: int | None = None,
    version: str | None = None,
    retries: int = 3,
    limits: RateLimits | None = None,
    budget_per_task: Budget | None = None,
) -> Any:
    """Map a function over a Spark `DataFrame` or `RDD`; returns an RDD of outcomes, computed by an action.

    `.toDF(SCHEMA)` turns it into a data frame. With `.cache()` a second action doesn't start over.

    Spark reruns tasks that failed or are slow; with a journal, this doesn't repeat any committed answer.

    Args:
        function: the function, or where workers find it, such as `"mails:classify"`; see `Partition`.
        rows: a data frame, whose rows are dicts of named arguments; an RDD of rows; or anything that `mellea.map`
            accepts, which is read here and distributed by the active session.
        id: the field that identifies a row.
        journal: a file on one machine, or a folder that all machines share; see `Partition`.
        concurrency: rows in flight in each task.
        version: see `mellea.map`.
        retries: see `mellea.map`.
        limits: requests and tokens per minute; see `Partition`.
        budget_per_task: what each task may spend; see `Partition`.

    Raises:
        UsageError: an argument is wrong, or there is no active session for rows that aren't in Spark yet.
        MissingExtraError: Spark isn't installed.
    """
    partition = Partition(function, journal, id, concurrency, version, retries, limits, budget_per_task)
    if hasattr(rows, "rdd"):
        rows = rows.rdd
    elif not hasattr(rows, "mapPartitions"):
        rows = _spread(list_rows(rows))
    return rows.mapPartitions(_Task(partition))


def _spread(rows: list[Any]) -> Any:
    try:
        from pyspark.sql import SparkSession  # lazy: an optional dependency
    except ImportError:
        raise MissingExtraError("Spark isn't installed; pip install 'mellea[spark]'") from None
    session = SparkSession.getActiveSession()
    if session is None:
        raise UsageError("there is no active SparkSession to spread rows; make one, or give a DataFrame or an RDD")
    return session.sparkContext.parallelize(rows)


class _Task:
    """A partition of Spark's rows."""

    def __init__(self, partition: Partition) -> None:
        self._partition = partition

    def __call__(self, rows: Iterable[Any]) -> Iterator[Outcome]:
        return self._partition(row.asDict() if hasattr(row, "asDict") else row for row in rows)
