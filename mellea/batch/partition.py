"""The one function that all engines run: rows in, outcomes out, with a journal.

An engine gives each of its workers a part of the rows. A partition maps them as `mellea.map` does on one machine, so a
worker that is killed, or a task that is run again, asks for nothing that was committed.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mellea.batch.mapping import map as map_rows
from mellea.batch.row import Row, RowId, find_id
from mellea.core.serialise import json_value
from mellea.errors import UsageError

__all__ = ["Outcome", "Partition"]

Outcome = dict[str, Any]
"""A row's outcome as plain values, the same for all engines: `id`, `value` as JSON, `error` and `message`,
`input_tokens`, `output_tokens`, `cost`, `cached`."""


@dataclass(frozen=True)
class Partition:
    """What is done with a part of the rows; it can be pickled.

    Args:
        function: what to map, or where a worker finds it: `"package.module:name"`. Sessions can't be sent to another
            process, so a function that has one has to be named.
        journal: a file that all workers can lock, so on one machine; or a folder, in which each part of the rows has a
            file of its own, for `Journal.merge` to put together. SQLite's files can't be shared over a network.
        id: the field of a row that tells it from others, or a function of the row; numbers would differ from run to
            run.
        concurrency: rows in flight in each worker.
        version: see `mellea.map`.
        retries: see `mellea.map`.

    Raises:
        UsageError: there is no id, or the function is none.
    """

    function: Callable[..., Any] | str
    journal: str | os.PathLike[str] | None = None
    id: RowId = None
    concurrency: int | None = None
    version: str | None = None
    retries: int = 3

    def __post_init__(self) -> None:
        # Row numbers count within a part, and engines cut the parts differently in each run.
        if self.id is None:
            raise UsageError(
                "an engine needs id=, a field that identifies each row: row numbers differ from run to run"
            )
        if isinstance(self.function, str):
            module, _, name = self.function.partition(":")
            if not module or not name:
                raise UsageError(f"a function is named 'package.module:name', not {self.function!r}")
        elif not callable(self.function) and not hasattr(self.function, "arun"):
            raise UsageError(f"an engine maps a function, or the name of one, not {self.function!r}")

    def __call__(self, rows: Iterable[Any]) -> Iterator[Outcome]:
        """Map a part of the rows, and yield the outcomes in their order."""
        # The whole part has to be there first: the file's name is a digest of all its ids.
        part = list(rows)
        mapped: Any = map_rows(
            self._find_function(),
            part,
            id=self.id,
            journal=self._find_journal(part),
            concurrency=self.concurrency,
            version=self.version,
            retries=self.retries,
            progress=False,
        )
        for row in mapped:
            yield _make_outcome(row)

    def _find_function(self) -> Any:
        if not isinstance(self.function, str):
            return self.function
        module, _, name = self.function.partition(":")
        # Imported here and not in the driver: only the worker is sure to have the package, and its sessions can't be
        # pickled.
        try:
            return getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise UsageError(f"a worker can't find the function {self.function!r}: {error}") from error

    def _find_journal(self, part: list[Any]) -> str | None:
        if self.journal is None or not os.path.isdir(self.journal):
            return None if self.journal is None else os.fspath(self.journal)
        # The same rows give the same file, so a task that is run again finds what its first try has committed.
        ids = "\0".join(find_id(row, number, self.id) for number, row in enumerate(part))
        name = hashlib.sha256(ids.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        return os.fspath(Path(self.journal) / f"part-{name}.db")


def _make_outcome(row: Row[Any]) -> Outcome:
    usage, error = row.usage, row.error
    return {
        "id": row.id,
        "value": None if error is not None else json.dumps(_make_plain(row.value), ensure_ascii=False),
        "error": None if error is None else type(error).__name__,
        "message": None if error is None else str(error),
        "input_tokens": None if usage is None else usage.input_tokens,
        "output_tokens": None if usage is None else usage.output_tokens,
        "cost": row.cost,
        "cached": row.cached,
    }


def _make_plain(value: Any) -> Any:
    """Return a value as JSON values; of a thunk, and of an agent's run, what it comes to."""
    for name in ("parsed", "output"):
        if hasattr(value, name) and hasattr(value, "value"):
            value = getattr(value, name)
            break
    return json_value(value, serialize_unknown=True)
