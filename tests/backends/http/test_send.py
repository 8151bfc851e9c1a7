"""Clients: one for each event loop, the caller's own, and what goes over the wire."""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import json
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import anyio
import httpx
import pytest

from mellea.backends.http import clients
from mellea.core.backend import Request
from mellea.core.events import TextDelta
from mellea.core.messages import user_message
from mellea.errors import ConfigurationError, ConnectError, UsageError
from tests.backends.http.misbehaving import END, LAST, OK, Connection, MisbehavingServer, chunk, misbehaving, text
from tests.backends.http.tiny import TinyBackend, request


def good(connection: Connection) -> None:
    connection.send(OK, chunk(text("all ")), chunk(text("well")), chunk(END), LAST)


@pytest.fixture
def server() -> Iterator[MisbehavingServer]:
    with misbehaving(good) as server:
        yield server


async def said(backend: TinyBackend, **options: Any) -> str:
    return "".join([event.chunk async for event in backend.run(request(**options)) if isinstance(event, TextDelta)])


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
@pytest.mark.parametrize("is_own_client", [False, True])
def test_a_request_that_is_cancelled_while_it_sends_leaves_nothing_unfinished(loop: str, is_own_client: bool) -> None:
    listener = socket.create_server(("127.0.0.1", 0))  # it connects, and never reads
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)

    async def give_up() -> None:
        async with httpx.AsyncClient() as client:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            backend = TinyBackend("m", base_url=url, client=client if is_own_client else None)
            with anyio.move_on_after(0.3):
                async for _ in backend.run(Request((user_message("x" * 20_000_000),))):
                    pass

    with listener, warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        anyio.run(give_up, backend=loop)
        gc.collect()
    found = [str(warning.message) for warning in seen]
    if importlib.util.find_spec("httpx_aiohttp") and loop == "asyncio" and not is_own_client:
        # aiohttp 3.14 doesn't abort a connection that it can't write to, so the loop's end finds it open.
        found = [each for each in found if not each.startswith("unclosed ")]
    assert found == []


def clients_of(server: MisbehavingServer) -> list[Any]:
    """Return the shared clients of one server; others may belong to the loop of the synchronous verbs, which stays."""
    return [key for key in clients.clients_by_loop if key[1].endswith(f":{server.port}")]


# -- loops ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_one_backend_on_one_loop_after_another(loop: str, server: MisbehavingServer) -> None:
    backend = TinyBackend("m", base_url=server.url)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number in range(1, 4):
            assert anyio.run(said, backend, backend=loop) == "all well"
            assert server.wait_until_idle() == 0, "the loop has ended, so its client has closed its connections"
            assert server.opened == number
        gc.collect()
    assert not clients_of(server)


def test_asyncio_run_twice(server: MisbehavingServer) -> None:
    backend = TinyBackend("m", base_url=server.url)
    assert [asyncio.run(said(backend)) for _ in range(2)] == ["all well"] * 2


def test_uvloop(server: MisbehavingServer) -> None:
    uvloop = pytest.importorskip("uvloop")
    backend = TinyBackend("m", base_url=server.url)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(said(backend)) == "all well"
    assert server.wait_until_idle() == 0


