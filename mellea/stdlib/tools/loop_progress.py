"""A working loop: how far it is, what it waits for, and where its state is saved.

Rules:

- A loop that may wait for people is given a `LoopProgress`, which afterwards shows how far it got.
- The state is saved after each answer of the model and each finished tool, before the loop acts on it; when the loop is
  resumed, before the first tool runs; and when it begins to wait.
- Messages that a person sends while the loop works (`added`) are added when the next step begins.
- A loop inside a tool (a sub-agent) saves its state into that of the outer loop.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import anyio

from mellea.core.accumulator import Generation
from mellea.core.blocks import ToolCall, ToolOutput
from mellea.core.messages import Message
from mellea.stdlib.tools.execute import SuspendedError
from mellea.stdlib.tools.loop_state import Answer, LoopState, Question, key_calls

__all__ = ["LoopProgress", "RunningCall", "Save", "current_call", "nest_progress"]

Save = Callable[[LoopState], Awaitable[object]]
"""Called with the state of a loop, to save it."""


class LoopProgress:
    """The progress of one run of a loop.

    Args:
        state: where to begin: with a new conversation, or where another run stopped, with questions answered.
        can_wait: whether questions can be answered later; if not, a policy or a tool that asks is an error.
        save: called with the state after each answer and each finished tool.
        spent: returns the usage so far, which becomes part of the state: JSON values by name.
        is_nested: whether the loop runs inside a tool of another.

    Attributes:
        messages: the conversation so far.
        starts: where in `messages` each step begins.
        outputs: the results of the last answer's finished calls, by their keys.
        asked: open questions about the other calls.
        nested: the progress of the loops inside unfinished calls.
        added: messages for the next step; any thread may append to it.
        offered: the names of the tools that the last request offered, `None` if an earlier run sent it.
        limit: the limit that the last answer has reached, so that its calls aren't run.
        cancels: stops a call that is running, by its key; from any thread.
        spent_before: the usage of earlier runs.
        is_resumed: whether the current step was begun by an earlier run.
        is_done: whether the last answer is the final one.
    """

    def __init__(
        self,
        state: LoopState | None = None,
        *,
        can_wait: bool = True,
        save: Save | None = None,
        spent: Callable[[], Mapping[str, Any]] | None = None,
        is_nested: bool = False,
    ) -> None:
        begun = LoopState() if state is None else state
        self.can_wait, self.is_nested = can_wait, is_nested
        self.messages: list[Message] = list(begun.messages)
        self.starts: list[int] = list(begun.starts)
        self.limit, self.is_done = begun.limit, begun.is_done
        self.calls: dict[str, ToolCall] = begun.calls
        self.outputs: dict[str, ToolOutput] = dict(begun.outputs)
        self.asked: tuple[Question, ...] = begun.asked
        self.answers: dict[str, Answer] = dict(begun.answers)
        self.nested: dict[str, LoopState] = dict(begun.nested)
        self.added: list[Message] = list(begun.added)
        self.cancels: dict[str, Callable[[], object]] = {}
        self.offered: frozenset[str] | None = None
        # If the step has an unfinished answer or the final one, the model isn't asked again.
        self.is_resumed = bool(begun.calls) or begun.is_done
        self._is_begun = not begun.step  # a new loop has nothing to save before its first answer
        self._save, self._spent = save, spent
        self.spent_before = begun.spent
        self._changes = self._saved = 0
        self._lock: anyio.Lock | None = None

    def is_offered(self, tool: str) -> bool:
        """Whether the last request offered a tool; others aren't run."""
        return self.offered is None or tool in self.offered

    @property
    def state(self) -> LoopState:
        """The progress as a value."""
        return LoopState(
            tuple(self.messages),
            tuple(self.starts),
            dict(self.outputs),
            self.asked,
            dict(self.answers),
            dict(self.nested),
            tuple(self.added),
            self.spent_before if self._spent is None else dict(self._spent()),
            self.limit,
            self.is_done,
        )

    @property
    def step(self) -> int:
        """The number of the last step that was begun."""
        return len(self.starts)

    @property
    def is_waiting(self) -> bool:
        """Whether the run has ended because it waits for answers."""
        return bool(self.asked or any(inner.questions for inner in self.nested.values()))

    def begin_step(self) -> int:
        """Return the number of the next step, or of the current one if its calls aren't finished."""
        # The state already contains the start of a resumed step; a second start would shift all later steps.
        if not self.is_resumed:
            self.starts.append(len(self.messages))
            # One by one: another thread may append in the meantime, and copying followed by `clear` would lose its
            # message.
            while self.added:
                self.messages.append(self.added.pop(0))
        return self.step

    async def begin(self) -> None:
        """Prepare to do something (call the model, or run tools): saves a state that was resumed."""
        # Until something has been done the old state stays valid: a process that is killed here has changed nothing.
        if not self._is_begun:
            self._is_begun = True
            await self.save()

    def last_answer(self) -> Generation:
        """Return the last answer, from an earlier run, as a generation."""
        answer = self.state.last_answer or Message("assistant")
        return Generation(answer.text, answer, messages=(answer,), finish_reason="tool_call" if self.calls else "stop")

    async def take_answer(self, answer: Message, is_done: bool) -> None:
        """Record an answer of the model; if the last one was final, this one replaces it.

        Args:
            answer: the answer.
            is_done: whether it is the final one.
        """
        # A corrected answer takes the place of the wrong one, which the model shouldn't learn from.
        if self.is_done and self.state.last_answer is not None:
            self.messages.pop()
        # Providers refuse an empty assistant message.
        if answer.blocks:
            self.messages.append(answer)
        self.calls, self.is_done = key_calls(answer), is_done
        await self.save()

    def list_unfinished(self) -> dict[str, ToolCall]:
        """Return the calls that have no result yet."""
        return {key: call for key, call in self.calls.items() if key not in self.outputs}

    async def finish_call(self, key: str, output: ToolOutput) -> None:
        """Record the result of a call."""
        self.outputs[key] = output
        # An answer is kept until its call has a result, so a crash in between needn't ask the person again.
        self.answers.pop(key, None)
        self.nested.pop(key, None)
        await self.save()

    def cancel_call(self, tool_call_id: str) -> bool:
        """Stop a running call, from any thread; false if there is none with that id."""
        keys = [key for key, call in self.calls.items() if call.tool_call_id == tool_call_id]
        running = [cancel for key in keys if (cancel := self.cancels.get(key)) is not None]
        for cancel in running:
            cancel()
        return bool(running)

    def end_step(self) -> None:
        """Put the results into the conversation, in the order of the calls."""
        # In the order of the calls, not of their completion, so the conversation is the same whichever tool was faster.
        self.messages += [Message("tool", self.outputs[key]) for key in self.calls]
        self.calls, self.outputs, self.is_resumed = {}, {}, False

    async def save(self) -> None:
        """Save the state; of several saves at once, only the latest state is written."""
        if self._save is None:
            return
        self._changes += 1
        # Created on demand: most loops save nothing.
        if self._lock is None:
            self._lock = anyio.Lock()
        async with self._lock:
            # The previous holder of the lock may have saved this change as well.
            if self._saved < self._changes:
                # Read before the write: anything that changes in the meantime is a separate change, saved by whoever
                # made it.
                changes = self._changes
                await self._save(self.state)
                self._saved = changes

    def raise_if_waiting(self) -> None:
        """Report to the outer loop that the call of a nested loop waits.

        Raises:
            SuspendedError: the loop has questions.
        """
        if self.is_waiting:
            raise SuspendedError("this call waits for a person")


