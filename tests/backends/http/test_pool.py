"""The pool of the stock transport: warm connections, how many are kept, and what a request costs beside many others."""

from __future__ import annotations

import gc
import socket
import subprocess
import sys
import threading
import warnings
from collections import Counter
from collections.abc import Iterator

import anyio
import anyio.to_thread
import httpcore
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mellea.backends.http import clients, httpx_clients, pool
from mellea.backends.http.address import Address
from mellea.backends.http.proxies import Proxy
from mellea.errors import ConnectError, UsageError
from tests.backends.http.misbehaving import END, LAST, OK, Connection, MisbehavingServer, chunk, misbehaving, text
from tests.backends.http.tiny import TinyBackend, request

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def stock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "has_fast", lambda: False)


def good(connection: Connection) -> None:
    connection.send(OK, chunk(text("well")), chunk(END), LAST)


@pytest.fixture
def server() -> Iterator[MisbehavingServer]:
    with misbehaving(good) as server:
        yield server


async def said(backend: TinyBackend) -> int:
    return len([event async for event in backend.run(request())])


async def burst(backend: TinyBackend, count: int) -> None:
    """Send some requests that are all open at the same time."""
    opened, arrived = anyio.Event(), 0

    async def one() -> None:
        nonlocal arrived
        async for _ in backend.run(request()):
            arrived += 1
            if arrived == count:
                opened.set()
            await opened.wait()

    async with anyio.create_task_group() as group:
        for _ in range(count):
            group.start_soon(one)


async def open_at(server: MisbehavingServer, count: int) -> int:
    """Return how many connections are open, once there are so many."""
    with anyio.move_on_after(5):
        while server.is_open != count:
            await anyio.sleep(0.005)
    return server.is_open


# -- which connections are kept -------------------------------------------------------------------------


async def test_the_connections_of_a_burst_are_used_again(server: MisbehavingServer, anyio_backend: str) -> None:
    backend = TinyBackend("m", base_url=server.url)
    for _ in range(3):
        await burst(backend, 8)
        assert await said(backend) == 2
    assert server.opened == 8
    await backend.aclose()
    assert await open_at(server, 0) == 0


async def test_no_more_idle_connections_are_kept_than_the_limit(
    server: MisbehavingServer, anyio_backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "MOST_IDLE", 2)
    backend = TinyBackend("m", base_url=server.url)
    await burst(backend, 6)
    assert await open_at(server, 2) == 2
    await backend.aclose()


async def test_a_connection_that_was_idle_for_too_long_is_closed(
    server: MisbehavingServer, anyio_backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "IDLE_SECONDS", 0.01)
    backend = TinyBackend("m", base_url=server.url)
    await burst(backend, 3)
    await anyio.sleep(0.05)
    assert await said(backend) == 2
    assert (server.opened, await open_at(server, 1)) == (4, 1)
    await backend.aclose()


async def test_a_connection_that_the_server_has_hung_up_is_not_used_again(anyio_backend: str) -> None:
    hung_up = threading.Event()

    def hangs_up(connection: Connection) -> None:
        good(connection)
        connection.socket.shutdown(socket.SHUT_RDWR)
        hung_up.set()

    with misbehaving(hangs_up, good) as server:
        backend = TinyBackend("m", base_url=server.url, retries=0)
        assert await said(backend) == 2
        await anyio.to_thread.run_sync(hung_up.wait, 5)
        assert await said(backend) == 2
        await backend.aclose()


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_a_handshake_that_is_cancelled_leaves_nothing_open(loop: str) -> None:
    async def give_up(port: int) -> None:
        with anyio.move_on_after(0.1):
            await said(TinyBackend("m", base_url=f"https://127.0.0.1:{port}/v1"))

    with warnings.catch_warnings(record=True) as seen, socket.create_server(("127.0.0.1", 0)) as listener:
        warnings.simplefilter("always")
        anyio.run(give_up, listener.getsockname()[1], backend=loop)
        gc.collect()
    assert [str(warning.message) for warning in seen] == []


# -- what a request costs -------------------------------------------------------------------------------


