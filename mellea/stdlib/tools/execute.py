"""Run the calls that a model makes; errors become outputs for the model instead of exceptions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mellea.core.blocks import Block, ToolCall, ToolOutput
from mellea.core.runtime.tasks import together
from mellea.errors import ToolError, UsageError
from mellea.stdlib.tools.tool import Tool

__all__ = ["perform", "run_call", "run_calls", "serialise_result"]

_LONGEST = 500
"""The most characters of an error that are sent to the model."""


async def run_call(
    call: ToolCall, tools: Mapping[str, Tool[..., Any]], tell: Callable[[Any], Any] | None = None
) -> ToolOutput:
    """Run one call, and return the tool's result or its error as an output.

    Args:
        call: the model's call.
        tools: the available tools by name.
        tell: serialises a result for the model; by default texts are kept and other values become JSON.
    """
    try:
        return ToolOutput(call.tool_call_id, call.tool_name, (tell or serialise_result)(await perform(call, tools)))
    except Exception as error:  # noqa: BLE001 - user code: the model gets whatever error a tool raises
        return ToolOutput(call.tool_call_id, call.tool_name, _format_error(error), is_error=True)


async def run_calls(
    calls: Sequence[ToolCall],
    tools: Mapping[str, Tool[..., Any]],
    *,
    limit: int = 8,
    on_result: Callable[[ToolOutput], object] | None = None,
    tell: Callable[[Any], Any] | None = None,
) -> list[ToolOutput]:
    """Run calls at the same time, and return their outputs in the order of the calls.

    Args:
        calls: the model's calls.
        tools: the available tools by name.
        limit: how many calls run at once; 1 runs them one after the other.
        on_result: called with each output as soon as it is available.
        tell: see `run_call`.

    Raises:
        UsageError: the limit is not a whole number from 1.
    """
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise UsageError(f"limit takes a whole number from 1, not {limit!r}")
    outputs: dict[int, ToolOutput] = {}
    waiting = iter(enumerate(calls))

    async def work() -> None:
        for number, call in waiting:  # one iterator for all workers, so calls begin in order
            output = outputs[number] = await run_call(call, tools, tell)
            if on_result is not None:
                on_result(output)

    await together([work] * min(limit, len(calls)))
    return [outputs[number] for number in range(len(calls))]


async def perform(call: ToolCall, tools: Mapping[str, Tool[..., Any]]) -> Any:
    """Run one call, and return the tool's result.

    Raises:
        ToolError: there is no such tool, or the arguments aren't valid.
        Exception: what the tool raises.
    """
    tool = tools.get(call.tool_name)
    if tool is None:
        known = ", ".join(map(repr, tools)) or "none"
        raise ToolError(f"there is no tool {call.tool_name!r}; the tools are {known}")
    if not call.is_valid:
        raise ToolError(f"the arguments of {call.tool_name!r} are not a JSON object: {call.raw_args[:100]!r}")
    return await tool.call(call.tool_args)


def serialise_result(result: Any) -> Any:
    """Serialise a tool's result for the model: texts and blocks are kept, other values become JSON values."""
    if isinstance(result, (str, Block)):
        return result
    if isinstance(result, (list, tuple)) and any(isinstance(item, Block) for item in result):
        return [serialise_result(item) for item in result]
    from pydantic_core import to_jsonable_python  # lazy: most programs have no tools

    return to_jsonable_python(result, serialize_unknown=True, bytes_mode="base64", inf_nan_mode="strings")


def _format_error(error: Exception) -> str:
    try:
        said = str(error) if isinstance(error, ToolError) else f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001 - user code: even `__str__` of an error may fail
        said = type(error).__name__
    return said[:_LONGEST]
