"""Kills: runs of an agent are killed (SIGKILL) at random moments and while they wait, and resumed in new processes.

    uv run python -m benchmarks.campaigns.kills            # 200 of them, some minutes
    uv run python -m benchmarks.campaigns.kills 20 --seed 7

Each run has a script of its own (`kill_server.py`): some steps with tools that take a while, that need approval, that
run outside, or that are sub-agents with such tools. It is made once as it is, and once with a kill. Checked after the
second one:

- tools that were finished at the kill, by the checkpoint, ran once in all; others at most twice;
- the model was asked as often as without the kill, and once more if the kill came between a request and the checkpoint
  of its answer, which then was lost: at most one request a kill, or one of each sub-agent that was at work;
- the conversation is the same, message for message; no state can be resumed a second time.

The runs take turns on asyncio, trio and in plain code. A signing secret and a store are used throughout.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import select
import signal
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import anyio
import trio

from benchmarks.campaigns.kill_server import ANSWER, TASK, Call, count_requests, script, serve
from mellea.backends.openai import OpenAIBackend
from mellea.core.blocks import ToolOutput
from mellea.errors import UsageError
from mellea.stdlib.agents import Agent, AgentRun, Pending
from mellea.stdlib.tools import LoopState, as_tool
from mellea.tools import tool

SECRET = "a secret of the campaign"
WAYS = ("asyncio", "trio", "sync")
SECONDS = 60.0
"""After which a run that doesn't end has failed."""


@dataclass
class Place:
    """Where one run keeps what it keeps."""

    folder: Path
    address: str
    run: str
    seed: int
    way: str

    @property
    def checkpoint(self) -> Path:
        return self.folder / f"{self.run}.json"

    @property
    def log(self) -> Path:
        return self.folder / f"{self.run}.log"

    def state(self) -> Pending | None:
        """Return the latest state, if there is one."""
        return Pending.from_json(self.checkpoint.read_bytes()) if self.checkpoint.exists() else None

    def count_requests(self) -> int:
        with urllib.request.urlopen(f"{self.address}/count/{self.run}") as answer:
            return int(json.loads(answer.read()))

    def count_begun(self) -> Counter[str]:
        """Return how often each call has begun."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return Counter(line.split()[1] for line in lines if line.startswith("begin "))


def make_agent(place: Place) -> Agent[str]:
    def note(word: str, key: str) -> None:
        with open(place.log, "a") as log:
            log.write(f"{word} {key}\n")

    @tool
    async def work(key: str, milliseconds: int) -> str:
        """Work for a while."""
        note("begin", key)
        await anyio.sleep(milliseconds / 1000)
        note("end", key)
        return f"result of {key}"

    @tool(requires_approval=True)
    def buy(key: str, milliseconds: int) -> str:
        """Buy something."""
        note("begin", key)
        time.sleep(milliseconds / 1000)
        note("end", key)
        return f"result of {key}"

    @tool(runs="outside")
    def fetch(key: str, milliseconds: int) -> str:
        """Fetch something."""
        raise AssertionError

    backend = OpenAIBackend("m", base_url=f"{place.address}/{place.seed}/{place.run}/v1", api_key="-")
    store = place.folder / "resumes.db"
    team = Agent(backend, [work, buy, fetch], name="team")
    return Agent(backend, [work, buy, fetch, team], name="killed", secret=SECRET, store=store)


def answer(pending: Pending) -> dict[str, Any]:
    """Return the answers to all questions: yes, and the results from outside."""
    return {each.id: True if each.kind == "approval" else f"result of {each.id}" for each in pending.questions}


def live(place: Place, is_new: bool, tell: Callable[[bytes], object]) -> None:
    """Work as the process that is killed: begin a run, or go on with one; wait for ever where it waits for people."""
    agent = make_agent(place)

    async def begin_async() -> AgentRun[str]:
        state = place.state()
        if is_new or state is None:
            return await agent.arun(TASK, checkpoint=place.checkpoint)
        return await agent.aresume(place.checkpoint, answer(state))

    def begin() -> AgentRun[str]:
        state = place.state()
        if is_new or state is None:
            return agent.run(TASK, checkpoint=place.checkpoint)
        return agent.resume(place.checkpoint, answer(state))

    run = (
        begin() if place.way == "sync" else trio.run(begin_async) if place.way == "trio" else asyncio.run(begin_async())
    )
    if run.pending is not None:
        tell(b"P")
        signal.pause()
    assert run.value == ANSWER, run.value
    tell(b"D")


def refuse(place: Place, saved: list[bytes], tell: Callable[[bytes], object]) -> None:
    """Work as the process that tries to resume states which were resumed."""
    for text in saved:
        try:
            make_agent(place).resume(text, answer(Pending.from_json(text)))
        except UsageError as error:
            assert "has already been resumed" in str(error), error
        else:
            raise AssertionError("a state was resumed twice")
    tell(b"D")


def start(live: Callable[[Callable[[bytes], object]], None]) -> tuple[int, int]:
    """Fork a process that lives such a life; return its id and the pipe on which it tells how it ended."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        _live_and_exit(live, writing)
    os.close(writing)
    return process, reading


