"""The end of a call of one's own tools.

The deltas are taken; whole arguments behind them add what they left out, and stand alone where no delta came. A call
that nobody ended has no arguments: it must not be taken for a call without arguments, and be run with its defaults.
"""

from __future__ import annotations

from dataclasses import replace

from mellea.backends.openai.responses.items import Item
from mellea.core.events import Event, ToolDelta, ToolEnd
from mellea.core.messages import parse_tool_call
from mellea.core.surrogates import replace_surrogates

__all__ = ["end_call", "end_custom_call"]


def end_call(item: Item, whole: str, events: list[Event], *, is_cut_off: bool) -> None:
    """Add the end of a function's call.

    Args:
        item: what was said of it.
        whole: its arguments as its end says them, `""` if it doesn't.
        events: where the events go.
        is_cut_off: whether it may lack a part, or was never ended.
    """
    call = parse_tool_call(item.call_id, item.name, _complete_arguments(item, whole, events))
    if is_cut_off and not call.tool_args:
        call = replace(call, is_valid=False)
    events.append(ToolEnd(call))


def end_custom_call(item: Item, whole: str, backend: str, events: list[Event], *, is_cut_off: bool = False) -> None:
    """Add the end of a custom tool's call, which takes a text."""
    written = replace_surrogates(_complete_arguments(item, whole, events))
    call = parse_tool_call(item.call_id, item.name, "")
    signature = f'{backend}:{{"type":"custom_tool_call"}}'
    args = {} if is_cut_off and not written else {"input": written}
    ended = replace(call, tool_args=args, raw_args=written, signature=signature, is_valid=bool(args))
    events.append(ToolEnd(ended))


def _complete_arguments(item: Item, whole: str, events: list[Event]) -> str:
    written = "".join(item.chunks)
    if len(whole) > len(written) and whole.startswith(written):
        events.append(ToolDelta(item.call_id, whole[len(written) :]))
        return whole
    return written
