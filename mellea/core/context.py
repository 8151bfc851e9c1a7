"""Contexts: the immutable history that a call is made in, and the one for calls that need none."""

from __future__ import annotations

import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from mellea.core.attributes import CONTEXT_WAYS, find_attribute
from mellea.core.messages import Message
from mellea.core.thunk import ModelOutputThunk
from mellea.errors import UsageError

__all__ = ["Context", "SimpleContext", "Turn"]


@dataclass(frozen=True, slots=True)
class Turn:
    """One exchange: the input for the model, and the output, which may still be in progress.

    The turn's call renders the input into messages; later calls reuse them.
    """

    input: Any
    output: ModelOutputThunk[Any] | None = None
    # At most one pair of model and messages. A turn shares the list with its answered copy.
    _rendered: list[tuple[str, tuple[Message, ...]]] = field(
        default_factory=list, init=False, repr=False, compare=False
    )

    def answered(self, output: ModelOutputThunk[Any]) -> Turn:
        """Return the turn with its output; both share the rendered messages, once there are any."""
        turn = Turn(self.input, output)
        object.__setattr__(turn, "_rendered", self._rendered)
        return turn

    @property
    def is_sound(self) -> bool:
        """Whether later calls may see the turn: it hasn't failed and wasn't cancelled."""
        return self.output is None or not self.output.has_failed()

    @property
    def is_said(self) -> bool:
        """Whether the input was rendered, which needs all its thunks computed, and the output is computed."""
        return bool(self._rendered) and (self.output is None or self.output.is_computed())

    @property
    def rendered(self) -> Any:
        """The rendered messages of the input, or the input itself if it wasn't rendered yet."""
        return self._rendered[0][1] if self._rendered else self.input

    def render(
        self, model: str, render: Callable[[Any, str], Iterable[Message]], *, force: bool = False
    ) -> tuple[Message, ...]:
        """Render and cache the messages of the input; every thunk in it must be computed.

        Args:
            model: the model that they are for.
            render: renders an input for a model.
            force: render it even if it is cached.
        """
        # At most one: a turn is rarely sent to two models, and the rendering may be large.
        for known, messages in self._rendered:
            if known == model and not force:
                return messages
        messages = () if self.input is None else tuple(render(self.input, model))
        self._rendered[:] = [(model, messages)]
        return messages


class Context(ABC):
    """An immutable history. Adding to it returns a new context that shares the old turns.

    `str(context)` is the text of the last output.

    When a call is launched it gets the turns from `list_awaited_turns`, waits until they are complete, and then sends
    those from `prepare_view`. If the context `is_immediate` and nothing is pending, the two are the same.
    """

    @abstractmethod
    def add(self, value: Any) -> Self:
        """Return a context with `value` added: a thunk completes the last turn, anything else begins a new one."""

    def add_turn(self, turn: Turn, answer: ModelOutputThunk[Any]) -> Self:
        """Return a context with one more turn: the input, and the answer, which may still be in progress."""
        return self.add(turn.input).add(answer)

    @abstractmethod
    def turns(self) -> list[Turn]:
        """Return all turns, oldest first."""

    @abstractmethod
    def view_for_generation(self) -> list[Turn]:
        """Return the turns that the next call will see, oldest first."""

    @abstractmethod
    def empty(self) -> Self:
        """Return a context of the same class and settings without turns."""

    @property
    def shows_turns(self) -> bool:
        """Whether calls see earlier turns."""
        return True

    @property
    def is_chat_context(self) -> bool:
        """The same as `shows_turns`; Mellea 0.8's name for it."""
        return self.shows_turns

    @property
    def is_immediate(self) -> bool:
        """Whether the view needs no preparation: it neither waits nor calls user code."""
        return True

    def list_awaited_turns(self) -> list[Turn]:
        """Return the turns that have to be complete before the view can be prepared, oldest first."""
        return self.view_for_generation()

    async def prepare_view(self) -> list[Turn]:
        """Return the turns that a call sees; those from `list_awaited_turns` are complete by now."""
        return self.view_for_generation()

    def as_list(self, last_n_components: int | None = None) -> list[Any]:
        """Return the inputs and outputs in order; all of them, or the last `last_n_components`."""
        values = [value for turn in self.turns() for value in (turn.input, turn.output) if value is not None]
        return values if last_n_components is None else values[max(0, len(values) - last_n_components) :]

    @property
    def node_data(self) -> Any:
        """The last input or output, `None` without one; Mellea 0.8's name for `as_list(1)`."""
        return next(iter(self.as_list(1)), None)

    @property
    def previous_node(self) -> Context | None:
        """The context without its last input or output, `None` if there is none; Mellea 0.8's way to go back."""
        turn = self.last_turn()
        return None if turn is None else self._go_back(turn)

    def _go_back(self, last: Turn) -> Context:
        """Return the context without the last turn's output, or without the turn if nothing else is in it."""
        context = self.empty()
        for value in self.as_list()[:-1]:
            context = context.add(value)
        return context

    def last_turn(self) -> Turn | None:
        """Return the last turn, or `None`."""
        turns = self.turns()
        return turns[-1] if turns else None

    def last_output(self) -> ModelOutputThunk[Any] | None:
        """Return the last output, or `None`."""
        turn = self.last_turn()
        return turn.output if turn is not None else None

    def __str__(self) -> str:
        """Return the text of the last output, `""` without one.

        Raises:
            UsageError: the output isn't computed yet.
        """
        output = self.last_output()
        return "" if output is None else str(output)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, str):
            # It would be false whatever the model wrote, so such a validation_fn would always fail.
            raise UsageError(
                f"a context was compared with the text {other!r}; compare str(context), or pass simple_validate a "
                "function of the text"
            )
        return self is other

    __hash__ = object.__hash__

    if not TYPE_CHECKING:  # hidden from type checkers, which then report names that don't exist

        def __getattr__(self, name: str) -> Any:
            return find_attribute(self, name, CONTEXT_WAYS)


class _Last(weakref.ref[ModelOutputThunk[Any]]):
    """The output of the last turn, and its input, which is released with it."""

    __slots__ = ("turn",)

    turn: Turn


def _release_turn(last: Any) -> None:
    last.turn = None


class SimpleContext(Context):
    """A context in which each call is independent: it sees no earlier turns.

    The last turn can be looked up as long as the program itself holds its output. The context only has a weak
    reference, so an output that the program drops is cancelled, as are the thunks it depends on, and thousands of calls
    use no memory.
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
        # An input was added by hand and not answered yet.
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
