"""Replace the results of tools in a turn, for compactors that shorten them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from mellea.core.blocks import ToolOutput
from mellea.core.context import Turn
from mellea.core.events import Event, ToolResult
from mellea.core.messages import Message
from mellea.core.thunk import ModelOutputThunk, make_computed
from mellea.errors import UsageError

__all__ = ["replace_tool_results"]

Change = Callable[[ToolOutput], ToolOutput]


def replace_tool_results(turn: Turn, change: Change) -> Turn:
    """Return the turn with each tool result replaced; the turn itself if nothing changes.

    The results are those in a message of the turn's input, and those of the calls that `tool_calls="run"` ran for its
    output. What a provider's own tools returned stays as it is: it may be signed.

    Args:
        turn: a complete turn.
        change: takes a `ToolOutput` and returns it, or another one for the same call, such as
            `dataclasses.replace(output, result="left out")`.

    Raises:
        UsageError: the turn's output isn't complete or has failed, or `change` returns something else.
    """
    output = turn.output
    if output is not None and not output.record.has_succeeded:
        raise UsageError(
            "the turn has no complete output: wait for it before replacing tool results, and drop failed ones"
        )
    said = _change_message(turn.input, change) if isinstance(turn.input, Message) else turn.input
    answered = output if output is None else _change_output(output, change)
    return turn if said is turn.input and answered is output else replace(turn, input=said, output=answered)


def _change_message(message: Message, change: Change) -> Message:
    blocks = [_change_one(block, change) if isinstance(block, ToolOutput) else block for block in message.blocks]
    is_same = all(new is old for new, old in zip(blocks, message.blocks, strict=True))
    return message if is_same else Message(message.role, blocks)


def _change_output(output: ModelOutputThunk[Any], change: Change) -> ModelOutputThunk[Any]:
    record = output.record
    events: list[Event] = [
        ToolResult(_change_one(event.result, change)) if isinstance(event, ToolResult) else event
        for event in record.events
    ]
    changed = (
        new.result is not old.result
        for new, old in zip(events, record.events, strict=True)
        if isinstance(new, ToolResult) and isinstance(old, ToolResult)
    )
    return make_computed(events, parsed=record.parsed, format=record.format) if any(changed) else output


def _change_one(output: ToolOutput, change: Change) -> ToolOutput:
    if output.is_builtin:
        return output
    changed: Any = change(output)
    if not isinstance(changed, ToolOutput) or changed.tool_call_id != output.tool_call_id:
        raise UsageError(f"the function returns the ToolOutput of the call {output.tool_call_id!r}, not {changed!r}")
    return changed
