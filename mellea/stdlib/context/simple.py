"""The context of independent calls."""

from __future__ import annotations

import weakref
from typing import Any

from mellea.core.context import Context, Turn
from mellea.core.thunk import ModelOutputThunk

__all__ = ["SimpleContext"]


class _Last(weakref.ref[ModelOutputThunk[Any]]):
    """The output of the last turn, and what was said, which is released with it."""

    __slots__ = ("turn",)

    turn: Turn


def _release_turn(last: Any) -> None:
    last.turn = None


class SimpleContext(Context):
    """A context in which each call is independent: it sees no earlier turns.

    The last turn can be looked up as long as the program itself holds its output. The context only has a weak
    reference, so an output that the program drops is cancelled, as are the thunks it depends on, and thousands of calls
    take no memory.
    """

    __slots__ = ("_input", "_last")

    def __init__(self) -> None:
        self._input: Any = None  # of a turn that has no output yet
        self._last: _Last | None = None

    def add(self, value: Any) -> SimpleContext:
        """Return a context with `value` as the last turn, or as the output of it."""
        if isinstance(value, ModelOutputThunk):
            return self.add_turn(Turn(self._input), value)
        new = SimpleContext()
        new._input = value
        return new

    def add_turn(self, turn: Turn, answer: ModelOutputThunk[Any]) -> SimpleContext:
        """Return a context with this as the last turn."""
        new = SimpleContext()
        new._last = _Last(answer, _release_turn)
        new._last.turn = turn
        return new

    def turns(self) -> list[Turn]:
        """Return the last turn, if there was one."""
        # Something was added by hand and not answered yet.
        if self._input is not None:
            return [Turn(self._input)]
        # Weakly: `None` once the program has dropped it.
        output = None if self._last is None else self._last()
        return [] if output is None or self._last is None else [self._last.turn.answered(output)]

    @property
    def shows_turns(self) -> bool:
        """Whether calls see earlier turns: never."""
        return False

    def view_for_generation(self) -> list[Turn]:
        """Return an empty list, because calls are independent."""
        return []

    def empty(self) -> SimpleContext:
        """Return a new context without a last turn."""
        return SimpleContext()

    def __repr__(self) -> str:
        return "<SimpleContext>"
