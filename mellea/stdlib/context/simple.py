"""The context of calls that stand alone."""

from __future__ import annotations

import weakref
from typing import Any

from mellea.core.context import Context, Turn
from mellea.core.thunk import ModelOutputThunk

__all__ = ["SimpleContext"]


class SimpleContext(Context):
    """Every call stands alone: it sees no turn before it.

    The last turn can be looked up, as long as the program itself holds its output: the context doesn't,
    so that an output that was dropped is cancelled and thousands of calls take no memory.
    """

    __slots__ = ("_input", "_output")

    def __init__(self) -> None:
        self._input: Any = None
        self._output: weakref.ref[ModelOutputThunk[Any]] | None = None

    def add(self, value: Any) -> SimpleContext:
        """Return a context that remembers `value` as its last turn, or as the output of it."""
        new = SimpleContext()
        if isinstance(value, ModelOutputThunk):
            new._input = self._input if self._output is None else None
            new._output = weakref.ref(value)
        else:
            new._input = value
        return new

    def turns(self) -> list[Turn]:
        """Return the last turn, if there was one."""
        output = self._output() if self._output is not None else None
        return [] if self._input is None and output is None else [Turn(self._input, output)]

    def view_for_generation(self) -> list[Turn]:
        """Return nothing: calls stand alone."""
        return []

    def empty(self) -> SimpleContext:
        """Return a context that remembers nothing."""
        return SimpleContext()

    def __repr__(self) -> str:
        return "<SimpleContext>"
