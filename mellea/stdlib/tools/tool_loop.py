"""The tool loop: ask the model, run the tools that its answer calls, ask again, until an answer calls none.

Rules:

- A `ToolLoop` is a value: the settings of the loop. Request and tools come from the call (a `LoopTask`).
- A step is one request and the tools that its answer calls. Its events are forwarded to the run of the whole call as
  they arrive.
- The policy decides about every call of an answer before the first of them runs.
- A loop with a `LoopProgress` may wait for people: it finishes the calls that needn't ask, and ends. Another one
  continues from that state, asking the policy again first.
- Subclasses may override `check_tools`, `prepare`, `run_tools` and `reach_limit`; `work` is the loop itself.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import anyio

from mellea.core.accumulator import Generation
from mellea.core.backend import Backend, ToolSpec
from mellea.core.blocks import ToolCall, ToolOutput
from mellea.core.entrance import entrance
from mellea.core.events import StepEnd, StepStart, StreamEnd, TextDelta, ToolResult
from mellea.core.iterators import relay
from mellea.core.messages import Message
from mellea.core.numbers import check_whole
from mellea.core.observer import span_around
from mellea.core.options import check_options
from mellea.core.runtime import Run
from mellea.core.runtime.loop import get_current_loop
from mellea.core.runtime.tasks import find_outcome
from mellea.core.thunk import ModelOutputThunk
from mellea.errors import ToolLoopLimitError, UsageError
from mellea.stdlib.tools.approval import Approved, Verdict, check_answers, settle
from mellea.stdlib.tools.execute import SuspendedError, make_output, run_call, run_in_queues
from mellea.stdlib.tools.loop_progress import LoopProgress, RunningCall, current_call
from mellea.stdlib.tools.loop_state import OutsideResult, Question
from mellea.stdlib.tools.policy import Deny, Policy
from mellea.stdlib.tools.returned import ToolReturn
from mellea.stdlib.tools.tool import MAX_TURNS, AnyTool, CheckedTool, Tool, ToolCalls, as_tools, load_tools
from mellea.stdlib.tools.tool_set import ToolSet

__all__ = ["LoopTask", "Step", "ToolLoop", "choose_loop"]

CANCELLED = "this call was cancelled, and has no result"
"""The result, for the model, of a tool that the user has stopped."""


@dataclass(frozen=True, slots=True)
class Step:
    """One request that a loop is about to make; `dataclasses.replace` makes a changed one.

    Attributes:
        number: the first step is 1.
        backend: the backend that gets it.
        messages: the whole conversation, oldest first, including results of earlier tools.
        tools: the tools that the model may call.
        options: checked model options; the system prompt is in the messages.
    """

    number: int
    backend: Backend
    messages: tuple[Message, ...]
    tools: tuple[AnyTool, ...]
    options: Mapping[str, Any]


PrepareStep = Callable[[Step], Step | Awaitable[Step | None] | None]
"""Changes a step before its request; `None` leaves it unchanged."""


class LoopTask(Protocol):
    """What a loop works on: one call of a verb, or the run of an agent."""

    def step(self, number: int, messages: Sequence[Message]) -> Step:
        """Return the next step, before it may be changed.

        Args:
            number: of the step, from 1.
            messages: those of its `LoopProgress`, and those since.
        """

    def ask(self, step: Step) -> Run:
        """Launch the request of a step."""

    def tell(self, result: Any) -> Any:
        """Return a tool's result as the model reads it."""

    def find_limit(self, step: Step, answer: Generation) -> str | None:
        """Return which of its own limits the work has reached, `None` if none; the answer's tools aren't run then."""
        return None

    def name_limit(self, limit: str) -> str:
        """Return the argument that sets a limit: `"steps"`, or one of `find_limit`."""

    def goes_on(self) -> bool:
        """Whether the model is asked again after an answer without calls, for example after a new message of the
        user."""
        return False

    async def correct(self, step: Step, answer: Generation) -> Step | None:
        """Return the corrective prompt for the same step if the last answer is invalid, else `None`."""
        return None


