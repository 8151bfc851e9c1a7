"""Leaving an agent in every phase, by `break`, by cancelling and by closing, leaves nothing behind that still works."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from mellea.core import ToolCall
from mellea.core.events import Event, NestedEvent, StepStart, TextDelta, ToolEnd, ToolProgress, ToolStart
from mellea.core.observer import observe
from mellea.errors import GenerationCancelledError
from mellea.stdlib.agents import Agent
from mellea.stdlib.streaming import StreamChunk
from mellea.stdlib.tools import ToolLoop, ToolSet, tool
from mellea.testing import Pause, ScriptedBackend
from mellea.testing.observing import RecordingObserver

pytestmark = pytest.mark.anyio

FOREVER = Pause(float("inf"))


class Phase:
    """An agent that comes to a phase and stays in it.

    Args:
        name: of the phase.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.working = 0  # tools that work now
        self.is_left = threading.Event()
        inner = ScriptedBackend(["Hm", FOREVER])
        script: list[Any] = {
            "request": [FOREVER],
            "text": ["Hm", FOREVER],
            "call": [ToolStart("c1", "tool"), FOREVER],
        }.get(name, [ToolEnd(ToolCall("c1", name, {"task": "x"}))])
        outer = ScriptedBackend(script, "The model was asked again.")
        tools: list[Any] = [self.sync_tool, self.async_tool, self.generator, Agent(inner, name="sub_agent")]
        self.backends = [inner, outer]
        self.agent = Agent(outer, tools)

    def sync_tool(self, task: str) -> str:
        """Wait in a thread."""
        self.working += 1
        self.is_left.wait(10)
        self.working -= 1
        return "late"

    async def async_tool(self, task: str) -> str:
        """Wait on the loop."""
        self.working += 1
        try:
            await anyio.sleep_forever()
        finally:
            self.working -= 1
        return "late"

    def generator(self, task: str) -> Iterator[int]:
        """Count in a thread, until nobody listens."""
        self.working += 1
        try:
            for number in range(10_000):
                yield number
                time.sleep(0.001)
        finally:
            self.working -= 1

    def has_come(self, event: Event) -> bool:
        """Whether an event shows that the run has come to the phase."""
        kinds: dict[str, type[Event]] = {
            "request": StepStart,
            "text": TextDelta,
            "call": ToolStart,
            "generator": ToolProgress,
        }
        if self.name == "sub_agent":
            return isinstance(event, NestedEvent) and isinstance(event.event, TextDelta)
        return isinstance(event, kinds.get(self.name, ToolEnd))

    async def cancel_when_there(self, work: Callable[[], Awaitable[object]]) -> None:
        """Do the work, and cancel it once the run has come to the phase."""
        async with anyio.create_task_group() as group:

            async def run() -> None:
                await work()

            group.start_soon(run)
            with anyio.fail_after(10):
                while not (self.working or self.backends[self.name != "sub_agent"].requests):
                    await anyio.sleep(0.005)
                while self.name in ("sync_tool", "async_tool", "generator") and not self.working:
                    await anyio.sleep(0.005)
            group.cancel_scope.cancel()

    async def check(self, tasks: int) -> None:
        """Check that nothing works any more.

        Args:
            tasks: how many tasks there were before.
        """
        self.is_left.set()
        with anyio.fail_after(30):
            while self.working or count_tasks() > tasks:
                await anyio.sleep(0.005)
        for backend in self.backends:
            backend.assert_closed()
        assert len(self.backends[1].requests) == 1, "the model was asked again with a late result"


def count_tasks() -> int:
    try:
        return len(asyncio.all_tasks())
    except RuntimeError:
        import trio  # lazy: only where it runs

        return trio.lowlevel.current_statistics().tasks_living


async def read(agent: Agent[str]) -> list[StreamChunk]:
    return [chunk async for chunk in agent.astream("x")]


PHASES = ["request", "text", "call", "sync_tool", "async_tool", "generator", "sub_agent"]


