"""The figures without a wire: what session and thunk cost for each delta, on the scripted backend.

The floor here is the backend's own iterator, read in a bare loop; its pauses let other tasks run, as a socket
that has nothing to read does.
"""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import Callable
from statistics import median
from time import process_time

from benchmarks.pairs import Samples, Setting, interleave, on_loop
from benchmarks.wire import PROMPT, Read, by_polling
from mellea import MelleaSession, Message
from mellea.core.backend import Request
from mellea.core.events import TextDelta
from mellea.testing import Pause, ScriptedBackend

REQUEST = Request((Message("user", PROMPT),))
DELTA = " word"


def session(deltas: int, burst: int) -> MelleaSession:
    """Make a session whose model says so many deltas, so many of them in one go."""
    steps: list[Pause | TextDelta] = []
    for number in range(deltas):
        if number % burst == 0:
            steps.append(Pause(0))
        steps.append(TextDelta(DELTA))
    return MelleaSession(ScriptedBackend(steps))


async def bare(session: MelleaSession) -> str:
    """Read the backend itself."""
    pieces = []
    async for event in session.backend.run(REQUEST):
        if type(event) is TextDelta:
            pieces.append(event.chunk)
    return "".join(pieces)


async def cpu(read: Read, session: MelleaSession, deltas: int, streams: int = 1) -> float:
    before = process_time()
    found = await asyncio.gather(*(read(session) for _ in range(streams))) if streams > 1 else [await read(session)]
    seconds = process_time() - before
    assert found == [DELTA * deltas] * streams, "a text is not what was scripted"
    return seconds


def per_delta(read: Read, burst: int, streams: int = 1) -> Callable[[Setting], Samples]:
    """Microseconds for each delta, against the bare backend."""

    def measure(setting: Setting) -> Samples:
        deltas = setting.size(2000, 200) if streams == 1 else setting.size(200, 50)
        with asyncio.Runner() as runner:
            played = session(deltas, burst)
            samples = interleave(
                on_loop(runner, lambda: cpu(bare, played, deltas, streams)),
                on_loop(runner, lambda: cpu(read, played, deltas, streams)),
                setting.pairs,
            )
        return samples.times(1e6 / deltas / streams)

    return measure


def growth(read: Read) -> Callable[[Setting], Samples]:
    """Microseconds for each delta of 1,000 and of 200,000, without what a stream of one delta costs."""

    def measure(setting: Setting) -> Samples:
        burst = 20
        small, large = setting.size(1000, 500), setting.size(200_000, 10_000)
        one, few, many = session(1, burst), session(small, burst), session(large, burst)

        async def cheap(played: MelleaSession, deltas: int) -> float:
            return median([await cpu(read, played, deltas) for _ in range(15)])

        async def by_few() -> float:
            return (await cheap(few, small) - await cheap(one, 1)) / small

        async def by_many() -> float:
            return (await cpu(read, many, large) - await cheap(one, 1)) / large

        with asyncio.Runner() as runner:
            return interleave(on_loop(runner, by_few), on_loop(runner, by_many), setting.pairs).times(1e6)

    return measure


def polling_growth(setting: Setting) -> Samples:
    """The same for polling, which copies the text each time by contract: 500 and 2,000 deltas, one at a time."""
    small, large = setting.size(500, 100), setting.size(2000, 400)
    few, many = session(small, 1), session(large, 1)

    async def by_few() -> float:
        return median([await cpu(by_polling, few, small) for _ in range(5)]) / small

    async def by_many() -> float:
        return await cpu(by_polling, many, large) / large

    with asyncio.Runner() as runner:
        return interleave(on_loop(runner, by_few), on_loop(runner, by_many), setting.pairs).times(1e6)


def memory(deltas: int) -> Callable[[Setting], Samples]:
    """Kilobytes that computed thunks take, against those of their text alone."""

    def measure(setting: Setting) -> Samples:
        count = setting.size(1000, 50)
        with asyncio.Runner() as runner:
            played = session(deltas, 20)
            runner.run(_computed(played, 10))
            gc.collect()
            tracemalloc.start()
            before = tracemalloc.get_traced_memory()[0]
            thunks = runner.run(_computed(played, count))
            for _ in range(2):
                gc.collect()
            taken = tracemalloc.get_traced_memory()[0] - before
            tracemalloc.stop()
        text = sum(len(str(thunk).encode()) for thunk in thunks)
        return Samples([text / 1000], [taken / 1000])

    return measure


async def _computed(played: MelleaSession, count: int) -> list[object]:
    thunks: list[object] = []
    for _ in range(count):
        thunk = await played.ainstruct(PROMPT, await_result=False)
        async for _ in thunk:
            pass
        thunks.append(thunk)
        played.backend.requests.clear()  # type: ignore[attr-defined]
        played.backend.closed.clear()  # type: ignore[attr-defined]
    return thunks
