"""Another client, measured in a process of its own: `PYTHON benchmarks/peer_client.py PEER URL STREAMS WHAT CALLS`.

Any Python may run it that has the peer installed, so it imports nothing of this project. It says `ready`, or what
is missing; then, for each line that it reads, it measures once, and prints the seconds of CPU that this took and
how many characters of text came.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import logging
import sys
from collections.abc import AsyncIterator
from time import process_time
from typing import Any

SECONDS = 600.0

PROMPT = "Write a story about a lighthouse."

PEERS = {"openai": ("openai", ""), "mellea-0.8": ("mellea", "0.8.")}
"""What each peer is called in the registry, and how its version begins."""


class OpenAI:
    """OpenAI's own client."""

    def __init__(self, url: str) -> None:
        import openai

        # 200 connections at once take it longer than it waits for one, on a busy machine.
        client = openai.AsyncOpenAI(api_key="none", base_url=f"{url}/v1", max_retries=0, timeout=SECONDS)
        self._create = client.chat.completions.create
        self._asked: dict[str, Any] = {"model": "bench", "messages": [{"role": "user", "content": PROMPT}]}

    async def texts(self) -> AsyncIterator[str]:
        async for chunk in await self._create(**self._asked, stream=True):
            for choice in chunk.choices:
                if choice.delta.content:
                    yield choice.delta.content

    async def plain(self) -> str:
        return (await self._create(**self._asked)).choices[0].message.content or ""


class Mellea08:
    """The package of this name that the registry had first, polled as its guide says."""

    def __init__(self, url: str) -> None:
        from mellea import MelleaSession
        from mellea.backends import ModelOption
        from mellea.backends.openai import OpenAIBackend
        from mellea.stdlib.context import SimpleContext

        backend = OpenAIBackend(model_id="bench", base_url=f"{url}/v1", api_key="none", timeout=SECONDS)
        self._session: Any = MelleaSession(backend, SimpleContext())
        self._streamed = {ModelOption.STREAM: True}

    async def texts(self) -> AsyncIterator[str]:
        asked: dict[str, Any] = {"strategy": None, "await_result": False, "model_options": self._streamed}
        thunk = await self._session.ainstruct(PROMPT, **asked)
        while not thunk.is_computed():
            if text := await thunk.astream():
                yield text
        if thunk.value:  # the call that reaches the end may return nothing
            yield thunk.value

    async def plain(self) -> str:
        thunk = await self._session.ainstruct(PROMPT, strategy=None)
        return str(await thunk.avalue())


async def stream(peer: Any) -> int:
    """Read one stream to its end; returns how many characters its last or joined texts have."""
    pieces = [text async for text in peer.texts()]
    return len(pieces[-1]) if isinstance(peer, Mellea08) else len("".join(pieces))


async def measure(peer: Any, what: str, streams: int, calls: int) -> tuple[float, int]:
    """Return the seconds of CPU for `calls` in a row, and the characters of the last one."""
    seconds, characters = 0.0, 0
    for _ in range(calls):
        before = process_time()
        if what == "first":
            texts = peer.texts()
            await anext(texts)
            seconds += process_time() - before
            async for _ in texts:
                pass
            continue
        if what == "plain":
            characters = len(await peer.plain())
        else:
            characters = min(await asyncio.gather(*(stream(peer) for _ in range(streams))))
        seconds += process_time() - before
    return seconds, characters


async def serve(peer: Any, what: str, streams: int, calls: int) -> None:
    print("ready", flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        print(*await measure(peer, what, streams, calls), flush=True)


def missing(name: str) -> str | None:
    """Say what has to be installed, if anything."""
    package, version = PEERS[name]
    try:
        found = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return f"{package} isn't installed"
    return None if found.startswith(version) else f"{package} is {found}, not {version}x"


if __name__ == "__main__":
    name, url, streams, what, calls = sys.argv[1:]
    if (lack := missing(name)) is not None:
        print(lack, flush=True)
        sys.exit()
    logging.disable()
    kind = OpenAI if name == "openai" else Mellea08
    asyncio.run(serve(kind(url), what, int(streams), int(calls)))
