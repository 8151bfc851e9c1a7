"""The tool loop: ask the model, run the tools that its answer calls, ask again, until an answer calls none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from mellea.core.accumulator import Generation
from mellea.core.backend import BuiltinTool, ToolSpec
from mellea.core.blocks import ToolCall
from mellea.core.events import Event, StepEnd, StepStart, StreamEnd, ToolResult
from mellea.core.messages import Message
from mellea.core.runtime import Run
from mellea.core.runtime.cursor import relay
from mellea.core.thunk import ModelOutputThunk
from mellea.errors import MelleaError, ToolLoopLimitError, UsageError
from mellea.stdlib.tools.execute import run_calls
from mellea.stdlib.tools.tool import Tool

__all__ = ["MAX_TURNS", "ToolCalls", "ToolLoop", "tool_loop"]

MAX_TURNS = 10
"""How many times a loop asks the model, unless it is told otherwise."""

ToolCalls = Literal["show", "run"]
"""Whether calls of tools only stand in the answer, or are run, and the model is asked again with their results."""

Ask = Callable[[tuple[Message, ...]], Run]
"""Launches a request that goes on with those messages: what the model has said so far, and what its tools gave."""


@dataclass(frozen=True, slots=True)
class ToolLoop:
    """How the tools that a model calls are run.

    Args:
        tools: the tools by name.
        max_turns: how many times the model is asked at most.
        concurrency: how many tools run at once.
        tell: makes of a tool's result what the model is told.

    Raises:
        UsageError: `max_turns` is not a whole number from 1.
    """

    tools: Mapping[str, Tool[..., Any]]
    max_turns: int = MAX_TURNS
    concurrency: int = 8
    tell: Callable[[Any], Any] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.max_turns, bool) or not isinstance(self.max_turns, int) or self.max_turns < 1:
            raise UsageError(f"max_turns takes a whole number from 1, not {self.max_turns!r}")

    async def work(self, run: Run, ask: Ask) -> Generation:
        """Do the work of a run that is such a loop, and return the last answer.

        Raises:
            ToolLoopLimitError: the model still calls tools at the last turn, where they aren't run any more.
            MelleaError: a request failed.
        """
        try:
            return await self._steps(run, ask)
        except MelleaError as error:
            error.partial = run.text()  # of all steps, not of the last one alone
            raise

    async def _steps(self, run: Run, ask: Ask) -> Generation:
        names: list[str] = []
        for step in range(1, self.max_turns + 1):
            said = tuple(message for message in run.so_far().messages if message.blocks)
            run.emit([StepStart(step)])
            answer, end = await _relayed(run, ask(said))
            if not answer.tool_calls:
                run.emit([StepEnd(step), end])
                return answer
            names = [call.tool_name for call in answer.tool_calls]
            if step < self.max_turns:
                await run_calls(
                    _whole_calls(answer),
                    self.tools,
                    limit=self.concurrency,
                    tell=self.tell,
                    on_result=lambda output: run.emit([ToolResult(output)]),
                    on_progress=lambda progress: run.emit([progress]),
                )
                run.emit([StepEnd(step)])
        raise ToolLoopLimitError(
            f"the model was asked {self.max_turns} times and still calls tools ({', '.join(map(repr, names))}); "
            "raise max_turns=, or say in the prompt when it is done; the text so far is in .partial"
        )


def tool_loop(
    tool_calls: ToolCalls,
    tools: Iterable[Tool[..., Any] | ToolSpec | BuiltinTool],
    max_turns: int,
    tell: Callable[[Any], Any] | None = None,
) -> ToolLoop | None:
    """Make the loop that the arguments of a call ask for, `None` if its tools aren't to be run.

    Raises:
        UsageError: an argument is wrong, or there is a tool that nothing can run.
    """
    if tool_calls not in ("show", "run"):
        raise UsageError(f"tool_calls takes 'show' or 'run', not {tool_calls!r}")
    loop = ToolLoop({tool.name: tool for tool in tools if isinstance(tool, Tool)}, max_turns, tell=tell)
    if tool_calls == "show":
        return None
    if bare := next((tool for tool in tools if isinstance(tool, ToolSpec)), None):
        raise UsageError(f"tool_calls='run' can't run {bare.name!r}, which is a schema alone; give a function for it")
    for tool in loop.tools.values():
        if tool.runs == "outside":
            raise UsageError(
                f"tool_calls='run' can't run {tool.name!r}, which runs outside; tool_calls='show' shows its calls"
            )
        if tool.requires_approval:
            raise UsageError(
                f"tool_calls='run' can't ask for the approval that {tool.name!r} requires; "
                "tool_calls='show' shows its calls"
            )
    return loop


def _whole_calls(answer: Generation) -> tuple[ToolCall, ...]:
    """Return the calls; where the answer was cut off, a last one without arguments was going to have some."""
    *others, last = answer.tool_calls
    if answer.finish_reason == "length" and not last.tool_args and not last.raw_args:
        last = replace(last, is_valid=False)
    return (*others, last)


async def _relayed(run: Run, step: Run) -> tuple[Generation, Event]:
    """Hand a step's events on as they come, but for its end; return what it came to, and that end."""
    async with ModelOutputThunk(step):  # a loop that is cancelled cancels its request, and waits for the close
        end = await relay(step, run)
    return step.so_far(), end or StreamEnd("other")