@dataclass(frozen=True, slots=True)
class RunningCall:
    """A tool call that is running.

    Attributes:
        progress: the progress of the loop that runs it.
        key: the key of the call.
    """

    progress: LoopProgress
    key: str

    async def save(self, state: LoopState) -> None:
        """Save the state of a loop that runs inside the tool."""
        self.progress.nested[self.key] = state
        await self.progress.save()


current_call: ContextVar[RunningCall | None] = ContextVar("mellea_running_call", default=None)
"""The call that the current code runs for."""


def nest_progress(messages: tuple[Message, ...], spent: Callable[[], Mapping[str, Any]] | None = None) -> LoopProgress:
    """Return the progress of a loop inside a tool: where it stopped when the tool had to wait, otherwise a new one.

    Once the loop has ended, `raise_if_waiting` passes its questions to the outer loop.

    Args:
        messages: the messages that a new loop begins with.
        spent: see `LoopProgress`.
    """
    call = current_call.get()
    begun = LoopState(messages)
    # Outside an agent's tool, or in a loop that can't wait, nothing would keep the state.
    if call is None or not call.progress.can_wait:
        return LoopProgress(begun, can_wait=False, spent=spent)
    return LoopProgress(call.progress.nested.get(call.key, begun), save=call.save, spent=spent, is_nested=True)
