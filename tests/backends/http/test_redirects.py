"""Redirects: followed to the same place alone, with nothing left open and no key sent elsewhere."""

from __future__ import annotations

import anyio.to_thread
import httpx
import pytest

from mellea.errors import MelleaError, StatusError
from tests.backends.http.misbehaving import END, LAST, OK, Connection, chunk, misbehaving, text
from tests.backends.http.tiny import TinyBackend, request

pytestmark = pytest.mark.anyio

KEY = "sk-planted-0123456789"


def redirect(status: int, location: str, *more: bytes) -> bytes:
    return f"HTTP/1.1 {status} X\r\nlocation: {location}\r\ncontent-length: 100000\r\n\r\nx".encode()


def good(connection: Connection) -> None:
    connection.send(OK, chunk(text("well")), chunk(END), LAST)


ELSEWHERE = ["http://[::1", "http://127.0.0.1:9/v1", "https://127.0.0.1:{port}/v1", "//other.invalid/v1", "ftp://x", "",
             "http://user:pw@127.0.0.1:{port}/v1", "http://127.0.0.1:port/", "http://localhost:{port}/", "http://a b/",
             "javascript:x"]  # fmt: skip


@pytest.mark.one_loop
@pytest.mark.parametrize("own", [False, True], ids=["ours", "the callers"])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("location", ELSEWHERE)
async def test_no_request_goes_elsewhere(location: str, status: int, own: bool, anyio_backend: str) -> None:
    def behave(connection: Connection) -> None:
        connection.send(redirect(status, location.format(port=connection.server.port)))
        connection.wait_for_close()

    with misbehaving(behave) as server:
        client = httpx.AsyncClient() if own else None
        backend = TinyBackend("m", base_url=server.url, api_key=KEY, retries=0, client=client)
        with pytest.raises(MelleaError) as caught:
            [event async for event in backend.run(request())]
        assert KEY not in str(caught.value)
        assert await anyio.to_thread.run_sync(server.wait_until_idle) == 0, "the connection is closed"
        assert len(server.requests) == 1
        await backend.aclose()
        if client is not None:
            await client.aclose()


@pytest.mark.parametrize("own", [False, True], ids=["ours", "the callers"])
@pytest.mark.parametrize("location", ["/v2/chat", "?a=1", "http://127.0.0.1:{port}/v2#x"])
async def test_the_same_place_gets_the_same_request(location: str, own: bool, anyio_backend: str) -> None:
    def behave(connection: Connection) -> None:
        connection.send(redirect(307, location.format(port=connection.server.port)))
        connection.wait_for_close()

    with misbehaving(behave, good) as server:
        client = httpx.AsyncClient() if own else None
        backend = TinyBackend("m", base_url=server.url, api_key=KEY, client=client)
        assert [event async for event in backend.run(request())]
        (_, _, first), (_, headers, second) = server.requests
        assert first == second and headers["authorization"] == f"Bearer {KEY}"
        await backend.aclose()
        if client is not None:
            await client.aclose()


async def test_a_circle_ends(anyio_backend: str) -> None:
    def behave(connection: Connection) -> None:
        connection.send(redirect(308, "/v1/chat"))
        connection.wait_for_close()

    with misbehaving(behave) as server:
        with pytest.raises(StatusError, match="redirects to '/v1/chat'"):
            [event async for event in TinyBackend("m", base_url=server.url, retries=0).run(request())]
        assert await anyio.to_thread.run_sync(server.wait_until_idle) == 0
        assert len(server.requests) == 4
