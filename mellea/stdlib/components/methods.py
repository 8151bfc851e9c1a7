"""Calls of an object's methods that a model asked for instead of answering."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

from mellea.core.blocks import ToolCall, ToolOutput
from mellea.core.component import is_component, walk
from mellea.core.messages import Message
from mellea.core.thunk import ModelOutputThunk
from mellea.errors import UsageError
from mellea.stdlib.components.object_view import make_promptable
from mellea.stdlib.tools import Tool, ToolReturn, perform, serialise_result
from mellea.templates import to_text

__all__ = ["call_method", "render_result"]

_log = logging.getLogger("mellea")


async def call_method(calls: Sequence[ToolCall], tools: Iterable[Tool[..., Any]]) -> tuple[Any, Message]:
    """Run the first of the calls; return its result, and the tool message for the model.

    Raises:
        ToolError: there is no such method, or the arguments aren't valid.
        Exception: what the method raises.
    """
    first, *others = calls
    result = ToolReturn.of(await perform(first, {tool.name: tool for tool in tools}))
    if others:
        _log.warning("the model called %d methods; only the first, %r, was run", len(calls), first.tool_name)
    outputs = [ToolOutput(first.tool_call_id, first.tool_name, _render_for_message(result.text))]
    # Providers reject a history with a call that has no output.
    outputs += [ToolOutput(call.tool_call_id, call.tool_name, "not run", is_error=True) for call in others]
    return result.value, Message("tool", outputs)


def render_result(result: Any) -> Any:
    """Return a tool's result as prompt text; components render by their own template."""
    has_components = any(is_component(part) or isinstance(part, ModelOutputThunk) for part in walk(result))
    return to_text(result) if has_components else serialise_result(result)


def _render_for_message(result: Any) -> str:
    try:
        return to_text(make_promptable(result))
    except UsageError:  # it can't be rendered, but the method has done its work
        return str(result)