@pytest.mark.parametrize("name", PHASES)
@pytest.mark.parametrize("way", ["break", "cancel", "aclose", "run"])
async def test_nothing_is_left(name: str, way: str) -> None:
    phase = Phase(name)
    await anyio.lowlevel.checkpoint()
    tasks = count_tasks()
    if way == "run":
        await phase.cancel_when_there(lambda: phase.agent.arun("x"))
    elif way == "cancel":
        await phase.cancel_when_there(lambda: read(phase.agent))
    else:
        stream = phase.agent.astream("x")
        async with stream:
            async for event in stream.events():
                if phase.has_come(event):
                    break
            if way == "aclose":
                await stream.aclose()
                with pytest.raises(GenerationCancelledError):
                    [chunk async for chunk in stream]
    await phase.check(tasks)


@pytest.mark.parametrize("name", ["policy", "prepare_step", "checkpoint", "loading", "approval", "correction"])
@pytest.mark.parametrize("way", ["cancel", "aclose", "run"])
async def test_nothing_is_left_of_functions_between_the_requests_either(name: str, way: str) -> None:
    working = 0
    ran: list[str] = []

    async def stay(*_: Any) -> Any:
        nonlocal working
        working += 1
        try:
            await anyio.sleep_forever()
        finally:
            working -= 1

    async def look(place: str) -> str:
        """Look somewhere."""
        ran.append(place)
        return "a cat"

    class Slow(ToolSet):
        async def aload(self) -> list[Any]:
            return await stay() if name == "loading" else [tool(look)]

    made = tool(look) if name != "approval" else tool(requires_approval=stay_asked(stay))(look)
    loop = ToolLoop(
        policy=stay if name == "policy" else None,
        prepare_step=stay if name == "prepare_step" else None,
    )
    script: list[Any] = ["five"] if name == "correction" else [ToolEnd(ToolCall("c1", "look", {"place": "Rome"}))]
    backend = ScriptedBackend(script, [FOREVER])
    tools: Any = Slow() if name == "loading" else [made]
    agent = Agent(backend, tools, loop=loop, output=int)
    how: dict[str, Any] = {"checkpoint": stay} if name == "checkpoint" else {}
    await anyio.lowlevel.checkpoint()
    tasks = count_tasks()

    async def there() -> None:
        with anyio.fail_after(10):
            while not working and len(backend.requests) < 2:
                await anyio.sleep(0.005)

    async with anyio.create_task_group() as group:
        if way == "run" or name == "correction":  # streams aren't corrected
            group.start_soon(lambda: agent.arun("x", **how))
        else:
            stream = agent.astream("x", **how)

            async def read() -> None:
                with pytest.raises(GenerationCancelledError):
                    [chunk async for chunk in stream]

            group.start_soon(read)
        await there()
        if way == "aclose" and name != "correction":
            await stream.aclose()
        else:
            group.cancel_scope.cancel()
    with anyio.fail_after(30):
        while working or count_tasks() > tasks:
            await anyio.sleep(0.005)
    backend.assert_closed()
    assert not ran and len(backend.requests) == {"prepare_step": 0, "loading": 0, "correction": 2}.get(name, 1)


def stay_asked(stay: Callable[[], Awaitable[Any]]) -> Callable[[str], Awaitable[Any]]:
    async def needs(place: str) -> Any:
        return await stay()

    return needs


@pytest.mark.parametrize("name", PHASES)
async def test_spans_end_however_an_agent_is_left(name: str) -> None:
    phase = Phase(name)
    recorder = RecordingObserver()
    with observe(recorder):
        await phase.cancel_when_there(lambda: phase.agent.arun("x"))
        phase.is_left.set()
    with anyio.fail_after(30):
        while any(span.ended is None for span in recorder.spans):
            await anyio.sleep(0.005)
    agents = [span for span in recorder.spans if span.kind == "agent"]
    assert agents[0] is recorder.spans[0]
    assert agents[0].status == "cancelled"
    assert len(agents) == (2 if name == "sub_agent" else 1)
    kinds = [span.kind for span in recorder.spans[:3]]
    assert kinds == ["agent", "step", "call"]
