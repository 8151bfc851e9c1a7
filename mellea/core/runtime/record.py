"""What readers hold of one generation: its list of events, its state, and their waits.

Rules:

- One detached task on one loop (the producer, `producer.py`) appends to `events`. Readers on any loop or thread hold
  an index into that list; nothing waits for a reader, and nothing is removed from the list.
- The state moves through the `TRANSITIONS` of `state.py`; a final state never changes. `end` makes the last move,
  from any thread, and sets `limit`, the number of events that count; it is `None` until then.
- How readers wait, and are woken, is in `waits.py`.
- A record never refers to a thunk, so that a dropped thunk can cancel its run.
- At the end the small events are joined and replaced by a new list; a reader keeps the one it has.
- Reading the text, the message or the usage of a running generation folds each event once.
- Observers are notified of the end before readers, if the producer ends it; a cancelled producer has to stop first.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, cast

import anyio

from mellea.core.accumulator import Accumulator, Generation, count_sound, fold_joined
from mellea.core.events import AttemptStart, Event, StepStart, Usage
from mellea.core.runtime.failure import as_mellea_error, copy_for_reader, make_lost_error
from mellea.core.runtime.loop import Detached
from mellea.core.runtime.run_observer import RunObserver
from mellea.core.runtime.waits import Clock, Waits
from mellea.core.state import TRANSITIONS, State
from mellea.core.tracebacks import is_debugging, list_program_frames
from mellea.errors import GenerationCancelledError, MelleaError, ParseError

if TYPE_CHECKING:
    from mellea.core.backend import SentRequest

__all__ = ["CLOSE_SECONDS", "THE_TEXT", "Folded", "Record"]

Folded = tuple[int, list[Event], Generation]
"""How many events have been folded, the joined events, and the resulting generation."""

CLOSE_SECONDS = 2.0
"""How long a backend may take to close its connection before it is abandoned."""

THE_TEXT: Any = object()
"""Stands for the text itself as the result, so that the two are one object."""


class Record(Waits):
    """One generation as its readers see it.

    Args:
        format: what the answer is to be, if it is to be anything but text.
        dependencies: runs whose results it waits for before it starts.
        backend: name of the backend, for errors.
        model: id of the model, for errors.
        is_composite: whether its events may come from several requests.

    Attributes:
        parts: the runs of the requests that its answer was made of, if a strategy has composed it.
    """

    __slots__ = (
        "_clock",
        "_folded",
        "_is_closing",
        "_live",
        "_sampling",
        "_task",
        "backend",
        "error",
        "events",
        "format",
        "generation",
        "is_composite",
        "is_left",
        "model",
        "parsed",
        "parts",
        "sent",
        "spans",
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
        super().__init__(dependencies)
        self._live: Accumulator | None = None  # has folded the first `_folded` events, for reads before the end
        self._folded = 0
        self._task: Detached | None = None
        self._clock: Any = None  # the `Clock`, which begins when what it needs is ready
        self._is_closing = False
        self._sampling: Any = None
        self.backend = backend
        self.model = model
        self.format = format
        self.is_composite = is_composite
        self.is_left = False  # belongs to a stream or was detached: it isn't missed if the program ends
        self.sent: SentRequest | None = None
        self.spans: RunObserver[Record] | None = None  # what it reports to observers, if there are any
        self.state = State.PENDING
        self.events: list[Event] = []
        self.error: MelleaError | None = None
        self.generation: Generation | None = None
        self.parsed: Any = None
        self.parts: tuple[Record, ...] = ()
        self.time_to_first_token: float | None = None

    @classmethod
    def make_finished(cls, generation: Generation, parsed: Any, events: list[Event], format: Any = None) -> Record:
        """Create a run that has already ended, for a known value."""
        run = cls(format=format)
        run.is_composite = any(type(event) in (AttemptStart, StepStart) for event in events)
        run.generation, run.parsed, run.events, run.limit = generation, parsed, events, len(events)
        run.state, run._closed = State.DONE, True
        return run

    # -- what has arrived -----------------------------------------------------------------------------

    @property
    def has_succeeded(self) -> bool:
        """Whether it has ended with a result."""
        return self.state is State.DONE

    @property
    def sampling(self) -> Any:
        """The result of a strategy, with every attempt; `None` without one, and before the end."""
        if callable(self._sampling):
            if not self.is_final:
                return None
            self._sampling = self._sampling(self)
        return self._sampling

    @sampling.setter
    def sampling(self, result: Any) -> None:
        """Set a `SamplingResult`, or a function that creates it from this record on demand."""
        self._sampling = result

    @property
    def is_met(self) -> bool:
        """Whether it has a result that meets all checked requirements."""
        is_unseen = self._sampling is None or callable(self._sampling)
        return self.has_succeeded and (is_unseen or bool(self._sampling.success))

    def text(self) -> str:
        """Return the text that has arrived so far."""
        with self._lock:
            return self.generation.text if self.generation is not None else self._catch_up().text()

    def usage(self) -> Usage | None:
        """Return the usage as far as the provider has reported it."""
        with self._lock:
            return self.generation.usage if self.generation is not None else self._catch_up().usage()

    def so_far(self) -> Generation:
        """Return the generation as far as it has arrived."""
        if self.generation is not None:
            return self.generation
        with self._lock:
            return self.generation if self.generation is not None else self._catch_up().generation()

    def _catch_up(self) -> Accumulator:
        """Fold the events since the last call; only under the lock, and before the end."""
        live = self._live = self._live or Accumulator()
        # Folded incrementally, so that reading the text after every delta stays linear.
        new = self.events[self._folded :]
        self._folded += len(new)
        live.feed(new)
        return live

    def off_the_clock(self) -> AbstractContextManager[None]:
        """Count no silence of the provider in a `with` block, where the program's own code is at work."""
        return nullcontext() if self._clock is None else cast("Clock", self._clock).paused()

    # -- the end --------------------------------------------------------------------------------------

    def end(
        self,
        state: State,
        error: MelleaError | None = None,
        parsed: Any = None,
        *,
        is_settled: bool = False,
        folded: Folded | None = None,
    ) -> bool:
        """Move to a final state; false if the run has already ended.

        Args:
            state: how it ends.
            error: why it failed.
            parsed: the typed result, `THE_TEXT` for the text.
            is_settled: whether its producer is done, so that observers can be notified before readers.
            folded: the folded events, if known; used unless more have arrived.
        """
        with self._lock:
            if state not in TRANSITIONS[self.state]:
                return False
            events = self.events[:]
            try:
                if folded is None or folded[0] != len(events):
                    folded = (len(events), *fold_joined(events))
                _, joined, generation = folded
            except Exception as nonsense:  # noqa: BLE001 - a backend yielded something that isn't an event
                del events[count_sound(events) :]
                joined, generation = fold_joined(events)
                state, parsed = State.FAILED, None
                error = as_mellea_error(nonsense, backend=self.backend, model=self.model, is_work=False)
            if error is not None:
                error.partial = error.partial or generation.text
                # Our frames don't help a reader, and would keep all their variables alive.
                if not is_debugging():
                    error.__traceback__ = list_program_frames(error.__traceback__)
            self.generation, self.error, self.state, self._live = generation, error, state, None
            self.parsed = generation.text if parsed is THE_TEXT else parsed
            # Before the joined list is set: a reader reads the limit first, then its list.
            self.limit = len(events)
            self.events = joined
        # Observers before readers, so that the span has ended once a program has the answer.
        if is_settled and self.spans is not None:
            self._end_spans(self.spans)
        self._wake_all()
        return True

    def _end_spans(self, spans: RunObserver[Record]) -> None:
        try:
            spans.end(self)
        except BaseException as error:  # noqa: BLE001 - an exit that an observer raises is what readers get
            self.error = as_mellea_error(error, backend=self.backend, model=self.model, is_work=True)

    def cancel(self) -> None:
        """End the run as cancelled and stop the backend's work; safe from any thread, returns at once."""
        error = GenerationCancelledError("the generation was cancelled; what had arrived is in .partial")
        if self.end(State.CANCELLED, error):
            self._stop_task()

    def post_cancel(self) -> None:
        """Ask the run's loop to cancel it. Takes no lock, so that a finaliser may call it anywhere."""
        if self.limit is None and self._loop is not None:
            self.is_left = True
            self._loop.post(self.cancel)

    async def cancel_and_wait(self) -> None:
        """Cancel, and wait until the backend has closed its connection: shielded, with a time limit."""
        if self._closed:
            return
        self.cancel()
        with anyio.move_on_after(CLOSE_SECONDS + 0.5, shield=True):
            await self.wait_until_closed()

    def raise_error(self) -> None:
        """Raise this reader's own copy of the error if the run failed or was cancelled; an exit unchanged."""
        if self.error is not None:
            raise copy_for_reader(self.error).with_traceback(self.error.__traceback__)

    @property
    def is_misread(self) -> bool:
        """Whether the model finished, but its answer isn't a value of the requested type; the request itself succeeded.

        A request can also fail with a `ParseError`, if a model breaks the tool protocol; then it has no end.
        """
        return isinstance(self.error, ParseError) and self.so_far().finish_reason is not None

    def _stop_task(self) -> None:
        if self._loop is None or self._task is None:
            self._close_lost()
        # Immediately on its own loop; posted from elsewhere, since tasks can only be cancelled on their loop.
        elif self._loop.is_current():
            self._stop_here()
        elif not self._loop.post(self._stop_here):
            self._close_lost()

    def _stop_here(self) -> None:
        if self._task is not None and not self._is_closing:
            self._task.cancel()

    def _close_lost(self) -> None:
        """Record that nothing will close the run: its loop has gone, or it was never launched."""
        self._closed = True
        if self.spans is not None and self.spans.outer.ended is None:
            self._end_spans(self.spans)

    def _end_if_lost(self, how: str) -> None:
        self.end(State.FAILED, make_lost_error(how))
        self._close_lost()
