"""Tunnels through a proxy: what goes over the wire, and that no failed handshake leaves a connection open."""

from __future__ import annotations

import gc
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import anyio
import pytest

from mellea.backends.http import clients
from mellea.core.options import Deadlines
from mellea.errors import ConnectError, DeadlineError
from tests.backends.http.misbehaving import END, LAST, OK, Connection, chunk, misbehaving, text
from tests.backends.http.tiny import TinyBackend, request

pytestmark = pytest.mark.anyio

URL = "http://model.invalid:8080/v1"
CONNECTED = b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x50"


def good(connection: Connection) -> None:
    connection.send(OK, chunk(text("well")), chunk(END), LAST)


Through = Callable[..., None]


@dataclass
class Tunneller:
    """Plays what it says to the client, between reads, and then passes everything on to a server, if there is one."""

    says: list[bytes]
    server: int | None = None
    port: int = 0
    hangs_up: bool = False
    heard: list[bytes] = field(default_factory=list)
    is_open: int = 0

    def serve(self, client: socket.socket) -> None:
        self.is_open += 1
        with client, suppress(OSError):
            for piece in self.says:
                self.heard.append(client.recv(1000))
                client.sendall(piece)
            if self.server is not None:
                with socket.create_connection(("127.0.0.1", self.server)) as server:
                    back = threading.Thread(target=_pass_on, args=(server, client), daemon=True)
                    back.start()
                    _pass_on(client, server)
                    back.join(30)
            while not self.hangs_up and client.recv(1000):
                pass
        self.is_open -= 1

    def wait_until_closed(self) -> int:
        end = time.monotonic() + 30
        while self.is_open and time.monotonic() < end:
            time.sleep(0.005)
        return self.is_open


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


