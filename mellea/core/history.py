"""Finds and repairs faults in a history that was loaded, cut or assembled by hand.

Providers refuse a conversation in which a tool call has no result or a result has no call. A result belongs to the
last message before it that calls a tool under its id; if that message has several such calls, to the first without one.
Results are right after the message that asks for them. Calls of a provider's own tools are left as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeGuard

from mellea.core.blocks import Block, ToolCall, ToolOutput
from mellea.core.entrance import short_errors
from mellea.core.messages import Message, as_messages

__all__ = ["HistoryFault", "find_faults", "repair_history"]

NO_RESULT = "there is no result: the call was not run, or its result was lost"


@dataclass(frozen=True, slots=True)
class HistoryFault:
    """One thing that is wrong with the calls and results of a history.

    Attributes:
        kind: a call that is `"unanswered"`, or a result that is an `"orphan"` (nothing asks for it), a `"duplicate"`
            (its call has one already) or `"misplaced"` (it doesn't directly follow its call).
        message: index of the message that has it.
        tool_call_id: the id of the call.
        tool_name: name of the tool.
    """

    kind: Literal["unanswered", "orphan", "duplicate", "misplaced"]
    message: int
    tool_call_id: str
    tool_name: str

    def __str__(self) -> str:
        what = f"{self.tool_call_id!r} of the tool {self.tool_name!r} in message {self.message}"
        return _SENTENCES[self.kind].format(what=what)


_SENTENCES = {
    "unanswered": "the call {what} has no result",
    "orphan": "the result {what} has no call before it",
    "duplicate": "the result {what} is a second one for its call",
    "misplaced": "the result {what} doesn't directly follow its call",
}


@short_errors
def find_faults(messages: Iterable[Message | Mapping[str, Any]]) -> tuple[HistoryFault, ...]:
    """Return what is wrong with the calls and results of a history, in the order of the messages.

    Args:
        messages: messages, or dicts in the form of a chat completions API.

    Raises:
        UsageError: one of them is neither.
    """
    return tuple(sorted(_Matching(as_messages(messages)).faults, key=lambda fault: fault.message))


@short_errors
def repair_history(messages: Iterable[Message | Mapping[str, Any]]) -> tuple[Message, ...]:
    """Return a history whose calls each have one result, right after them, in the order of the calls.

    A call without a result gets one that tells the model so; results without a call, and second ones, are dropped.
    Everything else keeps its place. A history without faults is returned as it is.

    Raises:
        UsageError: one of the messages isn't one.
    """
    checked = as_messages(messages)
    matching = _Matching(checked)
    if not matching.faults:
        return checked
    repaired: list[Message] = []
    for number, message in enumerate(checked):
        rest = [block for block in message.blocks if not _is_output(block)]
        if len(rest) == len(message.blocks):
            repaired.append(message)
        elif rest:
            repaired.append(Message(message.role, rest))
        # Right after the message with the calls, where every provider expects them.
        repaired += [
            Message("tool", call.output or _make_missing_output(call.block)) for call in matching.calls.get(number, ())
        ]
    return tuple(repaired)


@dataclass(slots=True, eq=False)
class _Call:
    message: int
    block: ToolCall
    output: ToolOutput | None = None


@dataclass(slots=True)
class _Matching:
    """Matches results with calls, and collects what is left over."""

    messages: Sequence[Message]
    calls: dict[int, list[_Call]] = field(default_factory=dict)
    faults: list[HistoryFault] = field(default_factory=list)
    _last: dict[str, list[_Call]] = field(default_factory=dict)  # by id, those of the last message that has it
    _behind: int = -1  # the message with calls, if only results have come since

    def __post_init__(self) -> None:
        for number, message in enumerate(self.messages):
            for block in message.blocks:
                if _is_call(block):
                    self._open(number, block)
                elif _is_output(block):
                    self._match(number, block)
            if number not in self.calls and not (message.blocks and all(map(_is_output, message.blocks))):
                self._behind = -1
        unanswered = [call for calls in self.calls.values() for call in calls if call.output is None]
        self.faults += [_make_fault("unanswered", call.message, call.block) for call in unanswered]

    def _open(self, number: int, block: ToolCall) -> None:
        call = _Call(number, block)
        self.calls.setdefault(number, []).append(call)
        self._behind = number
        # Old servers restart the numbering of calls in each turn, so the last message with an id counts.
        same = self._last.get(block.tool_call_id)
        if same and same[0].message == number:
            same.append(call)
        else:
            self._last[block.tool_call_id] = [call]

    def _match(self, number: int, output: ToolOutput) -> None:
        asked = self._last.get(output.tool_call_id, ())
        call = next((call for call in asked if call.output is None), None)
        if call is None:
            self.faults.append(_make_fault("duplicate" if asked else "orphan", number, output))
            return
        call.output = output
        # Matched anyway: it is the right result in the wrong place.
        if call.message != self._behind or call.message == number:
            self.faults.append(_make_fault("misplaced", number, output))


def _make_fault(kind: Any, message: int, block: ToolCall | ToolOutput) -> HistoryFault:
    return HistoryFault(kind, message, block.tool_call_id, block.tool_name)


def _is_call(block: Block) -> TypeGuard[ToolCall]:
    return isinstance(block, ToolCall) and not block.is_builtin


def _is_output(block: Block) -> TypeGuard[ToolOutput]:
    return isinstance(block, ToolOutput) and not block.is_builtin


def _make_missing_output(call: ToolCall) -> ToolOutput:
    return ToolOutput(call.tool_call_id, call.tool_name, NO_RESULT, is_error=True)
