"""Run the calls that a model makes; errors become outputs for the model instead of exceptions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mellea.core.blocks import ToolCall, ToolOutput
from mellea.core.events import ToolProgress
from mellea.core.observer import span_around
from mellea.core.runtime.tasks import together
from mellea.errors import ToolError, UsageError
from mellea.stdlib.tools.progress import Report
from mellea.stdlib.tools.returned import ToolReturn, serialise_result
from mellea.stdlib.tools.tool import Tool

__all__ = ["perform", "run_call", "run_calls"]

_LONGEST = 500
"""The most characters of an error that are sent to the model."""


async def run_call(
    call: ToolCall,
    tools: Mapping[str, Tool[..., Any]],
    tell: Callable[[Any], Any] | None = None,
    on_progress: Callable[[ToolProgress], object] | None = None,
) -> ToolOutput:
    """Run one call, and return the tool's result or its error as an output.

    Args:
        call: the model's call.
        tools: the available tools by name.
        tell: serialises a result for the model; by default texts are kept and other values become JSON.
        on_progress: called with each value that the tool yields.
    """

    def report(value: Any) -> None:
        if on_progress is not None:
            on_progress(ToolProgress(call.tool_call_id, call.tool_name, value))

    with span_around("tool", call.tool_name, tool_call=call) as span:
        try:
            returned = await perform(call, tools, report)
            result = ToolReturn.of(returned)
            value = result.value if returned is result else None
            told = (tell or serialise_result)(result.text)
            output = ToolOutput(call.tool_call_id, call.tool_name, told, value=value)
        except Exception as error:  # noqa: BLE001 - user code: the model gets whatever error a tool raises
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
    on_progress: Callable[[ToolProgress], object] | None = None,
    tell: Callable[[Any], Any] | None = None,
    denied: Mapping[int, str] | None = None,
) -> list[ToolOutput]:
    """Run calls at the same time, and return their outputs in the order of the calls.

    Args:
        calls: the model's calls.
        tools: the available tools by name.
        limit: how many calls run at once; 1 runs them one after the other.
        on_result: called with each output as soon as it is available.
        on_progress: called with each value that a tool yields, as soon as it does.
        tell: see `run_call`.
        denied: places of calls that aren't to run, and why, which the model is told as their results.

    Raises:
        UsageError: the limit is not a whole number from 1.
    """
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise UsageError(f"limit takes a whole number from 1, not {limit!r}")
    outputs: dict[int, ToolOutput] = {}
    queues = _sort_into_queues(calls, tools)
    waiting = iter(queues)

    async def run(number: int) -> ToolOutput:
        call = calls[number]
        if denied is not None and number in denied:
            return ToolOutput(call.tool_call_id, call.tool_name, denied[number], is_error=True)
        return await run_call(call, tools, tell, on_progress)

    async def work() -> None:
        for queue in waiting:  # shared by all that work, so that calls begin in their order
            for number in queue:
                output = outputs[number] = await run(number)
                if on_result is not None:
                    on_result(output)

    await together([work] * min(limit, len(queues)))
    return [outputs[number] for number in range(len(calls))]


def _sort_into_queues(calls: Sequence[ToolCall], tools: Mapping[str, Tool[..., Any]]) -> list[list[int]]:
    """Return the indexes of the calls in queues that run at once; calls of a tool with one_at_a_time share a queue."""
    queues: list[list[int]] = []
    of_tool: dict[str, list[int]] = {}
    for number, call in enumerate(calls):
        tool = tools.get(call.tool_name)
        if tool is not None and tool.one_at_a_time and tool.name in of_tool:
            of_tool[tool.name].append(number)
            continue
        queues.append([number])
        if tool is not None:
            of_tool[tool.name] = queues[-1]
    return queues


async def perform(
    call: ToolCall,
    tools: Mapping[str, Tool[..., Any]],
    on_progress: Report | None = None,
    *,
    is_approved: bool = False,
) -> Any:
    """Run one call, and return the tool's result.

    Args:
        call: the model's call.
        tools: the available tools by name.
        on_progress: is called with each value that the tool yields.
        is_approved: whether a person has approved of the call; without that, one that needs it isn't run.

    Raises:
        ToolError: there is no such tool, the arguments don't fit, or nobody has approved of the call; what the tool
            raises comes as it is.
    """
    tool = tools.get(call.tool_name)
    if tool is None:
        known = ", ".join(map(repr, tools)) or "none"
        raise ToolError(f"there is no tool {call.tool_name!r}; the tools are {known}")
    if not call.is_valid:
        raise ToolError(f"the arguments of {call.tool_name!r} are not a JSON object: {call.raw_args[:100]!r}")
    if not is_approved and await tool.needs_approval(call.tool_args):
        raise ToolError(f"{call.tool_name!r} wasn't run: it needs a person's approval, and nobody was asked")
    return await tool.call(call.tool_args, on_progress=on_progress)


def _format_error(error: Exception) -> str:
    try:
        said = str(error) if isinstance(error, ToolError) else f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001 - user code: even `__str__` of an error may fail
        said = type(error).__name__
    return said[:_LONGEST]
