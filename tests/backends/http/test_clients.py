"""The caller's own client on several loops, imports that hold up no loop, and handshakes that never end."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import subprocess
import sys
import threading
import warnings
from typing import Any

import anyio
import httpx
import pytest

from mellea.backends.http import clients
from mellea.backends.http.address import Address
from mellea.core.options import Deadlines
from mellea.errors import DeadlineError, UsageError
from tests.backends.http.misbehaving import END, LAST, OK, Connection, chunk, misbehaving, text
from tests.backends.http.tiny import TinyBackend, request


def good(connection: Connection) -> None:
    connection.send(OK, chunk(text("well")), chunk(END), LAST)


async def said(backend: TinyBackend) -> int:
    return len([event async for event in backend.run(request())])


@pytest.mark.parametrize("second", ["asyncio", "trio"])
def test_a_callers_client_on_a_second_loop_works_or_says_why(second: str) -> None:
    with misbehaving(good) as server:
        backend = TinyBackend("m", base_url=server.url, client=httpx.AsyncClient(), retries=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # of connections that the first loop left open
            assert asyncio.run(said(backend)) == 2
            try:
                assert anyio.run(said, backend, backend=second) == 2
            except UsageError as error:
                assert "client=" in str(error) and "event loop" in str(error)
            del backend
            gc.collect()


def test_a_mock_of_the_callers_works_on_every_loop() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=text("mocked") + END, headers={"content-type": "text/event-stream"})

    client = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    backend = TinyBackend("m", base_url="https://nowhere/v1", client=client)
    assert [anyio.run(said, backend, backend=loop) for loop in ("asyncio", "trio", "asyncio")] == [2, 2, 2]


@pytest.mark.anyio
async def test_a_handshake_that_never_ends_is_a_deadline_and_tried_once(anyio_backend: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        backend = TinyBackend("m", base_url=f"https://127.0.0.1:{listener.getsockname()[1]}/v1", retries=2)
        with pytest.raises(DeadlineError, match="no connection"):
            [event async for event in backend.run(request(Deadlines(connect=0.3)))]
        await backend.aclose()
        listener.setblocking(False)
        listener.accept()[0].close()
        with pytest.raises(BlockingIOError):  # it would have tried again by now
            listener.accept()


_PROGRAM = """
import asyncio, builtins, sys, threading
from tests.backends.http.tiny import TinyBackend, request

real, seen = builtins.__import__, []

def watched(name, *args, **kwargs):
    top = name.partition(".")[0]
    if top in ("httpx", "httpcore", "h11", "httpx_aiohttp", "aiohttp") and top not in sys.modules:
        if threading.current_thread() is threading.main_thread():
            seen.append(name)
    return real(name, *args, **kwargs)

async def main():
    builtins.__import__ = watched
    try:
        [event async for event in TinyBackend("m", base_url="http://127.0.0.1:9/v1", retries=0).run(request())]
    except Exception as error:
        print(type(error).__name__, seen)

asyncio.run(main())
"""


def test_no_library_is_imported_on_a_loop() -> None:
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "ConnectError []"


def test_what_is_set_on_a_stream_of_httpx_aiohttp_is_still_what_it_reads_at_once() -> None:
    """For httpx-aiohttp 0.2, which reads 16 KB at once; if the name goes, long answers come in smaller pieces."""
    transport = pytest.importorskip("httpx_aiohttp.transport")
    assert transport.AiohttpResponseStream.CHUNK_SIZE == 16 * 1024


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_fork_while_another_thread_makes_the_first_client_leaves_the_child_able_to_make_its_own() -> None:
    with clients._preparing:  # as the other thread would
        child = os.fork()
        if child == 0:
            made: list[Any] = []
            address = Address.parse("http://127.0.0.1:9")
            maker = threading.Thread(target=lambda: made.append(anyio.run(clients.open_client, address)), daemon=True)
            maker.start()
            maker.join(30)
            os._exit(0 if made else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_streams_that_are_held_when_their_loop_ends_are_closed_without_a_word() -> None:
    held: list[Any] = []
    complaints: list[str] = []
    is_left = threading.Event()

    def waits(connection: Connection) -> None:
        connection.send(OK, chunk(text("well")))
        is_left.wait(10)

    async def main(url: str) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context["message"]))
        backend = TinyBackend("m", base_url=url)
        for _ in range(3):
            stream = backend.run(request())
            await anext(stream)
            held.append(stream)

    with misbehaving(waits) as server:
        asyncio.run(main(server.url))
        is_left.set()
    assert not complaints
