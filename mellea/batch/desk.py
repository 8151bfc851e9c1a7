"""The desk where rows hand in their requests for a provider's batches, and wait for the answers.

Rules:

- Requests are collected until there are as many as a batch takes, or no more come for a moment. Each model has batches
  of its own.
- First the intent is noted in the journal, with the keys of its rows; then the batch is made; then its id is noted. A
  process that was killed in between finds its batch again in the provider's list, by the intent, and where the
  provider keeps none by time, number of requests and the names in its results. So a request is never in two batches
  at once.
- A row whose key is in an open batch waits for that one. A batch stays open until all its answers are committed.
- The intent claims its rows in one transaction: of processes that map the same rows one has each of them in its batch,
  and the others wait for that batch. Who makes a batch claims its intent meanwhile, a claim that ends with the process.
  An intent that nobody makes and that has no batch is given up by one of those who wait, and its rows are claimed again.
- What a batch can't do is asked for live: see `can_take`. A request that expired, was cancelled or failed for a reason
  that may pass comes back as an error that may pass, and goes into the next batch.
- A map that is left leaves its batches at the provider, where they go on; the next run finds them.
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
from mellea.batch.limits import CallJournal
from mellea.batch.program import Asked
from mellea.batch.unnoted import Unnoted, drive
from mellea.core.backend import Backend, Request, SentRequest
from mellea.core.claims import Claims
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
"""How long no request may come before those that are there are sent."""

_TICK_SECONDS = 0.1
_FIRST_LOOK = 5.0
_LONGEST_LOOK = 60.0
_TRIES = 5
_SETTLE_SECONDS = 20.0
"""How old an intent is at least before its batch counts as never made: a list may show a new batch late."""
_LONGEST_MAKING = 600.0
"""How long the making of a batch may take; where claims aren't seen by other processes, its maker has ended then."""

_MALFORMED = (KeyError, TypeError, ValueError, AttributeError)
"""What a codec raises for words of the provider that have another form."""


@dataclass(slots=True)
class _Item:
    """One request that somebody waits for."""

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
    """One batch, from its first request on; the names of its requests are its intent and their number."""

    backend: HttpBackend
    codec: BatchCodec
    intent: str
    id: str | None = None
    items: dict[str, _Item] = field(default_factory=dict)
    encoded: list[bytes] = field(default_factory=list)
    size: int = 0
    at: float = 0.0  # when the last request came; of one that was made before, when that was
    total: int = 0
    rows: dict[str, str] = field(default_factory=dict)  # the keys of all its rows by their names, if it was made before
    outcomes: dict[str, BatchOutcome] | None = None


def _make_span(asked: Asked) -> Span | None:
    """Return the span of a request, `None` if nobody listens; it begins when the request is in a batch."""
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
        # What can't be in a batch after all, or is left, was cancelled here; it has no effect if it hasn't begun.
        is_cancelled = isinstance(error, LookupError) or not isinstance(error, Exception | None)
        span.end(error, is_cancelled=is_cancelled)


