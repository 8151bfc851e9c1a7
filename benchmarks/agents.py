"""The figures of agents: what a step costs besides the model and the tools, and how that grows with the run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from time import process_time
from typing import Any

from benchmarks.agent_peer import PEERS, make_tool
from benchmarks.pairs import Samples, Setting, interleave, on_loop
from benchmarks.peers import running_script
from mellea.core import ToolCall
from mellea.events import ToolEnd
from mellea.testing import ScriptedBackend

__all__ = ["PEERS", "growth", "step", "step_of_peer"]

TOOLS = 20

SCRIPT = Path(__file__).with_name("agent_peer.py")


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


async def run_warm(steps: int) -> float:
    """Seconds of CPU for each step of a run; making the agent and its schemas is left out."""
    agent = make_agent(steps)
    for tool in agent.tools:
        _ = tool.spec
    before = process_time()
    run = await agent.arun("Go.")
    seconds = process_time() - before
    assert len(run.steps) == steps
    return seconds / steps


def growth(setting: Setting) -> Samples:
    """Microseconds for each step of runs of 500 and of 50; the schemas of the tools are left out of both."""
    few, many = setting.size(50, 10), setting.size(500, 50)

    async def by_few() -> float:
        return min([await run_warm(few) for _ in range(10)])

    async def by_many() -> float:
        return min([await run_warm(many) for _ in range(2)])

    with asyncio.Runner() as runner:
        return interleave(on_loop(runner, by_few), on_loop(runner, by_many), setting.pairs).times(1e6)


def step_of_peer(peer: str) -> Callable[[Setting], Samples]:
    """Microseconds for each of 50 steps, of ours (column floor) and of another library's agent (column ours)."""

    def measure(setting: Setting) -> Samples:
        steps = setting.size(50, 10)
        with asyncio.Runner() as runner, running_script(SCRIPT, peer, str(steps), str(TOOLS)) as ask:

            def theirs() -> float:
                seconds, times = ask()
                assert int(times) == steps, f"{peer} asked its model {times} times, not {steps}"
                return float(seconds) / steps

            return interleave(on_loop(runner, lambda: run_warm(steps)), theirs, min(setting.pairs, 7)).times(1e6)

    return measure
