"""The desk: rows submit their requests for a provider's batches to it, and wait for the answers.

Rules:

- Requests are collected until a batch is full or no more arrive for a moment. Each model has its own batches.
- First the intent is recorded in the journal, with the keys of its rows; then the batch is created; then its id is
  recorded. If the process is killed in between, the next run finds the batch in the provider's list by its intent, or,
  if the provider doesn't store the intent, by time, number of requests and the names in its results. So a request is
  never in two batches at once.
- A row whose key is in an open batch waits for that batch. A batch stays open until all its answers are committed.
- The intent claims its rows in one transaction: if several processes map the same rows, each row is in the batch of one
  of them, and the others wait for that batch. The process that
  creates a batch claims its intent meanwhile, and this claim ends with the process. An intent that nobody claims and
  that has no batch is given up by one of the waiting processes, and its rows are claimed again.
- Requests that a batch can't handle are sent live: see `can_take`. A request that expired, was cancelled or failed for
  a temporary reason returns a retryable error, and goes into the next batch.
- If a map is abandoned, its batches continue at the provider; the next run finds them.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import anyio
import anyio.abc

from mellea.backends.http import HttpBackend
from mellea.backends.http.batches import BatchCodec, BatchOutcome, BatchStatus
from mellea.batch.claims import Claims
from mellea.batch.limits import CallJournal
from mellea.batch.program import Asked
from mellea.batch.unnoted import Unnoted, drive
from mellea.core.backend import Backend, Request, SentRequest
from mellea.core.events import Event, KeepAlive
from mellea.core.journal import NotedBatch
from mellea.core.observer import Span, listening, make_span
from mellea.core.processes import name_process
from mellea.core.runtime import Hooks
from mellea.core.runtime.ledger import Meter
from mellea.core.runtime.loop import Waiter, create_waiter
from mellea.errors import BackendError, MelleaError, NotFoundError, WireError

__all__ = ["BatchDesk", "drive"]

T = TypeVar("T")

_log = logging.getLogger("mellea")

_QUIET_SECONDS = 1.0
"""How long to wait for another request before sending those that have arrived."""

_TICK_SECONDS = 0.1
_FIRST_LOOK = 5.0
_LONGEST_LOOK = 60.0
_TRIES = 5
_SETTLE_SECONDS = 20.0
"""The minimum age of an intent before its batch counts as never created, since a list may show a new batch late."""
_LONGEST_MAKING = 600.0
"""How long the making of a batch may take; where claims aren't seen by other processes, its maker has ended then."""

_MALFORMED = (KeyError, TypeError, ValueError, AttributeError)
"""The errors that a codec raises for provider data in another form."""


@dataclass(slots=True)
class _Item:
    """One request that is being waited for."""

    key: str
    request: Request
    backend: HttpBackend
    codec: BatchCodec
    waiter: Waiter
    outcome: BatchOutcome | None = None
    error: MelleaError | None = None
    is_live: bool = False

    def end(self) -> None:
        self.waiter.wake()


@dataclass(slots=True)
class _Batch:
    """One batch, from its first request on; its requests are named by its intent and their number."""

    backend: HttpBackend
    codec: BatchCodec
    intent: str
    id: str | None = None
    items: dict[str, _Item] = field(default_factory=dict)
    encoded: list[bytes] = field(default_factory=list)
    size: int = 0
    at: float = 0.0  # when the last request came, or, for a batch of an earlier run, when it was made
    total: int = 0
    rows: dict[str, str] = field(default_factory=dict)  # all its keys by name, if it comes from an earlier run
    outcomes: dict[str, BatchOutcome] | None = None


def _make_span(asked: Asked) -> Span | None:
    """Return the span of a request, `None` if there are no observers; it begins when the request is in a batch."""
    if not listening.count:
        return None
    name = getattr(asked.component, "name", None)
    span = make_span("call", name if isinstance(name, str) and name else type(asked.component).__name__)
    if span is not None:
        span.component, span.session = asked.component, asked.session
        backend = asked.backend
        span.backend, span.model, span.server = backend.name, backend.model_id, backend.server
        span.is_request = span.is_batched = True
    return span