async def test_a_request_looks_at_no_more_connections_where_many_are_open(
    anyio_backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: Counter[str] = Counter()
    for name in ("is_available", "has_expired", "is_idle", "is_closed"):
        real = getattr(httpcore.AsyncHTTP11Connection, name)

        def counted(self: object, name: str = name, real: object = real) -> bool:
            looks[name] += 1
            return real(self)  # type: ignore[operator, no-any-return]

        monkeypatch.setattr(httpcore.AsyncHTTP11Connection, name, counted)

    go = threading.Event()

    def waits(connection: Connection) -> None:
        connection.send(OK, chunk(text("well")))
        go.wait(10)
        connection.send(chunk(END), LAST)

    async def cost(server: MisbehavingServer, backend: TinyBackend, others: int) -> Counter[str]:
        streams = [backend.run(request()) for _ in range(others)]
        for stream in streams:
            await anext(stream)
        server.behaviours = [good]
        await said(backend)
        looks.clear()
        await said(backend)
        found = Counter(looks)
        go.set()
        for stream in streams:
            assert len([event async for event in stream]) == 1
        return found

    found = []
    for others in (1, 30):
        go.clear()
        with misbehaving(waits) as server:
            backend = TinyBackend("m", base_url=server.url)
            found.append(await cost(server, backend, others))
            await backend.aclose()
    assert found[0] == found[1]
    assert found[0].total() > 0, "httpcore asks its connections by other names: look at the pool"


async def test_many_first_requests_prepare_the_client_once(
    server: MisbehavingServer, anyio_backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared, real = 0, clients._prepare

    def counted(address: Address) -> Proxy | None:
        nonlocal prepared
        prepared += 1
        return real(address)

    monkeypatch.setattr(clients, "_prepare", counted)
    backend = TinyBackend("m", base_url=server.url)
    await burst(backend, 10)
    assert prepared == 1
    await backend.aclose()


async def test_a_first_request_that_is_cancelled_takes_no_other_with_it(
    server: MisbehavingServer, anyio_backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go, real = threading.Event(), threading.Event(), clients._prepare

    def slow(address: Address) -> Proxy | None:
        begun.set()
        go.wait(30)
        return real(address)

    monkeypatch.setattr(clients, "_prepare", slow)
    backend = TinyBackend("m", base_url=server.url)
    async with anyio.create_task_group() as others, anyio.create_task_group() as first:
        first.start_soon(said, backend)
        await anyio.to_thread.run_sync(begun.wait, 30)
        others.start_soon(said, backend)
        await anyio.wait_all_tasks_blocked()
        first.cancel_scope.cancel()
        go.set()
    assert len(server.requests) == 1
    await backend.aclose()


def test_a_request_over_plain_http_imports_no_httpx_and_makes_no_tls_context() -> None:
    program = (
        "import asyncio, sys\n"
        "from mellea.backends.http import clients\n"
        "from tests.backends.http.tiny import TinyBackend, request\n"
        "clients.has_fast = lambda: False\n"
        "async def main():\n"
        "    backend = TinyBackend('m', base_url='http://127.0.0.1:9/v1', retries=0)\n"
        "    try:\n"
        "        [event async for event in backend.run(request())]\n"
        "    except Exception as error:\n"
        "        loaded = [name in sys.modules for name in ('httpcore', 'httpx', 'urllib.request', 'email')]\n"
        "        print(type(error).__name__, *loaded, clients._make_ssl_context.cache_info().currsize)\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{ConnectError.__name__} True False False False 0"


# -- addresses ------------------------------------------------------------------------------------------


def parts(url: httpcore.URL) -> tuple[bytes, bytes, int, bytes]:
    return url.scheme, url.host, url.origin.port, url.target


@given(
    st.from_regex(r"https?://[a-zA-Z0-9-]{1,8}(\.[a-z]{1,4})?(:[1-9][0-9]{0,3})?", fullmatch=True),
    st.text(alphabet=r"aZ09-._~!$&'()*+,;=:@/%?#[]^|\ {}ü", max_size=12),
)
def test_a_plain_address_is_sent_as_httpx_would_send_it(origin: str, path: str) -> None:
    url = f"{origin}/{path}"
    if not pool.is_plain(url):
        return
    scheme, host, port, target = httpx_clients.split_url(url)
    assert parts(httpcore.URL(url)) == parts(httpcore.URL(scheme=scheme, host=host, port=port, target=target))


@pytest.mark.parametrize(
    "url",
    ["https://api.openai.com/v1/chat/completions", "http://127.0.0.1:11434/api/chat", "http://[::1]:80/v1",
     "https://x.invalid/v1beta/models/gemini-2.0-flash:streamGenerateContent?alt=sse&key=a%2Fb",
     "https://u.invalid/openai/deployments/a-b/chat/completions?api-version=2024-10-21"],
)  # fmt: skip
def test_the_addresses_of_providers_are_plain(url: str) -> None:
    assert pool.is_plain(url)


async def test_an_address_beyond_ascii_is_escaped(server: MisbehavingServer, anyio_backend: str) -> None:
    backend = TinyBackend("m", base_url=f"{server.url}/ü;x")
    assert await said(backend) == 2
    assert server.requests[0][0] == "POST /v1/%C3%BC;x/chat HTTP/1.1"
    await backend.aclose()


async def test_an_address_that_is_none_is_named(anyio_backend: str) -> None:
    with pytest.raises(UsageError, match=r"'http://ü-\.invalid/v1/chat' is not a valid address: .*check base_url"):
        await said(TinyBackend("m", base_url="http://ü-.invalid/v1", retries=0))


@pytest.mark.parametrize(
    ("url", "host"),
    [("http://h.invalid/v1", b"h.invalid"), ("http://h.invalid:80/v1", b"h.invalid"), ("http://h:8/v1", b"h:8"),
     ("https://h:443/", b"h"), ("https://h:80/", b"h:80"), ("http://[::1]:8/", b"[::1]:8")],
)  # fmt: skip
def test_the_host_header_names_a_port_that_isnt_the_schemes_own(url: str, host: bytes) -> None:
    assert pool._write_host(httpcore.URL(url)) == host
    assert httpx.Request("GET", url).headers["host"].encode() == host
