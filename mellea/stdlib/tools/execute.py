"""Run the calls that a model makes; errors become outputs for the model instead of exceptions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from typing import Any, TypeVar

from mellea.core.blocks import ToolCall, ToolOutput
from mellea.core.events import Event, NestedEvent, ToolProgress
from mellea.core.numbers import check_whole
from mellea.core.observer import span_around
from mellea.core.runtime.tasks import run_together
from mellea.errors import ToolError
from mellea.stdlib.tools.progress import Report
from mellea.stdlib.tools.returned import ToolReturn, serialise_result
from mellea.stdlib.tools.tool import Tool

__all__ = ["SuspendedError", "make_output", "perform", "run_call", "run_calls", "run_in_queues"]

K = TypeVar("K", bound=Hashable)

_LONGEST = 500
"""The maximum number of characters of an error that are sent to the model."""


class SuspendedError(Exception):
    """A call has to wait for a person; the loop inside its tool continues from its state once there is an answer."""


async def run_call(
    call: ToolCall,
    tools: Mapping[str, Tool[..., Any]],
    tell: Callable[[Any], Any] | None = None,
    on_progress: Callable[[Event], object] | None = None,
    *,
    is_approved: bool = False,
) -> ToolOutput:
    """Run one call, and return the tool's result or its error as an output.

    Args:
        call: the model's call.
        tools: the available tools by name.
        tell: serialises a result for the model; by default strings are kept and other values become JSON.
        on_progress: called with each value that the tool yields, as a `ToolProgress`; an event as a `NestedEvent`.
        is_approved: whether a person has approved the call, or needn't.

    Raises:
        SuspendedError: the tool is an agent that has to wait for a person.
    """

    def report(value: Any) -> None:
        if on_progress is not None:
            on_progress(_as_event(call, value))

    name = call.tool_name if call.tool_name in tools else "unknown tool"
    with span_around("tool", name, tool_call=call) as span:
        try:
            returned = await perform(call, tools, report, is_approved=is_approved)
            output = make_output(call, returned, tell)
        # Not a result: the call isn't over, and the model mustn't learn anything about it yet.
        except SuspendedError:
            raise
        except Exception as error:  # noqa: BLE001 - user code: the model gets whatever error a tool raises
            output = ToolOutput(call.tool_call_id, call.tool_name, _format_error(error), is_error=True)
            if span is not None:
                # Recorded explicitly, because the error doesn't leave the span: to the loop, the call has ended
                # normally.
                span.error = error
        if span is not None:
            span.result = output
        return output


def make_output(call: ToolCall, returned: Any, tell: Callable[[Any], Any] | None = None) -> ToolOutput:
    """Return a tool's result as the output of a call.

    Args:
        call: the model's call.
        returned: the tool's result; a `ToolReturn` keeps its value for the program.
        tell: see `run_call`.

    Raises:
        UsageError: it has no JSON form.
    """
    result = ToolReturn.of(returned)
    told = (tell or serialise_result)(result.text)
    # The value is only kept if it differs from the text that the model reads; otherwise each result would be stored
    # twice.
    return ToolOutput(call.tool_call_id, call.tool_name, told, value=result.value if returned is result else None)


async def run_calls(
    calls: Sequence[ToolCall],
    tools: Mapping[str, Tool[..., Any]],
    *,
    limit: int = 8,
    on_result: Callable[[ToolOutput], object] | None = None,
    on_progress: Callable[[Event], object] | None = None,
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
        denied: positions of calls that must not run, with the reasons, which the model gets as their results.

    Raises:
        UsageError: the limit is not a whole number from 1.
    """
    check_whole("limit", limit)
    outputs: dict[int, ToolOutput] = {}

    async def run(number: int) -> None:
        call = calls[number]
        if denied is not None and number in denied:
            output = ToolOutput(call.tool_call_id, call.tool_name, denied[number], is_error=True)
        else:
            output = await run_call(call, tools, tell, on_progress)
        outputs[number] = output
        if on_result is not None:
            on_result(output)

    await run_in_queues(dict(enumerate(calls)), tools, run, limit)
    return [outputs[number] for number in range(len(calls))]


def _as_event(call: ToolCall, value: Any) -> Event:
    """Return the event for a value that a tool yields; events of a run inside the tool get its path."""
    # The path grows from the inside out, by one part per level.
    if isinstance(value, NestedEvent):
        return NestedEvent(call.tool_call_id, f"{call.tool_name}/{value.path}", value.event)
    if isinstance(value, Event):
        return NestedEvent(call.tool_call_id, call.tool_name, value)
    return ToolProgress(call.tool_call_id, call.tool_name, value)


async def run_in_queues(
    calls: Mapping[K, ToolCall], tools: Mapping[str, Tool[..., Any]], run: Callable[[K], Awaitable[object]], limit: int
) -> None:
    """Run calls at the same time, those of a tool with `one_at_a_time` one after the other.

    Args:
        calls: the model's calls, by the keys that `run` takes.
        tools: the available tools by name.
        run: runs one of them.
        limit: how many calls run at once.
    """
    queues = _sort_into_queues(calls, tools)
    waiting = iter(queues)

    async def work() -> None:
        for queue in waiting:  # shared by all workers, so that calls begin in order
            for key in queue:
                await run(key)

    await run_together([work] * min(limit, len(queues)))


def _sort_into_queues(calls: Mapping[K, ToolCall], tools: Mapping[str, Tool[..., Any]]) -> list[list[K]]:
    """Return the keys of the calls in queues that run at once; calls of a tool with one_at_a_time share a queue."""
    queues: list[list[K]] = []
    of_tool: dict[str, list[K]] = {}
    for key, call in calls.items():
        tool = tools.get(call.tool_name)
        # `one_at_a_time` only needs a queue that one worker empties in order: there is no lock that a cancellation
        # could leave held.
        if tool is not None and tool.one_at_a_time and tool.name in of_tool:
            of_tool[tool.name].append(key)
            continue
        queues.append([key])
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
        on_progress: called with each value that the tool yields.
        is_approved: whether a person has approved the call; a call that needs approval isn't run without it.

    Raises:
        ToolError: there is no such tool, the arguments don't fit, or the call wasn't approved; the tool's own errors
            are raised unchanged.
    """
    tool = tools.get(call.tool_name)
    if tool is None:
        known = ", ".join(map(repr, tools)) or "none"
        raise ToolError(f"there is no tool {call.tool_name!r}; the tools are {known}")
    # The raw text is shown, because the model can only fix its JSON if it sees what it wrote.
    if not call.is_valid:
        raise ToolError(f"the arguments of {call.tool_name!r} are not a JSON object: {call.raw_args[:100]!r}")
    if not is_approved and await tool.needs_approval(call.tool_args):
        raise ToolError(f"{call.tool_name!r} wasn't run: it needs a person's approval, and nobody was asked")
    return await tool.call(call.tool_args, on_progress=on_progress)


def _format_error(error: Exception) -> str:
    try:
        # Our own errors are written for the model; for others the class is often the only helpful part.
        said = str(error) if isinstance(error, ToolError) else f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001 - user code: even `__str__` of an error may fail
        said = type(error).__name__
    return said[:_LONGEST]