@contextmanager
def proxy(*says: bytes, server: int | None = None, hangs_up: bool = False) -> Iterator[Tunneller]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = Tunneller(list(says), server, listener.getsockname()[1], hangs_up)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    threading.Thread(target=one.serve, args=(client,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield one


@pytest.fixture
def through(monkeypatch: pytest.MonkeyPatch) -> Through:
    monkeypatch.setattr(clients, "has_fast", lambda: False)

    def set_proxy(proxy: Tunneller, user: str, scheme: str = "socks5") -> None:
        monkeypatch.setenv("ALL_PROXY", f"{scheme}://{user}127.0.0.1:{proxy.port}")

    return set_proxy


async def said(url: str = URL, deadlines: Deadlines | None = None) -> int:
    backend = TinyBackend("m", base_url=url, retries=0)
    try:
        return len([event async for event in backend.run(request(deadlines))])
    finally:
        await backend.aclose()


async def test_the_proxy_is_asked_for_the_server_by_its_name(through: Through) -> None:
    with misbehaving(good) as server, proxy(b"\x05\x00", CONNECTED, server=server.port) as socks:
        through(socks, "")
        assert await said() == 2
        assert socks.heard == [b"\x05\x01\x00", b"\x05\x01\x00\x03\x0dmodel.invalid\x1f\x90"]
        assert socks.wait_until_closed() == 0


@pytest.mark.parametrize(
    ("host", "sent"),
    [("10.1.2.3", b"\x01\x0a\x01\x02\x03"), ("[2001:db8::1]", b"\x04\x20\x01\x0d\xb8" + bytes(11) + b"\x01")],
)
async def test_an_address_is_sent_as_one(host: str, sent: bytes, through: Through) -> None:
    with misbehaving(good) as server, proxy(b"\x05\x00", CONNECTED, server=server.port) as socks:
        through(socks, "")
        assert await said(f"http://{host}:8080/v1") == 2
        assert socks.heard[1] == b"\x05\x01\x00" + sent + b"\x1f\x90"


async def test_user_and_password_are_told(through: Through) -> None:
    with misbehaving(good) as server, proxy(b"\x05\x02", b"\x01\x00", CONNECTED, server=server.port) as socks:
        through(socks, "me:a%20b@")
        assert await said() == 2
        assert socks.heard[:2] == [b"\x05\x02\x00\x02", b"\x01\x02me\x03a b"]


@pytest.mark.parametrize(
    ("says", "why"),
    [
        ([b"\x05\xff"], "wants another sign-in"),
        ([b"\x05\x02", b"\x01\x01"], "refuses the user or the password"),
        ([b"\x05\x00", b"\x05\x05\x00\x01"], "connection refused"),
        ([b"\x05\x00", b"\x05\x63\x00\x01"], "error 99"),
        ([b"HTTP/1.1 400 Bad Request\r\n\r\n"], "doesn't speak SOCKS 5"),
        ([b"\x05\x00", b"\x05\x00\x00\x07"], "doesn't speak SOCKS 5"),
    ],
)
async def test_a_refusal_says_why_and_closes(says: list[bytes], why: str, through: Through) -> None:
    with proxy(*says) as socks, warnings.catch_warnings():
        warnings.simplefilter("error")
        through(socks, "me:hush@")
        with pytest.raises(ConnectError, match=rf"through the proxy 'socks5://127.*{why}") as caught:
            await said()
        assert "hush" not in str(caught.value)
        assert socks.wait_until_closed() == 0
        gc.collect()


async def test_a_proxy_that_hangs_up_is_an_error(through: Through) -> None:
    with proxy(b"\x05\x00", hangs_up=True) as socks:
        through(socks, "")
        with anyio.fail_after(30), pytest.raises(ConnectError, match="through the proxy"):
            await said()
        assert socks.wait_until_closed() == 0


@pytest.mark.parametrize("says", [[], [b"\x05\x00"], [b"\x05\x00", CONNECTED[:5]]])
async def test_the_deadline_for_connecting_holds_for_the_handshake(says: list[bytes], through: Through) -> None:
    with proxy(*says) as socks:
        through(socks, "")
        with anyio.fail_after(30), pytest.raises(DeadlineError, match=r"no connection to .* within 0\.05 s"):
            await said(deadlines=Deadlines(connect=0.05))
        assert socks.wait_until_closed() == 0


async def test_a_cancelled_handshake_closes_its_connection(through: Through) -> None:
    with proxy(b"\x05\x00") as socks:
        through(socks, "")
        with anyio.move_on_after(0.1):
            await said()
        assert socks.wait_until_closed() == 0


# -- by the method CONNECT --------------------------------------------------------------------------------

SECURE = "https://model.invalid/v1"


async def test_a_server_with_tls_is_asked_for_by_connect(through: Through) -> None:
    with proxy(b"HTTP/1.1 200 OK\r\nvia: x\r\n\r\n", b"no TLS") as tunnel:
        through(tunnel, "me:a%20b@", "http")
        with pytest.raises(ConnectError, match="through the proxy"):
            await said(SECURE)
        asked, hello = tunnel.heard
        assert asked.startswith(b"CONNECT model.invalid:443 HTTP/1.1\r\nhost: model.invalid:443\r\n")
        assert b"\r\nproxy-authorization: Basic bWU6YSBi\r\n" in asked
        assert hello.startswith(b"\x16\x03")  # TLS begins
        assert tunnel.wait_until_closed() == 0


@pytest.mark.parametrize(
    ("says", "why"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "407 Proxy Authentication Required"),
        (b"HTTP/1.0 502\n\n", "502"),
        (b"\x05\x00\r\n\r\n", "doesn't speak HTTP"),
        (b"x" * 20_000, "doesn't speak HTTP"),
    ],
)
async def test_a_proxy_that_refuses_to_connect_says_why(says: bytes, why: str, through: Through) -> None:
    with proxy(says) as tunnel:
        through(tunnel, "", "http")
        with pytest.raises(ConnectError, match=rf"through the proxy 'http://127.*{why}"):
            await said(SECURE)
        assert tunnel.wait_until_closed() == 0


@pytest.mark.parametrize("says", [[], [b"HTTP/1.1 200 OK\r\n"], [b"HTTP/1.1 200 OK\r\n\r\n"]])
async def test_the_deadline_for_connecting_holds_for_connect_and_tls(says: list[bytes], through: Through) -> None:
    with proxy(*says) as tunnel:
        through(tunnel, "", "http")
        with anyio.fail_after(30), pytest.raises(DeadlineError, match=r"no connection to .* within 0\.05 s"):
            await said(SECURE, Deadlines(connect=0.05))
        assert tunnel.wait_until_closed() == 0
