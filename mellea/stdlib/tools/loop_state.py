"""The state of a tool loop as a value, from which it continues in another process, or once a person has answered.

Rules:

- A call is identified by its key: its id, followed by a number if the answer has that id twice. The keys of a loop
  inside a tool (a sub-agent) follow the key of the call that runs it, as in `"call_1/call_7"`.
- `messages` ends with the model's last answer until all its calls are finished; then their results follow it.
- An answer to a question is kept until its call is finished, so that a killed process needn't ask again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from mellea.core.blocks import ToolCall, ToolOutput
from mellea.core.messages import Message
from mellea.errors import UsageError
from mellea.stdlib.tools.policy import Deny, Edited
from mellea.stdlib.tools.returned import ToolReturn, serialise_result

__all__ = ["Answer", "LoopState", "OutsideResult", "Question", "QuestionKind", "give_answers"]

QuestionKind = Literal["approval", "outside"]
"""Whether a person has to approve a call, or it has to be run outside and its result passed in."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question that a loop waits for.

    Attributes:
        id: what the answer refers to.
        kind: `"approval"` or `"outside"`.
        call: the tool and the arguments that the model wants.
        text: the question in words.
        path: the agent that asks: `""` for the one that was run, otherwise names of sub-agents with their steps, as in
            `"researcher/2"`.
    """

    id: str
    kind: QuestionKind
    call: ToolCall
    text: str
    path: str = ""


@dataclass(frozen=True, slots=True)
class OutsideResult:
    """The result of a tool that was run outside: the text for the model, and the value for the program."""

    result: Any
    value: Any = None


Answer = bool | Deny | Edited | OutsideResult
"""The answer to a question."""


@dataclass(frozen=True, slots=True)
class LoopState:
    """The state of a loop; a new loop only has messages.

    Attributes:
        messages: the conversation: the initial messages, the model's answers, the results of tools.
        starts: where in `messages` each step begins, including the messages before its answer.
        outputs: the results of the last answer's finished calls, by their keys.
        asked: the questions about the other calls.
        answers: the answers about calls that aren't finished yet, by their keys.
        nested: the states of the loops inside unfinished calls, by the keys of the calls.
        added: messages from outside for the next step.
        spent: the usage so far, as JSON values; for the caller of the loop.
        limit: the limit that the last answer has reached, so that its calls aren't run.
        is_done: whether the last answer is the final one.
    """

    messages: tuple[Message, ...] = ()
    starts: tuple[int, ...] = ()
    outputs: Mapping[str, ToolOutput] = field(default_factory=dict)
    asked: tuple[Question, ...] = ()
    answers: Mapping[str, Answer] = field(default_factory=dict)
    nested: Mapping[str, LoopState] = field(default_factory=dict)
    added: tuple[Message, ...] = ()
    spent: Mapping[str, Any] = field(default_factory=dict)
    limit: str | None = None
    is_done: bool = False

    @property
    def step(self) -> int:
        """The number of the current step, or of the last finished one; 0 before the first."""
        return len(self.starts)

    @property
    def last_answer(self) -> Message | None:
        """The model's answer in that step; `None` before it, after its tools, and if it was empty."""
        has_more = bool(self.starts) and len(self.messages) > self.starts[-1]
        return self.messages[-1] if has_more and self.messages[-1].role == "assistant" else None

    @property
    def calls(self) -> dict[str, ToolCall]:
        """The calls of the current step's answer, by their keys, in the model's order."""
        answer = self.last_answer
        return {} if answer is None or self.is_done else key_calls(answer)

    def list_steps(self) -> list[tuple[Message, ...]]:
        """Return the messages of each step: those before the answer, the answer, and the results of its tools."""
        ends = (*self.starts[1:], len(self.messages))
        return [self.messages[start:end] for start, end in zip(self.starts, ends, strict=True)] if self.starts else []

    @property
    def closed_messages(self) -> tuple[Message, ...]:
        """The conversation without an answer whose calls aren't finished."""
        return self.messages[:-1] if self.calls else self.messages

    @property
    def questions(self) -> tuple[Question, ...]:
        """All open questions, including those of loops inside calls."""
        return (*self.asked, *self._ask_nested())

    @property
    def is_waiting(self) -> bool:
        """Whether nothing can be done before a question is answered."""
        asked = {question.id for question in self.asked}
        # A sub-agent that can still work keeps the whole loop going, so its call only counts as waiting if everything
        # inside it waits.
        left = [key for key in self.calls if key not in self.outputs and key not in asked]
        return bool(self.questions) and all(key in self.nested and self.nested[key].is_waiting for key in left)

    def _ask_nested(self) -> Iterator[Question]:
        calls = self.calls
        for key, inner in self.nested.items():
            where = f"{calls[key].tool_name}/{inner.step}" if key in calls else key
            for question in inner.questions:
                path = f"{where}/{question.path}" if question.path else where
                # Ids of questions are paths, so that one flat dict of answers reaches every level.
                yield replace(question, id=f"{key}/{question.id}", path=path)


