"""Contexts: immutable histories that a call is made in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Self

from mellea.core.messages import Message
from mellea.core.thunk import ModelOutputThunk
from mellea.errors import UsageError

__all__ = ["Context", "Turn"]


@dataclass(frozen=True, slots=True)
class Turn:
    """One exchange: what was said to the model, and what it answered or is still answering.

    Once a call has said the input, it isn't worded anew for every call after that.
    """

    input: Any
    output: ModelOutputThunk[Any] | None = None
    _rendered: tuple[str, tuple[Message, ...]] | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def is_sound(self) -> bool:
        """Whether later calls may see it: it hasn't failed, and wasn't cancelled."""
        return self.output is None or not self.output.has_failed()

    @property
    def is_rendered(self) -> bool:
        """Whether a call has said the input before, so that all in it is computed."""
        return self._rendered is not None

    @property
    def words(self) -> Any:
        """The messages that a call has said the input in, or the input itself."""
        return self._rendered[1] if self._rendered is not None else self.input

    def get_rendered(self, model: str) -> tuple[Message, ...] | None:
        """Return the messages that the input is in words for that model, if it has been said to it before."""
        return self._rendered[1] if self._rendered is not None and self._rendered[0] == model else None

    def remember(self, model: str, said: Iterable[Message]) -> tuple[Message, ...]:
        """Note, and return, the messages that the input is in words; all that is in it has to be computed."""
        messages = tuple(said)
        object.__setattr__(self, "_rendered", (model, messages))
        return messages


class Context(ABC):
    """An immutable history; adding to it gives a new one that shares all the old.

    `str(context)` is the text of its last output.

    A call asks for `list_awaited_turns` when it is launched, waits for what is still being written in them, and says
    `prepare_view` then. Where `is_immediate`, and there is nothing to wait for, the two are the same.
    """

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

    @property
    def shows_turns(self) -> bool:
        """Whether calls see earlier turns at all."""
        return True

    @property
    def is_immediate(self) -> bool:
        """Whether the view needs no preparation: no waiting, and nobody else's code."""
        return True

    def list_awaited_turns(self) -> list[Turn]:
        """Return the turns that have to be complete before the view can be prepared, oldest first."""
        return self.view_for_generation()

    async def prepare_view(self) -> list[Turn]:
        """Return the turns that a call sees, once those that it waits for are complete."""
        return self.view_for_generation()

    def as_list(self, last_n_components: int | None = None) -> list[Any]:
        """Return what was said and answered, in order; all of it, or the last so many."""
        values = [value for turn in self.turns() for value in (turn.input, turn.output) if value is not None]
        return values if last_n_components is None else values[max(0, len(values) - last_n_components) :]

    def last_turn(self) -> Turn | None:
        """Return the last exchange, or `None` if there was none."""
        turns = self.turns()
        return turns[-1] if turns else None

    def last_output(self) -> ModelOutputThunk[Any] | None:
        """Return the last answer, or `None` if there is none."""
        turn = self.last_turn()
        return turn.output if turn is not None else None

    def __str__(self) -> str:
        """Return the text of the last answer, `""` if there is none.

        Raises:
            UsageError: the answer isn't computed yet.
        """
        output = self.last_output()
        return "" if output is None else str(output)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, str):
            # It would be false whatever the model wrote, and a validation_fn would say no for ever.
            raise UsageError(
                f"a context is compared with the text {other!r}; compare str(context), or give simple_validate a "
                "function of the text"
            )
        return self is other

    __hash__ = object.__hash__
