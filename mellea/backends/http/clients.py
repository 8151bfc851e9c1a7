"""Clients, one for each event loop and server, shared by all backends that use that server.

Rules:

- A client is created at the first request on a loop. Slow work (imports, 37 ms for a TLS context, the system's
  proxies) runs in a worker thread, once in a process where possible.
- A client only has connections: no cookies, hooks, authentication, or log lines that show URLs.
- An async generator holds the client. The loop closes the generator at its shutdown, so that the client ends with its
  loop.
- An unusable proxy only affects requests that have to go through it.
- Where `httpx-aiohttp` is installed (the extra `fast`), clients on asyncio use it; on trio, and through SOCKS, they are
  of the stock kind (`pool.py`).
"""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakSet

import anyio
import anyio.lowlevel
import anyio.to_thread

from mellea.backends.http.address import Address
from mellea.backends.http.httpx_clients import FastTransport, has_fast, split_url
from mellea.backends.http.outgoing import HttpRequest
from mellea.backends.http.proxies import Proxy, find_proxies, find_proxy, is_loopback
from mellea.core.runtime.loop import Loop, get_current_loop

if TYPE_CHECKING:
    import ssl

__all__ = ["Client", "SharedClient", "clients_by_loop", "find_client", "find_clients", "open_client"]


class Client(Protocol):
    """Sends requests."""

    @property
    def errors(self) -> tuple[type[BaseException], ...]:
        """What sending a request, and reading its response, may raise."""

    async def send(self, request: HttpRequest, url: str) -> Any:
        """Send a request and return the response, with httpx's interface, once its headers have arrived; it must be
        closed.

        Args:
            request: what is sent.
            url: the URL, which differs from the request's after a redirect.
        """

    async def aclose(self) -> None:
        """Close all connections."""


@dataclass(slots=True, eq=False)
class SharedClient:
    """A client on one loop, the connectors that use it, and the number of open requests and responses.

    Attributes:
        client: sends the requests.
        proxy: what its requests go through.
    """

    client: Client
    loop: Loop | None = None
    lifetime: AsyncGenerator[None, None] | None = None
    proxy: Proxy | None = None
    users: WeakSet[Any] = field(default_factory=WeakSet)
    active: int = 0

    def release(self) -> None:
        """Register the end of a request."""
        self.active -= 1


clients_by_loop: dict[tuple[Any, str], SharedClient] = {}
"""The existing clients, by loop and server."""

_making: dict[tuple[Any, str], anyio.Event] = {}  # so that a thousand first requests don't need a thread each
_preparing = threading.Lock()


def find_client(origin: str) -> SharedClient | None:
    """Return the running loop's client for a server, if there is one."""
    return clients_by_loop.get((get_current_loop().native, origin))


def find_clients(origin: str) -> list[SharedClient]:
    """Return the clients for a server on all loops, from any thread."""
    return [client for (_, known), client in list(clients_by_loop.items()) if known == origin]


async def open_client(address: Address) -> SharedClient:
    """Return the running loop's client for a server, creating it if necessary.

    Raises:
        ConfigurationError: the server has to be reached through a proxy that can't be used.
    """
    loop = get_current_loop()
    key = loop.native, address.origin
    if (before := _making.get(key)) is not None:
        await before.wait()
        if (found := clients_by_loop.get(key)) is not None:
            return found
    made = _making.setdefault(key, anyio.Event())
    try:
        proxy = await anyio.to_thread.run_sync(_prepare, address)
        return clients_by_loop.get(key) or await _make(loop, address, proxy)
    finally:  # also if it failed: waiting requests then create one themselves
        _making.pop(key, None)
        made.set()


async def _make(loop: Loop, address: Address, proxy: Proxy | None) -> SharedClient:
    for other in list(clients_by_loop.values()):
        if other.loop is not None and not other.loop.post(_do_nothing):  # closed without a shutdown
            _forget(other)
    client = _make_client(address.is_tls, proxy, is_asyncio=hasattr(loop.native, "call_soon_threadsafe"))
    made = SharedClient(client, loop, None, proxy)
    made.lifetime = _live(made)
    clients_by_loop[loop.native, address.origin] = made
    await anext(made.lifetime)
    return made


async def _live(made: SharedClient) -> AsyncGenerator[None, None]:
    """Wait until this generator is closed, by the loop's shutdown if not before."""
    try:
        yield
    finally:
        _forget(made)
        await made.client.aclose()


def _forget(gone: SharedClient) -> None:
    for key, one in list(clients_by_loop.items()):
        if one is gone:
            clients_by_loop.pop(key, None)


def _prepare(address: Address) -> Proxy | None:
    """Do the slow work in a thread: imports, certificates, the system's proxies. Returns the proxy."""
    # One thread at a time: threads that import the same packages side by side wait for each other's import locks.
    with _preparing:
        import mellea.backends.http.pool  # noqa: F401  # lazy: imports httpcore and h11, 50 ms

        has_fast()
        if address.is_tls:
            _make_ssl_context()
        if is_loopback(address.host):
            return None
        return find_proxy("https" if address.is_tls else "http", address.host, address.port, find_proxies())


@cache
def _make_ssl_context() -> ssl.SSLContext:
    """Return the process's context.

    The certificates are those of `SSL_CERT_FILE` or `SSL_CERT_DIR`, else certifi's, as httpx has it.
    """
    import ssl  # lazy: asyncio needs it too

    if file := os.environ.get("SSL_CERT_FILE"):
        return ssl.create_default_context(cafile=file)
    if folder := os.environ.get("SSL_CERT_DIR"):
        return ssl.create_default_context(capath=folder)
    import certifi  # lazy: only for TLS; httpx depends on it

    return ssl.create_default_context(cafile=certifi.where())


def _make_client(is_tls: bool, proxy: Proxy | None, *, is_asyncio: bool) -> Client:
    from mellea.backends.http.pool import Pool  # lazy: imports httpcore

    context = _make_ssl_context() if is_tls else None
    if is_asyncio and has_fast() and not (proxy is not None and proxy.is_socks):
        return FastTransport(context, proxy)
    is_tls_proxy = proxy is not None and proxy.url.startswith("https:")
    has_tunnel = proxy is not None and (is_tls or proxy.is_socks)
    return Pool(context, split_url, proxy, _make_ssl_context() if is_tls_proxy else None, has_tunnel=has_tunnel)


def _do_nothing() -> None:
    """Do nothing; posted to see whether a loop still accepts callbacks."""


def _forget_parent() -> None:
    """After a fork, drop the lock that another thread of the parent may have held, and the unfinished clients."""
    global _preparing
    _preparing = threading.Lock()
    _making.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parent)