def _live_and_exit(live: Callable[[Callable[[bytes], object]], None], writing: int) -> NoReturn:
    status = 1
    try:
        live(lambda word: os.write(writing, word))
        status = 0
    except BaseException as error:  # noqa: BLE001 - the parent is told
        os.write(writing, b"E" + f"{type(error).__name__}: {error}".encode())
    finally:
        os._exit(status)


def watch(process: int, pipe: int, seconds: float) -> tuple[str, float]:
    """Wait for what a process tells, kill it after some seconds at the latest, and return how it ended and when."""
    began = time.monotonic()
    ready, _, _ = select.select([pipe], [], [], seconds)
    took = time.monotonic() - began
    told = os.read(pipe, 4096).decode() if ready else ""
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    os.close(pipe)
    if told.startswith("E"):
        raise AssertionError(told[1:])
    if ready and not told:
        raise AssertionError("the process died by itself")
    return told or "K", took


@dataclass
class Kill:
    """What was there when the process was killed."""

    finished: frozenset[str] = frozenset()
    requests_lost: int = 0
    agents_at_work: int = 1


def make(place: Place, kill_after: float | None) -> tuple[Kill | None, float]:
    """Make a run, with a kill after so many seconds of its work; return what there was then, and how long it took."""
    worked, kill, is_new = 0.0, None, True
    waited: list[bytes] = []  # states that were killed while they waited
    while True:
        left = SECONDS if kill_after is None or kill is not None else max(0.0, kill_after - worked)
        told, took = watch(*start(partial(live, place, is_new)), left)
        worked += took
        is_new = False
        if told == "D":
            assert watch(*start(partial(refuse, place, waited)), SECONDS)[0] == "D"
            return kill, worked
        if told == "P":
            waited.append(place.checkpoint.read_bytes())
            assert len(waited) < 20, "it waits for ever"
        if told == "K":
            if kill_after is None or kill is not None:
                raise AssertionError(f"the run took longer than {SECONDS:g} s")
            kill = look(place)


def look(place: Place) -> Kill:
    pending = place.state()
    if pending is None:
        return Kill(requests_lost=place.count_requests())
    state = pending.state
    finished = find_finished(state)
    teams = [key for calls in script(place.seed) for key, name, _ in calls if name == "team"]
    asked = state.step + sum(inner.step for inner in state.nested.values())
    for key in teams:
        if key in finished:
            steps = script(place.seed, key)
            asked += len(steps) + 1
            finished |= list_keys(steps)
    at_work = [key for key in state.calls if key in teams and key not in finished]
    return Kill(frozenset(finished), place.count_requests() - asked, max(1, len(at_work)))


