"""What readers hold of one generation: its list of events, its state, and their waits.

Rules:

- One detached task on one loop (the producer, `producer.py`) appends to `events`. Readers on any loop or thread hold
  an index into that list; nobody waits for a reader, and nothing is taken out of the list.
- The state moves through the `TRANSITIONS` of `state.py`; a final state never changes. `end` makes the last move,
  from any thread, and sets `limit`, the number of events that count; it is `None` until then.
- A reader that has seen everything registers a waiter under the lock, then looks again. The producer
  appends first and looks for waiters afterwards, so that one of the two always sees the other.
- A record never refers to a thunk: that is what lets a dropped thunk cancel its run.
- At the end the small events are joined and replaced by a new list; a reader keeps the one it has.
- Who asks for the text, the message or the usage while the run goes on has the events folded once, each as it comes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol

import anyio

from mellea.core.accumulator import Accumulator, Generation, count_sound, fold_joined
from mellea.core.events import AttemptStart, Event, StepStart, Usage
from mellea.core.runtime.deadlock import Waitable, begin_wait, deadlock, end_wait, needs, runs_around
from mellea.core.runtime.loop import Detached, Loop, ThreadWaiter, current_loop, is_loop_running, new_waiter
from mellea.core.state import TRANSITIONS, State
from mellea.core.tracebacks import frames_of_program, is_debugging
from mellea.errors import BackendError, GenerationCancelledError, MelleaError, OutputError, StreamingError

if TYPE_CHECKING:
    from mellea.core.sent import SentRequest

__all__ = ["CLOSE_SECONDS", "THE_TEXT", "Record", "lost"]

CLOSE_SECONDS = 2.0
"""How long a backend may take to close its connection before it is left to itself."""

THE_TEXT: Any = object()
"""Stands for the text itself as the result, so that the two are one object."""

_LOOK_SECONDS = 1.0
"""How often a reader elsewhere looks whether the producing loop is still there."""


class _Wakeable(Protocol):
    def wake(self) -> None: ...


class Record:
    """One generation as its readers know it.

    Args:
        format: what the answer is to be, if it is to be anything but text.
        dependencies: runs whose results it waits for before it begins.
        backend: name of the backend, for errors.
        model: id of the model, for errors.
        is_composite: whether it is made of other runs.
    """

    __slots__ = (
        "__weakref__",
        "_closed",
        "_folded",
        "_is_closing",
        "_live",
        "_lock",
        "_loop",
        "_task",
        "_waiters",
        "awaited",
        "backend",
        "dependencies",
        "error",
        "events",
        "format",
        "generation",
        "is_composite",
        "is_left",
        "limit",
        "model",
        "parsed",
        "sampling",
        "sent",
        "state",
        "time_to_first_token",
    )

    def __init__(
        self,
        *,
        format: Any = None,
        dependencies: Iterable[Record] = (),
        backend: str | None = None,
        model: str | None = None,
        is_composite: bool = False,
    ) -> None:
        self._lock = threading.Lock()
        self._waiters: dict[_Wakeable, Callable[[], bool]] = {}  # and what each one waits for
        self._live: Accumulator | None = None  # has folded the first `_folded` events, for who asks before the end
        self._folded = 0
        self._loop: Loop | None = None
        self._task: Detached | None = None
        self._closed = False
        self._is_closing = False
        self.dependencies: tuple[Record, ...] = tuple(dependencies)
        self.awaited: list[Waitable] = []
        self.backend = backend
        self.model = model
        self.format = format
        self.is_composite = is_composite
        self.is_left = False  # belongs to a stream or was let go: nobody misses it if the program ends
        self.sampling: Any = None  # what a strategy came to, with every attempt
        self.sent: SentRequest | None = None
        self.state = State.PENDING
        self.events: list[Event] = []
        self.limit: int | None = None
        self.error: MelleaError | None = None
        self.generation: Generation | None = None
        self.parsed: Any = None
        self.time_to_first_token: float | None = None

    @classmethod
    def finished(cls, generation: Generation, parsed: Any, events: list[Event], format: Any = None) -> Record:
        """Make a run that has ended already, to hold a value that is known."""
        run = cls(format=format)
        run.is_composite = any(type(event) in (AttemptStart, StepStart) for event in events)
        run.generation, run.parsed, run.events, run.limit = generation, parsed, events, len(events)
        run.state, run._closed = State.DONE, True
        return run

    @property
    def is_final(self) -> bool:
        """Whether the run has ended, in whatever way."""
        return self.limit is not None

    @property
    def is_closed(self) -> bool:
        """Whether the run has ended and its backend has given back what it held."""
        return self._closed

    @property
    def has_succeeded(self) -> bool:
        """Whether it has ended with a result."""
        return self.state is State.DONE

    def text(self) -> str:
        """Return the text that has arrived so far."""
        with self._lock:
            return self.generation.text if self.generation is not None else self._catch_up().text()

    def usage(self) -> Usage | None:
        """Return the usage as far as the provider has told it."""
        with self._lock:
            return self.generation.usage if self.generation is not None else self._catch_up().usage()

    def so_far(self) -> Generation:
        """Return what has arrived so far, or the complete generation."""
        with self._lock:
            return self.generation if self.generation is not None else self._catch_up().generation()

    def _catch_up(self) -> Accumulator:
        """Fold what has come since somebody last asked; only under the lock, and before the end."""
        live = self._live = self._live or Accumulator()
        new = self.events[self._folded :]
        self._folded += len(new)
        live.feed(new)
        return live

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
                state, error, parsed = State.FAILED, self.as_mellea_error(nonsense), None
            if error is not None:
                error.partial = error.partial or generation.text
                # Our frames say nothing to a reader, and would keep all their variables.
                if not is_debugging():
                    error.__traceback__ = frames_of_program(error.__traceback__)
            self.generation, self.error, self.state, self._live = generation, error, state, None
            self.parsed = generation.text if parsed is THE_TEXT else parsed
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
            self.is_left = True
            self._loop.post(self.cancel)

    async def cancelled(self) -> None:
        """Cancel, and wait until the backend has closed its connection: shielded, and bounded."""
        if self._closed:
            return
        self.cancel()
        with anyio.move_on_after(CLOSE_SECONDS + 0.5, shield=True):
            await self.until_closed()

    async def until_closed(self) -> None:
        """Wait until the run has ended and its backend has closed its connection.

        Code that is part of the run, such as a tool of it, doesn't wait: the run can't close before that code ends.
        """
        if not any(known() is self for known in runs_around.get()):
            await self.until(lambda: self._closed)

    def raise_error(self) -> None:
        """Raise this reader's own copy of the error, if the run has failed or was cancelled."""
        if self.error is not None:
            raise self.error.clone().with_traceback(self.error.__traceback__)

    def raise_error_unless(self, kind: type[MelleaError]) -> None:
        """Raise like `raise_error`, but not an error of that kind."""
        if not isinstance(self.error, kind):
            self.raise_error()

    def on_any(self, loops: Iterable[Loop]) -> bool:
        """Whether one of the loops is the one that this run works on."""
        return self._loop is not None and any(self._loop.native is loop.native for loop in loops)

    async def until(self, is_ready: Callable[[], bool]) -> None:
        """Wait until `is_ready()`; it may turn true with an event, at the end, and when the run is closed.

        Raises:
            StreamingError: the run can't end before the code that waits does.
        """
        if is_ready():
            return
        loop = self._loop
        elsewhere = loop is None or not loop.is_current()
        waiting = begin_wait(self)
        try:
            while not is_ready():
                waiter = new_waiter()
                self._register(waiter, is_ready)
                try:
                    if is_ready():
                        return
                    await waiter.wait(_LOOK_SECONDS if elsewhere else None)
                finally:
                    self._forget(waiter)
                if elsewhere and self._is_lost() and not is_ready():
                    return
        finally:
            if waiting is not None:
                end_wait(waiting, self)

    def until_blocking(self, is_ready: Callable[[], bool]) -> None:
        """Wait in a plain thread until `is_ready()`.

        Raises:
            StreamingError: the calling thread is the one that has to do the work, or the run can't end before the
                code that waits does.
        """
        if is_ready():
            return
        if is_loop_running() and needs(self, (current_loop(),)):
            raise deadlock()
        waiting = begin_wait(self)
        try:
            while not is_ready():
                waiter = ThreadWaiter()
                self._register(waiter, is_ready)
                try:
                    if is_ready():
                        return
                    waiter.wait(_LOOK_SECONDS)
                finally:
                    self._forget(waiter)
                if self._is_lost() and not is_ready():
                    return
        finally:
            if waiting is not None:
                end_wait(waiting, self)

    def _register(self, waiter: _Wakeable, is_ready: Callable[[], bool]) -> None:
        with self._lock:
            self._waiters[waiter] = is_ready

    def _forget(self, waiter: _Wakeable) -> None:
        with self._lock:
            self._waiters.pop(waiter, None)

    def _is_lost(self) -> bool:
        """Whether the producing loop has gone; then the run has ended, and nothing will close it."""
        how = self._loop.obituary() if self._loop is not None else None
        if how is None:
            return False
        self.end(State.FAILED, lost(how))
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

    def as_mellea_error(self, error: BaseException) -> MelleaError:
        """Return the error of ours that readers are to get for what was raised while the run was produced."""
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


def lost(how: str) -> StreamingError:
    """Make the error for readers of a run whose loop has gone; `how` says how, such as "has been closed"."""
    return StreamingError(
        f"the event loop that ran this generation {how}, so the rest of it never came; "
        "keep that loop running until the thunk has been awaited"
    )
