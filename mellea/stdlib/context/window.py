"""What of a history a call sees: which turns a window and a budget leave, without tearing apart what belongs together.

Rules:

- Turns go in groups: a turn that answers the tool calls of the turn before it belongs to it. A group is seen whole or
  not at all.
- A turn that failed is left out. If it answered tool calls, those calls have no answer: once the conversation has gone
  on, their group is left out as well; until then it stays, for another try.
- The last group is seen, however big it is, while its tool calls wait for their answers.
- A pinned turn is always seen, at its place.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from mellea.core.blocks import ToolOutput
from mellea.core.context import Turn

__all__ = ["Limits", "answers_tools", "groups", "select"]

Group = tuple[list[Turn], bool]
"""Turns that belong together, oldest first, and whether they are pinned."""

_NO_LIMIT = sys.maxsize


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a call sees at most: so many turns that aren't pinned, so many tokens with those that are."""

    turns: int | None = None
    tokens: int | None = None
    size: Callable[[Turn], int] | None = None  # of a turn, in tokens


def answers_tools(turn: Turn) -> bool:
    """Tell whether what is said in a turn is the output of tools that the turn before it called."""
    if getattr(turn.input, "role", None) == "tool":
        return True
    return any(isinstance(block, ToolOutput) for block in getattr(turn.input, "blocks", ()))


def groups(backwards: Iterable[tuple[Turn, bool]]) -> Iterator[Group]:
    """Put turns, given newest first, into their groups, newest first; what failed is left out."""
    turns: list[Turn] = []
    is_broken = is_pinned = False
    is_last = True
    for turn, is_pin in backwards:
        is_answer = answers_tools(turn)
        if not turn.is_sound:
            is_broken = is_broken or is_answer
            continue
        turns.append(turn)
        is_pinned = is_pinned or is_pin
        if is_answer:
            continue
        if is_last or is_pinned or not is_broken:
            yield turns[::-1], is_pinned
            is_last = False
        turns, is_broken, is_pinned = [], False, False
    # What is left are outputs whose calls are gone: a compactor has torn them apart.


def select(backwards: Iterable[tuple[Turn, bool]], pins: Sequence[Turn], limits: Limits) -> list[Turn]:
    """Return the turns that a call sees, oldest first.

    Args:
        backwards: the turns, newest first, and whether each is pinned. No more of them are taken than needed.
        pins: the pinned turns, oldest first.
        limits: how much to see.
    """
    pins = [turn for turn in pins if turn.is_sound]
    left_turns = _NO_LIMIT if limits.turns is None else limits.turns
    left_tokens = _NO_LIMIT if limits.tokens is None else limits.tokens - _size(pins, limits)
    seen = 0  # of the pinned turns
    kept: list[Turn] = []  # newest first
    for number, (group, is_pinned) in enumerate(groups(backwards)):
        if is_pinned:
            seen += len(group)
        else:
            left_turns -= len(group)
            left_tokens -= 0 if limits.tokens is None else _size(group, limits)
            is_waiting = number == 0 and _has_open_calls(group[-1])
            if min(left_turns, left_tokens) < 0 and not is_waiting:
                break
        kept += group[::-1]
    return [*pins[: len(pins) - seen], *kept[::-1]]  # the pinned turns that weren't met are older than all that were


def _size(turns: Iterable[Turn], limits: Limits) -> int:
    return sum(map(limits.size, turns)) if limits.size is not None else 0


def _has_open_calls(turn: Turn) -> bool:
    if turn.output is not None:
        return bool(turn.output.so_far().tool_calls)
    return bool(getattr(turn.input, "tool_calls", ()))
