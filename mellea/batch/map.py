"""`map` and `amap`: one function over many rows, whose answers a crash doesn't lose.

Both are the same runner. The iterator of `amap` reads from its own loop, that of `map` from the thread of synchronous
verbs, whose loop the runner works on.
"""

from __future__ import annotations

import os
import weakref
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, overload

import anyio

from mellea.batch.budget import Budget
from mellea.batch.feed import PushFeed, make_feed
from mellea.batch.limits import RateLimits
from mellea.batch.programs import as_program
from mellea.batch.progress import Progress
from mellea.batch.row import Row, RowId
from mellea.batch.runner import Runner, Settings
from mellea.batch.sources import open_rows
from mellea.core.journal import Journal
from mellea.core.runtime.loop import ThreadWaiter, new_waiter
from mellea.core.runtime.portal import portal_loop
from mellea.core.tracebacks import add_note, short_errors, shorten
from mellea.errors import StreamingError, UsageError

__all__ = ["AsyncRows", "Rows", "amap", "map"]

T = TypeVar("T")

_CLOSE_SECONDS = 1.5
"""How long a map that is closed early waits for its requests to be cancelled and its last answers to be committed."""

_LOOK_SECONDS = 1.0

Source = Iterable[Any] | AsyncIterable[Any] | str | os.PathLike[str]


class _Mapped(Generic[T]):
    """What both iterators have in common."""

    _is_sync: bool

    def __init__(self, function: Any, rows: Any, options: dict[str, Any]) -> None:
        program = as_program(function, options["version"])
        settings = _check(options)
        if settings.journal is not None:
            program.check()
        source, total, is_ready = open_rows(rows)
        self._feed = make_feed(source, is_ready=is_ready, is_sync=self._is_sync)
        self._runner = Runner(program, self._feed, settings, Progress(total, options["progress"]))
        self._journal = settings.journal
        self._ready: deque[Row[T]] = deque()
        self._has_begun = self._is_over = False
        # It must not wait, nor take a lock: whatever code runs may be the one that drops the iterator.
        self._dropped = weakref.finalize(self, self._runner.post_stop)
        self._dropped.atexit = False

    @property
    def done(self) -> int:
        """How many rows are done so far."""
        return self._runner.done

    @property
    def cost(self) -> float | None:
        """What this map has cost so far in US dollars, `None` if a part of it is unknown."""
        return self._runner.cost

    def _take(self) -> bool:
        """Take what is ready; false if nothing is."""
        self._ready.extend(self._runner.outbox.take())
        return bool(self._ready)

    def _end(self) -> BaseException | None:
        """Note that all rows were handed out, and return the error that ends them, if one does."""
        self._is_over = True
        self._dropped.detach()
        self._runner.progress.end()
        return self._runner.outbox.error

    def _interrupted(self, error: BaseException) -> None:
        """Stop, and tell how to go on."""
        self._is_over = True
        self._runner.post_stop()
        if self._journal is not None:
            add_note(
                error,
                f"{self._runner.done:,} rows are done and stand in the journal {self._journal.path!r}; run the same "
                "program again, and it goes on with the rows that aren't",
            )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._runner.name!r}: {self._runner.done:,} rows done>"


