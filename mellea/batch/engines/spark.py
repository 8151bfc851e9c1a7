"""Rows on a Spark cluster, as an RDD."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from mellea.batch.partition import Outcome, Partition
from mellea.batch.row import RowId

__all__ = ["map"]


def map(
    function: Callable[..., Any] | str,
    rows: Any,
    *,
    id: RowId,
    journal: str | os.PathLike[str] | None = None,
    concurrency: int | None = None,
    version: str | None = None,
    retries: int = 3,
) -> Any:
    """Map a function over a Spark `DataFrame` or `RDD`; returns an RDD of outcomes, worked on by an action.

    Spark runs a task again that failed, or that is slow; with a journal that repeats no answer that was committed.

    Args:
        function: the function, or where workers find it, such as `"mails:classify"`; see `Partition`.
        rows: a data frame, whose rows are dicts of named arguments, or an RDD of rows.
        id: the field of a row that tells it from others.
        journal: a file on one machine, or a folder that all machines share; see `Partition`.
        concurrency: rows in flight in each task.
        version: see `mellea.map`.
        retries: see `mellea.map`.

    Raises:
        UsageError: an argument is wrong.
    """
    partition = Partition(function, journal, id, concurrency, version, retries)
    return getattr(rows, "rdd", rows).mapPartitions(_Task(partition))


class _Task:
    """A partition of Spark's rows."""

    def __init__(self, partition: Partition) -> None:
        self._partition = partition

    def __call__(self, rows: Iterable[Any]) -> Iterator[Outcome]:
        return self._partition(row.asDict() if hasattr(row, "asDict") else row for row in rows)
