"""Rows on a Ray cluster, as a data set."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator
from typing import Any

from mellea.batch.budget import Budget
from mellea.batch.limits import RateLimits
from mellea.batch.partition import WAYS, Partition, list_rows
from mellea.batch.row import RowId
from mellea.core.entrance import entrance
from mellea.core.numbers import check_whole
from mellea.errors import MissingExtraError

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
    batch_size: int = 1000,
) -> Any:
    """Map a function over a `ray.data.Dataset`; returns a data set of outcomes, computed when it is read.

    Ray's own checkpoints store whole written blocks; the journal stores each answer as soon as it arrives.

    Args:
        function: the function, or where workers find it, such as `"mails:classify"`; see `Partition`.
        rows: a data set, whose rows are dicts of named arguments; or anything that `mellea.map` accepts, which is read
            here.
        id: the field that identifies a row.
        journal: a file on one machine, or a folder that all machines share; see `Partition`.
        concurrency: rows in flight in each task.
        version: see `mellea.map`.
        retries: see `mellea.map`.
        limits: requests and tokens per minute; see `Partition`.
        budget_per_task: what each task may spend; see `Partition`.
        batch_size: the maximum number of rows per task.

    Raises:
        UsageError: an argument is wrong.
        MissingExtraError: Ray isn't installed.
    """
    check_whole("batch_size=", batch_size)
    partition = Partition(function, journal, id, concurrency, version, retries, limits, budget_per_task)
    try:
        from ray import cloudpickle, data  # lazy: an optional dependency
    except ImportError:
        raise MissingExtraError("Ray isn't installed; pip install 'mellea[ray]'") from None
    is_dataset = hasattr(rows, "map_batches")
    if not is_dataset:
        # As bytes, because a column would change the rows: a tuple would become a list.
        rows = [{"row": cloudpickle.dumps(row)} for row in list_rows(rows)]  # type: ignore[no-untyped-call, unused-ignore]
        rows = data.from_items(rows, override_num_blocks=max(1, -(-len(rows) // batch_size)))
    task = _Task(partition, is_dataset)
    return rows.map_batches(task, batch_size=batch_size, batch_format="pyarrow", zero_copy_batch=True)


class _Task:
    """A partition that reads and returns Arrow tables."""

    def __init__(self, partition: Partition, is_dataset: bool) -> None:
        self._partition, self._is_dataset = partition, is_dataset
        self.__name__ = "mellea.map"  # the name that Ray shows

    def __call__(self, table: Any) -> Iterator[Any]:
        import pyarrow  # lazy: Ray brings it

        types = {
            "id": pyarrow.string(),
            "value": pyarrow.string(),
            "error": pyarrow.string(),
            "message": pyarrow.string(),
            "input_tokens": pyarrow.int64(),
            "output_tokens": pyarrow.int64(),
            "cost": pyarrow.float64(),
            "cached": pyarrow.bool_(),
        }
        rows = table.to_pylist() if self._is_dataset else [pickle.loads(row) for row in table["row"].to_pylist()]
        yield pyarrow.Table.from_pylist(list(self._partition(rows)), schema=pyarrow.schema(types))
