"""The figures of many streams at once: seconds on the clock, since what matters is who is late.

Each stream has 50 deltas, 200 ms apart, so ten seconds are the least; the server runs in another process. Measured is
wall clock: from the first call to the last end, and to the first text of the stream that gets it last.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import httpx

from benchmarks import floor
from benchmarks.pairs import Samples, Setting, Skipped
from benchmarks.server import allow_files, text
from mellea import MelleaSession
from mellea.backends.openai import OpenAIBackend

SPACING = 200
PAIRS = 1
"""A pair takes between 20 s and some minutes."""

Stream = Callable[[Callable[[], None]], Awaitable[str | None]]
"""Reads one stream, and calls what it is given with the first text."""


async def _all(stream: Stream, streams: int, expected: str) -> tuple[float, float]:
    """Return the seconds to the last stream's first text, and those to the end."""
    begun, first = time.perf_counter(), 0.0

    def seen() -> None:
        nonlocal first
        first = time.perf_counter() - begun

    found = await asyncio.gather(*(stream(seen) for _ in range(streams)))
    seconds = time.perf_counter() - begun
    assert found == [expected] * streams, "a text is not what was sent"
    return first, seconds


async def _by_floor(url: str, streams: int, chunks: int) -> tuple[float, float]:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
    async with httpx.AsyncClient(limits=limits, verify=False, timeout=None) as client:
        return await _all(lambda first: floor.stream(client, url, first), streams, text(chunks))


async def _by_ours(url: str, streams: int, chunks: int) -> tuple[float, float]:
    async with MelleaSession(OpenAIBackend("bench", base_url=f"{url}/v1", api_key="")) as session:

        async def stream(first: Callable[[], None]) -> str | None:
            thunk = await session.ainstruct(floor.MESSAGES[0]["content"], await_result=False)
            deltas = aiter(thunk)
            await anext(deltas)
            first()
            async for _ in deltas:
                pass
            return thunk.value

        return await _all(stream, streams, text(chunks))


def streams(number: int, *, is_first: bool = False) -> Callable[[Setting], Samples]:
    """Seconds of some streams at once: to the end, or to the first text of the last one."""

    def measure(setting: Setting) -> Samples:
        count, chunks = setting.size(number, 50), setting.size(50, 5)
        _need_files(count)
        url = f"{setting.url}/chunks={chunks},spacing={SPACING}"
        samples = Samples([], [])
        for _ in range(min(setting.pairs, PAIRS)):
            for measure_one, into in ((_by_floor, samples.floor), (_by_ours, samples.ours)):
                first, seconds = asyncio.run(measure_one(url, count, chunks))
                into.append(first if is_first else seconds)
        return samples

    return measure


def _need_files(count: int) -> None:
    """Raise this process's limit of open files, where the system lets us; the server does the same."""
    if not allow_files(count + 200):
        raise Skipped(f"{count + 200} open files are needed, and fewer are allowed (ulimit -Hn)")
