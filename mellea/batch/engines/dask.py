"""Rows on a Dask cluster, as a bag."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from typing import Any

from mellea.batch.budget import Budget
from mellea.batch.limits import RateLimits
from mellea.batch.partition import WAYS, Outcome, Partition, list_rows
from mellea.batch.row import RowId
from mellea.core.entrance import entrance
from mellea.core.numbers import check_whole
from mellea.errors import GenerationCancelledError, MissingExtraError

__all__ = ["map"]


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
    partition_size: int = 1000,
) -> Any:
    """Map a function over a `dask.bag.Bag`; returns a bag of outcomes, computed by `.compute()`.

    Each partition is one task with its own concurrency, since each coroutine that Dask runs would take a thread.

    Args:
        function: the function, or where workers find it, such as `"mails:classify"`; see `Partition`.
        rows: a bag, a Dask data frame, or anything that `mellea.map` accepts, which is read here.
        id: the field that identifies a row.
        journal: a file on one machine, or a folder that all machines share; see `Partition`.
        concurrency: rows in flight in each task.
        version: see `mellea.map`.
        retries: see `mellea.map`.
        limits: requests and tokens per minute; see `Partition`.
        budget_per_task: what each task may spend; see `Partition`.
        partition_size: rows per task, if they aren't a bag already.

    Raises:
        UsageError: an argument is wrong.
        MissingExtraError: Dask isn't installed.
    """
    check_whole("partition_size=", partition_size)
    partition = Partition(function, journal, id, concurrency, version, retries, limits, budget_per_task)
    try:
        from dask import bag as bags  # lazy: an optional dependency
    except ImportError:
        raise MissingExtraError("Dask isn't installed; pip install 'mellea[dask]'") from None
    if hasattr(rows, "to_bag"):
        rows = rows.to_bag(format="dict")
    elif not hasattr(rows, "map_partitions"):
        rows = bags.from_sequence(list_rows(rows), partition_size=partition_size)  # type: ignore[no-untyped-call, unused-ignore]
    return rows.map_partitions(_Task(partition))


class _Task:
    """A partition that returns its outcomes as a list, as Dask stores them."""

    def __init__(self, partition: Partition) -> None:
        self._partition = partition

    def __call__(self, rows: Iterable[Any]) -> list[Outcome]:
        is_cancelled = _find_cancellation()
        try:
            return list(self._partition(rows, is_cancelled))
        except GenerationCancelledError:
            from distributed import Reschedule  # lazy: only a worker of it cancels a task

            # Ignored for a task that stays cancelled; one that is wanted again after all starts over.
            raise Reschedule from None


def _find_cancellation() -> Callable[[], bool] | None:
    """Return a function that says whether the task of this thread is cancelled; `None` outside of Dask's workers.

    A task that runs isn't told that it is cancelled, and a worker that is to close waits for it.
    """
    distributed = sys.modules.get("distributed")  # loaded in every worker
    if distributed is None:
        return None
    try:
        worker = distributed.get_worker()
        key = worker.get_current_task()
    except ValueError:  # another scheduler of Dask runs it
        return None
    return lambda: worker.status.name in _CLOSING or getattr(worker.state.tasks.get(key), "state", None) in _CANCELLED


_CLOSING = ("closing", "closed", "failed", "stopping", "stopped")
"""The states of a worker that won't return any outcome; one that closes gracefully still does."""

_CANCELLED = (None, "cancelled")
"""The states of a task that nobody wants any more, `None` if the worker has forgotten it."""
