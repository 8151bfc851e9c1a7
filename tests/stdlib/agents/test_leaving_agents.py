"""Leaving an agent in every phase, by `break`, by cancelling and by closing, leaves nothing behind that still works."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from mellea.core import ToolCall
from mellea.core.events import Event, NestedEvent, TextDelta, ToolEnd, ToolProgress, ToolStart
from mellea.core.observer import observe
from mellea.errors import GenerationCancelledError
from mellea.stdlib.agents import Agent
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
        kinds: dict[str, type[Event]] = {"text": TextDelta, "call": ToolStart, "generator": ToolProgress}
        if self.name == "sub_agent":
            return isinstance(event, NestedEvent) and isinstance(event.event, TextDelta)
        return isinstance(event, kinds.get(self.name, ToolEnd))

    async def check(self, tasks: int) -> None:
        """Check that nothing works any more.

        Args:
            tasks: how many tasks there were before.
        """
        self.is_left.set()
        with anyio.fail_after(5):
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


PHASES = ["request", "text", "call", "sync_tool", "async_tool", "generator", "sub_agent"]


@pytest.mark.parametrize("name", PHASES)
@pytest.mark.parametrize("way", ["break", "cancel", "aclose", "run"])
async def test_nothing_is_left(name: str, way: str) -> None:
    phase = Phase(name)
    await anyio.lowlevel.checkpoint()
    tasks = count_tasks()
    if way == "run":
        with anyio.move_on_after(0.05):
            await phase.agent.arun("x")
    elif way == "cancel":
        with anyio.move_on_after(0.05):
            [chunk async for chunk in phase.agent.astream("x")]
    else:
        stream = phase.agent.astream("x")
        async with stream:
            with anyio.move_on_after(0.05 if name == "request" else 5):
                async for event in stream.events():
                    if phase.has_come(event):
                        break
            if way == "aclose":
                await stream.aclose()
                with pytest.raises(GenerationCancelledError):
                    [chunk async for chunk in stream]
    await phase.check(tasks)


@pytest.mark.parametrize("name", PHASES)
async def test_spans_end_however_an_agent_is_left(name: str) -> None:
    phase = Phase(name)
    recorder = RecordingObserver()
    with observe(recorder):
        with anyio.move_on_after(0.05):
            await phase.agent.arun("x")
        phase.is_left.set()
    with anyio.fail_after(5):
        while any(span.ended is None for span in recorder.spans):
            await anyio.sleep(0.005)
    agents = [span for span in recorder.spans if span.kind == "agent"]
    assert agents[0] is recorder.spans[0]
    assert agents[0].status == "cancelled"
    assert len(agents) == (2 if name == "sub_agent" else 1)
    kinds = [span.kind for span in recorder.spans[:3]]
    assert kinds == ["agent", "step", "call"]