@entrance("ToolLoop", max_turns="it is 'max_steps' here: max_steps=…")
@dataclass(frozen=True, slots=True)
class ToolLoop:
    """How the tools that a model calls are run, and when to stop.

    Args:
        max_steps: the maximum number of requests to the model; by default 10, or the agent's `Limits`.
        on_limit: what to do if the last of these answers calls tools, which aren't run: `"raise"` a
            `ToolLoopLimitError`, or `"return"` the result so far.
        concurrency: how many tools of one answer run at once; 1 runs them one after the other, in the model's order.
        policy: decides before each tool call whether it runs.
        prepare_step: may change the model, the messages, the tools and the options of each step.

    Raises:
        UsageError: an argument is wrong.
    """

    max_steps: int | None = None
    on_limit: Literal["raise", "return"] = "raise"
    concurrency: int = 8
    policy: Policy | None = None
    prepare_step: PrepareStep | None = None

    def __post_init__(self) -> None:
        check_whole("max_steps", self.max_steps, or_none=True)
        check_whole("concurrency", self.concurrency)
        if self.on_limit not in ("raise", "return"):
            raise UsageError(f"on_limit takes 'raise' or 'return', not {self.on_limit!r}")
        for name in ("policy", "prepare_step"):
            function = getattr(self, name)
            if function is not None and not callable(function):
                raise UsageError(f"{name} takes a function, not {function!r}")

    async def work(self, run: Run, task: LoopTask, progress: LoopProgress | None = None) -> Generation:
        """Run the loop, and return the last answer.

        Args:
            run: gets the events of all steps.
            task: the task.
            progress: where to start, and what to save, for a loop that may wait; `is_waiting` says afterwards
                whether it does. Without one the tools and the policy can't ask.

        Raises:
            ToolLoopLimitError: the model still calls tools at the last step.
            UsageError: a question has to be asked, but can't be; or an answer doesn't fit its tool.
            MelleaError: a request failed.
        """
        progress = LoopProgress(can_wait=False) if progress is None else progress
        while True:
            number = progress.begin_step()
            with span_around("step", f"step {number}", number=number):
                step = await self.prepare(task.step(number, progress.messages))
                answer, end = await self.ask(run, task, step, progress)
                if progress.is_done:
                    # The end of the answer is held back until here, so that a reader sees one `StreamEnd`, as the
                    # last event.
                    run.emit([StepEnd(number), end])
                    return answer
                if progress.limit is not None:
                    return self.reach_limit(run, task, number, answer, end, progress.limit)
                await self.run_tools(run, task, step, progress)
                if progress.is_waiting:
                    # The last answer calls tools that wait for a person, so that is the finish reason, not "stop".
                    run.emit([StreamEnd("tool_call", end.response_id, end.model)])
                    return answer
                progress.end_step()
                run.emit([StepEnd(number)])

    @property
    def step_limit(self) -> int:
        """The maximum number of requests to the model: `max_steps`, or the default."""
        return self.max_steps or MAX_TURNS

    def check_tools(self, tools: Iterable[AnyTool] | ToolSet, *, can_wait: bool = False) -> tuple[CheckedTool, ...]:
        """Check the tools that the loop will run; sets are checked once they are loaded.

        Args:
            tools: the tools.
            can_wait: whether one of them may have to wait for people, who approve of calls and run tools outside. For a
                loop that can't wait, such a tool in a set only matters once it is called.

        Raises:
            UsageError: one of them can't be run.
        """
        checked = as_tools(tools)
        # Checked before the first request, because a call that can't run costs a whole answer.
        for tool in checked:
            if isinstance(tool, ToolSpec):
                raise UsageError(
                    f"tool_calls='run' can't run {tool.name!r}, which is only a schema; pass a function instead"
                )
            if can_wait or not isinstance(tool, Tool) or not tool.must_ask:
                continue
            if tool.runs == "outside":
                raise UsageError(
                    f"tool_calls='run' can't run {tool.name!r}, which runs outside; tool_calls='show' shows its calls, "
                    "and an agent can wait for its result"
                )
            raise UsageError(
                f"tool_calls='run' can't ask for the approval that {tool.name!r} requires; "
                "tool_calls='show' shows its calls, and an agent can wait for the answer"
            )
        return checked

    async def prepare(self, step: Step) -> Step:
        """Apply `prepare_step` to the step.

        Args:
            step: the unchanged step.

        Raises:
            UsageError: it doesn't return a step, or one with invalid parts.
        """
        if self.prepare_step is None:
            return step
        changed = await find_outcome(self.prepare_step, step)
        if changed is None:
            return step
        if not isinstance(changed, Step):
            raise UsageError(f"prepare_step returns a Step, as replace(step, …) makes one, or None, not {changed!r}")
        # Prepared again: the function may have added plain functions or a set.
        tools = await load_tools(as_tools(changed.tools))
        return replace(
            changed,
            messages=tuple(changed.messages),
            tools=self.check_tools(tools, can_wait=True),
            options=check_options(changed.options),
        )

    async def ask(self, run: Run, task: LoopTask, step: Step, progress: LoopProgress) -> tuple[Generation, StreamEnd]:
        """Send the request, and return the answer and its end; an existing answer isn't requested again.

        An invalid last answer is corrected once, in the same step.
        """
        if progress.is_resumed:
            # An earlier run has already paid for the answer. Its text is emitted again, since this run's readers
            # haven't seen it.
            answer = progress.last_answer()
            if progress.is_done and answer.text:
                run.emit([TextDelta(answer.text)])
            end = StreamEnd("tool_call" if answer.tool_calls else "stop")
        else:
            await progress.begin()
            run.emit([StepStart(step.number)])
            answer, end = await self._take_answer(run, task, step, progress)
        # In the same step: a correction isn't a turn of its own, and doesn't count towards `max_steps`.
        attempts = 1
        while progress.is_done and (again := await task.correct(step, answer)) is not None:
            await progress.begin()
            attempts += 1
            with span_around("attempt", f"attempt {attempts}", number=attempts):
                answer, end = await self._take_answer(run, task, again, progress)
        return answer, end

    async def _take_answer(
        self, run: Run, task: LoopTask, step: Step, progress: LoopProgress
    ) -> tuple[Generation, StreamEnd]:
        request = task.ask(step)
        answer, end = await _relay_answer(run, request)
        # A hook may have taken tools away, and a model may call them nevertheless.
        progress.offered = None if request.sent is None else frozenset([tool.name for tool in request.sent.tools])
        limit = task.find_limit(step, answer)
        may_go_on = step.number < self.step_limit
        # The last step may still answer; only calls in it exceed the limit.
        if answer.tool_calls:
            progress.limit = limit if may_go_on else "steps"
        # `goes_on` accepts no further messages once it returns false, so it is called last.
        is_done = not answer.tool_calls and not (may_go_on and task.goes_on())
        await progress.take_answer(_whole_message(answer), is_done)
        return answer, end

    async def run_tools(self, run: Run, task: LoopTask, step: Step, progress: LoopProgress) -> None:
        """Run the calls of an answer, and emit the results; afterwards `progress` has the questions about the rest.

        Raises:
            UsageError: a question has to be asked, but can't be; or edited arguments don't fit their tool.
            ToolError: a set of tools can't be loaded.
        """
        tools = {tool.name: tool for tool in step.tools if isinstance(tool, Tool) and progress.is_offered(tool.name)}
        # Once, in the outermost loop, which also checks the answers of nested loops before anything runs.
        if progress.is_resumed and not progress.is_nested:
            await check_answers(progress.state, tools)
        # All decisions first: a denied call shouldn't be found after another one of the same answer has run.
        verdicts = await self._settle_calls(tools, progress)
        before, progress.asked = progress.asked, tuple(each for each in verdicts.values() if isinstance(each, Question))
        if progress.asked and not progress.can_wait:
            raise _nobody_answers(progress.asked[0], tools)

        settled = {key: each for key, each in verdicts.items() if not isinstance(each, Question)}

        async def finish(key: str) -> None:
            output = await _run_verdict(progress.calls[key], settled[key], task, tools, run, RunningCall(progress, key))
            if output is not None:
                # Saved before it is emitted: what a reader has seen must not run again after a crash.
                await progress.finish_call(key, output)
                run.emit([ToolResult(output)])

        ready = {key: progress.calls[key] for key in settled}
        # If every call waits, nothing is about to be done, and the resumed state stays resumable.
        if ready or not progress.is_waiting:
            await progress.begin()
        await run_in_queues(ready, tools, finish, self.concurrency)
        for question in progress.asked:  # without a length of their own: the run ends, and another one goes on
            with span_around("wait", question.call.tool_name, tool_call=question.call):
                pass
        # Saved only if something is new; a resume that changes nothing leaves the checkpoint alone.
        if progress.is_waiting and (ready or progress.asked != before):
            await progress.save()

    async def _settle_calls(self, tools: Mapping[str, Tool[..., Any]], progress: LoopProgress) -> dict[str, Verdict]:
        """Return the decision on each unfinished call, except those whose own loop waits for answers."""
        verdicts = {}
        for key, call in progress.list_unfinished().items():
            inner = progress.nested.get(key)
            # Its own loop would only find the same open questions.
            if inner is not None and inner.is_waiting:
                continue
            tool, answer = tools.get(call.tool_name), progress.answers.get(key)
            verdicts[key] = await settle(key, call, tool, self.policy, answer, inner is not None)
        return verdicts

    def reach_limit(
        self, run: Run, task: LoopTask, number: int, answer: Generation, end: StreamEnd, limit: str
    ) -> Generation:
        """Return the result of a run whose last answer still calls tools, which aren't run any more.

        Args:
            run: the run.
            task: the task.
            number: of the last step.
            answer: the model's answer in that step.
            end: the end of that answer.
            limit: `"steps"`, or the name of the task's own limit.

        Raises:
            ToolLoopLimitError: unless the loop returns the result so far.
        """
        if self.on_limit == "return":
            run.emit([StepEnd(number), end])
            return answer
        names = ", ".join(repr(call.tool_name) for call in answer.tool_calls)
        said = task.name_limit(limit)
        if limit == "steps":
            times = "1 time" if number == 1 else f"{number} times"
            raise ToolLoopLimitError(
                f"the model was asked {times} and still calls tools ({names}); raise {said}, or say in the prompt when "
                "it is done; the text so far is in .partial"
            )
        raise ToolLoopLimitError(
            f"{said} was reached in step {number}, and the model still calls tools ({names}); raise it, or return what "
            "there is with on_limit='return'; the text so far is in .partial"
        )


