"""The floor: the least that a client on stock httpx can do to have the text of a streamed answer.

httpx, an SSE splitter, `from_json`, concatenation. No class, no error that says anything, no retry.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
from pydantic_core import from_json

MESSAGES = [{"role": "user", "content": "Write a story about a lighthouse."}]


def client() -> httpx.AsyncClient:
    """Make the client that the floor and ours have in common: stock, but for its connections.

    Idle ones don't expire, since while one of the two has its turn, those of the other are idle. No more than
    the stock 20 are kept: the pool polls every idle connection at each request, which with 200 kept makes W3
    ten times as dear and hides everything else. Nor is there any TLS: to load the certificates takes 40 to
    250 ms, the same for everybody.
    """
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=20, keepalive_expiry=None)
    return httpx.AsyncClient(limits=limits, verify=False)


def payload(messages: list[dict[str, str]], *, is_streamed: bool) -> dict[str, Any]:
    return {"model": "bench", "messages": messages, "stream": is_streamed}


class Splitter:
    """Splits server-sent events out of bytes, however those were cut."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Return the data of the events that are complete now."""
        *events, self._rest = (self._rest + data).replace(b"\r\n", b"\n").split(b"\n\n")
        found = []
        for event in events:
            if event.startswith(b"data:") and b"\n" not in event:
                found.append(event[5:])
            else:
                lines = [line[5:] for line in event.split(b"\n") if line.startswith(b"data:")]
                if lines:
                    found.append(b"\n".join(lines))
        return found


async def stream(client: httpx.AsyncClient, url: str, first: Callable[[], None] | None = None) -> str:
    """Read one streamed answer; `first` is called with the first text."""
    pieces: list[str] = []
    reason = None
    splitter = Splitter()
    body = payload(MESSAGES, is_streamed=True)
    async with client.stream("POST", f"{url}/v1/chat/completions", json=body) as response:
        response.raise_for_status()
        async for data in response.aiter_bytes():
            for event in splitter.feed(data):
                if event == b" [DONE]":
                    continue
                for choice in from_json(event)["choices"]:
                    reason = choice["finish_reason"] or reason
                    if text := choice["delta"].get("content"):
                        pieces.append(text)
                        if first is not None:
                            first()
                            first = None
    assert reason is not None, "the stream was cut"
    return "".join(pieces)


async def plain(client: httpx.AsyncClient, url: str) -> str:
    """Read one plain answer."""
    body = payload(MESSAGES, is_streamed=False)
    response = await client.post(f"{url}/v1/chat/completions", json=body)
    response.raise_for_status()
    return str(from_json(response.content)["choices"][0]["message"]["content"])
