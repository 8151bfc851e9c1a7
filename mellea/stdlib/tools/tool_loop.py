"""The tool loop: ask the model, run the tools that its answer calls, ask again, until an answer calls none.

Rules:

- A `ToolLoop` is a value: how to go on. What is asked, and which tools there are, comes from the call (a `LoopTask`).
- A step is one request and the tools that its answer calls. Its events go on to the run of the whole call as they come.
- The policy decides about every call of an answer before the first of them runs.
- Subclasses may change `check_tools`, `prepare`, `run_tools` and `reach_limit`; `work` is the loop itself.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

from mellea.core.accumulator import Generation
from mellea.core.backend import Backend, BuiltinTool, ToolSpec
from mellea.core.blocks import ToolCall
from mellea.core.events import StepEnd, StepStart, StreamEnd, ToolResult
from mellea.core.iterators import relay
from mellea.core.messages import Message
from mellea.core.observer import span_around
from mellea.core.options import check_options
from mellea.core.runtime import Run
from mellea.core.runtime.tasks import outcome_of
from mellea.core.thunk import ModelOutputThunk
from mellea.errors import ToolLoopLimitError, UsageError
from mellea.stdlib.tools.policy import Ask, Deny, Policy, decide
from mellea.stdlib.tools.tool import AnyTool, Tool, as_tools

__all__ = ["MAX_TURNS", "LoopTask", "Step", "ToolCalls", "ToolLoop", "loop_of"]

MAX_TURNS = 10
"""How many times a loop asks the model, unless it is told otherwise."""

ToolCalls = Literal["show", "run"]
"""Whether calls of tools only stand in the answer, or are run, and the model is asked again with their results."""


@dataclass(frozen=True, slots=True)
class Step:
    """One request that a loop is about to make; `dataclasses.replace` makes another one of it.

    Attributes:
        number: the first step is 1.
        backend: whom it goes to.
        messages: the whole conversation, oldest first, with what the tools of earlier steps gave.
        tools: the tools that the model may call.
        options: checked model options; the system prompt stands in the messages.
    """

    number: int
    backend: Backend
    messages: tuple[Message, ...]
    tools: tuple[AnyTool, ...]
    options: Mapping[str, Any]


PrepareStep = Callable[[Step], Step | Awaitable[Step | None] | None]
"""Changes a step before it is asked; `None` leaves it as it is."""


class LoopTask(Protocol):
    """What a loop works on: one call of a verb, or the run of an agent."""

    def step(self, number: int) -> Step:
        """Return the next step, as it is if nobody changes it."""

    def ask(self, step: Step) -> Run:
        """Launch the request of a step."""

    def tell(self, result: Any) -> Any:
        """Return what the model is told of a tool's result."""


