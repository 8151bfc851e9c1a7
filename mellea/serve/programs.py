"""What can be served, as tools: functions, tools, generative functions, commands, and all that has `as_tool()`."""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Callable, Iterable
from typing import Any

from mellea.errors import UsageError
from mellea.stdlib.generative import AsyncPromptFunction, PromptFunction
from mellea.stdlib.tools import Tool, ToolReturn, as_tool

__all__ = ["Program", "as_served_tools"]

Program = Callable[..., Any] | Tool[..., Any]
"""A function, a tool, a `@generative` function, a `@command`, or an object whose `as_tool()` makes a tool of it."""


def as_served_tools(programs: Iterable[Program]) -> tuple[Tool[..., Any], ...]:
    """Return programs as tools; those that a model answers report its text as it arrives.

    Raises:
        UsageError: one of them can't be served, or two have one name.
    """
    tools = tuple(_make_tool(program) for program in programs)
    if not tools:
        raise UsageError("there is nothing to serve; give at least one function")
    names = [tool.name for tool in tools]
    # MCP identifies tools only by name.
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"two programs have the name {twice!r}; mellea.tool(name=…) gives one of them another")
    if outside := next((tool for tool in tools if tool.runs == "outside"), None):
        raise UsageError(f"the tool {outside.name!r} runs outside this program, which can't serve it")
    for tool in tools:
        _ = tool.spec  # a type without a JSON form is reported now, not to the first client
    return tools


def _make_tool(program: Any) -> Tool[..., Any]:
    if isinstance(program, (PromptFunction, AsyncPromptFunction)):
        return as_tool(_stream_answer(program))
    make = getattr(program, "as_tool", None)
    if callable(make):
        made = make()
        if not isinstance(made, Tool):
            raise UsageError(f"as_tool() of {program!r} has to return a Tool, not {made!r}")
        return made
    return as_tool(program)


def _stream_answer(function: Any) -> Callable[..., AsyncGenerator[Any, None]]:
    """Return a generator tool of a prompt function: it yields what the model writes, or each item of a sequence."""

    @functools.wraps(function)
    async def stream(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
        async with function.astream(*args, **kwargs) as answer:
            async for piece in answer:
                yield piece
            # Read inside the block, so that an invalid value raises here, as the tool's error.
            output = answer.output
        yield ToolReturn(output, output)

    return stream
