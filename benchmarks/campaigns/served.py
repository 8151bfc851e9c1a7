"""A crowd of web clients: how soon the model stops for those who leave, what the others notice, and what stays behind.

    uv run --group web python -m benchmarks.campaigns.served                   # 20,000 requests: 4 minutes
    uv run --group web python -m benchmarks.campaigns.served 500 --leavers 6

The server (uvicorn, a process of its own, reached over sockets) answers with the scripted backend, as UI message
streams and as text, and by `serve.app` as chat completions and responses.

- *leave*: clients leave in mid-stream, one after the other, of async and of plain streams, functions and agents, and of
  `serve.app`, where they also leave while a plain function waits for a model; until the model's stream is closed.
- *crowd*: 200 clients at once; 20 leave in mid-stream and one stops reading. Checked: all others get their whole
  answer. The time that they take is compared with a crowd of which nobody leaves or stops.
- *memory*: so many requests, 50 at a time; the server's resident memory after a tenth of them and at the end.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import anyio
import anyio.abc

import mellea
from mellea import serve
from mellea.testing import Pause, ScriptedBackend

__all__ = ["Figures", "run_campaign"]

WORDS = 60


@dataclass
class Figures:
    """What the campaign has measured.

    Attributes:
        leave: seconds from a client's leaving to the end of the model's stream, for each client that left.
        crowd: the median seconds of an answer among 200, with and without those who leave.
        left_open: the model's streams that were still open a second after 20 of 200 had left.
        memory: the server's resident memory, in MiB, after a tenth of the requests, and at the end.
        requests_a_second: in the part on memory.
    """

    leave: list[float]
    crowd: tuple[float, float]
    left_open: int
    memory: tuple[float, float]
    requests_a_second: float

    def __str__(self) -> str:
        after, twin = self.crowd
        return "\n".join(
            [
                f"leave    median {statistics.median(self.leave) * 1000:.0f} ms, worst {max(self.leave) * 1000:.0f} ms,"
                f" of {len(self.leave)}",
                f"crowd    {after:.2f} s an answer, {twin:.2f} s where nobody leaves;"
                f" {self.left_open} streams left open",
                f"memory   {self.memory[0]:.1f} MiB after a tenth, {self.memory[1]:.1f} MiB at the end;"
                f" {self.requests_a_second:.0f} requests/s",
            ]
        )


# -- the server ---------------------------------------------------------------------------------------


@mellea.command
def write() -> None:
    """Write."""


class _Model(ScriptedBackend):
    """Notes how many of its streams are open."""

    open = 0

    async def run(self, request: Any) -> AsyncIterator[Any]:
        self.open += 1
        try:
            async for event in super().run(request):
                yield event
        finally:
            self.open -= 1
            self.requests.clear()
            self.closed[:] = [True] * len(self.closed)


def _serve(port: int) -> None:
    import uvicorn  # of the group `web`

    slow = _Model([step for number in range(WORDS) for step in (f"word{number} ", Pause(0.02))])
    words = [f"word{number} " for number in range(WORDS)]
    m = mellea.start_session(slow)
    agent = mellea.Agent(m)
    fast = _Model(words)

    def plain(text: str) -> str:
        """Ask in a thread, and wait."""
        return m.instruct(text).value

    @mellea.command(session=m)
    def function() -> None:
        """Write."""

    application = serve.app(
        {"session": m, "fast": mellea.start_session(fast), "plain": plain, "function": function, "agent": agent}
    )
    streams = {
        "async": lambda: m.astream("Write"),
        "plain": lambda: m.stream("Write"),
        "function": lambda: write.astream(m),
        "agent": lambda: agent.astream("Write", live=True),
    }
    forms = {"text": serve.text, "ui": serve.ui}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"].startswith("/v1/"):
            await application(scope, receive, send)
            return
        _, form, kind = scope["path"].split("/")
        if form == "state":
            with open(f"/proc/{os.getpid()}/statm") as file:
                resident = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
            response: Any = serve.text(iter([json.dumps({"open": slow.open, "memory": resident / 2**20})]))
        elif kind == "fast":
            response = forms[form](mellea.start_session(ScriptedBackend(words)).astream("Write"))
        else:
            response = forms[form](streams[kind]())
        await response(scope, receive, send)

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", lifespan="off", backlog=1000)


@contextlib.contextmanager
def _server() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-m", __spec__.name, "--serve", str(port)])
    try:
        until = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if time.monotonic() > until or process.poll() is not None:
                raise RuntimeError("the server didn't start")
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(20)


# -- the clients --------------------------------------------------------------------------------------


_PATHS = {"chat": "chat/completions", "responses": "responses"}
"""Of `serve.app`, by the forms that stand for them here."""


async def _ask(port: int, path: str) -> anyio.abc.SocketStream:
    form, _, kind = path.partition("/")
    head = "Host: localhost\r\nConnection: close\r\n"
    request = f"GET /{path} HTTP/1.1\r\n{head}\r\n".encode()
    if form in _PATHS:
        said = {"messages": [{"role": "user", "content": "Write"}]} if form == "chat" else {"input": "Write"}
        asked = {"model": kind, "stream": kind != "plain", **said, **({} if form == "chat" else {"store": False})}
        body = json.dumps(asked).encode()
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        request = f"POST /v1/{_PATHS[form]} HTTP/1.1\r\n{head}\r\n".encode() + body
    stream = await anyio.connect_tcp("127.0.0.1", port)
    await stream.send(request)
    return stream


async def _read(stream: anyio.abc.SocketStream, mark: bytes | None = None) -> bytes:
    """Read up to a mark, or to the end."""
    pieces = b""
    while mark is None or mark not in pieces:
        try:
            pieces += await stream.receive(65536)
        except anyio.EndOfStream:
            if mark is not None:
                raise RuntimeError(f"the answer ended before {mark!r}: {pieces[-300:]!r}") from None
            break
    return pieces


async def _whole(port: int, path: str) -> bytes:
    async with await _ask(port, path) as stream:
        answer = await _read(stream)
    is_complete = b"word59" in answer and (answer.endswith(b"0\r\n\r\n") or b"content-length" in answer.lower())
    if not is_complete:
        raise RuntimeError(f"the answer is not whole: …{answer[-200:]!r}")
    return answer


async def _state(port: int) -> Any:
    async with await _ask(port, "state/x") as stream:
        answer = await _read(stream)
    return json.loads(answer[answer.index(b"{") : answer.index(b"}") + 1])


async def _leave(port: int, count: int) -> list[float]:
    seconds = []
    kinds = [f"{form}/{kind}" for form in ("text", "ui") for kind in ("async", "plain", "function", "agent")]
    kinds += [f"{form}/{kind}" for form in _PATHS for kind in ("session", "plain", "function", "agent")]
    for number in range(count):
        kind = kinds[number % len(kinds)]
        stream = await _ask(port, kind)
        if kind in ("chat/plain", "responses/plain"):  # nothing comes before the whole answer
            while not (await _state(port))["open"]:
                await anyio.sleep(0.002)
        else:
            await _read(stream, b"word3")
        await stream.aclose()
        left = time.monotonic()
        while (await _state(port))["open"]:
            if time.monotonic() - left > 20:
                raise RuntimeError("the model's stream wasn't closed")
            await anyio.sleep(0.002)
        seconds.append(time.monotonic() - left)
    return seconds


_CROWD = (
    "ui/async",
    "ui/plain",
    "ui/function",
    "ui/agent",
    "chat/session",
    "chat/plain",
    "chat/function",
    "responses/session",
)  # fmt: skip


async def _crowd(port: int, size: int, leavers: int, *, has_staller: bool) -> tuple[float, int]:
    """Return the median time of an answer, and how many streams were open too long after the leavers had left."""
    seconds: list[float] = []
    left_open = 0

    async def stay(number: int) -> None:
        began = time.monotonic()
        await _whole(port, _CROWD[number % len(_CROWD)])
        seconds.append(time.monotonic() - began)

    async def leave(number: int) -> None:
        stream = await _ask(port, ("ui/async", "chat/session", "responses/session")[number % 3])
        await _read(stream, b"word3")
        await stream.aclose()

    async with anyio.create_task_group() as group:
        staller = await _ask(port, "chat/session") if has_staller else None
        for number in range(size - leavers - has_staller):
            group.start_soon(stay, number)
        async with anyio.create_task_group() as leaving:
            for number in range(leavers):
                leaving.start_soon(leave, number)
        if leavers:
            await anyio.sleep(1)
            staying = size - leavers - len(seconds)
            left_open = max(0, (await _state(port))["open"] - staying)
    if staller is not None:
        await staller.aclose()
    return statistics.median(seconds), left_open


async def _memory(port: int, requests: int) -> tuple[float, float, float]:
    done = 0
    marks: list[float] = []

    async def work(count: int) -> None:
        nonlocal done
        for _ in range(count):
            await _whole(port, ("ui/fast", "text/fast", "chat/fast", "responses/fast")[done % 4])
            done += 1

    async def run(count: int) -> None:
        async with anyio.create_task_group() as group:
            for worker in range(50):
                group.start_soon(work, count // 50 + (worker < count % 50))
        marks.append((await _state(port))["memory"])

    await run(requests // 10)
    began = time.monotonic()
    await run(requests - requests // 10)
    return marks[0], marks[1], (requests - requests // 10) / (time.monotonic() - began)


async def run_campaign(requests: int = 20_000, leavers: int = 80, crowd: int = 200, pairs: int = 5) -> Figures:
    """Run all parts, and return their figures; the crowds take turns, so many times.

    Raises:
        RuntimeError: an answer wasn't whole, or a model wasn't stopped.
    """
    with _server() as port:
        leave = await _leave(port, leavers)
        twins, crowds = [], []
        for _ in range(pairs):
            twins.append(await _crowd(port, crowd, 0, has_staller=False))
            crowds.append(await _crowd(port, crowd, crowd // 10, has_staller=True))
        before, after, rate = await _memory(port, requests)
    seconds, twin = (statistics.median(each for each, _ in of) for of in (crowds, twins))
    return Figures(leave, (seconds, twin), max(left_open for _, left_open in crowds), (before, after), rate)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("requests", nargs="?", type=int, default=20_000)
    parser.add_argument("--leavers", type=int, default=80)
    parser.add_argument("--crowd", type=int, default=200)
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve is not None:
        _serve(given.serve)
    else:
        print(anyio.run(run_campaign, given.requests, given.leavers, given.crowd))


if __name__ == "__main__":
    main()
