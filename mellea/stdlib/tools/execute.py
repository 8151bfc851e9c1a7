"""Running the calls that a model asks for: whatever goes wrong is told to the model, and nothing crashes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mellea.core.blocks import Block, ToolCall, ToolOutput
from mellea.core.observer import span_around
from mellea.core.runtime.tasks import together
from mellea.errors import ToolError, UsageError
from mellea.stdlib.tools.tool import Tool

__all__ = ["perform", "run_call", "run_calls", "serialise_result"]

_LONGEST = 500
"""Characters of an error that a model is told."""


async def run_call(
    call: ToolCall, tools: Mapping[str, Tool[..., Any]], tell: Callable[[Any], Any] | None = None
) -> ToolOutput:
    """Run one call, and return what the tool gave back, or what went wrong.

    Args:
        call: what the model asks for.
        tools: the tools that there are, by name.
        tell: makes of a result what the model is told; by default texts stay as they are, the rest becomes JSON.
    """
    with span_around("tool", call.tool_name, tool_call=call) as span:
        try:
            output = ToolOutput(
                call.tool_call_id, call.tool_name, (tell or serialise_result)(await perform(call, tools))
            )
        except Exception as error:  # noqa: BLE001 - the model has to hear of it, whatever it is
            output = ToolOutput(call.tool_call_id, call.tool_name, _format_error(error), is_error=True)
            if span is not None:
                span.error = error
        if span is not None:
            span.result = output
        return output


async def run_calls(
    calls: Sequence[ToolCall],
    tools: Mapping[str, Tool[..., Any]],
    *,
    limit: int = 8,
    on_result: Callable[[ToolOutput], object] | None = None,
    tell: Callable[[Any], Any] | None = None,
    denied: Mapping[int, str] | None = None,
) -> list[ToolOutput]:
    """Run calls at the same time, and return their outputs in the order of the calls.

    Args:
        calls: what the model asks for.
        tools: the tools that there are, by name.
        limit: how many calls run at once; 1 runs them one after the other.
        on_result: is told each output as soon as it is there.
        tell: see `run_call`.
        denied: places of calls that aren't to run, and why, which the model is told as their results.

    Raises:
        UsageError: the limit is not a whole number from 1.
    """
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise UsageError(f"limit takes a whole number from 1, not {limit!r}")
    outputs: dict[int, ToolOutput] = {}
    waiting = iter(enumerate(calls))

    async def work() -> None:
        for number, call in waiting:  # shared by all that work, so that calls begin in their order
            reason = None if denied is None else denied.get(number)
            output = outputs[number] = _deny(call, reason) if reason is not None else await run_call(call, tools, tell)
            if on_result is not None:
                on_result(output)

    await together([work] * min(limit, len(calls)))
    return [outputs[number] for number in range(len(calls))]


async def perform(call: ToolCall, tools: Mapping[str, Tool[..., Any]]) -> Any:
    """Run one call, and return what the tool gave back.

    Raises:
        ToolError: there is no such tool, or the arguments don't fit; what the tool raises comes as it is.
    """
    tool = tools.get(call.tool_name)
    if tool is None:
        known = ", ".join(map(repr, tools)) or "none"
        raise ToolError(f"there is no tool {call.tool_name!r}; the tools are {known}")
    if not call.is_valid:
        raise ToolError(f"the arguments of {call.tool_name!r} are no JSON object: {call.raw_args[:100]!r}")
    return await tool.call(call.tool_args)


def serialise_result(result: Any) -> Any:
    """Return a result as the model is told it: texts and blocks as they are, the rest as JSON values."""
    if isinstance(result, (str, Block)):
        return result
    if isinstance(result, (list, tuple)) and any(isinstance(item, Block) for item in result):
        return [serialise_result(item) for item in result]
    from pydantic_core import to_jsonable_python  # lazy: most programs have no tools

    return to_jsonable_python(result, serialize_unknown=True, bytes_mode="base64", inf_nan_mode="strings")


def _deny(call: ToolCall, reason: str) -> ToolOutput:
    return ToolOutput(call.tool_call_id, call.tool_name, reason, is_error=True)


def _format_error(error: Exception) -> str:
    try:
        said = str(error) if isinstance(error, ToolError) else f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001 - an error that can't even be said, from the user's code
        said = type(error).__name__
    return said[:_LONGEST]
