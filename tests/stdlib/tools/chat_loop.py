"""A loop that works on a plain list of messages, for tests of loops that wait: what an agent is, without the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from mellea.core import Message, ToolCall
from mellea.core.backend import Backend, Request
from mellea.core.events import Event, ToolEnd
from mellea.core.options import DEFAULT_DEADLINES
from mellea.core.runtime import Run, launch
from mellea.core.thunk import ModelOutputThunk
from mellea.stdlib.call import finish
from mellea.stdlib.tools import LoopProgress, LoopState, Step, Tool, ToolLoop
from mellea.stdlib.tools.returned import serialise_result

START = LoopState((Message("user", "Do it."),))


def call(name: str, number: int = 1, **args: Any) -> ToolEnd:
    return ToolEnd(ToolCall(f"c{number}", name, args))


@dataclass
class ChatTask:
    """Asks a backend with the messages as they are."""

    backend: Backend
    tools: Sequence[Tool[..., Any]]

    def step(self, number: int, messages: Sequence[Message]) -> Step:
        return Step(number, self.backend, tuple(messages), tuple(self.tools), {})

    def ask(self, step: Step) -> Run:
        specs = tuple(tool.spec for tool in step.tools if isinstance(tool, Tool))
        request = Request(step.messages, specs, None, step.options, DEFAULT_DEADLINES)
        return launch(lambda run: step.backend.run(request), backend=step.backend.name, model=step.backend.model_id)

    def tell(self, result: Any) -> Any:
        return serialise_result(result)

    def find_limit(self, step: Step, answer: object) -> str | None:
        return None

    def name_limit(self, limit: str) -> str:
        return limit

    def goes_on(self) -> bool:
        return False

    async def correct(self, step: Step, answer: object) -> Step | None:
        return None


@dataclass
class Ended:
    """What a loop came to."""

    text: str
    progress: LoopProgress
    events: list[Event]

    @property
    def state(self) -> LoopState:
        return self.progress.state

    @property
    def questions(self) -> dict[str, str]:
        return {question.id: question.kind for question in self.state.questions}

    @property
    def results(self) -> list[Any]:
        """What the tools gave, in the order of the conversation."""
        return [block.result for message in self.state.messages for block in message.blocks if message.role == "tool"]  # type: ignore[union-attr]


async def work(
    backend: Backend,
    tools: Iterable[Any],
    begin: LoopState | LoopProgress = START,
    loop: ToolLoop | None = None,
    task: Callable[[Backend, Sequence[Tool[..., Any]]], ChatTask] = ChatTask,
) -> Ended:
    """Let a loop work that may wait, and return what it came to."""
    loop = loop or ToolLoop()
    checked: Any = loop.check_tools(tools, can_wait=True)
    progress = begin if isinstance(begin, LoopProgress) else LoopProgress(begin)
    run = launch(work=lambda run: loop.work(run, task(backend, checked), progress))
    thunk: ModelOutputThunk[Any] = ModelOutputThunk(run)
    await finish(thunk)
    return Ended(run.so_far().message.content, progress, [event async for event in thunk.events()])
