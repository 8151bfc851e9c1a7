"""Cells of IPython and Jupyter: interrupting one cancels what it has started, even what it doesn't wait for.

Rules:

- An interrupt raises an exception where the cell is at work. In `for piece in stream: slow(piece)` that is the cell's
  own code, and the stream, which a variable of the notebook holds, would never learn of it.
- Jupyter's kernel cancels a cell that awaits, but its loop notices that only when something else wakes it, which a
  silent model doesn't. So the loop is woken now and then while a cell is at work.
"""

from __future__ import annotations

import sys
from typing import Any
from weakref import WeakKeyDictionary

from mellea.core.runtime.loop import Loop, get_current_loop
from mellea.core.runtime.tasks import Caller, current_caller

__all__ = ["follow_cells"]

_WAKE_SECONDS = 0.2

_cells: WeakKeyDictionary[Any, _Cell] = WeakKeyDictionary()
"""The running cells, by what IPython knows of each."""


class _Cell(Caller):
    """One cell, and the timer that wakes its loop."""

    __slots__ = ("_loop", "due")

    def __init__(self) -> None:
        super().__init__("the cell that made this request: it was interrupted")
        self.due = 0.0
        try:
            self._loop: Loop | None = get_current_loop()
        except RuntimeError:  # at a terminal, a cell without `await` has none
            self._loop = None
        else:
            self._loop.watch(self)

    def look(self, now: float) -> None:
        """Only wake up, and again after a while."""
        self.due = now + _WAKE_SECONDS

    def end(self) -> None:
        """Leave the loop alone."""
        if self._loop is not None:
            self._loop.forget(self)
            self._loop = None


def follow_cells() -> None:
    """Follow the cells of the shell that this is imported in, if there is one, from the current one on."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is None:
        return
    first = _Cell()
    current_caller.set(first)

    def begin(info: Any) -> None:
        caller = _cells[info] = _Cell()
        # For the code of the cell, and for the tasks and threads that inherit its context.
        current_caller.set(caller)

    def end(result: Any) -> None:
        caller = _cells.pop(result.info, first) if result is not None else _find_last()
        error = None if result is None else result.error_in_exec
        # Anything but an `Exception` is an interrupt: of the code, or of the task that it runs in.
        if caller is None:
            return
        caller.end()
        if result is None or (error is not None and not isinstance(error, Exception)):
            caller.leave()

    shell.events.register("pre_run_cell", begin)
    shell.events.register("post_run_cell", end)


def _find_last() -> _Cell | None:
    """Return the cell that began last: IPython doesn't say which one a cancelled task belongs to."""
    return next(reversed(list(_cells.values())), None)
