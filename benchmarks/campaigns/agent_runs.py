"""Random runs of agents: what their streams show has to be the answer of a plain run, and nothing of a call.

    uv run python -m benchmarks.campaigns.agent_runs           # 5,000 scripts on asyncio and on trio: 6 minutes
    uv run python -m benchmarks.campaigns.agent_runs 200 --seed 7

Each script has random steps, tools (sync, async, generators, sub-agents, unknown ones), failures, text before and
between calls, empty answers and cuts. It is run four ways: `arun`, `astream`, `stream`, and `astream` with `live=True`.
Checked: the chunks concatenate to the answer of the run, exactly one is final (none, if the run fails), no character of
a call shows, the logs of the sync and the async stream are equal, steps count from 1.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.to_thread

from mellea.core import ToolCall, Usage
from mellea.core.accumulator import join_deltas
from mellea.core.events import Event, NestedEvent, ReasoningDelta, StreamEnd, ToolDelta, ToolEnd, ToolStart, UsageEvent
from mellea.errors import MelleaError, RateLimitError
from mellea.stdlib.agents import Agent, AgentRun
from mellea.stdlib.streaming import StreamChunk
from mellea.stdlib.tools import ToolLoop
from mellea.testing import Pause, ScriptedBackend

__all__ = ["try_seed"]

MARK = "☎"
"""Stands in every call, and in no text."""

WORDS = [
    *("", "a", "The cat ", "sat.\n", "é", "👩\u200d👩\u200d👧", "e\u0301", "\r\n"),
    *("{", '{"name": "look"}', "</tool_call>", "[1, 2]"),
]


def works(what: str) -> str:
    """Work."""
    return f"{MARK} done {what}"


async def fails(what: str) -> str:
    """Fail."""
    raise LookupError(f"{MARK} no {what}")


def reports(what: str) -> Iterator[str]:
    """Report."""
    yield f"{MARK} half"
    yield f"{MARK} whole {what}"


@dataclass
class RandomRun:
    """One random run: what the model says in each step, and how the agent is set up."""

    seed: int
    scripts: list[list[Any]] = field(init=False)
    loop: ToolLoop = field(init=False)
    size: int | None = field(init=False)
    has_sub_agent: bool = field(init=False)

    def __post_init__(self) -> None:
        chance = random.Random(self.seed)
        count = chance.randint(0, 4)
        self.has_sub_agent = chance.random() < 0.2
        self.scripts = [self._step(chance, number, chance.randint(1, 3)) for number in range(count)]
        self.scripts.append(self._step(chance, count, 0))
        if chance.random() < 0.15:  # a cut, somewhere
            script = chance.choice(self.scripts)
            script.insert(chance.randint(0, len(script)), RateLimitError("cut"))
        self.loop = ToolLoop(
            chance.choice([1, 2, 3, 10]),
            on_limit=chance.choice(["raise", "return"]),
            concurrency=1,  # so that events have one order
        )
        self.size = chance.choice([None, None, 1, 3, 50])

    def _step(self, chance: random.Random, step: int, calls: int) -> list[Any]:
        script: list[Any] = []
        if chance.random() < 0.3:
            script.append(ReasoningDelta(chance.choice(["hm", "so"])))
        script += self._text(chance)
        for number in range(calls):
            script += self._call(chance, f"c{step}-{number}")
            script += self._text(chance) if chance.random() < 0.2 else []
        if chance.random() < 0.5:
            script.append(UsageEvent(Usage(chance.randint(0, 9), chance.randint(0, 9))))
        if chance.random() < 0.1:
            script.append(StreamEnd("length"))
        return script

    def _text(self, chance: random.Random) -> list[Any]:
        pieces: list[Any] = [chance.choice(WORDS) for _ in range(chance.choice([0, 0, 1, 3, 6]))]
        if chance.random() < 0.1:
            pieces.insert(chance.randint(0, len(pieces)), Pause(0))
        return pieces

    def _call(self, chance: random.Random, call_id: str) -> list[Any]:
        names = ["works", "fails", "reports", "unknown"] + ["helper"] * self.has_sub_agent
        name = chance.choice(names)
        args = {"task" if name == "helper" else "what": f"{MARK}{call_id}"}
        if chance.random() < 0.1:
            args = {"wrong": MARK}
        whole = ToolCall(call_id, name, args, f'{{"what": "{MARK}"}}', is_valid=chance.random() > 0.05)
        return [ToolStart(call_id, name), ToolDelta(call_id, MARK), ToolDelta(call_id, MARK), ToolEnd(whole)]

    def agent(self) -> Agent[str]:
        """Return a new agent that runs it."""
        tools: list[Any] = [works, fails, reports]
        if self.has_sub_agent:
            tools.append(Agent(ScriptedBackend([f"{MARK} said"]), name="helper"))
        return Agent(ScriptedBackend(*self.scripts), tools, loop=self.loop)


@dataclass
class Outcome:
    """What one way of running it came to."""

    chunks: list[StreamChunk] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    run: AgentRun[str] | None = None
    error: str | None = None

    def note(self, error: MelleaError) -> None:
        """Note what it failed with."""
        self.error = f"{type(error).__name__}: {error}"

    def log(self) -> list[str]:
        """Return the events in a form that compares; how deltas were joined on the way doesn't count."""
        return [repr(event) for event in join_deltas(self.events)]