def find_finished(state: LoopState) -> set[str]:
    """Return the ids of the calls that have a result in a state, those of sub-agents included."""
    blocks = [block for message in state.messages for block in message.blocks if isinstance(block, ToolOutput)]
    inner = [find_finished(inner) for inner in state.nested.values()]
    return {block.tool_call_id for block in blocks}.union(state.outputs, *inner)


def list_keys(steps: list[list[Call]]) -> set[str]:
    return {key for calls in steps for key, _, _ in calls}


def read(state: LoopState) -> list[tuple[str, list[Any]]]:
    """Return the conversation as the model reads it: the order in which a sub-agent's tools ended is up to chance."""
    return [
        (
            message.role,
            [replace(block, value=None) if isinstance(block, ToolOutput) else block for block in message.blocks],
        )
        for message in state.messages
    ]


def check(place: Place, whole: Place, kill: Kill | None) -> None:
    """Compare a run that was killed with the one that wasn't."""
    begun = place.count_begun()
    scripts = [script(place.seed)]
    scripts += [script(place.seed, key) for calls in scripts[0] for key, name, _ in calls if name == "team"]
    here = {key for steps in scripts for calls in steps for key, name, _ in calls if name in ("work", "buy")}
    assert set(begun) == here, (begun, here)
    lost = kill or Kill()
    assert all(begun[key] == 1 for key in lost.finished & here), ("a finished tool ran again", begun, lost)
    assert all(times <= 2 for times in begun.values()), begun
    assert 0 <= lost.requests_lost <= lost.agents_at_work, lost
    assert place.count_requests() == count_requests(place.seed) + lost.requests_lost, (place.count_requests(), lost)
    end, wanted = place.state(), whole.state()
    assert end is not None and wanted is not None and end.state.is_done
    assert read(end.state) == read(wanted.state)


def load() -> None:
    """Import what the processes need, so that a forked one begins at once; no loop and no thread is started."""
    for name in (
        "httpcore",
        "httpcore._async",
        "sqlite3",
        "zoneinfo",
        "anyio._backends._asyncio",
        "anyio._backends._trio",
    ):
        import_module(name)
    as_tool(load).spec.parameters  # noqa: B018 - it loads pydantic


def campaign(kills: int, seed: int) -> dict[str, int]:
    """Make so many runs with a kill each, and return what was seen."""
    load()
    seen: Counter[str] = Counter()
    chance = random.Random(seed)
    with serve() as address, tempfile.TemporaryDirectory() as folder:
        for number in range(kills):
            way = WAYS[number % len(WAYS)]
            whole = Place(Path(folder), address, f"w{number}", seed + number, way)
            _, seconds = make(whole, None)
            place = Place(Path(folder), address, f"k{number}", seed + number, way)
            kill, _ = make(place, chance.uniform(0, seconds))
            check(whole, whole, None)
            check(place, whole, kill)
            begun = place.count_begun()
            seen["kills"] += kill is not None
            seen["runs that had ended before the kill"] += kill is None
            seen["finished tools at a kill"] += len(kill.finished) if kill else 0
            seen["tools that ran twice"] += sum(times == 2 for times in begun.values())
            seen["agents at work at a kill"] += kill.agents_at_work if kill else 0
            seen["requests whose answer a kill lost"] += kill.requests_lost if kill else 0
            seen["runs with sub-agents"] += any(name == "team" for calls in script(place.seed) for _, name, _ in calls)
            seen[f"runs on {way}"] += 1
    return dict(seen)


def main() -> None:
    parser = argparse.ArgumentParser(description="Kill runs of an agent at random moments, and resume them.")
    parser.add_argument("kills", nargs="?", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    began = time.monotonic()
    for what, count in campaign(asked.kills, asked.seed).items():
        print(f"{count:6} {what}")
    print(f"{time.monotonic() - began:6.1f} seconds; nothing was done twice that had been finished", file=sys.stderr)


if __name__ == "__main__":
    main()
