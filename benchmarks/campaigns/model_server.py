"""The model of the campaigns of `map`: a loopback server in the form of chat completions that counts, and may refuse.

`POST /v1/chat/completions` is answered with a JSON object made of the prompt's last word. `GET /count` tells how many
requests came, were answered and were refused. With `--requests` and `--tokens` it allows so many in a minute, by two
buckets that fill up steadily and hold `--burst` seconds' worth; headers tell the limits.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

TOKENS = 30
"""Of each request and its answer together."""


@dataclass
class Bucket:
    """What a provider allows in a minute."""

    limit: float | None
    burst: float
    level: float = 0.0
    filled: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.level = (self.limit or 0) * self.burst / 60

    def fill(self) -> None:
        now = time.monotonic()
        if self.limit is not None:
            self.level = min(self.limit * self.burst / 60, self.level + (now - self.filled) * self.limit / 60)
        self.filled = now

    def has(self, amount: float) -> bool:
        return self.limit is None or self.level >= amount


class Model:
    """The server."""

    def __init__(self, settings: argparse.Namespace) -> None:
        self.delay = settings.delay
        self.requests = Bucket(settings.requests, settings.burst)
        self.tokens = Bucket(settings.tokens, settings.burst)
        self.count: Counter[str] = Counter()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = 0
                for line in head.split(b"\r\n"):
                    if line.lower().startswith(b"content-length:"):
                        length = int(line.split(b":")[1])
                body = await reader.readexactly(length) if length else b""
                writer.write(await self.answer(head, body))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    async def answer(self, head: bytes, body: bytes) -> bytes:
        if head.startswith(b"GET"):
            return _response("200 OK", "application/json", json.dumps(self.count).encode())
        self.count["received"] += 1
        self.requests.fill()
        self.tokens.fill()
        if not (self.requests.has(1) and self.tokens.has(TOKENS)):
            self.count["refused"] += 1
            error = b'{"error": {"message": "too many", "type": "rate_limit", "code": "rate_limit_exceeded"}}'
            return _response(
                "429 Too Many Requests", "application/json", error, "retry-after: 0.2\r\n" + self.headers()
            )
        self.requests.level -= 1
        self.tokens.level -= TOKENS
        headers = self.headers()
        if self.delay:
            await asyncio.sleep(self.delay)
        self.count["answered"] += 1
        word = str(json.loads(body)["messages"][-1]["content"]).split()[-1]
        return _response("200 OK", "text/event-stream", b"".join(_events(word)), headers)

    def headers(self) -> str:
        found = ""
        for name, bucket in (("requests", self.requests), ("tokens", self.tokens)):
            if bucket.limit is not None:
                found += f"x-ratelimit-limit-{name}: {bucket.limit:g}\r\n"
                found += f"x-ratelimit-remaining-{name}: {max(0, int(bucket.level))}\r\n"
        return found


def _response(status: str, kind: str, body: bytes, headers: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n{headers}\r\n"
    return head.encode() + body


def _events(word: str) -> Iterator[bytes]:
    head = {"id": "a", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    text = json.dumps({"word": word, "length": len(word)})
    for choice in ({"delta": {"content": text}, "finish_reason": None}, {"delta": {}, "finish_reason": "stop"}):
        yield _event({**head, "choices": [{"index": 0, **choice}]})
    usage = {"prompt_tokens": TOKENS - 10, "completion_tokens": 10, "total_tokens": TOKENS}
    yield _event({**head, "choices": [], "usage": usage})
    yield b"data: [DONE]\n\n"


def _event(body: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(body).encode() + b"\n\n"


@contextmanager
def serve(*arguments: str) -> Iterator[str]:
    """Run the server in a process of its own, and give its address."""
    command = [sys.executable, "-m", __name__, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def count(address: str) -> Counter[str]:
    """Return what the server has counted."""
    with urllib.request.urlopen(f"{address}/count") as answer:
        return Counter(json.loads(answer.read()))


async def main(settings: argparse.Namespace) -> None:
    server = await asyncio.start_server(Model(settings).serve, "127.0.0.1", 0, backlog=1000)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--requests", type=float)
    parser.add_argument("--tokens", type=float)
    parser.add_argument("--burst", type=float, default=60.0)
    asyncio.run(main(parser.parse_args()))
