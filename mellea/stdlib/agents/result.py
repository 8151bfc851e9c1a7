"""The result of an agent's run."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, cast

from mellea.core.attributes import AGENT_RUN_WAYS, find_attribute
from mellea.core.blocks import ToolCall, ToolOutput
from mellea.core.displayed import Displayed
from mellea.core.entrance import short_errors
from mellea.core.events import (
    AttemptStart,
    Event,
    StepEnd,
    StepStart,
    TextDelta,
    ToolEnd,
    ToolResult,
    Usage,
    UsageEvent,
)
from mellea.core.messages import Message
from mellea.core.runtime import Record
from mellea.stdlib.agents.limits import Book
from mellea.stdlib.agents.pending import Pending
from mellea.stdlib.tools import LoopState

if TYPE_CHECKING:
    from mellea.core.card import Card, Part

__all__ = ["AgentRun", "AgentStep", "find_text", "list_answers", "list_steps", "make_run", "tabulate_steps"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class AgentStep:
    """One response of the model, and the tools that it called.

    Attributes:
        number: from 1.
        text: what the model wrote.
        tool_calls: the tools that it called.
        results: their results, in the order of the calls; empty if they weren't run.
        usage: the tokens that it took, `None` if the provider didn't report them.
    """

    number: int
    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    results: tuple[ToolOutput, ...] = ()
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class AgentRun(Displayed, Generic[T]):
    """The result of an agent's run.

    Attributes:
        value: the text of the answer; at a limit, or while the run is suspended, the text of the last step that has
            any. `str(run)` is that, too, but for a suspended run without any it says what the run waits for.
        parsed: the answer as a value of the agent's `output`, which is the text for `str`; `None` if the run
            reached a limit before there was one, or is suspended.
        messages: the whole conversation: instructions, prompt, every step with its results, the answer.
        steps: every step, in order.
        usage: the tokens of all steps, and of sub-agents; `None` if no provider reported any.
        cost: their cost in US dollars by `mellea.prices`; `None` if a part is unknown.
        pending: what the run waits for, if it is suspended.
        limit: the limit that it reached: `"steps"`, `"tokens"`, `"cost"`, `"tool_calls"` or `"seconds"`.
    """

    value: str
    parsed: T | None
    messages: tuple[Message, ...] = field(repr=False)
    steps: tuple[AgentStep, ...] = field(repr=False)
    usage: Usage | None = None
    cost: float | None = None
    pending: Pending | None = None
    limit: str | None = None
    has_format: bool = field(default=False, repr=False)

    @property
    def output(self) -> T:
        """The parsed answer where the agent has an `output` type, else the text."""
        return cast("T", self.parsed if self.has_format else self.value)

    if not TYPE_CHECKING:  # hidden from type checkers, which then report names that don't exist

        @short_errors
        def __getattr__(self, name: str) -> Any:
            return find_attribute(self, name, AGENT_RUN_WAYS)

    def _card_(self) -> Card:
        from mellea.core.card import Card, Grid, Prose, show_value  # lazy: only a frontend needs it
        from mellea.core.run_card import say_tokens  # lazy, too

        parts: list[Part] = tabulate_steps(self.steps)
        if self.pending is not None:
            rows = [(question.id, _write(question.call), question.text) for question in self.pending.questions]
            parts.append(Grid(("waits for", "call", "question"), rows))
        elif self.has_format and self.parsed is not None:
            parts.append(show_value(self.parsed))
        elif self.value:
            parts.append(Prose(self.value))
        state = "waits for answers" if self.pending else f"reached the limit of {self.limit}" if self.limit else "done"
        cost = "" if self.cost is None else f"${self.cost:.4f}"
        return Card("AgentRun", state, [say_tokens(self.usage), cost], parts)

    def __await__(self) -> Generator[None, None, Self]:
        """Return itself, so that `await agent.run(…)` works as `await m.instruct(…)` does."""
        yield from ()
        return self

    def __str__(self) -> str:
        if self.pending is None or self.value:
            return self.value
        # An empty text would look like an empty answer.
        return f"(waits for answers to {', '.join(_write(question.call) for question in self.pending.questions)})"


def tabulate_steps(steps: Iterable[AgentStep]) -> list[Part]:
    """Return a table of steps for a card, empty if there are none."""
    from mellea.core.card import Grid  # lazy: only a frontend needs it

    rows = []
    for step in steps:
        results = [f"failed: {result.result}" if result.is_error else str(result.result) for result in step.results]
        rows.append((str(step.number), step.text, "\n".join(map(_write, step.tool_calls)), "\n".join(results)))
    return [Grid(("step", "text", "calls", "results"), rows)] if rows else []


def _write(call: ToolCall) -> str:
    return f"{call.tool_name}({', '.join(f'{name}={value!r}' for name, value in call.tool_args.items())})"


@dataclass(slots=True)
class _Writing:
    """A step that is being read."""

    number: int
    text: list[str] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)
    results: list[ToolOutput] = field(default_factory=list)
    used_before: Usage | None = None  # by attempts before the current one
    usage: Usage | None = None
    is_whole: bool = False

    def feed(self, event: Event) -> None:
        match event:
            case TextDelta(chunk):
                self.text.append(chunk)
            case ToolEnd(call):
                self.calls.append(call)
            case ToolResult(result):
                self.results.append(result)
            case UsageEvent(usage):
                self.usage = usage if self.usage is None else self.usage.merge(usage)
            case StepEnd():
                self.is_whole = True
            case AttemptStart(number) if number > 1:  # the answer is being corrected: its text so far is discarded
                self.text = []
                self.used_before, self.usage = self._total(), None

    def _total(self) -> Usage | None:
        before, usage = self.used_before, self.usage
        return usage or before if before is None or usage is None else before + usage

    def end(self) -> AgentStep:
        places = {call.tool_call_id: place for place, call in enumerate(self.calls)}
        results = sorted(self.results, key=lambda result: places.get(result.tool_call_id, len(places)))
        return AgentStep(self.number, "".join(self.text), tuple(self.calls), tuple(results), self._total())


def list_steps(events: Iterable[Event], start: LoopState | None = None) -> tuple[AgentStep, ...]:
    """Return the steps of a run; a corrective attempt belongs to its step.

    Args:
        events: those of the run.
        start: the state that it continued from; earlier steps come first, without their usage.
    """
    return tuple(step.end() for step in _read_steps(events, _read_earlier(start)))


def find_text(events: Iterable[Event], start: LoopState | None = None) -> str:
    """Return the text of a run that has reached a limit: that of the last complete step that has any.

    Args:
        events: those of the run.
        start: the state that it continued from; earlier steps count as well.
    """
    texts = ["".join(step.text) for step in _read_steps(events, _read_earlier(start)) if step.is_whole]
    return next((text for text in reversed(texts) if text), "")


def list_answers(start: LoopState | None) -> tuple[Message, ...]:
    """Return the model's answers before a state, except one that the continued run repeats."""
    if start is None:
        return ()
    answers = [message for step in start.list_steps() for message in step if message.role == "assistant"]
    return tuple(answers[:-1] if start.is_done and start.last_answer is not None else answers)


