"""Cells of IPython and Jupyter: interrupting one cancels what it has started, even what it doesn't wait for.

An interrupt raises an exception where the cell is at work. In `for piece in stream: slow(piece)` that is the cell's own
code, and the stream, which a variable of the notebook holds, would never learn of it.
"""

from __future__ import annotations

import sys
from typing import Any
from weakref import WeakKeyDictionary

from mellea.core.runtime.tasks import Caller, current_caller

__all__ = ["follow_cells"]

_cells: WeakKeyDictionary[Any, Caller] = WeakKeyDictionary()
"""The running cells, by what IPython knows of each."""


def follow_cells() -> None:
    """Follow the cells of the shell that this is imported in, if there is one, from the current one on."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is None:
        return
    first = _make_caller()
    current_caller.set(first)

    def begin(info: Any) -> None:
        caller = _cells[info] = _make_caller()
        # For the code of the cell, and for the tasks and threads that inherit its context.
        current_caller.set(caller)

    def end(result: Any) -> None:
        caller = _cells.pop(result.info, first) if result is not None else _find_last()
        error = None if result is None else result.error_in_exec
        # Anything but an `Exception` is an interrupt: of the code, or of the task that it runs in.
        if caller is not None and (result is None or (error is not None and not isinstance(error, Exception))):
            caller.leave()

    shell.events.register("pre_run_cell", begin)
    shell.events.register("post_run_cell", end)


def _find_last() -> Caller | None:
    """Return the cell that began last: IPython doesn't say which one a cancelled task belongs to."""
    return next(reversed(list(_cells.values())), None)


def _make_caller() -> Caller:
    return Caller("the cell that made this request: it was interrupted")
