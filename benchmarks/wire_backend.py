"""The floor's work as a backend, until the real HTTP backends arrive: what is left over is session and thunk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from weakref import WeakKeyDictionary

import httpx
from pydantic_core import from_json

from benchmarks.floor import Splitter, client, payload
from mellea.core.backend import Backend, Request
from mellea.core.events import Event, FinishReason, StreamEnd, TextDelta, Usage, UsageEvent
from mellea.core.options import ModelOption


class WireBackend(Backend):
    """Chat completions on stock httpx, with one client for each event loop.

    Args:
        url: of the server in `server.py`, with the options in its path.
    """

    name = "wire"
    model_id = "bench"

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = f"{url}/v1/chat/completions"
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, httpx.AsyncClient] = WeakKeyDictionary()

    async def run(self, request: Request) -> AsyncIterator[Event]:
        messages = [{"role": message.role, "content": message.content} for message in request.messages]
        is_streamed = request.options.get(ModelOption.STREAM, True)
        body = payload(messages, is_streamed=is_streamed)
        if not is_streamed:
            for event in await self._plain(body):
                yield event
            return
        reason: FinishReason | None = None
        splitter = Splitter()
        async with self._client().stream("POST", self._url, json=body) as response:
            response.raise_for_status()
            async for data in response.aiter_bytes():
                for found in splitter.feed(data):
                    if found == b" [DONE]":
                        continue
                    chunk = from_json(found)
                    for choice in chunk["choices"]:
                        reason = choice["finish_reason"] or reason
                        if text := choice["delta"].get("content"):
                            yield TextDelta(text)
                    if usage := chunk["usage"]:
                        yield _usage(usage)
        if reason is not None:
            yield StreamEnd(reason, model=self.model_id)

    async def aclose(self) -> None:
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()

    async def _plain(self, body: dict[str, Any]) -> list[Event]:
        response = await self._client().post(self._url, json=body)
        response.raise_for_status()
        whole = from_json(response.content)
        choice = whole["choices"][0]
        end = StreamEnd(choice["finish_reason"], model=self.model_id)
        return [TextDelta(choice["message"]["content"]), _usage(whole["usage"]), end]

    def _client(self) -> httpx.AsyncClient:
        loop = asyncio.get_running_loop()
        found = self._clients.get(loop)
        if found is None:
            found = self._clients[loop] = client()
        return found


def _usage(usage: dict[str, int]) -> Event:
    return UsageEvent(Usage(usage["prompt_tokens"], usage["completion_tokens"]))
