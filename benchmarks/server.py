"""A loopback server that has rendered its bytes beforehand, so that a client is what is measured.

It answers every POST, in a process of its own. The request's path says how, as `/chunks=2000,spacing=2/v1/…`,
so that any client which takes a base URL can be pointed at it:

    chunks      texts in the answer (20)
    spacing     milliseconds between two events; 0 sends all at once (0)
    delay       milliseconds before the first event (0)

A body that asks for `"stream": true` gets server-sent events, one HTTP chunk each as real servers send them;
any other gets one plain JSON response.
"""

from __future__ import annotations

import asyncio
import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

EVENT_BYTES = 286
"""The size of one event, which is that of a text chunk from a large provider."""

MOST_FILES = 10_000
"""How many connections the server may have, where the system lets it."""

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
LAST = b"0\r\n\r\n"


def text(chunks: int) -> str:
    """Return the text of an answer, as every client has to find it."""
    return "".join(pieces(chunks))


@lru_cache
def pieces(chunks: int) -> tuple[str, ...]:
    return tuple(f" word{number % 1000:03}" for number in range(chunks))


@lru_cache
def frames(chunks: int) -> tuple[bytes, ...]:
    """Return the answer's events, each framed as one HTTP chunk."""
    bodies = [_choice({"role": "assistant", "content": ""})]
    bodies += [_choice({"content": piece}) for piece in pieces(chunks)]
    bodies.append(_choice({}, "stop"))
    bodies.append({**_choice({}), "choices": [], "usage": _usage(chunks)})
    events = [b"data: " + _padded(body) + b"\n\n" for body in bodies]
    events.append(b"data: [DONE]\n\n")
    return tuple(b"%x\r\n%b\r\n" % (len(event), event) for event in events)


@lru_cache
def whole(chunks: int) -> bytes:
    """Return the whole streamed answer."""
    return b"".join([HEAD, *frames(chunks), LAST])


@lru_cache
def plain(chunks: int) -> bytes:
    """Return the answer as one JSON response."""
    message = {"role": "assistant", "content": text(chunks)}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    body = json.dumps({**_envelope("chat.completion"), "choices": [choice], "usage": _usage(chunks)}).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


def _envelope(kind: str) -> dict[str, Any]:
    return {"id": "chatcmpl-BxQ2", "object": kind, "created": 1760000000, "model": "bench"}


def _choice(delta: dict[str, str], reason: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
    return {**_envelope("chat.completion.chunk"), "choices": [choice], "usage": None}


def _usage(chunks: int) -> dict[str, int]:
    return {"prompt_tokens": 8, "completion_tokens": chunks, "total_tokens": 8 + chunks}


def _padded(body: dict[str, Any]) -> bytes:
    body["obfuscation"] = ""  # some providers pad their events in this very field
    size = len(b"data: \n\n") + len(json.dumps(body, separators=(",", ":")))
    body["obfuscation"] = "x" * max(0, EVENT_BYTES - size)
    return json.dumps(body, separators=(",", ":")).encode()


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self._received = b""
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, blank, body = self._received.partition(b"\r\n\r\n")
        if not blank or len(body) < _length(head):
            return
        self._received = b""
        how = _options(head.split(b" ", 2)[1].decode())
        chunks = int(how["chunks"])
        if b'"stream":true' not in body.replace(b" ", b""):
            self._later(how["delay"], lambda: self._transport.write(plain(chunks)))
        elif how["spacing"] == 0:
            self._later(how["delay"], lambda: self._transport.write(whole(chunks)))
        else:
            events = iter(frames(chunks))
            self._transport.write(HEAD)
            self._later(how["delay"], lambda: self._tick(events, how["spacing"]))

    def _tick(self, events: Iterator[bytes], spacing: float) -> None:
        event = next(events, None)
        if event is None:
            self._transport.write(LAST)
        else:
            self._transport.write(event)
            self._later(spacing, lambda: self._tick(events, spacing))

    def _later(self, milliseconds: float, send: Any) -> None:
        if milliseconds == 0:
            send()
        else:
            self._timer = asyncio.get_running_loop().call_later(milliseconds / 1000, send)


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.split(b":")[1])
    return 0


def _options(path: str) -> dict[str, float]:
    how = {"chunks": 20.0, "spacing": 0.0, "delay": 0.0}
    for part in path.split("/")[1].split(","):
        name, equals, value = part.partition("=")
        if equals:
            how[name] = float(value)
    return how


def allow_files(needed: int) -> bool:
    """Raise the limit of open files as far as that is needed and allowed; tells whether it is enough."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return soft == resource.RLIM_INFINITY or soft >= needed


async def _serve() -> None:
    allow_files(MOST_FILES)
    server = await asyncio.get_running_loop().create_server(_Connection, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)  # until whoever started this closes the pipe, or ends


@contextmanager
def running() -> Iterator[str]:
    """Run the server in a process of its own, and give its address."""
    command = [sys.executable, "-m", "benchmarks.server"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None and process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()


if __name__ == "__main__":
    asyncio.run(_serve())
