"""The figures through a real socket: the whole library against the floor, CPU of the client's process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from statistics import median
from time import process_time
from typing import Any

import httpx

from benchmarks import floor
from benchmarks.pairs import Samples, Setting, interleave, on_loop
from benchmarks.server import text
from mellea import MelleaSession, ModelOption
from mellea.backends.openai import OpenAIBackend

PROMPT = floor.MESSAGES[0]["content"]

IN_A_ROW = 200
"""How many calls a client makes in a row where the cost of one call is measured."""

Read = Callable[[MelleaSession], Awaitable[str | None]]
Once = Callable[[], Awaitable[str | None]]


# -- how ours is read -----------------------------------------------------------------------------------


async def by_text(session: MelleaSession) -> str | None:
    thunk = await session.ainstruct(PROMPT, await_result=False)
    async for _ in thunk:
        pass
    return thunk.value


async def by_events(session: MelleaSession) -> str | None:
    thunk = await session.ainstruct(PROMPT, await_result=False)
    async for _ in thunk.events():
        pass
    return thunk.value


async def by_polling(session: MelleaSession) -> str | None:
    thunk = await session.ainstruct(PROMPT, await_result=False)
    while not thunk.is_computed():
        await thunk.astream()
    return thunk.value


async def by_value(session: MelleaSession) -> str | None:
    thunk = await session.ainstruct(PROMPT, model_options={ModelOption.STREAM: False})
    return thunk.value


# -- what is measured -----------------------------------------------------------------------------------


class Bench:
    """A floor and a session, warm, on one event loop."""

    def __init__(self, setting: Setting, runner: asyncio.Runner, **how: float) -> None:
        self.url = setting.url + "/" + ",".join(f"{name}={value}" for name, value in how.items())
        self.chunks = int(how["chunks"])
        self.pairs = setting.pairs
        self.session = MelleaSession(OpenAIBackend("bench", base_url=f"{self.url}/v1", api_key=""))
        self.client = runner.run(_client())

    async def floor(self) -> str:
        return await floor.stream(self.client, self.url)

    async def floor_plain(self) -> str:
        return await floor.plain(self.client, self.url)

    async def floor_first(self) -> float:
        """Return the seconds of CPU to the first text; the rest is read and not counted."""
        found: list[float] = []
        before = process_time()
        await floor.stream(self.client, self.url, lambda: found.append(process_time() - before))
        return found[0]

    async def cpu(self, once: Once, streams: int = 1) -> float:
        """Return the seconds of CPU that some streams at once take, and see that their text is whole."""
        before = process_time()
        found = await asyncio.gather(*(once() for _ in range(streams))) if streams > 1 else [await once()]
        seconds = process_time() - before
        assert found == [text(self.chunks)] * streams, "a text is not what was sent"
        return seconds

    def compare(self, runner: asyncio.Runner, read: Read, pairs: int, streams: int = 1) -> Samples:
        """Return microseconds for each chunk."""
        ours = on_loop(runner, lambda: self.cpu(lambda: read(self.session), streams))
        samples = interleave(on_loop(runner, lambda: self.cpu(self.floor, streams)), ours, pairs)
        runner.run(self.close())
        return samples.times(1e6 / self.chunks / streams)

    async def close(self) -> None:
        await self.client.aclose()
        await self.session.aclose()


async def _client() -> httpx.AsyncClient:
    return floor.client()


def one_stream(read: Read) -> Callable[[Setting], Samples]:
    """W1: one stream that is sent all at once."""

    def measure(setting: Setting) -> Samples:
        with asyncio.Runner() as runner:
            bench = Bench(setting, runner, chunks=setting.size(2000, 200))
            return bench.compare(runner, read, setting.pairs)

    return measure


def one_sync_stream(setting: Setting) -> Samples:
    """W1 by `for chunk in m.stream(…)`, against the same asynchronous floor."""
    with asyncio.Runner() as runner:
        bench = Bench(setting, runner, chunks=setting.size(2000, 200))

        def ours() -> float:
            before = process_time()
            found = "".join(bench.session.stream(PROMPT))
            seconds = process_time() - before
            assert found == text(bench.chunks), "a text is not what was sent"
            return seconds

        samples = interleave(on_loop(runner, lambda: bench.cpu(bench.floor)), ours, setting.pairs)
        bench.session.close()
        runner.run(bench.client.aclose())
        return samples.times(1e6 / bench.chunks)


def growth(setting: Setting) -> Samples:
    """W2 against W1, both ours: microseconds for each chunk of ten times as many."""
    with asyncio.Runner() as runner:
        small = Bench(setting, runner, chunks=setting.size(2000, 200))
        large = Bench(setting, runner, chunks=10 * small.chunks)

        async def several() -> float:
            return median([await small.cpu(lambda: by_text(small.session)) for _ in range(5)]) / small.chunks

        async def one() -> float:
            return await large.cpu(lambda: by_text(large.session)) / large.chunks

        samples = interleave(on_loop(runner, several), on_loop(runner, one), setting.pairs)
        for bench in (small, large):
            runner.run(bench.close())
        return samples.times(1e6)


def many_streams(setting: Setting) -> Samples:
    """W3: streams at once, each sent all at once."""
    with asyncio.Runner() as runner:
        bench = Bench(setting, runner, chunks=setting.size(200, 50))
        return bench.compare(runner, by_text, setting.pairs, streams=setting.size(200, 20))


def spaced_streams(setting: Setting) -> Samples:
    """W8: streams at once, each with 2 ms between its chunks."""
    with asyncio.Runner() as runner:
        bench = Bench(setting, runner, chunks=setting.size(200, 25), spacing=2)
        return bench.compare(runner, by_text, setting.pairs, streams=setting.size(32, 8))


def first_text(setting: Setting) -> Samples:
    """W4: from the call to the first text, on a warm client; the rest is read and not counted."""
    calls = setting.size(IN_A_ROW, 5)
    with asyncio.Runner() as runner:
        bench = Bench(setting, runner, chunks=1, spacing=1)

        async def by_ours() -> float:
            before = process_time()
            thunk = await bench.session.ainstruct(PROMPT, await_result=False)
            await anext(aiter(thunk))
            seconds = process_time() - before
            await thunk
            return seconds

        return _repeated(runner, bench, bench.floor_first, by_ours, calls, setting.pairs)


def plain_request(setting: Setting) -> Samples:
    """W5: a request that is answered by one plain JSON response."""
    calls = setting.size(IN_A_ROW, 5)
    with asyncio.Runner() as runner:
        bench = Bench(setting, runner, chunks=20)

        async def by_floor() -> float:
            return await bench.cpu(bench.floor_plain)

        async def by_ours() -> float:
            return await bench.cpu(lambda: by_value(bench.session))

        return _repeated(runner, bench, by_floor, by_ours, calls, setting.pairs)


def _repeated(runner: asyncio.Runner, bench: Bench, by_floor: Any, by_ours: Any, calls: int, pairs: int) -> Samples:
    """Return milliseconds for each of some calls in a row."""

    async def total(measure: Any) -> float:
        return float(sum([await measure() for _ in range(calls)]))

    samples = interleave(on_loop(runner, lambda: total(by_floor)), on_loop(runner, lambda: total(by_ours)), pairs)
    runner.run(bench.close())
    return samples.times(1000 / calls)