@dataclass(frozen=True, slots=True)
class ToolLoop:
    """How the tools that a model calls are run, and when to stop.

    Args:
        max_steps: how many times the model is asked at most.
        on_limit: what to do if the last of these answers calls tools, which aren't run any more: `"raise"` a
            `ToolLoopLimitError`, or `"return"` what there is.
        concurrency: how many tools of one answer run at once; 1 runs them one after the other, in the model's order.
        policy: decides before each call of a tool whether it runs.
        prepare_step: may change the model, the messages, the tools and the options of each step.

    Raises:
        UsageError: an argument is wrong.
    """

    max_steps: int = MAX_TURNS
    on_limit: Literal["raise", "return"] = "raise"
    concurrency: int = 8
    policy: Policy | None = None
    prepare_step: PrepareStep | None = None

    def __post_init__(self) -> None:
        for name in ("max_steps", "concurrency"):
            number = getattr(self, name)
            if isinstance(number, bool) or not isinstance(number, int) or number < 1:
                raise UsageError(f"{name} takes a whole number from 1, not {number!r}")
        if self.on_limit not in ("raise", "return"):
            raise UsageError(f"on_limit takes 'raise' or 'return', not {self.on_limit!r}")
        for name in ("policy", "prepare_step"):
            function = getattr(self, name)
            if function is not None and not callable(function):
                raise UsageError(f"{name} takes a function, not {function!r}")

    async def work(self, run: Run, task: LoopTask) -> Generation:
        """Do the work of a run that is such a loop, and return the last answer.

        Raises:
            ToolLoopLimitError: the model still calls tools at the last step.
            MelleaError: a request failed.
        """
        for number in range(1, self.max_steps + 1):
            with span_around("step", f"step {number}", number=number):
                step = await self.prepare(task.step(number))
                run.emit([StepStart(number)])
                answer, end = await _relay_answer(run, task.ask(step))
                if not answer.tool_calls:
                    run.emit([StepEnd(number), end])
                    return answer
                if number < self.max_steps:
                    await self.run_tools(run, task, step, _whole_calls(answer))
                    run.emit([StepEnd(number)])
        return self.reach_limit(run, answer, end)

    def check_tools(self, tools: Iterable[AnyTool]) -> tuple[Tool[..., Any] | ToolSpec | BuiltinTool, ...]:
        """Take tools that the loop is to run.

        Raises:
            UsageError: one of them is nothing that it can run.
        """
        checked = as_tools(tools)
        for tool in checked:
            if isinstance(tool, ToolSpec):
                raise UsageError(
                    f"tool_calls='run' can't run {tool.name!r}, which is a schema alone; give a function for it"
                )
            if isinstance(tool, Tool) and tool.runs == "outside":
                raise UsageError(
                    f"tool_calls='run' can't run {tool.name!r}, which runs outside; tool_calls='show' shows its calls"
                )
            if isinstance(tool, Tool) and tool.requires_approval:
                raise UsageError(
                    f"tool_calls='run' can't ask for the approval that {tool.name!r} requires; "
                    "tool_calls='show' shows its calls"
                )
        return checked

    async def prepare(self, step: Step) -> Step:
        """Return the step as `prepare_step` changes it.

        Raises:
            UsageError: it returns something else than a step, or one with wrong parts.
        """
        if self.prepare_step is None:
            return step
        changed = await outcome_of(self.prepare_step, step)
        if changed is None:
            return step
        if not isinstance(changed, Step):
            raise UsageError(f"prepare_step returns a Step, as replace(step, …) makes one, or None, not {changed!r}")
        return replace(
            changed,
            messages=tuple(changed.messages),
            tools=self.check_tools(changed.tools),
            options=check_options(changed.options),
        )

    async def run_tools(self, run: Run, task: LoopTask, step: Step, calls: Sequence[ToolCall]) -> None:
        """Run what an answer calls, and emit the results.

        Raises:
            UsageError: the policy asks a question, which nobody answers here.
        """
        denied: dict[int, str] = {}
        for place, call in enumerate(calls if self.policy is not None else ()):
            decision = await decide(self.policy, call)
            if isinstance(decision, Deny):
                denied[place] = decision.reason
            elif isinstance(decision, Ask):
                raise UsageError(
                    f"the policy asks {decision.question!r} before the tool {call.tool_name!r} runs, and a call has "
                    "nobody to ask; let the policy return Allow() or Deny(reason), or use an agent, which can wait"
                )

        tools = {tool.name: tool for tool in step.tools if isinstance(tool, Tool)}
        from mellea.stdlib.tools.execute import run_calls  # lazy: plain text needs no tools

        await run_calls(
            calls,
            tools,
            limit=self.concurrency,
            tell=task.tell,
            on_result=lambda output: run.emit([ToolResult(output)]),
            on_progress=lambda progress: run.emit([progress]),
            denied=denied,
        )

    def reach_limit(self, run: Run, answer: Generation, end: StreamEnd) -> Generation:
        """Return what the run comes to if the last answer still calls tools.

        Raises:
            ToolLoopLimitError: unless the loop is to return what there is.
        """
        if self.on_limit == "return":
            run.emit([StepEnd(self.max_steps), end])
            return answer
        names = ", ".join(repr(call.tool_name) for call in answer.tool_calls)
        raise ToolLoopLimitError(
            f"the model was asked {self.max_steps} times and still calls tools ({names}); "
            "raise max_turns= (max_steps= of a ToolLoop), or say in the prompt when it is done; the text so far is in "
            ".partial"
        )


def loop_of(loop: ToolLoop | None, tool_calls: ToolCalls, max_turns: int = MAX_TURNS) -> ToolLoop | None:
    """Return the loop that the arguments of a verb ask for, `None` if tools aren't to be run.

    Args:
        loop: the loop itself.
        tool_calls: the short form: `"run"` is a loop with nothing special.
        max_turns: `max_steps` of the short form.

    Raises:
        UsageError: an argument is wrong, or two say different things.
    """
    if tool_calls not in ("show", "run"):
        raise UsageError(f"tool_calls takes 'show' or 'run', not {tool_calls!r}")
    if isinstance(max_turns, bool) or not isinstance(max_turns, int) or max_turns < 1:
        raise UsageError(f"max_turns takes a whole number from 1, not {max_turns!r}")
    if loop is None:
        return ToolLoop(max_turns) if tool_calls == "run" else None
    if not isinstance(loop, ToolLoop):
        raise UsageError(f"loop takes a ToolLoop, such as ToolLoop(max_steps=5), not {loop!r}")
    if max_turns not in (MAX_TURNS, loop.max_steps):
        raise UsageError(f"max_turns={max_turns!r} can't go with loop=, which has max_steps={loop.max_steps!r}")
    return loop


def _whole_calls(answer: Generation) -> tuple[ToolCall, ...]:
    """Return the calls; where the answer was cut off, a last one without arguments was going to have some."""
    *others, last = answer.tool_calls
    if answer.finish_reason == "length" and not last.tool_args and not last.raw_args:
        last = replace(last, is_valid=False)
    return (*others, last)


async def _relay_answer(run: Run, request: Run) -> tuple[Generation, StreamEnd]:
    """Hand a request's events on as they come, but for its end; return what it came to, and that end."""
    async with ModelOutputThunk(request):  # a loop that is cancelled cancels its request, and waits for the close
        end = await relay(request, run)
    return request.so_far(), end or StreamEnd("other")