class BatchDesk:
    """The desk of one map.

    Args:
        call_journal: calls a function with the journal.
        job: the number of the map's job there.
        claims: what maps have claimed there.
        gets_more: whether more requests may come.

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
        self._seen = 0  # the last batch in the journal whose rows are known here

    async def open(self) -> None:
        """Read which batches of earlier runs are open."""
        self._seen = await self._call_journal(lambda journal: journal.find_last_batch())
        for noted in await self._call_journal(lambda journal: journal.open_batches(self._job)):
            self._expect(noted)

    def _expect(self, noted: NotedBatch) -> None:
        """Have the rows of a batch that is made, or was, wait for it when they come."""
        for name, key in noted.rows.items():
            # The key tells which row it was, so a program that begins its rows in another order finds it, too.
            self._noted[key] = noted, name

    def can_take(self, asked: Asked) -> bool:
        """Whether a call can stand in a batch: one answer is all of it, and the provider has batches."""
        return asked.is_plain and isinstance(asked.backend, HttpBackend) and asked.backend.batches is not None

    async def ask(self, key: bytes, asked: Asked, meter: Meter) -> Any:
        """Hand in a request, wait for its answer, and return the row's value.

        Raises:
            LookupError: it has to be asked for live.
            MelleaError: the request failed.
        """
        span = _make_span(asked)
        try:
            if span is None:
                source = self._answer(key, asked.backend, asked.request)
            else:
                send = partial(self._answer, key, span=span)
                # As any other request does, it passes the hooks of the observers around the map.
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
        meter.add(backend.name, generation.model or backend.model_id, generation.usage, batch=True)
        return value

    async def _answer(
        self, key: bytes, backend: Backend, request: Request, span: Span | None = None
    ) -> AsyncIterator[Event]:
        """Hand in a request, and yield the events of its answer once it is there."""
        if not isinstance(backend, HttpBackend) or backend.batches is None:
            raise LookupError
        item = _Item(key.hex(), request, backend, backend.batches, create_waiter())
        # In an earlier batch first: what is under way there is paid for.
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
        """Have a request wait for a batch of an earlier run, if it stands in one."""
        # Taken out: if that batch fails, the row goes into a new one the next time.
        noted, name = self._noted.pop(item.key, (None, ""))
        backend = item.backend
        if noted is None or (noted.provider, noted.model) != (backend.name, backend.model_id):
            return False
        batch = self._found.get(noted.intent)
        if batch is None:
            batch = self._found[noted.intent] = _Batch(backend, item.codec, noted.intent, noted.provider_id)
            batch.at, batch.total, batch.rows = noted.at, len(noted.rows), noted.rows
            self._new.append(batch)
        if name in batch.items:  # by a row that is the same
            return False
        batch.items[name] = item
        # It was fetched before this row came.
        if batch.outcomes is not None:
            _resolve(batch, name)
        return True

    def _add(self, item: _Item) -> bool:
        """Add a request to the batch that takes requests; false if it can't stand in one."""
        backend = item.backend
        batch = self._open.get(id(backend)) or self._begin(backend, item.codec)
        # The name has the intent in it, by which `_is_ours` knows a batch again.
        name = f"{batch.intent}-{len(batch.items)}"
        encoded = backend.encode_for_batch(name, item.request)
        if encoded is None or len(encoded) > batch.codec.most_bytes:
            return False
        # Two bytes for what stands between two items.
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
        """Send batches, and wait for them; until it is cancelled."""
        while True:
            for batch in list(self._open.values()):
                quiet = time.monotonic() - batch.at
                # If no more rows come there is no use in waiting for company.
                if batch.items and quiet > (_QUIET_SECONDS if self._gets_more() else _TICK_SECONDS):
                    self._close(batch)
            while self._new:
                group.start_soon(self._carry, self._new.pop())
            await anyio.sleep(_TICK_SECONDS)

    async def finish(self, is_answered: Callable[[bytes], bool]) -> None:
        """Note that the answers of the batches that were fetched are committed.

        Args:
            is_answered: whether an earlier run has committed the answer with this key.
        """
        for intent, batch in self._fetched.items():
            # A batch of an earlier run may have answers to rows that this run doesn't have; another one fetches them.
            left = batch.rows.keys() & (batch.outcomes or {}).keys()
            if all(is_answered(bytes.fromhex(batch.rows[name])) for name in left):
                await self._note(intent, "done")

    async def _carry(self, batch: _Batch) -> None:
        """See a batch through, and let its requests know what they came to."""
        try:
            await (self._go_on(batch) if batch.intent in self._found else self._make(batch))
            if batch.id is not None:
                await self._await_end(batch)
        except NotFoundError as error:  # the server has no batches, or knows this one no more
            _log.warning("a batch can't be used, so its requests are made one by one: %s", error)
            for item in batch.items.values():
                item.is_live = True
                item.end()
        except (MelleaError, *_MALFORMED) as error:
            # All who wait get it: a row without an outcome would wait for ever.
            for item in batch.items.values():
                item.error = error if isinstance(error, MelleaError) else _make_malformed_error(batch, error)
                item.end()

    async def _make(self, batch: _Batch) -> None:
        self._claims.take(_make_key(batch.intent))  # nobody else knows its name yet
        try:
            await self._claim(batch)
            if batch.items:
                status = await self._create(batch)
                # The encoded requests are let go; they may be hundreds of megabytes.
                batch.id, batch.encoded = status.id, []
                # Shielded, as a map that is left at this moment would have to look for the batch the next time.
                with anyio.CancelScope(shield=True):
                    await self._note(batch.intent, "made", status.id)
        finally:
            if batch.id is None and batch.items:
                with anyio.CancelScope(shield=True), suppress(MelleaError):
                    await self._call_journal(lambda journal: journal.leave_batch(batch.intent))
            self._claims.release(_make_key(batch.intent))

    async def _claim(self, batch: _Batch) -> None:
        """Note the intent. Rows that another process has in a batch meanwhile wait for that one."""
        rows = {name: item.key for name, item in batch.items.items()}
        backend, seen = batch.backend, self._seen
        # Intent, batch, id, in this order: see the rules on top.
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
                # Never tried again blindly: the first may have been made although its answer was lost.
                status: BatchStatus = await drive(backend, batch.codec.create(batch.intent, batch.encoded), retries=0)
                return status
            except BackendError as error:
                if not error.is_retryable or attempt + 1 == _TRIES:
                    # Its rows are free again, for this run or the next.
                    await self._note(batch.intent, "lost")
                    raise
                await anyio.sleep(min(0.5 * 2**attempt, 10.0))
                if (found := await self._find(batch, began)) is not None:
                    return found
        raise AssertionError("the last attempt returns or raises")

    async def _go_on(self, batch: _Batch) -> None:
        """Find the batch of an earlier run, or of another process; if it was never made, its rows are claimed again."""
        left_since: float | None = None  # when it was first seen that nobody makes it
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
                    # Of several who wait one gives it up. All look once more, and claim their rows.
                    await self._call_journal(lambda journal: journal.lose_batch(batch.intent))
                    continue
            await anyio.sleep(_FIRST_LOOK)

    async def _find(self, batch: _Batch, since: float) -> BatchStatus | None:
        """Find a batch at the provider; if it may be one of several that haven't ended, wait for these."""
        known: set[str] = await self._call_journal(lambda journal: journal.known_batches())
        unnoted = Unnoted(batch.backend, batch.codec, batch.intent, batch.total, since)
        found, like = await unnoted.find(known)
        pause = _FIRST_LOOK
        while like:
            # Its rows wait as well: one of these may be ours, and a second one would be paid for, too.
            _log.info("waiting until %d batches have ended, to see which of them is %s", len(like), batch.intent)
            await anyio.sleep(pause)
            pause = min(1.5 * pause, _LONGEST_LOOK)
            found, like = await unnoted.find_among(await unnoted.look(like))
        return found

    def _ask_anew(self, batch: _Batch) -> None:
        """Let the rows of a batch that was never made go into a new one."""
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


def _resolve(batch: _Batch, name: str) -> None:
    """Let a request know what it came to, once that is known of its batch."""
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