@short_errors
class Rows(_Mapped[T], Iterator[Row[T]]):
    """The rows of a `map`, in plain code. The work begins with the first one that is asked for.

    Leaving the loop, or the `with` block, ends what is in flight. It may be read in one thread at a time.
    """

    _is_sync = True

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Row[T]:
        if self._ready:
            return self._ready.popleft()
        if self._is_over:
            raise StopIteration
        try:
            self._wait()
        except BaseException as error:
            self._interrupted(error)
            self._wait_for_end()
            shorten(error)
            raise
        if self._ready:
            return self._ready.popleft()
        error = self._end()
        if error is None:
            raise StopIteration
        try:
            raise error
        finally:
            del error

    def _begin(self) -> None:
        self._has_begun = True
        self._process = os.getpid()
        self._runner.loop = loop = portal_loop()
        loop.post(self._runner.start)  # with a copy of the context variables

    def _wait(self) -> None:
        """Wait until a row is ready, or all is over; meanwhile, take rows from their source."""
        if not self._has_begun:
            self._begin()
        outbox, feed = self._runner.outbox, self._feed if isinstance(self._feed, PushFeed) else None
        while True:
            waiter = ThreadWaiter()
            outbox.wait_with(waiter)  # before the look: what comes now wakes this one
            if feed is not None:
                feed.pusher = waiter
            has_ended = outbox.has_ended
            is_idle = not self._take()
            if feed is not None and feed.wants(is_idle=is_idle):
                feed.pump()
                if is_idle:
                    continue
            if not is_idle or has_ended:
                return
            self._runner.post_room()
            waiter.wait(_LOOK_SECONDS)
            self._check_alive()

    def _check_alive(self) -> None:
        if os.getpid() != self._process:
            raise StreamingError("a map can't be read in a forked child: its work goes on in the parent")
        loop = self._runner.loop
        if loop is not None and not self._runner.outbox.has_ended and (how := loop.obituary()) is not None:
            raise StreamingError(f"the thread that the map works on {how}")

    def close(self) -> None:
        """End what is in flight, and hand out nothing more; answers that came are in the journal."""
        if not self._is_over:
            self._is_over = True
            self._runner.post_stop()
            self._wait_for_end()
        self._end()
        self._ready.clear()

    def _wait_for_end(self) -> None:
        if not self._has_begun:
            return
        waiter = ThreadWaiter()
        self._runner.outbox.wait_with(waiter)
        if not self._runner.outbox.has_ended:
            waiter.wait(_CLOSE_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if exc is not None and not self._is_over:
            self._interrupted(exc)
            self._wait_for_end()
        self.close()


@short_errors
class AsyncRows(_Mapped[T], AsyncIterator[Row[T]]):
    """The rows of an `amap`. The work begins with the first one that is asked for.

    Leaving the loop, or the `async with` block, ends what is in flight, and so does cancelling a wait for a row.
    """

    _is_sync = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Row[T]:
        if self._ready:
            return self._ready.popleft()
        if self._is_over:
            raise StopAsyncIteration
        try:
            await self._wait()
        except BaseException as error:
            self._interrupted(error)
            raise
        if self._ready:
            return self._ready.popleft()
        error = self._end()
        if error is None:
            raise StopAsyncIteration
        try:
            raise error
        finally:
            del error

    async def _wait(self) -> None:
        if not self._has_begun:
            self._has_begun = True
            self._runner.start()
        outbox = self._runner.outbox
        while True:
            waiter = new_waiter()
            outbox.wait_with(waiter)
            has_ended = outbox.has_ended
            if self._take() or has_ended:
                return
            self._runner.post_room()
            await waiter.wait(_LOOK_SECONDS)
            loop = self._runner.loop
            if loop is not None and not loop.is_current() and (how := loop.obituary()) is not None:
                raise StreamingError(f"the loop that the map works on {how}")

    async def aclose(self) -> None:
        """End what is in flight, and hand out nothing more; answers that came are in the journal."""
        if not self._is_over:
            self._is_over = True
            self._runner.post_stop()
            await self._wait_for_end()
        self._end()
        self._ready.clear()

    async def _wait_for_end(self) -> None:
        if self._has_begun and self._runner.loop is not None and self._runner.loop.is_current():
            with anyio.move_on_after(_CLOSE_SECONDS, shield=True):
                await self._runner.until_ended()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if exc is not None and not self._is_over:
            self._interrupted(exc)
            await self._wait_for_end()
        await self.aclose()


@overload
def map(function: Callable[..., Awaitable[T]], rows: Source, **options: Any) -> Rows[T]: ...
@overload
def map(function: Callable[..., T], rows: Source, **options: Any) -> Rows[T]: ...
@overload
def map(function: Any, rows: Source, **options: Any) -> Rows[Any]: ...
def map(
    function: Any,
    rows: Any,
    *,
    journal: str | os.PathLike[str] | Journal | None = None,
    concurrency: int | None = None,
    id: RowId = None,
    ordered: bool = True,
    limits: RateLimits | None = None,
    budget: Budget | None = None,
    version: str | None = None,
    retries: int = 3,
    batch: bool = False,
    progress: bool | None = None,
) -> Rows[Any]:
    """Call a function for each row, many at once, and iterate over the outcomes.

    With a journal each answer is committed before it is handed out. Run again, after whatever end, the same program
    takes them from there, and only asks for the rows that have none; `Row.cached` tells. A row that fails is an outcome,
    too: `Row.error`. Rows neither read nor extend a session's context.

    Args:
        function: a `@generative` function, a `@command`, a verb of a session such as `m.instruct`, an `Agent`, or any
            function, sync or async; or a `functools.partial` of one.
        rows: any iterable or async iterable; the path of a `.csv`, `.tsv`, `.jsonl` or `.parquet` file; a data frame; an
            open cursor. Of a row, something with keys is named arguments, a tuple positional ones, anything else the
            only argument.
        journal: the SQLite file that keeps the answers.
        concurrency: how many rows are in flight at most; by default as many as the model's side takes, up to 256.
        id: the field of a row that tells it from others, or a function of the row; by default its number.
        ordered: whether the outcomes come in the order of the rows, or as they are done.
        limits: requests and tokens a minute, where the provider's headers don't say.
        budget: what it may take; see `Budget`.
        version: a version of the function of your own. A plain function's answers are kept under it in place of its
            source, and those of any function are asked for anew when it changes.
        retries: how often a row is asked again that failed for a reason that may pass, such as a rate limit.
        batch: use the provider's batches, which cost half and take up to a day.
        progress: whether to show how it goes on stderr; by default if that is a terminal.

    Raises:
        UsageError: an argument is wrong.
        ConfigurationError: there is a budget for the cost, and the price of the model is unknown.
        StateError: the journal can't be read.
        BudgetExceededError: by the iterator, after the rows that the budget was enough for.
        AuthError: by the iterator, since it would concern every row.
    """
    return Rows(function, rows, _options(locals()))


@overload
def amap(function: Callable[..., Awaitable[T]], rows: Source, **options: Any) -> AsyncRows[T]: ...
@overload
def amap(function: Callable[..., T], rows: Source, **options: Any) -> AsyncRows[T]: ...
@overload
def amap(function: Any, rows: Source, **options: Any) -> AsyncRows[Any]: ...
def amap(
    function: Any,
    rows: Any,
    *,
    journal: str | os.PathLike[str] | Journal | None = None,
    concurrency: int | None = None,
    id: RowId = None,
    ordered: bool = True,
    limits: RateLimits | None = None,
    budget: Budget | None = None,
    version: str | None = None,
    retries: int = 3,
    batch: bool = False,
    progress: bool | None = None,
) -> AsyncRows[Any]:
    """Call a function for each row, many at once; an async iterator, not to be awaited itself, otherwise like `map`."""
    return AsyncRows(function, rows, _options(locals()))


def _options(given: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name not in ("function", "rows")}


def _check(options: dict[str, Any]) -> Settings:
    for name, kinds in _KINDS.items():
        value = options[name]
        is_bool = isinstance(value, bool)
        if not isinstance(value, kinds) or is_bool is not (bool in kinds and value is not None):
            raise UsageError(f"{name}= takes {_WORDS[name]}, not {value!r}")
    concurrency, retries = options["concurrency"], options["retries"]
    if concurrency is not None and concurrency < 1:
        raise UsageError(f"concurrency= takes a whole number from 1, or None, not {concurrency!r}")
    if retries < 0:
        raise UsageError(f"retries= takes a whole number from 0, not {retries!r}")
    id, journal = options["id"], options["journal"]
    if id is not None and not isinstance(id, str) and not callable(id):
        raise UsageError(f"id= takes the name of a field, or a function of the row, not {id!r}")
    return Settings(
        id=id,
        journal=journal if journal is None or isinstance(journal, Journal) else Journal(journal),
        concurrency=concurrency,
        is_ordered=options["ordered"],
        limits=options["limits"] or RateLimits(),
        budget=options["budget"],
        retries=retries,
    )


_KINDS: dict[str, tuple[type, ...]] = {
    "concurrency": (int, type(None)),
    "ordered": (bool,),
    "limits": (RateLimits, type(None)),
    "budget": (Budget, type(None)),
    "retries": (int,),
    "batch": (bool,),
    "progress": (bool, type(None)),
}
_WORDS = {
    "concurrency": "a whole number from 1, or None",
    "ordered": "True or False",
    "limits": "RateLimits(…)",
    "budget": "Budget(…)",
    "retries": "a whole number from 0",
    "batch": "True or False",
    "progress": "True, False or None",
}
