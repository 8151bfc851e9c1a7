"""Rows on a Ray cluster, as a data set."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

from mellea.batch.partition import Partition
from mellea.batch.row import RowId
from mellea.errors import MissingExtraError

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
    batch_size: int = 1000,
) -> Any:
    """Map a function over a `ray.data.Dataset`; returns a data set of outcomes, worked on when it is read.

    Ray's own checkpoints keep what was written, in blocks; the journal keeps each answer when it has come.

    Args:
        function: the function, or where workers find it, such as `"mails:classify"`; see `Partition`.
        rows: a data set, or a list of rows; each is a dict of named arguments.
        id: the field of a row that tells it from others.
        journal: a file on one machine, or a folder that all machines share; see `Partition`.
        concurrency: rows in flight in each task.
        version: see `mellea.map`.
        retries: see `mellea.map`.
        batch_size: rows in a task.

    Raises:
        UsageError: an argument is wrong.
        MissingExtraError: Ray isn't installed.
    """
    partition = Partition(function, journal, id, concurrency, version, retries)
    try:
        import ray.data  # lazy: an optional dependency
    except ImportError:
        raise MissingExtraError("Ray isn't installed; pip install 'mellea[ray]'") from None
    dataset = rows if hasattr(rows, "map_batches") else ray.data.from_items(list(rows))
    return dataset.map_batches(_Task(partition), batch_size=batch_size, batch_format="pyarrow", zero_copy_batch=True)


class _Task:
    """A partition between Arrow's tables."""

    def __init__(self, partition: Partition) -> None:
        self._partition = partition
        self.__name__ = "mellea.map"  # what Ray shows

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
        yield pyarrow.Table.from_pylist(list(self._partition(table.to_pylist())), schema=pyarrow.schema(types))