def _end_span(span: Span | None, error: BaseException | None = None) -> None:
    if span is not None:
        # A request that can't be in a batch after all, or that nobody waits for, was cancelled here; this has no effect
        # if its work hasn't begun.
        is_cancelled = isinstance(error, LookupError) or not isinstance(error, Exception | None)
        span.end(error, is_cancelled=is_cancelled)


class BatchDesk:
    """The desk of one map.

    Args:
        call_journal: calls a function with the journal.
        job: the number of the map's job there.
        claims: what maps have claimed there.
        gets_more: whether more requests may arrive.

    Attributes:
        waiting: how many rows wait here for their answers.
    """

    def __init__(self, call_journal: CallJournal, job: int, claims: Claims, gets_more: Callable[[], bool]) -> None:
        self._call_journal, self._job, self._claims, self._gets_more = call_journal, job, claims, gets_more
        self.waiting = 0
        self._noted: dict[str, tuple[NotedBatch, str]] = {}  # by the row's key: the batch before, the name in it
        self._found: dict[str, _Batch] = {}  # batches of earlier runs that are waited for, by their intent
        self._open: dict[int, _Batch] = {}  # batches that still take requests, by their backend
        self._new: list[_Batch] = []  # whose work is to begin
        self._fetched: dict[str, _Batch] = {}  # by their intent
        self._has_warned = False
        self._seen = 0  # the last batch in the journal whose rows are known here

    async def open(self) -> None:
        """Read which batches of earlier runs are open."""
        self._seen = await self._call_journal(lambda journal: journal.find_last_batch())
        for noted in await self._call_journal(lambda journal: journal.open_batches(self._job)):
            self._expect(noted)

    def _expect(self, noted: NotedBatch) -> None:
        """Make the rows of a batch that is being created, or was created earlier, wait for it when they arrive."""
        for name, key in noted.rows.items():
            # The key identifies the row, so it is also found by a program that starts its rows in another order.
            self._noted[key] = noted, name

    def can_take(self, asked: Asked) -> bool:
        """Whether a call can be part of a batch: it consists of a single answer, and the provider has batches."""
        return asked.is_plain and _has_batches(asked.backend)

    def warn_of_live(self, asked: Asked | None) -> None:
        """Log once that rows are sent live, which costs the ordinary price, if none of them can be part of a batch."""
        if self._has_warned or (asked is not None and _has_batches(asked.backend)):
            return
        self._has_warned = True
        what = "rows that aren't one request to a model" if asked is None else f"{asked.backend.name!r} at this address"
        _log.warning("there are no batches for %s; the rows are sent one by one, at the ordinary price", what)

    async def ask(self, key: bytes, asked: Asked, meter: Meter) -> Any:
        """Submit a request, wait for its answer, and return the row's value.

        Raises:
            LookupError: it has to be sent live.
            MelleaError: the request failed.
        """
        span = _make_span(asked)
        try:
            if span is None:
                source = self._answer(key, asked.backend, asked.request)
            else:
                send = partial(self._answer, key, span=span)
                # Like any other request, it passes the hooks of the observers around the map.
                source = Hooks(span).pass_events(asked.backend, asked.request, send)
            events = [event async for event in source if not isinstance(event, KeepAlive)]
            value, generation = await asked.finish(events)
        except BaseException as error:
            _end_span(span, error)
            raise
        if span is not None:
            span.generation = generation
            _end_span(span)
        backend = asked.backend
        asked_for, usage = backend.model_id, generation.usage
        meter.add(backend.name, generation.model or asked_for, usage, batch=True, asked=asked_for)
        return value

    async def _answer(
        self, key: bytes, backend: Backend, request: Request, span: Span | None = None
    ) -> AsyncIterator[Event]:
        """Submit a request, and yield the events of its answer when it arrives."""
        if not isinstance(backend, HttpBackend) or backend.batches is None:
            raise LookupError
        item = _Item(key.hex(), request, backend, backend.batches, create_waiter())
        # Look in earlier batches first: whatever is in progress there is already paid for.
        if not self._join_earlier(item) and not self._add(item):
            raise LookupError
        if span is not None:
            span.request = SentRequest(backend, request)
            span.begin()
        self.waiting += 1
        try:
            await item.waiter.wait()
        finally:
            self.waiting -= 1
        if item.error is not None:
            raise item.error
        outcome = item.outcome
        if item.is_live or outcome is None:
            raise LookupError
        if outcome.body is None:
            raise outcome.error or WireError(f"the batch of {backend.name} has no answer and no error for a row")
        for event in backend.decode_from_batch(request, outcome.body):
            yield event

    def _join_earlier(self, item: _Item) -> bool:
        """Make a request wait for a batch of an earlier run, if it is in one."""
        # Removed: if that batch fails, the row goes into a new one next time.
        noted, name = self._noted.pop(item.key, (None, ""))
        backend = item.backend
        if noted is None or (noted.provider, noted.model) != (backend.name, backend.model_id):
            return False
        batch = self._found.get(noted.intent)
        if batch is None:
            batch = self._found[noted.intent] = _Batch(backend, item.codec, noted.intent, noted.provider_id)
            batch.at, batch.total, batch.rows = noted.at, len(noted.rows), noted.rows
            self._new.append(batch)
        if name in batch.items:  # by an identical row
            return False
        batch.items[name] = item
        # The batch was fetched before this row arrived.
        if batch.outcomes is not None:
            _resolve(batch, name)
        return True

    def _add(self, item: _Item) -> bool:
        """Add a request to the open batch; return false if it can't be part of one."""
        backend = item.backend
        batch = self._open.get(id(backend)) or self._begin(backend, item.codec)
        # The name contains the intent, by which `_is_ours` recognises a batch.
        name = f"{batch.intent}-{len(batch.items)}"
        encoded = backend.encode_for_batch(name, item.request)
        if encoded is None or len(encoded) > batch.codec.most_bytes:
            return False
        # Two bytes for the separator between two items.
        if len(batch.items) >= batch.codec.most_requests or batch.size + len(encoded) + 2 > batch.codec.most_bytes:
            self._close(batch)
            return self._add(item)
        batch.items[name] = item
        batch.encoded.append(encoded)
        batch.size += len(encoded) + 2
        batch.at, batch.total = time.monotonic(), len(batch.items)
        return True

    def _begin(self, backend: HttpBackend, codec: BatchCodec) -> _Batch:
        batch = self._open[id(backend)] = _Batch(backend, codec, f"mellea-{os.urandom(8).hex()}")
        return batch

    def _close(self, batch: _Batch) -> None:
        del self._open[id(batch.backend)]
        self._new.append(batch)

    # -- the work ---------------------------------------------------------------------------------------

    async def serve(self, group: anyio.abc.TaskGroup) -> None:
        """Send batches and wait for them, until cancelled."""
        while True:
            for batch in list(self._open.values()):
                quiet = time.monotonic() - batch.at
                # If no more rows come, there is no point in waiting to fill the batch.
                if batch.items and quiet > (_QUIET_SECONDS if self._gets_more() else _TICK_SECONDS):
                    self._close(batch)
            while self._new:
                group.start_soon(self._carry, self._new.pop())
            await anyio.sleep(_TICK_SECONDS)

    async def finish(self, is_answered: Callable[[bytes], bool]) -> None:
        """Record that the answers of the fetched batches are committed.

        Args:
            is_answered: whether an earlier run has committed the answer with this key.
        """
        for intent, batch in self._fetched.items():
            # A batch of an earlier run may have answers for rows that this run doesn't have; another run fetches them.
            left = batch.rows.keys() & (batch.outcomes or {}).keys()
            if all(is_answered(bytes.fromhex(batch.rows[name])) for name in left):
                await self._note(intent, "done")

    async def _carry(self, batch: _Batch) -> None:
        """Carry a batch through to its end, and resolve its requests."""
        try:
            await (self._go_on(batch) if batch.intent in self._found else self._make(batch))
            if batch.id is not None:
                await self._await_end(batch)
        except NotFoundError as error:  # the server has no batches, or no longer knows this one
            _log.warning("a batch can't be used, so its requests are made one by one: %s", error)
            for item in batch.items.values():
                item.is_live = True
                item.end()
        except (MelleaError, *_MALFORMED) as error:
            # Every waiting row gets the error; a row without an outcome would wait forever.
            for item in batch.items.values():
                item.error = error if isinstance(error, MelleaError) else _make_malformed_error(batch, error)
                item.end()

    async def _make(self, batch: _Batch) -> None:
        self._claims.take(_make_key(batch.intent))  # nobody else knows its name yet
        try:
            await self._claim(batch)
            if batch.items:
                status = await self._create(batch)
                # The encoded requests are released; they may take hundreds of megabytes.
                batch.id, batch.encoded = status.id, []
                # Shielded: if the map were left at this moment, the next run would have to search for the batch.
                with anyio.CancelScope(shield=True):
                    await self._note(batch.intent, "made", status.id)
        finally:
            if batch.id is None and batch.items:
                with anyio.CancelScope(shield=True), suppress(MelleaError):
                    await self._call_journal(lambda journal: journal.leave_batch(batch.intent))
            self._claims.release(_make_key(batch.intent))

    async def _claim(self, batch: _Batch) -> None:
        """Record the intent. Rows that another process has put into a batch in the meantime wait for that batch."""
        rows = {name: item.key for name, item in batch.items.items()}
        backend, seen = batch.backend, self._seen
        # Intent, batch, id, in this order: see the rules at the top.
        last, others = await self._call_journal(
            lambda journal: journal.note_intent(
                self._job, batch.intent, backend.name, backend.model_id, rows, after=seen, maker=name_process()
            )
        )
        self._seen = max(self._seen, last)
        for other in others:
            self._expect(other)
        taken = {key for other in others for key in other.rows.values()}
        pairs = list(zip(batch.items.items(), batch.encoded, strict=True))
        kept = [pair for pair in pairs if pair[0][1].key not in taken]
        batch.items, batch.encoded = dict(pair[0] for pair in kept), [pair[1] for pair in kept]
        batch.total = len(kept)
        for (_, item), _ in pairs:
            if item.key in taken and not self._join_earlier(item) and not self._add(item):
                item.is_live = True
                item.end()

    async def _create(self, batch: _Batch) -> BatchStatus:
        backend, began = batch.backend, time.time()
        for attempt in range(_TRIES):
            try:
                # Never retried blindly: the first batch may have been created although its response was lost.
                status: BatchStatus = await drive(backend, batch.codec.create(batch.intent, batch.encoded), retries=0)
                return status
            except BackendError as error:
                if not error.is_retryable or attempt + 1 == _TRIES:
                    # Its rows are released, for this run or the next.
                    await self._note(batch.intent, "lost")
                    raise
                await anyio.sleep(min(0.5 * 2**attempt, 10.0))
                if (found := await self._find(batch, began)) is not None:
                    return found
        raise AssertionError("the last attempt returns or raises")

    async def _go_on(self, batch: _Batch) -> None:
        """Find another process's or an earlier run's batch; if it was never created, its rows are claimed again."""
        left_since: float | None = None  # when it was first noticed that nobody is creating it
        while batch.id is None:
            noted: NotedBatch | None = await self._call_journal(lambda journal: journal.find_batch(batch.intent))
            if noted is None or noted.state == "lost":
                self._ask_anew(batch)
                return
            batch.id = noted.provider_id
            if batch.id is not None:
                return
            if self._is_being_made(noted):
                _log.info("waiting for %s, which is making the batch %s", noted.maker, batch.intent)
            elif (found := await self._find(batch, batch.at)) is not None:
                batch.id = found.id
                await self._note(batch.intent, "made", found.id)
                return
            else:
                left_since = left_since or (noted.at if time.time() - noted.at > _LONGEST_MAKING else time.time())
                if time.time() - left_since > _SETTLE_SECONDS:
                    # One of the waiting runs gives it up. Then all of them look again and claim their rows.
                    await self._call_journal(lambda journal: journal.lose_batch(batch.intent))
                    continue
            await anyio.sleep(_FIRST_LOOK)

    async def _find(self, batch: _Batch, since: float) -> BatchStatus | None:
        """Find a batch at the provider; if it may be one of several unfinished ones, wait for them."""
        known: set[str] = await self._call_journal(lambda journal: journal.known_batches())
        unnoted = Unnoted(batch.backend, batch.codec, batch.intent, batch.total, since)
        found, like = await unnoted.find(known)
        pause = _FIRST_LOOK
        while like:
            # Its rows keep waiting: one of these batches may be ours, and a second batch would have to be paid for as
            # well.
            _log.info("waiting until %d batches have ended, to see which of them is %s", len(like), batch.intent)
            await anyio.sleep(pause)
            pause = min(1.5 * pause, _LONGEST_LOOK)
            found, like = await unnoted.find_among(await unnoted.look(like))
        return found

    def _ask_anew(self, batch: _Batch) -> None:
        """Move the rows of a batch that was never created into a new one."""
        self._noted = {key: found for key, found in self._noted.items() if found[0].intent != batch.intent}
        for item in batch.items.values():
            if not self._add(item):
                item.is_live = True
                item.end()

    async def _await_end(self, batch: _Batch) -> None:
        pause = _FIRST_LOOK
        while not (status := await drive(batch.backend, batch.codec.look(str(batch.id)))).is_over:
            await anyio.sleep(pause)
            pause = min(1.5 * pause, _LONGEST_LOOK)
        _log.info("the batch %s is %s", status.id, status.state)
        outcomes = await drive(batch.backend, batch.codec.fetch(status))
        batch.outcomes = {outcome.key: outcome for outcome in outcomes}
        self._fetched[batch.intent] = batch
        for name, item in batch.items.items():
            item.error = BackendError(
                f"the batch {status.id!r} ended as {status.state!r} before this request was answered",
                is_retryable=True,
            )
            _resolve(batch, name)

    def _is_being_made(self, noted: NotedBatch) -> bool:
        """Whether somebody makes this batch at this moment, so that it is too early to look for it."""
        if self._claims.is_taken(_make_key(noted.intent)):
            return True
        is_known = self._claims.is_seen_by_others or noted.maker in (None, name_process())
        return not is_known and time.time() - noted.at < _LONGEST_MAKING

    async def _note(self, intent: str, state: str, id: str | None = None) -> None:
        await self._call_journal(lambda journal: journal.note_batch(intent, state, id))


def _make_key(intent: str) -> bytes:
    return hashlib.sha256(intent.encode()).digest()


def _has_batches(backend: Backend) -> bool:
    return isinstance(backend, HttpBackend) and backend.batches is not None


def _resolve(batch: _Batch, name: str) -> None:
    """Resolve a request with its outcome, once the batch has one."""
    item = batch.items[name]
    outcome = None if batch.outcomes is None else batch.outcomes.pop(name, None)
    if outcome is not None:
        item.outcome, item.error = outcome, None
    elif item.error is None:
        item.error = BackendError("its batch ended before this request was answered", is_retryable=True)
    item.end()


def _make_malformed_error(batch: _Batch, error: Exception) -> WireError:
    return WireError(
        f"{batch.backend.name!r} sent the state of a batch in an unknown form: {type(error).__name__}: {error}",
        backend=batch.backend.name,
        model=batch.backend.model_id,
    )
