"""How far a reader of the code has to go: from a call to its first chunk, and with each chunk after it.

`sys.setprofile` counts, in the thread of the event loop, every time that a Python function is entered or goes on after
a wait, if its code stands in a file of the package `mellea`. Comprehensions and generators count as the functions that
they are to the interpreter; functions in C, and those of other packages, don't count. The client is warm, and the
chunks come 5 ms apart, so that on an idle machine each is read by itself; the median of several counts is taken.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from statistics import median
from types import CodeType, FrameType
from typing import Any

import mellea
from benchmarks.pairs import Samples, Setting
from benchmarks.wire import PROMPT
from mellea import MelleaSession
from mellea.backends.openai import OpenAIBackend

PACKAGE = os.path.dirname(mellea.__file__) + os.sep

CHUNKS = 20


class Tracer:
    """Counts calls into the package's code while it is on."""

    def __init__(self) -> None:
        self._calls: dict[CodeType, int] = {}

    def __enter__(self) -> Tracer:
        sys.setprofile(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _note(self, frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(PACKAGE):
            self._calls[code] = self._calls.get(code, 0) + 1

    def counts(self) -> dict[str, int]:
        """Return how many calls there were, of how many functions, in how many files."""
        files = {code.co_filename for code in self._calls}
        return {"calls": sum(self._calls.values()), "functions": len(self._calls), "files": len(files)}


async def trace(session: MelleaSession) -> tuple[Tracer, Tracer]:
    """Return what was passed from a call to its first chunk, and by the `CHUNKS` that are read after that."""
    down, steady = Tracer(), Tracer()
    with down:
        thunk = await session.ainstruct(PROMPT, await_result=False)
        texts = aiter(thunk)
        await anext(texts)
    with steady:
        for _ in range(CHUNKS):
            await anext(texts)
    await thunk
    return down, steady


def count(what: str, *, per_chunk: bool = False) -> Callable[[Setting], Samples]:
    """Count `calls`, `functions` or `files` to the first chunk, or of each chunk after it."""

    async def typical(url: str) -> float:
        address = f"{url}/chunks={3 * CHUNKS},spacing=5/v1"
        async with MelleaSession(OpenAIBackend("bench", base_url=address, api_key="")) as session:
            traced = [(await trace(session))[per_chunk] for _ in range(6)][1:]  # the first call warms up
        found = median(tracer.counts()[what] for tracer in traced)
        return found / CHUNKS if per_chunk and what == "calls" else found

    def measure(setting: Setting) -> Samples:
        return Samples([], [asyncio.run(typical(setting.url))])

    return measure
