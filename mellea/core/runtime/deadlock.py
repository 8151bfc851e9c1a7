"""Detects deadlocks: a wait that could only end after the waiter ends is rejected.

Rules:

- `runs_around` has the runs that the current code is part of, the innermost last. Tasks and worker threads
  inherit it, so a validator, a tool, a parser or a judge knows its runs.
- While such code waits for a run, that run is in `awaited` of the innermost enclosing run. It is added
  before the search for a cycle, so that if two runs start to wait for each other at once, one sees it.
- A run's dependencies are fixed at its launch, when nothing could wait for it yet, so waiting for them closes no
  cycle. Of n chat turns each waits for all before it, so a search there would take n**4 steps.
- A loop that a synchronous verb blocks is known to everything inside the verb, until it returns.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sequence
from contextvars import ContextVar
from typing import Protocol

from mellea.core.runtime.loop import Loop, get_current_loop, is_loop_running
from mellea.errors import StreamingError

__all__ = [
    "Hold",
    "Waitable",
    "check_blocking_wait",
    "check_wait",
    "find_held_up_loops",
    "holds",
    "needs",
    "runs_around",
    "waiting_for",
]


class Waitable(Protocol):
    """What a wait has to know about its run."""

    awaited: list[Waitable]
    """The runs that its own work is waiting for."""

    @property
    def dependencies(self) -> Sequence[Waitable]:
        """The runs that have to end before it can start."""

    @property
    def is_final(self) -> bool:
        """Whether it has ended."""

    def on_any(self, loops: Iterable[Loop]) -> bool:
        """Whether it works on one of the loops."""


runs_around: ContextVar[tuple[weakref.ref[Waitable], ...]] = ContextVar("runs_around", default=())
"""The runs that the current code is part of, for example as a requirement, a tool or a parser."""


class Hold:
    """A loop that is blocked until a synchronous verb returns."""

    __slots__ = ("_token", "is_over", "loop")

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.is_over = False
        # A copy of the context may outlive the verb, for example in a task; the flag reaches that, too.
        self._token = holds.set((*holds.get(), self))

    def end(self) -> None:
        """Mark the verb as returned, also for code that runs with a copy of its context."""
        self.is_over = True
        holds.reset(self._token)


holds: ContextVar[tuple[Hold, ...]] = ContextVar("holds", default=())
"""The loops that the enclosing synchronous verbs block."""


def find_held_up_loops() -> tuple[Loop, ...]:
    """Return the loops that are blocked until the running synchronous verb returns."""
    return tuple(hold.loop for hold in holds.get() if not hold.is_over)


def needs(run: Waitable, loops: Sequence[Loop], runs: Iterable[Waitable] = ()) -> bool:
    """Whether a run, or one that it waits for, can't end while all those loops and runs are blocked."""
    return _any_needs([run], loops, runs)


def _any_needs(waiting: list[Waitable], loops: Sequence[Loop], runs: Iterable[Waitable] = ()) -> bool:
    """Whether one of the runs `needs` them; each run is visited once. Empties the list."""
    still = {id(each) for each in runs}
    if not still and not loops:
        return False
    seen: set[int] = set()
    while waiting:
        run = waiting.pop()
        if run.is_final or id(run) in seen:
            continue
        if id(run) in still or run.on_any(loops):
            return True
        seen.add(id(run))
        waiting += (*run.dependencies, *run.awaited)
    return False


class waiting_for:
    """Record, for a `with` block, that the current code waits for a run.

    Raises:
        StreamingError: the run can't end before the wait does.
    """

    __slots__ = ("_run", "_waiting")

    def __init__(self, run: Waitable) -> None:
        self._run = run
        self._waiting: Waitable | None = None

    def __enter__(self) -> None:
        run, around = self._run, runs_around.get()
        if holds.get() and (loops := find_held_up_loops()) and needs(run, loops):
            raise _make_deadlock_error()
        # A weak reference, so that a long-lived context doesn't keep a run alive.
        waiting = around[-1]() if around else None
        if waiting is None or waiting.is_final or run in waiting.dependencies:
            return
        waiting.awaited.append(run)
        if needs(run, (), (waiting,)):
            waiting.awaited.remove(run)
            raise _make_circle_error()
        self._waiting = waiting

    def __exit__(self, *exception: object) -> None:
        if self._waiting is not None:
            # One entry for each wait: the code may wait for one run in several places at once.
            self._waiting.awaited.remove(self._run)


def check_blocking_wait(run: Waitable) -> None:
    """Reject a wait in this thread for a run that a loop of this thread produces.

    Raises:
        StreamingError: the wait would hold that loop up forever.
    """
    # Only if a loop runs in this thread; a plain thread may wait for any loop.
    if is_loop_running() and needs(run, (get_current_loop(),)):
        raise _make_deadlock_error()


def check_wait(runs: Sequence[Waitable]) -> None:
    """Reject a launch that would wait for runs that can't end before the current code does.

    Raises:
        StreamingError: one needs a loop that is blocked until the running synchronous verb returns, or the call
            is part of its own work.
    """
    loops = find_held_up_loops()
    # Nothing can block a run that has ended, so it closes no cycle.
    around = [run for known in runs_around.get() if (run := known()) is not None and not run.is_final]
    if loops and _any_needs([*runs], loops):
        raise _make_deadlock_error()
    if around and _any_needs([*runs], (), around):
        raise _make_circle_error()


def _make_deadlock_error() -> StreamingError:
    """Create the error for a synchronous wait that would block what it waits for."""
    return StreamingError(
        "this synchronous call would wait for a thunk that this thread's own event loop is producing, so it would "
        "block that loop forever; use the a… verb, or await the thunk before the call"
    )


def _make_circle_error() -> StreamingError:
    return StreamingError(
        "this would wait for an answer that is itself waiting for the call, tool or check that this code runs in; "
        "read .partial for what has arrived, use the values that the code is given, or ask on another session, such as "
        "start_session(m.backend)"
    )