def choose_loop(loop: ToolLoop | None, tool_calls: ToolCalls, max_turns: int = MAX_TURNS) -> ToolLoop | None:
    """Return the loop for the arguments of a verb, `None` if tools aren't run.

    Args:
        loop: the loop itself.
        tool_calls: the short form: `"run"` is a loop with default settings.
        max_turns: `max_steps` of the short form.

    Raises:
        UsageError: an argument is wrong, or two contradict each other.
    """
    if tool_calls not in ("show", "run") and not isinstance(tool_calls, bool):
        raise UsageError(f"tool_calls takes 'show' or 'run', not {tool_calls!r}")
    check_whole("max_turns", max_turns)
    if loop is None:
        return ToolLoop(max_turns) if tool_calls == "run" else None
    if not isinstance(loop, ToolLoop):
        raise UsageError(f"loop takes a ToolLoop, such as ToolLoop(max_steps=5), not {loop!r}")
    if max_turns not in (MAX_TURNS, loop.max_steps):
        raise UsageError(
            f"max_turns={max_turns!r} can't be combined with loop=, which has max_steps={loop.max_steps!r}"
        )
    return loop


def _whole_message(answer: Generation) -> Message:
    """Return the answer; if it was truncated, a last call without arguments is incomplete."""
    calls = answer.tool_calls
    # Providers send calls in order, so only the last one can be truncated. Run with `{}` it would do something else.
    if answer.finish_reason != "length" or not calls or calls[-1].tool_args or calls[-1].raw_args:
        return answer.message
    blocks = [replace(block, is_valid=False) if block is calls[-1] else block for block in answer.message.blocks]
    return Message("assistant", blocks)