def check_run(random_run: RandomRun, ways: dict[str, Outcome], live: Outcome) -> None:
    """Check what has to hold.

    Args:
        random_run: what was run.
        ways: `"run"`, and the streams, sync and async, by name.
        live: an async stream with `live=True`.

    Raises:
        AssertionError: something doesn't.
    """
    plain = ways["run"]
    streams = [outcome for name, outcome in ways.items() if name != "run"]
    for outcome in streams:
        assert outcome.error == plain.error
        assert outcome.chunks == streams[0].chunks
        assert outcome.log() == streams[0].log()
    finals = [chunk.is_final for chunk in streams[0].chunks]
    if plain.run is None:
        assert not any(finals)
    else:
        assert finals == [False] * (len(finals) - 1) + [True]
        assert "".join(chunk.text for chunk in streams[0].chunks) == plain.run.value
        assert all(outcome.run is not None and outcome.run.value == plain.run.value for outcome in streams)
        assert all(outcome.run is not None and outcome.run.messages == plain.run.messages for outcome in streams)
        assert [chunk.is_final for chunk in live.chunks].count(True) == 1
        assert live.chunks[-1] == StreamChunk("", len(plain.run.steps), is_final=True)
        if plain.run.limit is None:
            last = [chunk.text for chunk in live.chunks if chunk.step == len(plain.run.steps)]
            assert "".join(last) == plain.run.value
    for chunk in [*streams[0].chunks, *live.chunks]:
        assert MARK not in chunk.text
    starts = [event.step for event in streams[0].events if type(event).__name__ == "StepStart"]
    assert starts == list(range(1, len(starts) + 1))
    assert not any(isinstance(event, NestedEvent) for event in streams[0].events) or random_run.has_sub_agent


def run_plainly(random_run: RandomRun) -> Outcome:
    """Read a synchronous stream, chunks and events."""
    outcome = Outcome()
    with random_run.agent().stream("x", chunk_size=random_run.size) as stream:
        _read(outcome, lambda: outcome.chunks.extend(stream))
        _read(outcome, lambda: outcome.events.extend(stream.events()))
        if outcome.error is None:
            outcome.run = stream.result
    return outcome


def _read(outcome: Outcome, read: Callable[[], object]) -> None:
    try:
        read()
    except MelleaError as error:
        outcome.note(error)


async def run_async(random_run: RandomRun) -> dict[str, Outcome]:
    """Run it in the async ways: `run`, a stream, and a live stream."""
    found = {name: Outcome() for name in ("run", "astream", "live")}
    try:
        found["run"].run = await random_run.agent().arun("x")
    except MelleaError as error:
        found["run"].note(error)
    for name in ("astream", "live"):
        outcome = found[name]
        async with random_run.agent().astream("x", chunk_size=random_run.size, live=name == "live") as stream:
            try:
                async for chunk in stream:
                    outcome.chunks.append(chunk)
            except MelleaError as error:
                outcome.note(error)
            try:
                async for event in stream.events():
                    outcome.events.append(event)
            except MelleaError as error:
                outcome.note(error)
            if outcome.error is None:
                outcome.run = stream.result
    return found


async def try_seed(seed: int) -> None:
    """Run one script in every way, and check what has to hold.

    Raises:
        AssertionError: something doesn't; a note says for which seed.
    """
    random_run = RandomRun(seed)
    found = await run_async(random_run)
    live = found.pop("live")
    found["stream"] = await anyio.to_thread.run_sync(run_plainly, random_run)
    try:
        check_run(random_run, found, live)
    except AssertionError as error:
        error.add_note(f"seed {seed}: {random_run!r}")
        raise


async def _try_many(first: int, count: int) -> None:
    for seed in range(first, first + count):
        await try_seed(seed)


def main() -> None:
    """Run the campaign."""
    parser = argparse.ArgumentParser("python -m benchmarks.campaigns.agent_runs")
    parser.add_argument("count", type=int, nargs="?", default=5000)
    parser.add_argument("--seed", type=int, default=0, help="of the first script; the others count up from it")
    asked = parser.parse_args()
    for loop in ("asyncio", "trio"):
        anyio.run(_try_many, asked.seed, asked.count, backend=loop)
        print(f"{loop}: {asked.count:,} scripts hold")


if __name__ == "__main__":
    main()
