"""The work of one run of an agent: a call whose tool loop records what it uses.

There is one loop in the project, `ToolLoop`. An agent adds its own limits, messages from the user while it
works, the usage of sub-agents, and the correction of an answer that isn't a value of its output type.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, TypeVar, Unpack

import anyio

from mellea.core.accumulator import STEP_BREAK, Generation, fold
from mellea.core.backend import Backend, Request
from mellea.core.context import Context
from mellea.core.events import AttemptAccepted, AttemptRejected, AttemptStart, Steered, StepEnd, StepStart, StreamEnd
from mellea.core.messages import Message
from mellea.core.options import ModelOption, strip_shape
from mellea.core.requirement import Requirement, ValidationResult
from mellea.core.runtime import LaunchArguments, Record, Run
from mellea.core.thunk import ModelOutputThunk
from mellea.core.values import quick_value
from mellea.errors import MelleaError, ParseError, ToolLoopLimitError
from mellea.stdlib.agents.limits import Book, current_book
from mellea.stdlib.agents.result import list_answers
from mellea.stdlib.call import Answering, Call
from mellea.stdlib.components import Correction, render_messages
from mellea.stdlib.context import SimpleContext
from mellea.stdlib.requirements.streaming import TYPED_ANSWER
from mellea.stdlib.session import MelleaSession
from mellea.stdlib.tools import Step, ToolLoop

__all__ = ["AgentCall", "AgentWork"]

C = TypeVar("C", bound=Context)

_ANSWER = Requirement(TYPED_ANSWER, check_only=True)


@quick_value
class AgentCall(Call):
    """A call that an agent makes.

    Args:
        book: of the run; set when it is launched.
        label: the agent's name, for traces.
        corrects: whether an answer that isn't a value of the output type is corrected, once.
    """

    book: Book | None = None
    label: str = "agent"
    corrects: bool = False

    can_wait: ClassVar[bool] = True

    def answering(
        self, request: Request | None, history: Context, pending: Sequence[ModelOutputThunk[Any]]
    ) -> Answering:
        """Return what the run of this call works with."""
        if self.book is None or self.loop is None:
            return Answering(self, request, history, pending)
        return AgentTask(self, self.book, self.loop, request, history, pending)

    def begin(
        self,
        context: C,
        ingredients: Sequence[ModelOutputThunk[Any]],
        parts: Iterable[Any] | None = None,
        **how: Unpack[LaunchArguments],
    ) -> tuple[ModelOutputThunk[Any], C]:
        """Launch the run; observers see it as an agent."""
        how["kind"], how["label"] = "agent", self.label
        return Call.begin(self, context, ingredients, parts, **how)  # `super()` doesn't work in a class with slots


class AgentTask(Answering):
    """What the loop of an agent's run works on."""

    __slots__ = ("_asked", "_book", "_is_corrected", "_is_whole", "_loop", "_parsed", "_seen", "_step")

    call: AgentCall

    def __init__(
        self,
        call: AgentCall,
        book: Book,
        loop: ToolLoop,
        request: Request | None,
        history: Context,
        pending: Sequence[ModelOutputThunk[Any]],
    ) -> None:
        super().__init__(call, request, history, pending)
        self._book, self._loop = book, loop
        self._asked: tuple[Record, Backend] | None = None  # the last request, if its usage isn't in the book yet
        self._step = self._seen = 0
        self._is_whole = True  # the answer of that step
        self._is_corrected = False
        self._parsed: tuple[Generation, Any] | None = None  # the valid answer, and its value

    async def work(self, run: Run) -> Any:
        """Run the tool loop within the limits."""
        self.run = run
        book = self._book
        current_book.set(book)  # for this run's own task, and what it starts
        try:
            answer = await self._answer()
        except MelleaError as error:
            error.partial = run.text()
            raise
        finally:
            book.close()
            self._settle()
        book.messages = tuple(book.progress.messages) if book.progress is not None else ()
        parsed = await self._parse_answer(answer)
        if book.on_end is not None and book.pending is None:
            book.on_end(book.messages)
        return parsed

    async def _answer(self) -> Generation | None:
        """Return the last answer; `None` if time ran out before there was one."""
        book, loop = self._book, self._loop
        with anyio.move_on_after(book.limits.seconds):
            progress = book.begin(self.request.messages)
            self._seen = len(progress.messages)
            answer: Generation = await loop.work(self.run, self, progress)
            if progress.is_waiting:
                book.pending = book.keeper.pending(progress)
            elif answer.tool_calls:
                book.limit = progress.limit
            return answer
        seconds = f"{book.limits.seconds:g} s"
        if loop.on_limit == "raise":
            raise ToolLoopLimitError(
                f"the agent took longer than {seconds}, its limit, and was stopped in step {self._step}; raise it, or "
                "return what there is with on_limit='return'; the text so far is in .partial"
            )
        book.limit = "seconds"
        self.run.emit([*([StepEnd(self._step)] if self._is_whole and self._step else []), StreamEnd("other")])
        return None

    async def _parse_answer(self, answer: Generation | None) -> Any:
        if self.call.format is None or self._book.pending is not None:
            return None
        if self._parsed is not None and self._parsed[0] is answer:
            return self._parsed[1]
        try:
            return await self.call.parse(self._read_steps())  # a value may span several steps
        except ParseError:
            if answer is None or answer.tool_calls:  # the run ended before there was an answer
                return None
            raise

    def _read_steps(self) -> Generation:
        """Return the texts of all complete steps, including those before the run was resumed."""
        generation = self.run.so_far()
        if not self._is_whole:  # time ran out in the middle of the last one
            events = self.run.events
            last = max((place for place, event in enumerate(events) if type(event) is StepStart), default=0)
            generation = fold(events[:last])
        earlier = list_answers(self._book.start)
        if not earlier or self._is_corrected:
            return generation
        text = STEP_BREAK.join(filter(None, [*(message.text for message in earlier), generation.text]))
        return replace(generation, text=text, messages=(*earlier, *generation.messages))

    # -- for the loop ---------------------------------------------------------------------------------

    def step(self, number: int, messages: Sequence[Message]) -> Step:
        """Return the next step: the conversation so far, with the user's messages since."""
        said = [Steered(message.text) for message in messages[self._seen :] if message.role == "user"]
        if said:
            self.run.emit([*said])
        self._seen = len(messages)
        options = dict(self.request.options)
        if number > 1:
            options.pop(ModelOption.TOOL_CHOICE, None)  # a tool that must be called once needn't be called forever
        return Step(number, self.call.backend, tuple(messages), self.call.tools, options)

    def ask(self, step: Step) -> Run:
        """Launch the request of a step."""
        self._settle()
        self._step, self._is_whole = step.number, False
        request = super().ask(step)
        self._asked = request, step.backend
        return request

    def find_limit(self, step: Step, answer: Generation) -> str | None:
        """Return which of the agent's limits an answer has reached."""
        self._is_whole = True
        self._settle()
        if not answer.tool_calls:
            return None
        self._book.limit = self._book.find_limit(len(answer.tool_calls))
        return self._book.limit

    def name_limit(self, limit: str) -> str:
        """Return the argument that sets a limit."""
        number, most = getattr(self._book.limits, limit), self._loop.max_steps
        if limit != "steps" or (number is not None and number == most):
            return f"Limits({limit}={number!r})"
        return "the limit with limits=Limits(steps=…)" if most is None else "max_steps= of the ToolLoop"

    def goes_on(self) -> bool:
        """Whether the user has sent a message that an answer without calls doesn't respond to."""
        return self._book.is_steered()

    async def correct(self, step: Step, answer: Generation) -> Step | None:
        """Return the corrective prompt if the answer isn't a value of the output type."""
        if self.call.format is None or not self.call.corrects:
            return None
        wrong = ""
        try:
            self._parsed = answer, await self.call.parse(self._read_steps())
        except ParseError as error:
            wrong = str(error)
        if self._is_corrected:
            self.run.emit([AttemptAccepted(2, not wrong)])
        # An answer truncated at the token limit isn't wrong, and would be truncated again.
        if not wrong or self._is_corrected or answer.finish_reason == "length":
            return None
        self._is_corrected = True
        self.run.emit([AttemptRejected(1, str(_ANSWER), wrong), AttemptStart(2)])
        said = [answer.message] if answer.message.blocks else []
        before = step.messages[:-1] if said and step.messages[-1] == said[0] else step.messages  # of one that continues
        told = Correction(self.call.component, ((_ANSWER, ValidationResult(False, wrong)),))
        messages = (*before, *said, *render_messages(told, step.backend.model_id))
        return replace(step, messages=messages, options=strip_shape(step.options))

    def _settle(self) -> None:
        """Record the last request in the book."""
        if self._asked is not None:
            asked, self._asked = self._asked, None
            self._book.add_request(*asked)


@dataclass(slots=True)
class AgentWork:
    """One run that has been checked, to be launched once.

    Args:
        call: what the agent asks.
        book: what is recorded about the run besides its events.
        session: the session that it belongs to, if any.
    """

    call: AgentCall
    book: Book
    session: MelleaSession | None
    record: Record | None = field(default=None, init=False, repr=False)

    @property
    def is_running(self) -> bool:
        """Whether it was launched and hasn't ended."""
        return self.record is not None and not self.record.is_final

    def launch(self) -> ModelOutputThunk[Any]:
        """Launch the run on the running loop.

        Raises:
            StreamingError: a thunk that it would wait for can't end before the current code does.
        """
        context = SimpleContext()
        registering: AbstractContextManager[None] = nullcontext()
        if self.session is not None:
            registering = self.session.registering()
        with registering:
            thunk, _ = self.call.launch(context)
        self.record = thunk.record
        return thunk
