"""The one function that all engines run: rows in, outcomes out, with a journal.

An engine gives each of its workers a part of the rows. A partition maps them as `mellea.map` does on one machine, so
when a worker was killed or a task is rerun, nothing that was committed is requested again.
"""

from __future__ import annotations

import importlib
import json
import operator
import os
import sys
import threading
from collections.abc import AsyncIterable, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from mellea.batch.budget import Budget
from mellea.batch.iterators import Rows
from mellea.batch.limits import RateLimits
from mellea.batch.mapping import check_arguments
from mellea.batch.mapping import map as map_rows
from mellea.batch.part_files import gather_parts, open_part
from mellea.batch.plain_program import PlainProgram
from mellea.batch.programs import as_program
from mellea.batch.row import Row, RowId, find_id
from mellea.batch.sources import open_rows
from mellea.core.journal import Journal
from mellea.core.serialise import json_value
from mellea.errors import BudgetExceededError, MelleaError, UsageError
from mellea.stdlib.session import MelleaSession

__all__ = ["WAYS", "Outcome", "Partition", "list_rows"]

WAYS = {
    "budget": "budget_per_task=Budget(…) limits each task; none spans the tasks, each of which may run on a machine of "
    "its own, so divide what you want to spend by their number"
}
"""What to do about arguments of `mellea.map` that engines don't have."""

_LOOK_SECONDS = 0.2
"""How often to look whether the engine has cancelled a part."""

Outcome = dict[str, Any]
"""A row's outcome as plain values, the same for all engines: `id`, `value` as JSON, `error` and `message`,
`input_tokens`, `output_tokens`, `cost`, `cached`."""


@dataclass(frozen=True)
class Partition:
    """The work on a part of the rows; created where the job begins, and pickled for the workers.

    Args:
        function: the function, or where a worker finds it: `"package.module:name"`. A session can't be sent to another
            process, so workers import a function that has one; it must not be defined in the program itself.
        journal: a file that all workers can lock, which means on one machine; or a folder (an existing one, or a path
            that ends with `/`) in which each part of the rows has its own file. SQLite files can't be shared over a
            network.
        id: the field that identifies a row, or a function of the row; row numbers would differ from run to run.
        concurrency: rows in flight in each task.
        version: see `mellea.map`.
        retries: see `mellea.map`.
        limits: requests and tokens per minute, for all workers that share a journal file, otherwise for each task.
        budget_per_task: what each task may spend, so all of them together as many times that as there are tasks: they
            don't know of each other. A row that it doesn't cover has the error `BudgetExceededError`, and is requested
            in the next run.

    Raises:
        UsageError: there is no id, the function isn't a function or can't be sent, or another argument is wrong.
        StateError: a file of the folder isn't a journal.
    """

    function: Callable[..., Any] | str
    journal: str | os.PathLike[str] | None = None
    id: RowId = None
    concurrency: int | None = None
    version: str | None = None
    retries: int = 3
    limits: RateLimits | None = None
    budget_per_task: Budget | None = None

    def __post_init__(self) -> None:
        # Row numbers count within a part, and engines cut the parts differently in each run.
        if self.id is None:
            raise UsageError(
                "an engine needs id=, a field that identifies each row: row numbers differ from run to run"
            )
        check_arguments({"id": self.id, "concurrency": self.concurrency, "retries": self.retries})
        check_arguments({"limits": self.limits, "budget": self.budget_per_task})
        object.__setattr__(self, "function", self._find_sent())
        if self.journal is not None:
            object.__setattr__(self, "journal", _find_place(self.journal))

    def __call__(self, rows: Iterable[Any], is_cancelled: Callable[[], bool] | None = None) -> Iterator[Outcome]:
        """Map a part of the rows, and yield the outcomes in their order.

        Args:
            rows: the part.
            is_cancelled: whether nobody wants the outcomes any more, asked a few times a second by another thread; then
                the requests in flight are cancelled.

        Raises:
            GenerationCancelledError: it was cancelled.
            UsageError: the function, or the journal's folder, isn't on this machine.
            StateError: the journal can't be used.
            AuthError: the provider rejects the key, which affects every row.
        """
        # The whole part has to be read first, because the file's name is a digest of all its ids.
        part = list(rows)
        mapped: Any = map_rows(
            _import_function(self.function) if isinstance(self.function, str) else self.function,
            part,
            id=self.id,
            journal=self._open_journal(part),
            concurrency=self.concurrency,
            version=self.version,
            retries=self.retries,
            limits=self.limits,
            budget=self.budget_per_task,
            progress=False,
        )
        done = 0
        with mapped, _cancelling(mapped, is_cancelled):
            try:
                for row in mapped:
                    done += 1
                    yield _make_outcome(row)
            except BudgetExceededError as error:
                for number, row in enumerate(part[done:], done):
                    yield _make_outcome(Row(number, self._find_id(row, number), None, error, None, 0.0, False))
            except MelleaError:
                # Few rows, all of which failed for one reason, say nothing about those of other tasks.
                if done < len(part):
                    raise

    def _find_sent(self) -> Any:
        """Return what is sent to workers: a name that they import, or a function together with its identity."""
        if isinstance(self.function, str):
            module, _, name = self.function.partition(":")
            if not module or not name:
                raise UsageError(f"a function is named 'package.module:name', not {self.function!r}")
            return self.function
        program = as_program(self.function, self.version)
        if self.journal is not None:
            # Here, since only this machine is certain to have the source of a function that is sent.
            program.check()
        owner = getattr(self.function, "__self__", None)
        has_session = isinstance(owner, MelleaSession) or bool(program.backends())
        if isinstance(program, PlainProgram) and not has_session:
            return program
        if (place := _find_name(self.function)) is not None:
            return place
        if not has_session:
            return self.function  # it gets the worker's
        raise UsageError(
            f"workers can't be sent {program.name}(), since sessions stay in their process; put it into a module that "
            "the workers have, and give its name, such as 'package.module:name'"
        )

    def _open_journal(self, part: list[Any]) -> Journal | None:
        if self.journal is None:
            return None
        place = os.fspath(self.journal)
        if not place.endswith(os.sep):
            return Journal(place)
        if not os.path.isdir(place):
            raise UsageError(f"the journal's folder {place!r} isn't on this machine; all workers have to share it")
        return open_part(place, [self._find_id(row, number) for number, row in enumerate(part)])

    def _find_id(self, row: Any, number: int) -> str:
        """Return the id of a row, or its number if it has none; the map reports what is wrong with it."""
        try:
            return find_id(row, number, self.id)
        except Exception:  # noqa: BLE001 - user code: `id=` may be a function
            return str(number)