def _nobody_answers(question: Question, tools: Mapping[str, Tool[..., Any]]) -> UsageError:
    name = question.call.tool_name
    tool = tools.get(name)
    if tool is not None and tool.must_ask:
        needs = "runs outside this program" if question.kind == "outside" else "needs a person's approval"
        return UsageError(
            f"the model calls the tool {name!r}, which {needs}, but a plain call can't ask anybody; leave that tool "
            f"out, as with deny=[{name!r}] of a set, or use an agent, which can wait"
        )
    return UsageError(
        f"the policy asks {question.text!r} before the tool {name!r} runs, but a plain call can't ask anybody; let the "
        "policy return Allow() or Deny(reason), or use an agent, which can wait"
    )


async def _run_verdict(
    call: ToolCall,
    verdict: Approved | Deny | OutsideResult,
    task: LoopTask,
    tools: Mapping[str, Tool[..., Any]],
    run: Run,
    running: RunningCall,
) -> ToolOutput | None:
    """Return the output of a call that needn't wait; `None` if it starts to wait while it runs."""
    if isinstance(verdict, Deny):
        return ToolOutput(call.tool_call_id, call.tool_name, verdict.reason, is_error=True)
    if isinstance(verdict, OutsideResult):
        given = verdict.result if verdict.value is None else ToolReturn(verdict.value, verdict.result)
        return make_output(call, given, task.tell)
    token, loop = current_call.set(running), get_current_loop()
    cancels = running.progress.cancels
    try:
        with anyio.CancelScope() as scope:
            # `cancel_tool` may be called from any thread, and a cancel scope only from its own loop.
            cancels[running.key] = lambda: loop.post(scope.cancel)
            return await run_call(
                verdict.call, tools, task.tell, lambda progress: run.emit([progress]), is_approved=True
            )
    except SuspendedError:
        return None
    finally:
        del cancels[running.key]
        current_call.reset(token)
    # Only reached if the scope has swallowed a cancellation: the call was stopped, and the run goes on.
    return ToolOutput(call.tool_call_id, call.tool_name, CANCELLED, is_error=True)


async def _relay_answer(run: Run, request: Run) -> tuple[Generation, StreamEnd]:
    """Forward a request's events as they arrive, except its end; return its generation and end."""
    async with ModelOutputThunk(request):  # a cancelled loop cancels its request, and waits for the close
        end = await relay(request, run)
    return request.so_far(), end or StreamEnd("other")