def key_calls(answer: Message) -> dict[str, ToolCall]:
    """Return the calls of an answer by unique keys, which don't contain `/`."""
    calls: dict[str, ToolCall] = {}
    for call in answer.tool_calls:
        # The slash joins the keys of nested calls, and an id comes from a provider and may contain anything.
        key = first = call.tool_call_id.replace("/", "_")
        number = 1
        while key in calls:
            number += 1
            key = f"{first}#{number}"
        calls[key] = call
    return calls


def give_answers(state: LoopState, answers: Mapping[str, Any]) -> LoopState:
    """Return the state with questions answered.

    Args:
        state: a loop that waits.
        answers: by the ids of the questions: `True`, `False`, `Deny(reason)` or `Edited(args)` for an approval; for a
            tool that runs outside, its result or `Deny(reason)`. Unanswered questions stay open.

    Raises:
        UsageError: there is no open question with such an id, or an answer doesn't fit its question.
    """
    if not isinstance(answers, Mapping):
        raise UsageError(f"answers takes a dict of answers by the ids of the questions, not {answers!r}")
    questions = {question.id: question for question in state.questions}
    # Rejected as a whole before anything is recorded: otherwise half of the answers would be lost with the error.
    if unknown := [each for each in answers if each not in questions]:
        known = ", ".join(map(repr, questions)) or "none"
        raise UsageError(f"there is no open question {unknown[0]!r}; the open ones are {known}")
    return _record(state, {each: _check_answer(questions[each], answer) for each, answer in answers.items()})


def _record(state: LoopState, answers: Mapping[str, Answer]) -> LoopState:
    if not answers:
        return state
    # Only answers to questions at this level; the others are passed down, without this level's part of the path.
    asked = {question.id for question in state.asked}
    nested = {
        key: _record(
            inner, {each.removeprefix(f"{key}/"): a for each, a in answers.items() if each.startswith(f"{key}/")}
        )
        for key, inner in state.nested.items()
    }
    return replace(
        state,
        asked=tuple(question for question in state.asked if question.id not in answers),
        answers={**state.answers, **{each: answer for each, answer in answers.items() if each in asked}},
        nested=nested,
    )


def _check_answer(question: Question, answer: Any) -> Answer:
    if isinstance(answer, Deny):
        return answer
    if question.kind == "approval":
        if isinstance(answer, (bool, Edited)):
            return answer
        raise UsageError(
            f"the question {question.id!r} takes True, False, Deny(reason) or Edited(args), not {answer!r}"
        )
    if isinstance(answer, Edited):
        raise UsageError(f"the tool of {question.id!r} runs outside; give its result or Deny(reason), not {answer!r}")
    # The result of an outside tool is handled like a local one, including `ToolReturn`.
    returned = ToolReturn.of(answer)
    try:
        # Checked now: the state has to be saved as JSON before the model reads the result.
        told = serialise_result(returned.text, serialize_unknown=False)
    except UsageError as error:
        raise UsageError(f"the result of {question.id!r} needs a JSON form: {error}") from None
    return OutsideResult(told, returned.value if returned is answer else None)
