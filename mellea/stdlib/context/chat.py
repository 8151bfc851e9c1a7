"""The context of a conversation."""

from __future__ import annotations

from typing import Any

from mellea.core.context import Context, Turn
from mellea.core.thunk import ModelOutputThunk
from mellea.errors import UsageError

__all__ = ["ChatContext"]


class ChatContext(Context):
    """Remembers every turn; each call sees those before it.

    A turn may be added while the turn before it is still being written: the call that sees it waits for
    it. A turn that failed or was cancelled is left out of what later calls see.

    Args:
        window_size: how many turns, at most, a call sees; all of them by default.
    """

    __slots__ = ("_previous", "_turn", "window_size")

    def __init__(self, *, window_size: int | None = None) -> None:
        if window_size is not None and (not isinstance(window_size, int) or window_size < 1):
            raise UsageError(f"window_size takes a whole number from 1, or None, not {window_size!r}")
        self.window_size = window_size
        self._previous: ChatContext | None = None
        self._turn: Turn | None = None

    def add(self, value: Any) -> ChatContext:
        """Return a context with `value` added: a thunk completes the last turn, all else begins one."""
        new = self.empty()
        is_output = isinstance(value, ModelOutputThunk)
        if is_output and self._turn is not None and self._turn.output is None:
            new._previous, new._turn = self._previous, Turn(self._turn.input, value)
        else:
            new._previous, new._turn = self, Turn(None, value) if is_output else Turn(value)
        return new

    def turns(self) -> list[Turn]:
        """Return all turns, oldest first."""
        return self._walk(None)

    def view_for_generation(self) -> list[Turn]:
        """Return the last `window_size` turns that haven't failed, oldest first."""
        return self._walk(self.window_size, only_sound=True)

    def empty(self) -> ChatContext:
        """Return a context with the same window and no turn."""
        return ChatContext(window_size=self.window_size)

    def last_turn(self) -> Turn | None:
        """Return the last exchange, or `None` if there was none."""
        return self._turn

    def _walk(self, limit: int | None, *, only_sound: bool = False) -> list[Turn]:
        turns: list[Turn] = []
        node: ChatContext | None = self
        while node is not None and (limit is None or len(turns) < limit):
            turn = node._turn
            if turn is not None and not (only_sound and turn.output is not None and turn.output.has_failed()):
                turns.append(turn)
            node = node._previous
        turns.reverse()
        return turns

    def __repr__(self) -> str:
        return f"<ChatContext, {len(self.turns())} turns>"
