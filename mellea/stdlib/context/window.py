"""Select the turns that a call sees within a window and a token budget.

Rules:

- Turns form groups: a turn with the outputs of the previous turn's tool calls belongs to that turn. A group is visible
  as a whole or not at all.
- A turn that failed is left out. If it had the outputs of tool calls, these calls lack their outputs: their group is
  left out, too, once the conversation has continued; until then it is kept for another try.
- The last group is visible, however long it is, while its tool calls wait for their outputs.
- A pinned turn is always visible, in its place.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from mellea.core.blocks import ToolOutput
from mellea.core.context import Turn

__all__ = ["WindowLimits", "answers_tools", "group_turns", "select"]

Group = tuple[list[Turn], bool]
"""Turns that belong together, oldest first, and whether they are pinned."""

_NO_LIMIT = sys.maxsize


@dataclass(frozen=True, slots=True)
class WindowLimits:
    """The limits of what a call sees.

    Args:
        turns: the most turns that aren't pinned.
        tokens: the most tokens, including pinned turns.
        size: returns the tokens of a turn.
    """

    turns: int | None = None
    tokens: int | None = None
    size: Callable[[Turn], int] | None = None


def answers_tools(turn: Turn) -> bool:
    """Whether a turn's input is the output of tools that the previous turn called."""
    if getattr(turn.input, "role", None) == "tool":
        return True
    return any(isinstance(block, ToolOutput) for block in getattr(turn.input, "blocks", ()))


def group_turns(backwards: Iterable[tuple[Turn, bool]]) -> Iterator[Group]:
    """Yield turns, given newest first, in groups, newest first; turns that failed are left out."""
    turns: list[Turn] = []
    is_broken = is_pinned = False
    is_last = True
    for turn, is_pin in backwards:
        is_answer = answers_tools(turn)
        # A turn that failed is left out; if it answered tools, the turn with the calls goes, too.
        if not turn.is_sound:
            is_broken = is_broken or is_answer
            continue
        turns.append(turn)
        is_pinned = is_pinned or is_pin
        # Continues to the turn that made the calls: providers reject one without the other.
        if is_answer:
            continue
        # The last group stays nevertheless: the next request answers its calls.
        if is_last or is_pinned or not is_broken:
            yield turns[::-1], is_pinned
            is_last = False
        turns, is_broken, is_pinned = [], False, False
    # The rest are tool outputs whose calls a compactor has removed.


def select(backwards: Iterable[tuple[Turn, bool]], pins: Sequence[Turn], limits: WindowLimits) -> list[Turn]:
    """Return the turns that a call sees, oldest first.

    Args:
        backwards: the turns, newest first, and whether each is pinned; read only as far as needed.
        pins: the pinned turns, oldest first.
        limits: the limits.
    """
    pins = [turn for turn in pins if turn.is_sound]
    left_turns = _NO_LIMIT if limits.turns is None else limits.turns
    left_tokens = _NO_LIMIT if limits.tokens is None else limits.tokens - _count_tokens(pins, limits)
    seen = 0  # of the pinned turns
    kept: list[Turn] = []  # newest first
    for number, (group, is_pinned) in enumerate(group_turns(backwards)):
        if is_pinned:
            # Pins don't count towards the window, but were subtracted from the budget beforehand.
            seen += len(group)
        else:
            left_turns -= len(group)
            left_tokens -= 0 if limits.tokens is None else _count_tokens(group, limits)
            # Calls that are being answered now: without them the results would be alone, so no limit drops them.
            is_waiting = number == 0 and _has_open_calls(group[-1])
            if min(left_turns, left_tokens) < 0 and not is_waiting:
                break
        kept += group[::-1]
    return [*pins[: len(pins) - seen], *kept[::-1]]  # pinned turns that weren't reached are older than all others


def _count_tokens(turns: Iterable[Turn], limits: WindowLimits) -> int:
    return sum(map(limits.size, turns)) if limits.size is not None else 0


def _has_open_calls(turn: Turn) -> bool:
    if turn.output is not None:
        return bool(turn.output.so_far().tool_calls)
    return bool(getattr(turn.input, "tool_calls", ()))