def test_loops_in_several_threads_at_once(server: MisbehavingServer) -> None:
    backend, found = TinyBackend("m", base_url=server.url), list[str]()

    async def several() -> None:
        found.extend([await said(backend) for _ in range(5)])

    threads = [
        threading.Thread(target=anyio.run, args=(several,), kwargs={"backend": loop})
        for loop in ("asyncio", "trio", "asyncio", "trio")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["all well"] * 20
    assert (server.opened, server.wait_until_idle()) == (4, 0)


def test_a_loop_that_was_closed_without_a_shutdown_is_forgotten(server: MisbehavingServer) -> None:
    loop, backend = asyncio.new_event_loop(), TinyBackend("m", base_url=server.url)
    server.behaviours = [lambda connection: (good(connection), connection.socket.close())]  # no socket is left to warn
    loop.run_until_complete(said(backend))
    loop.close()
    assert len(clients_of(server)) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # of a client that nobody could close
        assert asyncio.run(said(backend)) == "all well"
        gc.collect()
    assert not clients_of(server)


async def test_backends_on_one_loop_share_connections(server: MisbehavingServer, anyio_backend: str) -> None:
    one, two = TinyBackend("m", base_url=server.url), TinyBackend("m", base_url=server.url)
    assert [await said(one), await said(two)] == ["all well"] * 2
    assert server.opened == 1
    await one.aclose()
    assert server.is_open == 1, "the other one may still need it"
    await two.aclose()
    assert await anyio.to_thread.run_sync(server.wait_until_idle) == 0
    assert await said(one) == "all well", "closing isn't the end"
    await one.aclose()


async def test_closing_leaves_a_running_stream_alone(anyio_backend: str) -> None:
    go = threading.Event()

    def slow(connection: Connection) -> None:
        connection.send(OK, chunk(text("all ")))
        go.wait(30)
        connection.send(chunk(text("well")), chunk(END), LAST)

    with misbehaving(slow) as server:
        backend = TinyBackend("m", base_url=server.url)
        events = backend.run(request())
        await anext(events)
        await backend.aclose()
        go.set()
        assert [event.chunk async for event in events if isinstance(event, TextDelta)] == ["well"]
        await backend.aclose()


# -- imports --------------------------------------------------------------------------------------------


def test_making_a_backend_imports_no_httpx() -> None:
    program = (
        "import sys; from tests.backends.http.tiny import TinyBackend; "
        "TinyBackend('m', base_url='https://h/v1', api_key='k'); "
        "print([name for name in ('httpx', 'httpcore', 'ssl', 'email', 'urllib.request') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() in ("[]", "['ssl']"), "asyncio imports ssl by itself"


# -- the caller's own client ----------------------------------------------------------------------------


async def test_a_callers_client_is_used_and_left_open(server: MisbehavingServer, anyio_backend: str) -> None:
    async with httpx.AsyncClient(headers={"x-own": "1"}, follow_redirects=True, timeout=0.001) as client:
        backend = TinyBackend("m", base_url=server.url, client=client)
        assert await said(backend) == "all well"
        await backend.aclose()
        assert not client.is_closed
        assert server.requests[0][1]["x-own"] == "1"
    with pytest.raises(UsageError, match="has been closed"):
        await said(backend)


async def test_a_client_of_the_same_shape(server: MisbehavingServer, anyio_backend: str) -> None:
    httpx2 = pytest.importorskip("httpx2")
    async with httpx2.AsyncClient() as client:
        assert await said(TinyBackend("m", base_url=server.url, client=client)) == "all well"
        with pytest.raises(ConnectError):
            await said(TinyBackend("m", base_url="http://127.0.0.1:9/v1", client=client, retries=0))


async def test_a_mock_transport(anyio_backend: str) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert json.loads(request.content) == {"prompt": "hi", "stream": True}
        return httpx.Response(200, content=text("mocked") + END, headers={"content-type": "text/event-stream"})

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        assert await said(TinyBackend("m", base_url="https://nowhere/v1", client=client)) == "mocked"


@pytest.mark.parametrize("client", [httpx.Client, str, object], ids=lambda kind: kind.__name__)
def test_another_shape_is_refused(client: type) -> None:
    with pytest.raises(UsageError, match="or one of its shape"):
        TinyBackend("m", base_url="http://h", client=client())


# -- what goes over the wire ----------------------------------------------------------------------------


async def test_headers_and_body(server: MisbehavingServer, anyio_backend: str) -> None:
    backend = TinyBackend(
        "m",
        base_url=f"{server.url.replace('//', '//user:pass%21@')}/?api-version=1",
        headers={"X-One": "1", "User-Agent": "me"},
        extra_body={"prompt": "from the constructor", "deep": {"a": 1, "b": 1}},
    )
    await said(backend, extra_body={"deep": {"b": 2}, "more": [1]}, extra_headers={"x-two": "2"})
    await backend.aclose()
    first, headers, body = server.requests[0]
    assert first == "POST /v1/chat?api-version=1 HTTP/1.1"
    assert json.loads(body) == {
        "prompt": "from the constructor", "stream": True, "deep": {"a": 1, "b": 2}, "more": [1],
    }  # fmt: skip
    assert headers["authorization"] == "Basic dXNlcjpwYXNzIQ=="
    assert (headers["x-one"], headers["x-two"], headers["user-agent"]) == ("1", "2", "me")
    assert (headers["accept-encoding"], headers["content-type"]) == ("identity", "application/json")


async def test_a_key_and_none(server: MisbehavingServer, anyio_backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINY_API_KEY", " from-the-environment\n")
    backends = [TinyBackend("m", base_url=server.url, api_key=key) for key in (None, "given\n", "")]
    backends.append(TinyBackend("m", base_url=server.url, headers={"Authorization": "Own"}))
    for backend in backends:
        await said(backend)
        await backend.aclose()
    sent = [headers.get("authorization") for _, headers, _ in server.requests]
    assert sent == ["Bearer from-the-environment", "Bearer given", None, "Own"]


async def test_no_cookies_are_kept(anyio_backend: str) -> None:
    def cookie(connection: Connection) -> None:
        connection.send(OK.replace(b"\r\n\r\n", b"\r\nset-cookie: a=b; path=/\r\n\r\n"), chunk(END), LAST)

    with misbehaving(cookie) as server:
        backend = TinyBackend("m", base_url=server.url)
        for _ in range(2):
            await said(backend)
        await backend.aclose()
        assert not [headers for _, headers, _ in server.requests if "cookie" in headers]


async def test_loopback_needs_no_proxy(
    server: MisbehavingServer, anyio_backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    for host in ("127.0.0.1", "localhost"):
        backend = TinyBackend("m", base_url=server.url.replace("127.0.0.1", host), retries=0)
        assert await said(backend) == "all well"
    with pytest.raises(ConnectError):  # by way of the proxy, where nothing listens
        await said(TinyBackend("m", base_url="http://model.invalid/v1", retries=0))
    await backend.aclose()


async def test_a_proxy_that_makes_no_sense(anyio_backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "gopher://127.0.0.1:9")
    with pytest.raises(ConfigurationError, match="ALL_PROXY"):
        await said(TinyBackend("m", base_url="http://model.invalid/v1"))


async def test_tls_to_a_server_without_it(server: MisbehavingServer, anyio_backend: str) -> None:
    backend = TinyBackend("m", base_url=server.url.replace("http:", "https:"), retries=0)
    with pytest.raises(ConnectError, match=r"no answer from https:.*; does it speak https, or only http://"):
        await said(backend)
    await backend.aclose()


async def test_a_host_that_nobody_knows(anyio_backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    backend = TinyBackend("m", base_url="http://model.invalid/v1", retries=0)
    with pytest.raises(ConnectError, match=r"http://model\.invalid can't be found: .*; is there a network"):
        await said(backend)
    await backend.aclose()
