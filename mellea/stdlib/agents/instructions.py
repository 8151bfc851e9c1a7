"""Adding to the instructions of a step, which are in its system prompt."""

from __future__ import annotations

from collections.abc import Sequence

from mellea.core.messages import Message

__all__ = ["add_instructions"]


def add_instructions(messages: Sequence[Message], wording: str) -> tuple[Message, ...]:
    """Return the messages with something more at the end of the system prompt."""
    if messages and messages[0].role == "system":
        return (Message("system", [*messages[0].blocks, f"\n\n{wording}"]), *messages[1:])
    return (Message("system", wording), *messages)
