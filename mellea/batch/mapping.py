"""`map` and `amap`: one function over many rows, whose answers survive a crash."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from typing import Any, TypeVar, Unpack, overload

from mellea.batch.arguments import MapArguments
from mellea.batch.budget import Budget
from mellea.batch.feed import make_feed
from mellea.batch.iterators import AsyncRows, Rows
from mellea.batch.limits import RateLimits
from mellea.batch.programs import as_program
from mellea.batch.progress import MapProgress
from mellea.batch.runner import MapSettings, Runner
from mellea.batch.sources import open_rows
from mellea.core.journal import Journal
from mellea.core.numbers import is_whole
from mellea.errors import UsageError
from mellea.stdlib.verb import verb

__all__ = ["amap", "check_arguments", "map"]

T = TypeVar("T")

_JOURNAL = "journal='run.db' keeps each answer, and the same map, run again, goes on from it"
_BUDGET = "budget=Budget(cost=…, tokens=…, seconds=…) limits what it takes"
_FAILED = "a failed row doesn't end the map: row.error says why it failed"

_WAYS = {
    **dict.fromkeys(("cache", "cache_dir", "checkpoint", "output_path", "resume", "save_to"), _JOURNAL),
    **dict.fromkeys(("cost", "max_cost", "max_tokens", "seconds", "timeout", "tokens"), _BUDGET),
    **dict.fromkeys(("errors", "on_error", "raise_on_error", "return_exceptions", "skip_errors"), _FAILED),
    **dict.fromkeys(("rate_limit", "requests_per_minute", "rpm", "tpm"), "limits=RateLimits(requests=…, tokens=…)"),
    "key": "id=… names the field that identifies a row, or is a function of the row",
}
"""What to do about arguments that others have."""

Source = Iterable[Any] | AsyncIterable[Any] | str | os.PathLike[str]


@overload
def map(function: Callable[..., Awaitable[T]], rows: Source, **arguments: Unpack[MapArguments]) -> Rows[T]: ...
@overload
def map(function: Callable[..., T], rows: Source, **arguments: Unpack[MapArguments]) -> Rows[T]: ...
@overload
def map(function: Any, rows: Source, **arguments: Unpack[MapArguments]) -> Rows[Any]: ...
@verb("map", MapArguments, **_WAYS)
def map(function: Any, rows: Any, **arguments: Unpack[MapArguments]) -> Rows[Any]:
    """Call a function for each row, many at once, and iterate over the outcomes.

    With a journal, each answer is committed before it is yielded. However the program ended, running it again takes the
    answers from the journal and only requests the missing rows; `Row.cached` shows which is which. A failed row is an
    outcome as well: `Row.error`. Rows neither read nor extend a session's context.

    Args:
        function: a `@generative` function, a `@command`, a verb of a session such as `m.instruct`, an `Agent`, or any
            function, sync or async; or a `functools.partial` of one.
        rows: any iterable or async iterable; the path of a `.csv`, `.tsv`, `.jsonl` or `.parquet` file; a data frame;
            an open cursor. A row with keys becomes named arguments, a tuple becomes positional ones, and anything else
            is the only argument.

    Raises:
        UsageError: an argument is wrong.
        ConfigurationError: there is a budget for the cost, and the price of the model is unknown.
        StateError: the journal can't be read.
        BudgetExceededError: raised by the iterator, after the rows that the budget covered.
        AuthError: raised by the iterator, since it affects every row.
    """
    return Rows(*_prepare(function, rows, arguments, is_sync=True))


@overload
def amap(function: Callable[..., Awaitable[T]], rows: Source, **arguments: Unpack[MapArguments]) -> AsyncRows[T]: ...
@overload
def amap(function: Callable[..., T], rows: Source, **arguments: Unpack[MapArguments]) -> AsyncRows[T]: ...
@overload
def amap(function: Any, rows: Source, **arguments: Unpack[MapArguments]) -> AsyncRows[Any]: ...
@verb("amap", MapArguments, **_WAYS)
def amap(function: Any, rows: Any, **arguments: Unpack[MapArguments]) -> AsyncRows[Any]:
    """Call a function for each row like `map`, and return an async iterator, which isn't awaited itself.

    Args:
        function: see `map`.
        rows: see `map`. A sync iterator is read in worker threads, except for SQLite cursors.
    """
    return AsyncRows(*_prepare(function, rows, arguments, is_sync=False))


def _prepare(function: Any, rows: Any, arguments: MapArguments, *, is_sync: bool) -> tuple[Any, Any, str | None]:
    program = as_program(function, arguments.get("version"))
    settings = check_arguments(arguments)
    # Without a journal nothing is looked up, so a function whose versions can't be distinguished may be mapped too.
    if settings.journal is not None:
        program.check()
    source, total, is_ready = open_rows(rows)
    feed = make_feed(source, is_ready=is_ready, is_sync=is_sync)
    runner = Runner(
        program, feed, settings, MapProgress(program.name.removeprefix("__main__."), total, arguments.get("progress"))
    )
    return runner, feed, None if settings.journal is None else settings.journal.path


def check_arguments(arguments: MapArguments) -> MapSettings:
    """Return the arguments of a map as settings.

    Raises:
        UsageError: an argument is wrong.
    """
    for name, (is_right, words) in _CHECKS.items():
        value = arguments.get(name)
        if name in arguments and not is_right(value):
            raise UsageError(f"{name}= takes {words}, not {value!r}")
    journal = arguments.get("journal")
    if arguments.get("batch") and journal is None:
        # A batch is answered within hours, and a program may well end before that.
        raise UsageError("batch=True needs journal=: a batch that is lost in a crash would be paid for twice")
    return MapSettings(
        arguments.get("limits") or RateLimits(),
        id=arguments.get("id"),
        journal=journal if journal is None or isinstance(journal, Journal) else Journal(journal),
        concurrency=arguments.get("concurrency"),
        is_ordered=arguments.get("ordered", True),
        budget=arguments.get("budget"),
        retries=arguments.get("retries", 3),
        is_batched=arguments.get("batch", False),
    )


_CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "concurrency": (lambda value: value is None or is_whole(value), "a whole number from 1, or None"),
    "ordered": (lambda value: isinstance(value, bool), "True or False"),
    "limits": (lambda value: value is None or isinstance(value, RateLimits), "RateLimits(…)"),
    "budget": (lambda value: value is None or isinstance(value, Budget), "Budget(…)"),
    "retries": (lambda value: is_whole(value, 0), "a whole number from 0"),
    "batch": (lambda value: isinstance(value, bool), "True or False"),
    "progress": (lambda value: value is None or isinstance(value, bool), "True, False or None"),
    "id": (
        lambda value: value is None or isinstance(value, str) or callable(value),
        "the name of a field, or a function of the row",
    ),
}
