"""Contexts: immutable histories that a call is made in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Self

from mellea.core.thunk import ModelOutputThunk

__all__ = ["Context", "Turn"]


@dataclass(frozen=True, slots=True)
class Turn:
    """One exchange: what was said to the model, and what it answered or is still answering."""

    input: Any
    output: ModelOutputThunk[Any] | None = None


class Context(ABC):
    """An immutable history; adding to it gives a new one that shares all the old."""

    @abstractmethod
    def add(self, value: Any) -> Self:
        """Return a context with `value` added: a thunk completes the last turn, all else begins one."""

    @abstractmethod
    def turns(self) -> list[Turn]:
        """Return the turns that the context remembers, oldest first."""

    @abstractmethod
    def view_for_generation(self) -> list[Turn]:
        """Return the turns that the next call is to see, oldest first."""

    @abstractmethod
    def empty(self) -> Self:
        """Return a context of the same kind and settings without any turn."""

    def as_list(self) -> list[Any]:
        """Return what was said and answered, in order."""
        return [value for turn in self.turns() for value in (turn.input, turn.output) if value is not None]

    def last_turn(self) -> Turn | None:
        """Return the last exchange, or `None` if there was none."""
        turns = self.turns()
        return turns[-1] if turns else None

    def last_output(self) -> ModelOutputThunk[Any] | None:
        """Return the last answer, or `None` if there is none."""
        turn = self.last_turn()
        return turn.output if turn is not None else None
