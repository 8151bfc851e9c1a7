"""The producer of one generation: the detached task that opens the backend's stream, reads it, and ends the run.

Rules:

- It works on the loop that launched it. Nothing but cancellation may leave its task; everything else ends the run.
- A run that is made of other runs (a strategy's attempts, a tool loop's steps) has `work` in place of `open`: a
  coroutine that launches them, hands on their events, and returns the result.
- It lets go of everything that only producing needs at the end, since readers hold on to the run.
- A deadline that has passed is looked at twice: if the loop was held up, what has come meanwhile is read first.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Any

import anyio

from mellea.core.accumulator import Generation
from mellea.core.backend import Batches
from mellea.core.events import Event, KeepAlive, ReasoningDelta, StreamEnd, TextDelta, ToolStart
from mellea.core.options import Deadlines
from mellea.core.runtime.call_log import log_end, log_request
from mellea.core.runtime.deadlock import runs_around
from mellea.core.runtime.loop import current_loop, launch
from mellea.core.runtime.record import CLOSE_SECONDS, THE_TEXT, Record, lost
from mellea.core.runtime.tasks import in_thread
from mellea.core.state import TRANSITIONS, State
from mellea.errors import DeadlineError, InterruptedStreamError, StreamingError

__all__ = ["Emit", "Parse", "Run", "cancel_all"]

_RECHECK_SECONDS = 0.05
"""How long what has come meanwhile may take to be read, before a deadline counts as passed."""

_NEVER = float("inf")

Open = Callable[[], Awaitable[tuple[AsyncIterator[Event], Deadlines]]]
Parse = Callable[[Generation], Any]
Emit = Callable[[list[Event]], None]
Work = Callable[["Run"], Awaitable[Any]]

_log = logging.getLogger("mellea")
_live: weakref.WeakSet[Run] = weakref.WeakSet()
_live_lock = threading.Lock()


class Run(Record):
    """One generation, from its launch to its end.

    Args:
        open: waits for what the request needs, and returns the events and the deadlines.
        work: in place of `open`: takes this run, emits its events, a `StreamEnd` last, and returns the result.
        parse: makes the typed result out of the complete generation, in a worker thread unless the text is short.
        quick_length: the longest text, in characters, that `parse` may be called with on the loop: it is quick
            then, and calls nobody's code.
        format: what the answer is to be, if it is to be anything but text.
        dependencies: runs whose results `open` waits for.
        backend: name of the backend, for errors.
        model: id of the model, for errors.
    """

    __slots__ = ("_begun", "_last_sign", "_open", "_opened", "_parse", "_quick_length", "_stop_timer", "_work")

    def __init__(
        self,
        open: Open | None = None,
        *,
        work: Work | None = None,
        parse: Parse | None = None,
        quick_length: float = -1,
        format: Any = None,
        dependencies: Iterable[Record] = (),
        backend: str | None = None,
        model: str | None = None,
    ) -> None:
        super().__init__(
            format=format, dependencies=dependencies, backend=backend, model=model, is_composite=work is not None
        )
        self._open = open
        self._work = work
        self._parse = parse
        self._quick_length = quick_length
        self._opened = 0.0
        self._begun = 0.0  # when the deadline for the first byte began, which a second attempt has anew
        self._last_sign = 0.0
        self._stop_timer: Callable[[], Any] | None = None

    def launch(self) -> None:
        """Start producing on the running loop."""
        self.is_left = bool(runs_around.get())  # a part of another run, which is the one to be missed
        self._loop = current_loop()
        with _live_lock:
            _live.add(self)
        self._task = launch(self._main, self._retire)

    async def _main(self) -> None:
        runs_around.set((*runs_around.get(), weakref.ref(self)))  # for this task alone, and what it begins
        try:
            await self._produce()
        except BaseException as error:
            # Readers get it, since nothing but cancellation may escape a detached task (a group can hold that
            # too). A run that is thrown away with its loop isn't on it any more. Ctrl-C comes to the main thread.
            is_ours = self._loop is not None and self._loop.is_current()
            if not is_ours or isinstance(error, anyio.get_cancelled_exc_class()):
                raise
            self.end(State.FAILED, self.as_mellea_error(error))
            if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
                raise
        finally:
            self._retire()

    def _retire(self) -> None:
        """Let go of everything that was only needed to produce."""
        if not self.is_final:
            # Cancelled by somebody else, perhaps before its first step, or thrown away: the loop is shutting down.
            self.end(State.FAILED, lost("ended"))
        if self._stop_timer is not None:
            self._stop_timer()
        log_end(self, self._opened)
        self._opened = 0.0  # it is said once
        self._open = self._work = self._parse = self._task = self._stop_timer = None
        self.dependencies = ()
        self._closed = True
        with _live_lock:
            _live.discard(self)
        self._wake()

    def _abandon(self, error: StreamingError) -> None:
        self._lock = threading.Lock()
        self.end(State.FAILED, error)
        self._closed = True

    async def _produce(self) -> None:
        if self._work is not None and not self.is_final:
            self._opened = self._last_sign = time.monotonic()
            self.end(State.DONE, parsed=await self._work(self))
        if self.is_final or self._open is None:
            return
        source, deadlines = await self._open()
        self.dependencies = ()
        self._opened = self._begun = self._last_sign = time.monotonic()
        log_request(self)
        self._watch(deadlines)
        try:
            has_ended = await self._read(source)
        except GeneratorExit:  # the loop has gone and can't await a close any more
            raise
        except BaseException:
            await self._close(source)
            raise
        await self._close(source)
        if not self.is_final:
            await self._finish(has_ended)

    async def _close(self, source: AsyncIterator[Event]) -> None:
        close = getattr(source, "aclose", None)
        generator: Any = source.batches if isinstance(source, Batches) else source
        # A generator that has come to its end has no frame any more, and nothing to close.
        if close is None or getattr(generator, "ag_frame", generator) is None:
            return
        self._is_closing = True  # asyncio's own cancel goes through a shield
        with anyio.move_on_after(CLOSE_SECONDS, shield=True):
            try:
                await close()
            except anyio.get_cancelled_exc_class():
                raise
            except BaseException:  # noqa: BLE001 - whatever the generation came to, that is what its readers get
                _log.debug("a backend failed to close its stream", exc_info=True)
        self._is_closing = False

    async def _read(self, source: AsyncIterator[Event]) -> bool:
        events, is_batched, has_ended = self.events, isinstance(source, Batches), False  # `end` replaces the list
        stream: AsyncIterator[Any] = source.batches if isinstance(source, Batches) else source
        async for new in stream:
            if self.limit is not None:
                break
            has_ended = self._take(new if is_batched else (new,), events) or has_ended
        return has_ended

    def _take(self, new: Sequence[Event], events: list[Event]) -> bool:
        """Append events that came at once; returns whether the backend's own end is among them."""
        self._last_sign = time.monotonic()
        has_ended = False
        for event in new:
            kind = type(event)
            if kind is not TextDelta:  # which nearly all of them are
                if kind is KeepAlive:
                    if event.begins_anew:  # type: ignore[attr-defined]
                        self._begun = self._last_sign
                    self.sent = event.sent or self.sent  # type: ignore[attr-defined]
                    continue
                if not isinstance(event, Event):
                    raise TypeError(f"it yielded {event!r}, which is not an event")
                has_ended = has_ended or kind is StreamEnd
            elif not isinstance(event.chunk, str):  # type: ignore[attr-defined]
                raise TypeError(f"it yielded {event!r}, whose chunk is not text")
            events.append(event)
            if self.time_to_first_token is None:
                self._note_first(kind)
        if self._waiters:
            self._wake()
        return has_ended

    def _note_first(self, kind: type[Event]) -> None:
        self._move_to_streaming()
        if kind in (TextDelta, ReasoningDelta, ToolStart) and self.time_to_first_token is None:
            self.time_to_first_token = self._last_sign - self._opened

    def _move_to_streaming(self) -> None:
        with self._lock:
            if State.STREAMING in TRANSITIONS[self.state]:
                self.state = State.STREAMING

    def emit(self, events: list[Event]) -> None:
        """Take events from `work`."""
        self._last_sign = time.monotonic()
        taken = self.events  # looked up before `limit`: another thread may end the run now, which makes a new list
        if self.limit is not None or not events:
            return
        taken += events
        for event in events if self.time_to_first_token is None else ():
            self._note_first(type(event))
        self._wake()

    async def _finish(self, has_ended: bool) -> None:
        if not has_ended:
            raise InterruptedStreamError(
                f"the stream from backend {self.backend!r} stopped before its end; what had arrived is in .partial",
                backend=self.backend,
                model=self.model,
                is_retryable=True,
            )
        self._last_sign = _NEVER  # nothing more is waited for; the total deadline holds for the parsing as well
        parse = self._parse
        if parse is None:
            self.end(State.DONE, parsed=THE_TEXT)
            return
        said = self.so_far()
        is_quick = len(said.text) <= self._quick_length
        self.end(State.DONE, parsed=parse(said) if is_quick else await in_thread(parse, said))

    def _watch(self, deadlines: Deadlines, *, is_sure: bool = False) -> None:
        """Look at the deadlines when the nearest one would pass; a reader or an event costs nothing here."""
        now = time.monotonic()
        silence = _or_never(deadlines.between_bytes if self._last_sign > self._begun else deadlines.first_byte)
        total = _or_never(deadlines.total)
        when, what, seconds = min(
            (self._last_sign + silence, "was silent", silence), (self._opened + total, "was not done", total)
        )
        if when <= now and is_sure:
            self._expire(f"the model {self.model!r} at backend {self.backend!r} {what} for {seconds:g} s")
            return
        # The first byte may come at any time and have the shorter deadline begin.
        look = _RECHECK_SECONDS if when <= now else min(when - now, _or_never(deadlines.between_bytes))
        if look < _NEVER and self._loop is not None:
            self._stop_timer = self._loop.call_later(look, lambda: self._watch(deadlines, is_sure=when <= now))

    def _expire(self, what: str) -> None:
        advice = "; for more time: model_options={'timeout': seconds in total, or Deadlines(…)}"
        error = DeadlineError(what + advice, backend=self.backend, model=self.model, is_retryable=True)
        if self.end(State.FAILED, error):
            self._stop_task()


def _or_never(seconds: float | None) -> float:
    return _NEVER if seconds is None else seconds


def cancel_all() -> None:
    """Cancel what still runs when the interpreter leaves."""
    with _live_lock:
        running = [run for run in _live if not run.is_final]
    if missed := [run for run in running if not run.is_left]:
        _log.warning("the program ends while %d generation(s) are running; they are cancelled", len(missed))
    for run in running:
        run.cancel()


def _forget_parent() -> None:
    """After a fork, end the parent's runs in the child, where nobody produces them."""
    global _live_lock
    _live_lock = threading.Lock()  # another thread may have held the old one
    for run in list(_live):
        run._abandon(StreamingError("this generation belongs to the parent process; start a new one after the fork"))
    _live.clear()


atexit.register(cancel_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parent)
