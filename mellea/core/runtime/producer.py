"""The producer of one generation: the detached task that opens the backend's stream, reads it, and ends the run.

Rules:

- It works on the loop that launched it. Nothing but cancellation may leave its task; everything else ends the run.
- First `ready` waits for what the request needs. Then the deadlines start. `open` returns the backend's events, or
  `work` combines several requests: launches them, forwards their events with `emit`, and returns the result.
- An answer that can't be parsed ends it, unless there is a `correction`, which continues in the same run.
- At the end it releases everything that only producing needs, since readers hold the run.
- The total deadline (`waits.py`) covers everything from `ready` on, including parsing and correction.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Any

import anyio

from mellea.core.accumulator import Generation, fold_joined
from mellea.core.backend import Batches
from mellea.core.events import Event, KeepAlive, ReasoningDelta, StreamEnd, TextDelta, ToolStart
from mellea.core.options import Deadlines
from mellea.core.runtime import failure
from mellea.core.runtime.corrector import Corrector
from mellea.core.runtime.deadlock import runs_around
from mellea.core.runtime.ledger import current_ledger, log_end
from mellea.core.runtime.loop import get_current_loop, launch
from mellea.core.runtime.record import THE_TEXT, Folded, Record
from mellea.core.runtime.source import close_source, is_open
from mellea.core.runtime.spans import RunSpans
from mellea.core.runtime.tasks import run_in_thread
from mellea.core.runtime.waits import Clock
from mellea.core.state import TRANSITIONS, State
from mellea.errors import ParseError

__all__ = ["Open", "Parse", "Ready", "Run", "Work"]

Open = Callable[["Run"], AsyncIterator[Event]]
Ready = Callable[["Run"], Awaitable[None]]
Parse = Callable[[Generation], Any]
Work = Callable[["Run"], Awaitable[Any]]


class Run(Record):
    """One generation, from its launch to its end; `launch` in `launch.py` creates it, and explains the arguments."""

    __slots__ = (
        "_correction", "_deadlines", "_held_end", "_is_logged", "_ledger", "_open",
        "_overdue", "_parse", "_quick_length", "_ready", "_registers", "_whole", "_work", "is_request",
    )  # fmt: skip

    def __init__(
        self,
        open: Open | None = None,
        *,
        work: Work | None = None,
        ready: Ready | None = None,
        parse: Parse | None = None,
        quick_length: float = -1,
        is_request: bool = True,
        correction: Corrector | None = None,
        deadlines: Deadlines = Deadlines(),  # noqa: B008 - it is frozen
        overdue: str | None = None,
        format: Any = None,
        dependencies: Iterable[Record] = (),
        backend: str | None = None,
        model: str | None = None,
    ) -> None:
        super().__init__(
            format=format,
            dependencies=dependencies,
            backend=backend,
            model=model,
            is_composite=not is_request or correction is not None,
        )
        self._ready, self._open, self._work, self.is_request = ready, open, work, is_request
        self._parse, self._quick_length, self._correction = parse, quick_length, correction
        self._deadlines, self._overdue = deadlines, overdue
        self._held_end: StreamEnd | None = None  # which readers get once the answer was parsed
        self._registers: Sequence[Any] = ()
        self._is_logged, self._ledger = open is None, current_ledger.get()  # `work` logs its own requests
        self._whole: Folded | None = None
        self.spans: RunSpans | None = None

    def start(self, registers: Sequence[Any] = ()) -> None:
        """Start producing on the running loop.

        Args:
            registers: the registers that contain it until it has stopped.
        """
        self.is_left = bool(runs_around.get())  # a part of another run, which is reported instead
        self._loop = get_current_loop()
        self._registers = registers
        for register in registers:
            register.add(self)
        self._task = launch(self._main, self._retire)

    async def _main(self) -> None:
        if self._task is not None:  # not set yet on a loop that starts tasks eagerly
            self._task.take_over()
        runs_around.set((*runs_around.get(), weakref.ref(self)))  # only for this task, and what it starts
        try:
            if self.spans is not None:
                self.spans.make_current()
            if self._ready is not None and self.limit is None:
                await self._ready(self)
            self.dependencies = ()
            if self.limit is None and self._loop is not None:
                self._clock = Clock(self._deadlines, self._loop, self._expire, only_total=self._open is None)
                make = self._read if self._work is None else partial(self._work, self)
                parsed = await (make() if self._correction is None else self._correct(make, self._correction))
                self.end(State.DONE, parsed=parsed, is_settled=True, folded=self._whole)
        except BaseException as error:
            if self._is_passed_on(error):
                raise
        finally:
            self._retire()

    def _is_passed_on(self, error: BaseException) -> bool:
        """End the run with an error, unless it isn't one; returns whether it leaves the task anyway."""
        # Readers get it, since only cancellation may escape a detached task (a group may contain it). A run that is
        # discarded with its loop isn't on it any more. Ctrl-C goes to the main thread.
        is_ours = self._loop is not None and self._loop.is_current()
        if not is_ours or isinstance(error, anyio.get_cancelled_exc_class()):
            return True
        said = failure.as_mellea_error(error, backend=self.backend, model=self.model, is_work=not self.is_request)
        self.end(State.FAILED, said, is_settled=True)
        is_interrupt = isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread()
        if is_interrupt and self._task is not None:
            self._task.will_raise()
        return is_interrupt

    def _retire(self) -> None:
        """Release everything that was only needed to produce; once."""
        if self._task is None:
            return
        if self.limit is None:
            # Cancelled from outside, perhaps before its first step, or discarded: the loop is shutting down.
            self.end(State.FAILED, failure.make_lost_error("ended"))
        self._log_end()
        self._open = self._work = self._ready = self._parse = self._correction = None
        self._task = self._held_end = self._whole = None
        self.dependencies = ()
        self._close_lost()
        self._wake_all()

    def _log_end(self) -> None:
        """Log how the request ended and enter its cost, once."""
        if not self._is_logged:
            self._is_logged = True
            said = self.so_far() if self._whole is None else self._whole[2]
            log_end(self, said, 0.0 if self._clock is None else self._clock.opened, self._ledger)

    def _close_lost(self) -> None:
        super()._close_lost()
        if self._clock is not None:
            self._clock.stop()
        for register in self._registers:
            register.discard(self)
        self._registers = ()

    def abandon(self) -> None:
        """After a fork, end the parent's run in the child, where nothing produces it."""
        self._lock, self.spans, self._registers = threading.Lock(), None, ()  # the parent reports it
        self.end(State.FAILED, failure.make_left_behind_error())
        self._closed = True

    async def _correct(self, make: Callable[[], Awaitable[Any]], correction: Corrector) -> Any:
        """Produce the answer, and continue in the same run if it can't be parsed."""
        self.emit(list(correction.before))
        try:
            parsed = await make()
        except ParseError as error:
            # Without an end there is no answer to correct: the request failed.
            if self.limit is not None or self._held_end is None:
                raise
            self._correction = None  # so that ends are no longer held back
            self._log_end()
            return await correction.correct(self, self._held_end, error)
        if self._held_end is not None:
            self._correction = None
            self.emit([*correction.after, self._held_end])
        return parsed

    async def _read(self) -> Any:
        """Read the backend's events, and return the result."""
        source = self._open(self)  # type: ignore[misc]  # there is no work
        is_batched = isinstance(source, Batches)
        stream: AsyncIterator[Any] = source.batches if isinstance(source, Batches) else source
        listener = self.spans if self.spans is not None and self.spans.wants_events else None
        events, has_ended = self.events, False  # `end` replaces the list
        try:
            async for new in stream:
                if self.limit is not None:
                    break
                has_ended = self._take(new if is_batched else (new,), events, listener) or has_ended
        except GeneratorExit:  # the loop has gone and can't await a close
            raise
        except BaseException:
            await self._close(source)
            raise
        if is_open(source):
            await self._close(source)
        if self.limit is not None:
            return None
        if not has_ended:
            raise failure.make_interrupted_error(self.backend, self.model)
        self._clock.ignore_silence()  # no more waiting; the total deadline also covers parsing
        return THE_TEXT if self._parse is None else await self._parse_answer(self._parse)

    async def _parse_answer(self, parse: Parse) -> Any:
        events = self.events[:]
        if self._correction is not None and self._held_end is not None:  # the final state if it can be parsed
            events += (*self._correction.after, self._held_end)
        self._whole = (len(events), *fold_joined(events))
        generation = self._whole[2]
        return (
            parse(generation) if len(generation.text) <= self._quick_length else await run_in_thread(parse, generation)
        )

    async def _close(self, source: AsyncIterator[Event]) -> None:
        self._is_closing = True  # asyncio's own cancel goes through a shield
        await close_source(source)
        self._is_closing = False

    def _take(self, new: Sequence[Event], events: list[Event], listener: RunSpans | None) -> bool:
        """Append a batch of events; returns whether the backend's end is among them."""
        now = self._clock.last_sign = time.monotonic()
        has_ended = False
        for event in new:
            kind = type(event)
            if kind is not TextDelta:  # nearly all of them
                has_ended = has_ended or kind is StreamEnd
                if not self._is_for_readers(event):
                    continue
            elif not isinstance(event.chunk, str):  # type: ignore[attr-defined]
                raise TypeError(f"it yielded {event!r}, whose chunk is not text")
            events.append(event)
            if self.time_to_first_token is None:
                self._note_first(kind, now)
        if listener is not None:
            listener.tell(new)
        if self._waiters:
            self._wake_ready(self._waiters)
        return has_ended

    def _is_for_readers(self, event: Event) -> bool:
        """Whether readers get a non-text event now."""
        if isinstance(event, KeepAlive):
            if event.is_restart:
                self._clock.restart()
                if self.spans is not None:
                    self.spans.tell_retry(event)
            self.sent = event.sent or self.sent
            return False
        if not isinstance(event, Event):
            raise TypeError(f"it yielded {event!r}, which is not an event")
        if self._correction is not None and isinstance(event, StreamEnd):
            self._held_end = event
            return False
        return True

    def _note_first(self, kind: type[Event], now: float) -> None:
        if self.state is not State.STREAMING:
            with self._lock:
                if State.STREAMING in TRANSITIONS[self.state]:
                    self.state = State.STREAMING
        if kind in (TextDelta, ReasoningDelta, ToolStart) and self.time_to_first_token is None and self._clock:
            self.time_to_first_token = now - self._clock.opened

    def emit(self, events: list[Event]) -> None:
        """Take events from `work`."""
        taken = self.events  # read before `limit`: another thread may end the run now, which creates a new list
        if self.limit is not None or not events:
            return
        if self._correction is not None:
            self._held_end = next((event for event in events if isinstance(event, StreamEnd)), self._held_end)
            events = [event for event in events if event is not self._held_end]
        taken += events
        if self.time_to_first_token is None:
            for event in events:
                self._note_first(type(event), time.monotonic())
        self._wake()

    def _expire(self, late: str, seconds: float) -> None:
        what = self._overdue or f"the model {self.model!r} at backend {self.backend!r}"
        if self.end(State.FAILED, failure.make_overdue_error(f"{what} {late}", seconds, self.backend, self.model)):
            self._stop_task()