@contextmanager
def _cancelling(mapped: Rows[Any], is_cancelled: Callable[[], bool] | None) -> Iterator[None]:
    """Cancel a map as soon as its engine no longer wants it, while a `with` block reads it."""
    has_ended = threading.Event()

    def watch() -> None:
        while not has_ended.wait(_LOOK_SECONDS):
            if is_cancelled is not None and is_cancelled():
                mapped.cancel()
                return

    if is_cancelled is not None:
        threading.Thread(target=watch, name="mellea-partition", daemon=True).start()
    try:
        yield
    finally:
        has_ended.set()


def list_rows(rows: Any) -> list[Any]:
    """Return the rows of anything that `mellea.map` accepts, for an engine that distributes them.

    Raises:
        UsageError: these aren't rows, or only async code can read them.
    """
    source, _, _ = open_rows(rows)
    if isinstance(source, AsyncIterable):
        raise UsageError("an engine can't read an async iterable; read its rows into a list first")
    return list(source)


def _find_place(journal: str | os.PathLike[str]) -> str:
    """Return the journal's absolute path, as workers may run in other folders; that of a folder ends with a slash."""
    given = os.fspath(journal)
    path = os.path.abspath(given)
    if not os.path.isdir(path) and not given.endswith(("/", os.sep)):
        return path
    gather_parts(path)
    return os.path.join(path, "")


def _find_name(function: Any) -> str | None:
    """Return the name under which another process can import a function, `None` if there is none."""
    module, name = getattr(function, "__module__", None), getattr(function, "__name__", None)
    if module == "__main__" or not isinstance(name, str):
        return None
    return f"{module}:{name}" if getattr(sys.modules.get(str(module)), name, None) is function else None


def _import_function(place: str) -> Any:
    module, _, name = place.partition(":")
    # Imported here and not in the driver: only the worker is certain to have the package, and its sessions can't be
    # pickled.
    try:
        return operator.attrgetter(name)(importlib.import_module(module))
    except (ImportError, AttributeError) as error:
        raise UsageError(f"a worker can't find the function {place!r}: {error}") from error


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
    """Return a value as JSON values; for a thunk or an agent's run, its result."""
    for name in ("parsed", "output"):
        if hasattr(value, name) and hasattr(value, "value"):
            value = getattr(value, name)
            break
    return json_value(value, serialize_unknown=True)
