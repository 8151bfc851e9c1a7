"""One generation while it runs: its list of events, its state, and the waits of its readers.

Rules:

- One detached task on one loop (the producer) appends to `events`. Readers on any loop or thread hold
  an index into that list; nobody waits for a reader, and nothing is taken out of the list.
- The state moves through the `TRANSITIONS` of `state.py`; a final state never changes. `end` makes the last move,
  from any thread, and sets `limit`, the number of events that count; it is `None` until then.
- A reader that has seen everything registers a waiter under the lock, then looks again. The producer
  appends first and looks for waiters afterwards, so that one of the two always sees the other.
- A run never refers to a thunk: that is what lets a dropped thunk cancel its run.
- At the end the small events are joined and replaced by a new list; a reader keeps the one it has.
- A run that is made of other runs (a strategy's attempts, a tool loop's steps) has `work` in place of `open`: a
  coroutine that launches them, hands on their events, and returns the result.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextvars import ContextVar
from typing import Any, Protocol

import anyio

from mellea.core.accumulator import Generation, count_sound, fold, fold_joined
from mellea.core.batches import Batches
from mellea.core.events import (
    AttemptStart,
    Event,
    KeepAlive,
    ReasoningDelta,
    StepStart,
    StreamEnd,
    TextDelta,
    ToolStart,
)
from mellea.core.loop import Detached, Loop, ThreadWaiter, current_loop, is_loop_running, launch, new_waiter
from mellea.core.options import Deadlines
from mellea.core.state import TRANSITIONS, State
from mellea.core.worker import in_thread
from mellea.errors import (
    BackendError,
    DeadlineError,
    GenerationCancelledError,
    InterruptedStreamError,
    MelleaError,
    OutputError,
    StreamingError,
)

__all__ = ["CLOSE_SECONDS", "Emit", "Run", "cancel_all", "deadlock", "runs_around"]

CLOSE_SECONDS = 2.0
"""How long a backend may take to close its connection before it is left to itself."""

_LOOK_SECONDS = 1.0
"""How often a reader elsewhere looks whether the producing loop is still there."""

_RECHECK_SECONDS = 0.05
"""How long what has come meanwhile may take to be read, before a deadline counts as passed."""

_NEVER = float("inf")

_THE_TEXT: Any = object()


Open = Callable[[], Awaitable[tuple[AsyncIterator[Event], Deadlines]]]
Parse = Callable[[Generation], Any]
Emit = Callable[[list[Event]], None]
Work = Callable[["Run"], Awaitable[Any]]


runs_around: ContextVar[tuple[weakref.ref[Run], ...]] = ContextVar("runs_around", default=())
"""The runs whose work the current code is part of, such as a requirement of theirs, a tool or a parser."""

_log = logging.getLogger("mellea")
_live: weakref.WeakSet[Run] = weakref.WeakSet()
_live_lock = threading.Lock()


class _Wakeable(Protocol):
    def wake(self) -> None: ...


class Run:
    """One generation, from its launch to its end.

    Args:
        open: waits for what the request needs, and returns the events and the deadlines.
        work: in place of `open`: takes this run, emits its events, a `StreamEnd` last, and returns the result.
        parse: makes the typed result out of the complete generation, in a worker thread.
        is_quick: `parse` is quick and calls nobody's code, so that it needs no thread.
        format: what the answer is to be, if it is to be anything but text.
        dependencies: runs whose results `open` waits for.
        backend: name of the backend, for errors.
        model: id of the model, for errors.
    """

    __slots__ = (
        "__weakref__",
        "_begun",
        "_closed",
        "_is_closing",
        "_is_quick",
        "_last_sign",
        "_lock",
        "_loop",
        "_open",
        "_opened",
        "_parse",
        "_stop_timer",
        "_task",
        "_waiters",
        "_work",
        "backend",
        "dependencies",
        "error",
        "events",
        "format",
        "generation",
        "is_composite",
        "limit",
        "model",
        "parsed",
        "sampling",
        "state",
        "time_to_first_token",
    )

    def __init__(
        self,
        open: Open | None = None,
        *,
        work: Work | None = None,
        parse: Parse | None = None,
        is_quick: bool = False,
        format: Any = None,
        dependencies: Iterable[Run] = (),
        backend: str | None = None,
        model: str | None = None,
    ) -> None:
        self._open = open
        self._work = work
        self._parse = parse
        self._is_quick = is_quick
        self._lock = threading.Lock()
        self._waiters: dict[_Wakeable, Callable[[], bool]] = {}  # and what each one waits for
        self._loop: Loop | None = None
        self._task: Detached | None = None
        self._closed = False
        self._is_closing = False
        self._opened = 0.0
        self._begun = 0.0  # when the deadline for the first byte began, which a second attempt has anew
        self._last_sign = 0.0
        self._stop_timer: Callable[[], Any] | None = None
        self.dependencies = tuple(dependencies)
        self.backend = backend
        self.model = model
        self.format = format
        self.is_composite = work is not None
        self.sampling: Any = None  # what a strategy came to, with every attempt
        self.state = State.PENDING
        self.events: list[Event] = []
        self.limit: int | None = None
        self.error: MelleaError | None = None
        self.generation: Generation | None = None
        self.parsed: Any = None
        self.time_to_first_token: float | None = None

    @classmethod
    def finished(cls, generation: Generation, parsed: Any, events: list[Event], format: Any = None) -> Run:
        """Make a run that has ended already, to hold a value that is known."""
        run = cls(format=format)
        run.is_composite = any(type(event) in (AttemptStart, StepStart) for event in events)
        run.generation, run.parsed, run.events, run.limit = generation, parsed, events, len(events)
        run.state, run._closed = State.DONE, True
        return run

    # -- from any thread ------------------------------------------------------------------------------

    @property
    def is_final(self) -> bool:
        """Whether the run has ended, in whatever way."""
        return self.limit is not None

    @property
    def is_closed(self) -> bool:
        """Whether the run has ended and its backend has given back what it held."""
        return self._closed

    def text(self) -> str:
        """Return the text that has arrived so far."""
        if self.is_composite:
            return self.so_far().text
        return "".join([event.chunk for event in self.events[: self.limit] if type(event) is TextDelta])

    def so_far(self) -> Generation:
        """Return what has arrived so far, or the complete generation."""
        return self.generation or fold(self.events[: self.limit])

    def end(self, state: State, error: MelleaError | None = None, parsed: Any = None) -> bool:
        """Move to a final state; false if the run has ended before."""
        with self._lock:
            if state not in TRANSITIONS[self.state]:
                return False
            events = self.events[:]
            try:
                joined, generation = fold_joined(events)
            except Exception as nonsense:  # noqa: BLE001 - a backend made an event that is none
                del events[count_sound(events) :]
                joined, generation = fold_joined(events)
                state, error, parsed = State.FAILED, self._as_mellea_error(nonsense), None
            if error is not None:
                error.partial = error.partial or generation.text
                # Its frames are ours and say nothing to a reader, and they would keep all their variables.
                error.__traceback__ = None
            self.generation, self.error, self.state = generation, error, state
            self.parsed = generation.text if parsed is _THE_TEXT else parsed
            self.limit = len(events)
            self.events = joined
        self._wake()
        return True

    def cancel(self) -> None:
        """End the run as cancelled and stop the backend's work; safe from any thread, returns at once."""
        error = GenerationCancelledError("the generation was cancelled; what had arrived is in .partial")
        if self.end(State.CANCELLED, error):
            self._stop_task()

    def post_cancel(self) -> None:
        """Ask the run's loop to cancel it. Takes no lock, so that a finaliser may call it anywhere."""
        if self._loop is not None and not self.is_final:
            self._loop.post(self.cancel)

    async def cancelled(self) -> None:
        """Cancel, and wait until the backend has closed its connection: shielded, and bounded."""
        if self._closed:
            return
        self.cancel()
        with anyio.move_on_after(CLOSE_SECONDS + 0.5, shield=True):
            await self.until(lambda: self._closed)

    def raise_error(self) -> None:
        """Raise this reader's own copy of the error, if the run has failed or was cancelled."""
        if self.error is not None:
            raise self.error.another()

    def raise_error_unless(self, kind: type[MelleaError]) -> None:
        """Raise like `raise_error`, but not an error of that kind."""
        if not isinstance(self.error, kind):
            self.raise_error()

    def on_any(self, loops: Iterable[Loop]) -> bool:
        """Whether one of the loops is the one that this run works on."""
        return self._loop is not None and any(self._loop.native is loop.native for loop in loops)

    def needs(self, loops: Iterable[Loop], runs: Iterable[Run] = ()) -> bool:
        """Whether this run, or one that it waits for, can't end while all those loops and runs stand still."""
        still = {id(loop.native) for loop in loops} | {id(run) for run in runs}
        seen: dict[int, Run] = {}
        waiting = [self] if still else []
        while waiting:
            run = waiting.pop()
            if run.is_final or id(run) in seen:
                continue
            if id(run) in still or (run._loop is not None and id(run._loop.native) in still):
                return True
            seen[id(run)] = run
            waiting += run.dependencies
        return False

    async def until(self, is_ready: Callable[[], bool]) -> None:
        """Wait until `is_ready()`; it may turn true with an event, at the end, and when the run is closed."""
        loop = self._loop
        elsewhere = loop is None or not loop.is_current()
        while not is_ready():
            waiter = new_waiter()
            with self._lock:
                self._waiters[waiter] = is_ready
            try:
                if is_ready():
                    return
                await waiter.wait(_LOOK_SECONDS if elsewhere else None)
            finally:
                self._forget(waiter)
            if elsewhere and self._is_lost() and not is_ready():
                return

    def until_blocking(self, is_ready: Callable[[], bool]) -> None:
        """Wait in a plain thread until `is_ready()`.

        Raises:
            StreamingError: the calling thread is the one that has to do the work.
        """
        if not is_ready() and is_loop_running() and self.needs([current_loop()]):
            raise deadlock()
        while not is_ready():
            waiter = ThreadWaiter()
            with self._lock:
                self._waiters[waiter] = is_ready
            try:
                if is_ready():
                    return
                waiter.wait(_LOOK_SECONDS)
            finally:
                self._forget(waiter)
            if self._is_lost() and not is_ready():
                return

    def _forget(self, waiter: _Wakeable) -> None:
        with self._lock:
            self._waiters.pop(waiter, None)

    def _is_lost(self) -> bool:
        """Whether the producing loop has gone; then the run has ended, and nothing will close it."""
        how = self._loop.obituary() if self._loop is not None else None
        if how is None:
            return False
        self.end(State.FAILED, _lost(how))
        self._closed = True
        return True

    def _wake(self) -> None:
        with self._lock:
            ready = [waiter for waiter, is_ready in self._waiters.items() if is_ready()]
            for waiter in ready:
                del self._waiters[waiter]
        for waiter in ready:
            waiter.wake()

    def _stop_task(self) -> None:
        if self._loop is None or self._task is None:
            self._closed = True
        elif self._loop.is_current():
            self._stop_here()
        elif not self._loop.post(self._stop_here):
            self._closed = True

    def _stop_here(self) -> None:
        if self._task is not None and not self._is_closing:
            self._task.cancel()

    # -- on the producing loop ------------------------------------------------------------------------

    def launch(self) -> None:
        """Start producing on the running loop."""
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
            self.end(State.FAILED, self._as_mellea_error(error))
            if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
                raise
        finally:
            self._retire()

    def _retire(self) -> None:
        """Let go of everything that was only needed to produce."""
        if not self.is_final:
            # Cancelled by somebody else, perhaps before its first step, or thrown away: the loop is shutting down.
            self.end(State.FAILED, _lost("ended"))
        if self._stop_timer is not None:
            self._stop_timer()
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
                    continue
                if not isinstance(event, Event):
                    raise TypeError(f"it yielded {event!r}, which is no event")
                has_ended = has_ended or kind is StreamEnd
            elif not isinstance(event.chunk, str):  # type: ignore[attr-defined]
                raise TypeError(f"it yielded {event!r}, whose chunk is no text")
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
            self.end(State.DONE, parsed=_THE_TEXT)
        elif self._is_quick:
            self.end(State.DONE, parsed=parse(self.so_far()))
        else:
            self.end(State.DONE, parsed=await in_thread(parse, self.so_far()))

    def _watch(self, deadlines: Deadlines, *, is_sure: bool = False) -> None:
        """Look at the deadlines when the nearest one would pass; a reader or an event costs nothing here.

        A deadline that has passed is looked at twice: if the loop was held up, what has come meanwhile is read first.
        """
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

    def _as_mellea_error(self, error: BaseException) -> MelleaError:
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if isinstance(error, MelleaError):
            return error
        if self.is_composite:  # an error of the backend comes from the run of a request, and is one of ours by then
            wrapped: MelleaError = OutputError(f"code of your own failed inside the call: {_said(error)}")
        else:
            what = f"the backend {self.backend!r} failed: {_said(error)}"
            wrapped = BackendError(what, backend=self.backend, model=self.model)
        wrapped.__cause__ = error
        return wrapped


def _said(error: BaseException) -> str:
    try:
        return "; ".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ())])
    except Exception:  # noqa: BLE001 - an error that can't even be said, from the user's code
        return type(error).__name__


def deadlock() -> StreamingError:
    """Make the error for a synchronous wait that would hold up what it waits for."""
    return StreamingError(
        "a synchronous call would wait for a thunk that the event loop of this very thread is producing, and would "
        "hold that loop up forever; use the a… verb, or await the thunk before the call"
    )


def _or_never(seconds: float | None) -> float:
    return _NEVER if seconds is None else seconds


def _lost(how: str) -> StreamingError:
    return StreamingError(
        f"the event loop that ran this generation {how}, so the rest of it never came; "
        "keep that loop running until the thunk has been awaited"
    )


def cancel_all() -> None:
    """Cancel what still runs when the interpreter leaves."""
    with _live_lock:
        running = [run for run in _live if not run.is_final]
    if running:
        _log.warning("the program ends while %d generation(s) are running; they are cancelled", len(running))
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