def _read_earlier(start: LoopState | None) -> list[_Writing]:
    """Return the steps before a state; the last one may be open."""
    if start is None:
        return []
    steps = [_read_step(number, messages) for number, messages in enumerate(start.list_steps(), 1)]
    if steps:
        steps[-1].results += start.outputs.values()
        steps[-1].is_whole = not start.calls  # one with open calls ends in the continued run
        if start.is_done:  # the continued run repeats the answer
            steps[-1].text = []
    return steps


def _read_step(number: int, messages: Iterable[Message]) -> _Writing:
    step = _Writing(number, is_whole=True)
    for message in messages:
        if message.role == "assistant":
            step.text.append(message.text)
            step.calls += message.tool_calls
        else:
            step.results += [block for block in message.blocks if isinstance(block, ToolOutput)]
    return step


def _read_steps(events: Iterable[Event], earlier: Iterable[_Writing] = ()) -> list[_Writing]:
    steps: list[_Writing] = list(earlier)
    for event in events:
        if type(event) is StepStart:
            steps.append(_Writing(event.step))
        elif steps:
            steps[-1].feed(event)
    return steps


def make_run(record: Record, book: Book) -> AgentRun[Any]:
    """Return the result of a run that ended without an error."""
    events, generation = record.events[: record.limit], record.so_far()
    steps = list_steps(events, book.start)
    # A run that ends with calls has reached a limit, is suspended, or has its own loop.
    has_answer = book.limit is None and not (steps and steps[-1].tool_calls)
    text = generation.message.content if has_answer else find_text(events, book.start)
    has_format = record.format is not None
    return AgentRun(
        text,
        record.parsed if has_format else text,
        book.messages,
        steps,
        book.usage,
        book.cost,
        book.pending,
        book.limit,
        has_format,
    )
