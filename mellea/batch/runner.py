"""The engine of a map: takes rows, looks them up, requests them, commits the answers, and yields them.

Rules:

- It works on one loop, in its own task, with as many workers as there are rows in flight; each handles one row at a
  time. Rows are started in order.
- A row keeps its place until its answer is committed. So a killed process loses at most the rows in flight.
- The number of finished rows that haven't been yielded is bounded: a slow reader, or a slow first row, holds up the
  others. So memory doesn't grow with the number of rows.
- A row without an answer is claimed before it is requested, until its answer is committed. If several maps use one
  journal, one of them requests the row, and the others wait for its answer. The desk claims the rows of batches.
- A failed row is an outcome like any other. An error that affects every row ends the map: a rejected key, an unknown
  price, a journal that can't be written; and a model that doesn't exist, a server that can't be reached, or fields that
  the function doesn't take, once several rows, or all that there are, have failed for it and none has been answered.
  Then no more rows are started, and those that were started are yielded first.
- Stopping cancels the rows in flight, and waits for those that are being committed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import time
from collections import Counter, deque
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import anyio
import anyio.abc

from mellea.batch.answered import Answered, read_answered
from mellea.batch.attempts import RowAttempts, Task
from mellea.batch.budget import Budget, Purse
from mellea.batch.claims import Claims
from mellea.batch.desk import BatchDesk
from mellea.batch.feed import Feed
from mellea.batch.journal_thread import JournalThread
from mellea.batch.limits import RateLimits
from mellea.batch.outbox import Outbox
from mellea.batch.places import Places
from mellea.batch.program import Program, Work
from mellea.batch.progress import MapProgress
from mellea.batch.row import Row, RowId, digest_row, find_id, make_arguments
from mellea.core.events import Usage
from mellea.core.journal import KEY_BYTES, Answer, Failure, Journal
from mellea.core.runtime.loop import Loop, Waiter, create_waiter, get_current_loop, launch
from mellea.core.serialise import json_value
from mellea.core.tracebacks import list_program_frames
from mellea.errors import (
    AuthError,
    ConfigurationError,
    ConnectError,
    MelleaError,
    NotFoundError,
    UnsupportedError,
    UsageError,
)

__all__ = ["MapSettings", "Runner"]

_log = logging.getLogger("mellea")

_FLUSH_SECONDS = 1.0
"""How long a stopped map waits for its last answers to be committed."""

_FIRST_LOOK = 0.02
_LONGEST_LOOK = 0.5
"""How long to wait before looking whether a row that another map asks for is answered, at first and at most."""

_IN_BATCHES = 10_000
"""How many rows may wait for batches at once."""

_IN_VAIN = 3
"""How many rows have to fail for a reason that may concern all, with none answered, until the map ends for it."""

_LOOKS_FOR_CHANGE = 8
"""For how many requested rows to check whether they were answered before."""

_LEAST_UNREAD = 256
_UNREAD_PER_PLACE = 8
"""How many rows per place may be done but not yielded."""


@dataclass(frozen=True, slots=True)
class MapSettings:
    """The arguments of a map besides the function and the rows; `map` explains them."""

    limits: RateLimits
    id: RowId = None
    journal: Journal | None = None
    concurrency: int | None = None
    is_ordered: bool = True
    budget: Budget | None = None
    retries: int = 3
    is_batched: bool = False


class Runner:
    """One running map.

    Args:
        program: the program that is mapped over the rows.
        feed: the rows.
        settings: the rest.
        progress: shows the progress.

    Attributes:
        name: the name of the program.
        outbox: the rows for the reader.
        done: how many rows have been yielded, or are about to be.
    """

    def __init__(self, program: Program, feed: Feed, settings: MapSettings, progress: MapProgress) -> None:
        self._program, self._feed, self._settings = program, feed, settings
        self.name = program.name
        self.outbox = Outbox(is_ordered=settings.is_ordered)
        self.progress = progress
        self.done = 0
        most = _IN_BATCHES if settings.concurrency is None and settings.is_batched else settings.concurrency
        self._places = Places(most)
        self._room = max(_LEAST_UNREAD, _UNREAD_PER_PLACE * self._places.most)
        self._purse = progress.purse = Purse(settings.budget)
        self._attempts = RowAttempts(self._places, self._purse, settings.limits, settings.retries)
        self._rows: deque[tuple[int, Any]] = deque()
        self._taken = 0  # rows from the feed
        self._begun = 0  # rows that have, or had, a place
        self._in_flight = 0
        self._workers = 0
        self._idle: deque[Waiter] = deque()
        self._feeder: Waiter | None = None
        self._feed_scope: anyio.CancelScope | None = None
        self._rows_ended = False
        self._error: BaseException | None = None  # the error that ends it, once nothing is in flight
        # Failures that look like a wrong name, by reason: of a model, or of the rows' fields. `None` once a row was
        # answered.
        self._in_vain: Counter[Hashable] | None = Counter()
        self._last_in_vain: BaseException | None = None
        self._is_stopped = self._is_journal_lost = False
        self._settled: Waiter | None = None
        self._out: list[Row[Any]] = []  # done in this iteration of the loop
        self._answered: Answered | None = None
        self._thread: JournalThread | None = None
        self._claims: Claims | None = None
        self._claimed: dict[int, bytes] = {}  # the keys of the rows that are claimed, by their indices
        self._has_waited = False  # for a row of another map
        self._looks_for_change = _LOOKS_FOR_CHANGE
        self._desk: BatchDesk | None = None
        self._desk_scope: anyio.CancelScope | None = None
        self._job = 0
        self._scope: anyio.CancelScope | None = None
        self._hirer: Waiter | None = None
        self._ended: list[Waiter] = []
        self.has_ended = False
        self.loop: Loop | None = None
        program.is_keyed = settings.journal is not None

    @property
    def cost(self) -> float | None:
        """What it has cost so far in US dollars."""
        return self._purse.cost

    # -- from outside ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Start, on the loop on which it will run."""
        self.loop = get_current_loop()
        launch(self._main, self._retire)

    def post_stop(self, error: BaseException | None = None) -> None:
        """Ask it to stop, with an error for its reader, if any; from any thread; returns immediately."""
        self._is_stopped, self._error = True, self._error or error
        if self.loop is not None and not self.has_ended:
            self.loop.post(self._stop)

    def post_room(self) -> None:
        """Notify it, from any thread, that rows have been yielded."""
        if self.loop is not None and not self.has_ended:
            self.loop.post(self._wake_idle)

    async def wait_until_ended(self) -> None:
        """Wait, on its loop, until it has ended."""
        while not self.has_ended:
            waiter = create_waiter()
            self._ended.append(waiter)
            await waiter.wait(1.0)

    def _stop(self) -> None:
        self._is_stopped = True
        if self._scope is not None:
            self._scope.cancel()

    def _retire(self) -> None:
        self.has_ended = True
        if not self.outbox.has_ended:
            self.outbox.end(self._error)
        for waiter in self._ended:
            waiter.wake()

    # -- the task ---------------------------------------------------------------------------------------

    async def _main(self) -> None:
        try:
            with anyio.CancelScope() as self._scope:
                # It may have been stopped before its task ran.
                if not self._is_stopped:
                    await self._run()
        except anyio.get_cancelled_exc_class():
            raise
        except BaseException as error:  # noqa: BLE001 - it is the reader's
            self._error = self._error or error
        finally:
            if self._thread is not None:
                self._thread.close()
                # Shielded, because the map may have been cancelled, and answers that were paid for are still committed.
                with anyio.move_on_after(_FLUSH_SECONDS, shield=True):
                    await self._thread.wait_until_closed()
            self.outbox.end(self._error)

    async def _run(self) -> None:
        if self._settings.budget is not None:
            self._settings.budget.check_prices(self._program.backends())
        if self._settings.journal is not None:
            await self._open_journal(self._settings.journal)
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._hire, group)
                if self._desk is not None:
                    group.start_soon(self._serve_desk, group)
                # Cancelled by `_wake_all` if the map ends early, without affecting the workers.
                with anyio.CancelScope() as self._feed_scope:
                    await self._take_rows()
                self._rows_ended = True
                self._wake_all()
                self._end_desk()
        except BaseExceptionGroup as group:  # workers raise nothing, except for bugs of ours, which have to be visible
            raise group.exceptions[0] from None
        finally:
            # The user's source gets a moment to close but no more, because it may hang.
            with anyio.move_on_after(_FLUSH_SECONDS, shield=True):
                await self._feed.aclose()
        await self._wait_until_committed()
        if self._desk is not None and self._answered is not None and not self._is_journal_lost:
            await self._desk.finish(self._answered.knows)
        # The error that ended the map matters more than one that the source raises afterwards.
        if self._error is None and self._feed.error is not None:
            raise self._feed.error
        if self._error is None and self._in_vain is not None and self._begun in self._in_vain.values():
            self._error = self._last_in_vain
        if self._error is None and self._purse.is_empty:
            journal = self._settings.journal
            raise self._purse.make_exceeded_error(self.done, None if journal is None else journal.path)

    async def _wait_until_committed(self) -> None:
        while self._in_flight and not self._is_journal_lost:
            self._settled = create_waiter()
            await self._settled.wait(1.0)

    async def _open_journal(self, journal: Journal) -> None:
        self._thread = JournalThread(journal, self._note_committed, self._lose_journal)
        self._job = await self._thread.call(lambda journal: journal.job(self._program.name))
        # Before the answers are read: who begins from now on is noticed.
        self._claims = await self._thread.call(lambda journal: Claims(journal.path))
        self._thread.at_end, self._thread.watch = self._claims.close, self._claims.share_if_asked
        self._attempts.call_journal = self._thread.call
        if self._settings.is_batched:
            self._desk = desk = BatchDesk(
                self._thread.call, self._job, self._claims, lambda: self._may_request(desk.waiting)
            )
            self._attempts.desk = self._desk
            # Read before the answers: if a batch of another process ends in between, it is found in one or the other.
            await self._desk.open()
        self._answered = await read_answered(self._thread, self._job)

    def _may_request(self, waiting: int) -> bool:
        """Whether rows may still make requests: those that haven't started, and those that are being prepared."""
        return not self._rows_ended or bool(self._rows) or self._in_flight > waiting

    async def _serve_desk(self, group: anyio.abc.TaskGroup) -> None:
        """Let the desk send and fetch batches until there is nothing more to do."""
        with anyio.CancelScope() as self._desk_scope:
            async with anyio.create_task_group() as desk_group:
                await self._desk.serve(desk_group)  # type: ignore[union-attr]  # there is one

    async def _take_rows(self) -> None:
        """Take rows from the feed while there are few, and let workers start on them."""
        while not self._rows_ended and self._error is None and not self._purse.is_empty:
            # Two rows per place, so a worker that finishes finds the next row waiting, and few rows are held in memory.
            wanted = 2 * self._places.limit - len(self._rows)
            if wanted <= self._places.limit:
                self._feeder = create_waiter()
                await self._feeder.wait(1.0)
                continue
            rows = await self._feed.take(wanted)
            if not rows:
                break
            for row in rows:
                self._rows.append((self._taken, row))
                self._taken += 1
            self._wake_idle()

    def _wake_idle(self) -> None:
        """Wake as many workers as may start a row, or start more of them."""
        free = min(self._places.limit - self._in_flight, len(self._rows), self._find_room())
        while free > 0 and self._idle:
            self._idle.popleft().wake()
            free -= 1
        if free > 0 and self._hirer is not None:
            self._hirer.wake()

    async def _hire(self, group: anyio.abc.TaskGroup) -> None:
        """Start workers as they are needed; a callback can't, because it runs in another context, or in none."""
        while not self._is_over():
            self._hirer = create_waiter()
            most = min(self._places.limit, self._in_flight + len(self._rows))
            while self._workers < most:
                self._workers += 1
                group.start_soon(self._work)
            await self._hirer.wait()

    def _wake_all(self) -> None:
        if self._hirer is not None:
            self._hirer.wake()
        while self._idle:
            self._idle.popleft().wake()
        if self._feed_scope is not None and (self._error is not None or self._purse.is_empty):
            self._feed_scope.cancel()  # a source that has no row at the moment would hold up the end

    def _find_room(self) -> int:
        return self._room - (self._begun - self.outbox.taken)

    def _is_over(self) -> bool:
        """Whether no more rows will be started."""
        return self._error is not None or self._purse.is_empty or (self._rows_ended and not self._rows)

    # -- workers ----------------------------------------------------------------------------------------

    async def _work(self) -> None:
        while not self._is_over():
            # Checked again after waking: another worker may have been faster.
            if not self._rows or self._in_flight >= self._places.limit or self._find_room() <= 0:
                waiter = create_waiter()
                self._idle.append(waiter)
                await waiter.wait()
                continue
            index, row = self._rows.popleft()
            self._in_flight += 1
            self._begun += 1
            # The feeder is woken before the row is worked on, so that both continue at the same time.
            if self._feeder is not None and len(self._rows) < self._places.limit:
                self._feeder.wake()
            task = Task(index, row)
            try:
                await self._do(task)
            except Exception as error:  # noqa: BLE001 - the row's, or all rows'
                if self._is_stopped:  # its request may have been cancelled first, and isn't a failure then
                    self._give_up(task)
                    continue
                if not self._is_for_all(task, error):
                    self._finish_failed(task, error)
                    continue
                self._fail(error)
                self._give_up(task)
            except (GeneratorExit, anyio.get_cancelled_exc_class()):
                raise
            except BaseException as exit:  # noqa: BLE001 - the map ends with it; left to the task, it would end the loop
                self._fail(exit)
                self._give_up(task)

    async def _do(self, task: Task) -> None:
        program, row = self._program, task.row
        task.id = find_id(row, task.index, self._settings.id)
        args, kwargs = make_arguments(row, self._settings.id, program.parameters)
        if kwargs:
            try:
                program.check_fields(kwargs)
            except UsageError:
                task.misfit = frozenset(kwargs)
                raise
        work = await program.prepare(args, kwargs)
        if self._answered is not None:
            row_id = task.id.encode("utf-8", "surrogatepass")
            task.key = hashlib.sha256(b"%b\0%b" % (row_id, work.digest)).digest()[:KEY_BYTES]
            # On the first run the journal is empty, so nothing has to be looked up.
            if len(self._answered) and await self._find_cached(task, work):
                return
            if self._desk is None and await self._claim(task, work):
                return
            if len(self._answered):
                await self._warn_of_change(task)
        # The map may have failed while this row waited, for example because the first row has shown that a budget can't
        # be enforced.
        if not await self._purse.enter(work.backend) or self._error is not None:
            self._give_up(task)
            return
        task.has_entered = True
        value = await self._attempts.ask(task, work)
        self._finish(task, work, value)

    async def _find_cached(self, task: Task, work: Work) -> bool:
        found = await self._answered.find(task.key) if self._answered is not None else None
        if found is None:
            return False
        value = await work.load(found.value)
        self._hand_out_soon(Row(task.index, task.id, value, None, _read_usage(found.usage), found.cost, True))
        return True

    async def _claim(self, task: Task, work: Work) -> bool:
        """Claim a row, so that no other map asks for it, and return whether one has answered it meanwhile."""
        claims, answered, pause = self._claims, self._answered, _FIRST_LOOK
        if claims is None or answered is None:
            return False
        while not claims.take(task.key):
            if self._error is not None or self._purse.is_closed:
                return False  # it won't be asked for
            if not claims.is_waiting:
                self._warn_of_waiting(task)
            # Looked at again and again: no system tells an event loop that another process has let a lock go.
            await anyio.sleep(pause)
            pause = min(1.5 * pause, _LONGEST_LOOK)
        self._claimed[task.index] = task.key
        if claims.is_alone:
            return False
        await answered.refresh()
        return await self._find_cached(task, work)

    def _warn_of_waiting(self, task: Task) -> None:
        journal = self._settings.journal
        if not self._has_waited and journal is not None:
            self._has_waited = True
            _log.warning(
                "row %r of %s() is being asked for by another map with the journal %r, so this one waits for its "
                "answer, as for all rows that both have; give each rows of its own to have them work at the same time",
                task.id, self.name, journal.path,
            )  # fmt: skip

    def _release(self, index: int) -> None:
        key = self._claimed.pop(index, None)
        if key is not None and self._claims is not None:
            self._claims.release(key)

    async def _warn_of_change(self, task: Task) -> None:
        """Warn once if an answered row is requested again: the user may not want to pay for all of them again."""
        # The first few rows are enough, since a change usually affects all of them, and each check scans the whole
        # journal.
        journal, thread = self._settings.journal, self._thread
        if self._looks_for_change <= 0 or not self._program.warns_of_change or journal is None or thread is None:
            return
        self._looks_for_change -= 1
        count = await thread.call(lambda journal: journal.count_rows_if_answered(self._job, task.id))
        if count and self._looks_for_change >= 0:
            self._looks_for_change = -1  # workers that are checking at this moment then stay silent
            _log.warning(
                "the journal %r has answers to %s rows of %s(), but row %r is requested again: its prompt, arguments, "
                "model, options, checks or version aren't those of its answer there",
                journal.path, f"{count:,}", self.name, task.id,
            )  # fmt: skip

    # -- the ends of a row ------------------------------------------------------------------------------

    def _finish(self, task: Task, work: Work, value: Any) -> None:
        self._in_vain = None
        try:
            self._leave_purse(task)
        except ConfigurationError as error:
            self._fail(error)  # but anything paid for is kept
        row = Row(task.index, task.id, value, None, task.usage, task.cost, False)
        if self._thread is None:
            self._hand_out_soon(row)
            return
        try:
            text = work.dump(value)
        except UsageError as error:
            self._fail(error)  # the next row's value would have the same fault
            self._give_up(task)
            return
        # A run that waits for a person has no answer yet that could be stored.
        if text is None:
            self._hand_out_soon(row)
            return
        usage = None if task.usage is None else _write_usage(task.usage)
        made = (time.time(), digest_row(task.row))
        self._thread.commit(Answer(self._job, task.id, task.key, text, usage, task.cost, *made), row)

    def _finish_failed(self, task: Task, error: Exception) -> None:
        with contextlib.suppress(ConfigurationError):  # usually the cost of a failed attempt isn't known
            self._leave_purse(task)
        # Readers keep rows, and a full traceback would keep all of the library's frames alive.
        error.__traceback__ = list_program_frames(error.__traceback__)
        row: Row[Any] = Row(task.index, task.id, None, error, task.usage, task.cost, False)
        if self._thread is None:
            self._hand_out_soon(row)
            return
        failure = Failure(
            self._job,
            task.id or str(task.index),
            task.key or None,
            _dump_row(task.row),
            type(error).__name__,
            str(error),
            task.attempts,
            task.cost,
            time.time(),
            digest_row(task.row),
        )
        self._thread.commit(failure, row)

    def _leave_purse(self, task: Task) -> None:
        if task.has_entered:
            task.has_entered = False
            self._purse.leave(task.usage, task.cost, has_asked=task.has_asked)

    def _give_up(self, task: Task) -> None:
        """Drop a row that won't be started any more."""
        self._release(task.index)
        self._in_flight -= 1
        self._wake_all()
        self._end_desk()

    def _hand_out_soon(self, row: Row[Any]) -> None:
        """Yield a row together with the others of this loop iteration, so that the reader is woken only once."""
        self._out.append(row)
        if len(self._out) == 1 and self.loop is not None:
            self.loop.post(self._hand_out_now)

    def _hand_out_now(self) -> None:
        rows, self._out = self._out, []
        self._hand_out(rows)

    def _note_committed(self, rows: list[Row[Any]]) -> None:
        self._hand_out(rows)

    def _hand_out(self, rows: list[Row[Any]]) -> None:
        for row in rows:
            self._release(row.index)
        self._in_flight -= len(rows)
        self.done += len(rows)
        self.progress.note(rows)
        self.outbox.put(rows)
        if self._settled is not None:
            self._settled.wake()
        # At the end all of them have to check, not only those that could start a row.
        if self._is_over():
            self._wake_all()
        else:
            self._wake_idle()
        self._end_desk()

    def _end_desk(self) -> None:
        """Let the desk end once nothing more can arrive."""
        if self._desk_scope is not None and self._is_over() and self._in_flight <= 0:
            self._desk_scope.cancel()

    def _lose_journal(self, error: BaseException) -> None:
        self._is_journal_lost = True
        self._fail(error)

    def _fail(self, error: BaseException) -> None:
        """End the map with an error, once nothing is in flight."""
        self._error = self._error or error
        self._wake_all()

    def _is_for_all(self, task: Task, error: Exception) -> bool:
        """Whether an error affects every row."""
        # One alone may be a row's own, such as a file that is gone, and in mid-map a server may come back.
        if isinstance(error, (NotFoundError, ConnectError)):
            return self._is_in_vain((type(error), error.backend, error.model), error)
        if task.misfit is not None and isinstance(error, UsageError):
            return self._is_in_vain(task.misfit, error)
        # A rejected key would be rejected for each of a million rows.
        return isinstance(error, (AuthError, ConfigurationError)) and not isinstance(error, UnsupportedError)

    def _is_in_vain(self, reason: Hashable, error: MelleaError) -> bool:
        """Whether as many rows as say something about all have failed for this reason, with none answered."""
        if self._in_vain is None:
            return False
        self._in_vain[reason] += 1
        self._last_in_vain = error.clone()  # the row has the error itself
        return self._in_vain[reason] >= _IN_VAIN


def _write_usage(usage: Usage) -> str:
    numbers = [usage.input_tokens, usage.output_tokens, usage.cached_tokens, usage.cache_write_tokens,
               usage.reasoning_tokens]  # fmt: skip
    return f"[{','.join('null' if number is None else str(number) for number in numbers)}]"


def _read_usage(text: str | None) -> Usage | None:
    return None if text is None else Usage(*(None if each == "null" else int(each) for each in text[1:-1].split(",")))


def _dump_row(row: Any) -> str | None:
    """Return a row as JSON, for people who inspect failures; `None` if it has no JSON form."""
    if hasattr(row, "keys") and not isinstance(row, Mapping):
        row = dict(row)
    with contextlib.suppress(UsageError):
        return json.dumps(json_value(row), ensure_ascii=False)
    return None
