"""The figures of the record: what a call costs more while it is recorded, and how large the file becomes.

`record-more` is what it costs the thread that makes the call, by its own CPU clock; `record-more-all` is what it costs
the process, the thread that writes included, to the last commit. Both are in microseconds a call, on the scripted
backend. `record-delta` is an answer of 20,000 deltas with content, recorded against not, by the calling thread.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import process_time, thread_time
from typing import Any

import mellea
from benchmarks.pairs import Samples, Setting, interleave, on_loop
from benchmarks.wire import PROMPT
from mellea.core import Usage
from mellea.testing import ScriptedBackend

ANSWER = "The sea is blue, since water takes the red out of the light of the sun, and gives the rest back."


def _session(answer: list[str]) -> mellea.MelleaSession:
    return mellea.MelleaSession(ScriptedBackend(answer, usage=Usage(10, 20)))


async def _ask(session: mellea.MelleaSession, calls: int) -> None:
    for _ in range(calls):
        await session.ainstruct(PROMPT)
    backend: Any = session.backend
    backend.requests.clear()
    backend.closed.clear()


def _pairs(setting: Setting, clock: Callable[[], float], *, content: bool, answer: list[str], calls: int) -> Samples:
    """Seconds of a call, not recorded and recorded; what is written is waited for, if the clock counts it."""
    session = _session(answer)

    async def floor() -> float:
        before = clock()
        await _ask(session, calls)
        return (clock() - before) / calls

    with tempfile.TemporaryDirectory() as folder, asyncio.Runner() as runner:

        async def ours() -> float:
            with mellea.traces.record(Path(folder, "runs.db"), content=content) as recording:
                before = clock()
                await _ask(session, calls)
                if clock is process_time:
                    recording.flush()
                return (clock() - before) / calls

        return interleave(on_loop(runner, floor), on_loop(runner, ours), setting.pairs)


def more(*, content: bool, is_of_caller: bool) -> Callable[[Setting], Samples]:
    """Microseconds that a call costs more, recorded than not: the thread that makes it, or the process."""
    clock = thread_time if is_of_caller else process_time

    def measure(setting: Setting) -> Samples:
        pairs = _pairs(setting, clock, content=content, answer=[ANSWER], calls=setting.size(400, 2)).times(1e6)
        return Samples([], [ours - floor for floor, ours in zip(pairs.floor, pairs.ours, strict=True)])

    return measure


def per_delta(setting: Setting) -> Samples:
    """Microseconds a delta of the calling thread, not recorded and recorded with content."""
    deltas = setting.size(20_000, 100)
    return _pairs(setting, thread_time, content=True, answer=["x"] * deltas, calls=1).times(1e6 / deltas)


def size(*, content: bool) -> Callable[[Setting], Samples]:
    """Megabytes of the file after 10,000 calls."""

    def measure(setting: Setting) -> Samples:
        calls = setting.size(10_000, 100)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "runs.db")
            with mellea.traces.record(file, content=content):
                asyncio.run(_ask(_session([ANSWER]), calls))
            return Samples([], [file.stat().st_size / 1e6 / calls * 10_000])

    return measure
