"""The figures of agents: what a step costs besides the model and the tools, and how that grows with the run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import process_time
from typing import Any

from benchmarks.pairs import Samples, Setting, interleave, on_loop
from mellea.core import ToolCall
from mellea.events import ToolEnd
from mellea.testing import ScriptedBackend

TOOLS = 20


def make_tool(number: int) -> Callable[..., Any]:
    async def work(x: int, note: str = "") -> int:
        """Return the number.

        Args:
            x: the number.
            note: a note.
        """
        return x

    work.__name__ = f"tool{number}"
    return work


def make_agent(steps: int) -> Any:
    """Make an agent that calls one of its 20 tools in each step but the last."""
    from mellea.stdlib.agents import Agent, Limits  # lazy: another checkout may have none

    scripts: list[list[Any]] = [
        [f"Step {n}. ", ToolEnd(ToolCall(f"c{n}", f"tool{n % TOOLS}", {"x": n}))] for n in range(steps - 1)
    ]
    tools = [make_tool(number) for number in range(TOOLS)]
    return Agent(ScriptedBackend(*scripts, ["Done."]), tools, limits=Limits(steps=steps))


async def run_steps(steps: int) -> float:
    """Microseconds of CPU for each step of a run; making the agent and its schemas is part of it."""
    before = process_time()
    run = await make_agent(steps).arun("Go.")
    seconds = process_time() - before
    assert (len(run.steps), run.value) == (steps, "Done.")
    return seconds / steps * 1e6


def step(setting: Setting) -> Samples:
    """Microseconds for each of 50 steps."""
    with asyncio.Runner() as runner:
        runner.run(run_steps(50))
        return Samples([], [runner.run(run_steps(setting.size(50, 10))) for _ in range(setting.pairs)])


def growth(setting: Setting) -> Samples:
    """Microseconds for each step of runs of 500 and of 50; the schemas of the tools are left out of both."""
    few, many = setting.size(50, 10), setting.size(500, 50)

    async def warm(steps: int) -> float:
        agent = make_agent(steps)
        for tool in agent.tools:
            _ = tool.spec
        before = process_time()
        run = await agent.arun("Go.")
        seconds = process_time() - before
        assert len(run.steps) == steps
        return seconds / steps

    async def by_few() -> float:
        return min([await warm(few) for _ in range(10)])

    async def by_many() -> float:
        return min([await warm(many) for _ in range(2)])

    with asyncio.Runner() as runner:
        return interleave(on_loop(runner, by_few), on_loop(runner, by_many), setting.pairs).times(1e6)
