"""Compaction of a history at one point of it: done once for all callers, and cached there.

Rules:

- It runs as a separate generation, so that calls on several loops wait for the same one. If all of them stop
  waiting, it is cancelled; if it fails, the next call tries again.
- Its result replaces the turns up to this point; later points build on it.
- A compactor whose own model call uses a context with the same compactor would wait for itself: an error.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from contextvars import ContextVar
from typing import Any

from mellea.core.context import Turn
from mellea.core.events import StreamEnd
from mellea.core.runtime import Run, find_held_up_loops, launch, needs
from mellea.core.runtime.tasks import find_outcome
from mellea.core.thunk import ModelOutputThunk
from mellea.errors import MelleaError, OutputError, UsageError

__all__ = ["Compaction", "Compactor", "refuse_own_call"]

Compactor = Callable[[Sequence[Turn]], Any]
"""Takes turns, oldest first, and returns those that replace them; synchronous or not."""

_at_work: ContextVar[tuple[Compactor, ...]] = ContextVar("mellea_compactors", default=())
"""The compactors that are running."""


class Compaction:
    """The compacted history up to one point.

    Attributes:
        is_done: whether it has been made.
        turns: its result; `None` while it isn't done, and if nothing changed.
    """

    __slots__ = ("_lock", "_running", "is_done", "turns")

    def __init__(self) -> None:
        self.is_done = False
        self.turns: tuple[Turn, ...] | None = None
        self._lock = threading.Lock()
        self._running: weakref.ref[ModelOutputThunk[Any]] | None = None

    async def make(self, compactor: Compactor, turns: Sequence[Turn]) -> None:
        """Run the compactor, unless it has run; the turns are complete.

        Raises:
            UsageError: the compactor returns something else than turns.
            MelleaError: the compactor failed.
        """
        if not self.is_done:
            await self._join_running(compactor, turns)

    def make_now(self, compactor: Compactor, turns: Sequence[Turn]) -> None:
        """Run a synchronous compactor in this thread; one that has to be awaited isn't run."""
        outcome = compactor(turns)
        # Closed, or Python warns about a coroutine that was never awaited.
        if isinstance(outcome, Coroutine):
            outcome.close()
        elif not isinstance(outcome, Awaitable):
            self._take(compactor, turns, outcome)

    def _join_running(self, compactor: Compactor, turns: Sequence[Turn]) -> ModelOutputThunk[Any]:
        with self._lock:
            # Weak: the compactor's work is dropped once the last waiting call has left.
            thunk = self._running() if self._running is not None else None
            # One that runs on a loop which is blocked until this call returns would never end.
            if thunk is None or thunk.has_failed() or needs(thunk.record, find_held_up_loops()):
                thunk = self._launch_compactor(compactor, turns)
                # Under the lock, so that two simultaneous calls wait for one compactor.
                self._running = weakref.ref(thunk)
            return thunk

    def _launch_compactor(self, compactor: Compactor, turns: Sequence[Turn]) -> ModelOutputThunk[Any]:
        async def work(run: Run) -> None:
            _at_work.set((*_at_work.get(), compactor))  # only for this task
            try:
                outcome = await find_outcome(compactor, turns)
            except MelleaError:
                raise
            except Exception as error:
                raise OutputError(
                    f"the compactor {_name(compactor)} failed: {type(error).__name__}: {error}"
                ) from error
            self._take(compactor, turns, outcome)
            run.emit([StreamEnd("stop")])

        return ModelOutputThunk(launch(work=work, kind="work", label=f"compactor {_name(compactor)}"))

    def _take(self, compactor: Compactor, turns: Sequence[Turn], outcome: Any) -> None:
        is_list = isinstance(outcome, Iterable) and not isinstance(outcome, (str, bytes))
        kept = tuple(outcome) if is_list else ()
        if not is_list or not all(isinstance(turn, Turn) for turn in kept):
            raise UsageError(f"the compactor {_name(compactor)} returns a list of turns, not {outcome!r}")
        # By identity: if nothing changed, the nodes themselves are read, which grow without a copy.
        is_same = len(kept) == len(turns) and all(new is old for new, old in zip(kept, turns, strict=True))
        self.turns = None if is_same else kept
        self.is_done = True


def refuse_own_call(compactor: Compactor) -> None:
    """Reject a call that a compactor makes in a context that runs this compactor before each call.

    Raises:
        UsageError: it would wait for itself.
    """
    if any(active is compactor for active in _at_work.get()):
        raise UsageError(
            f"the compactor {_name(compactor)} makes its call in a context that has the same compactor, so it would "
            "wait for itself; give it a session of its own, such as start_session(…) with a SimpleContext"
        )


def _name(compactor: Compactor) -> str:
    return str(getattr(compactor, "__name__", type(compactor).__name__))
