"""Clients: one for each event loop and way to a server, shared by all backends that go that way. It alone names httpx.

Rules:

- httpx is imported, and a client made, at the first request on a loop. What takes long (the imports, 37 ms worth of TLS
  context, the environment's proxies) happens in a worker thread, once in a process where that will do.
- A client is a transport of httpx's with its pool and nothing around it: cookies, hooks, authentication and lines in
  the log that show addresses are a client's, and we have none of them.
- Backends share a client's connections, nothing else (it keeps no cookies). An async generator holds it, which the loop
  itself finishes when it shuts down, so that it dies with its loop.
- A way is TLS or none, and the proxy or none. A proxy that can't be used stops only those who have to go through it.
- Where `httpx-aiohttp` is installed (the extra `fast`), clients on asyncio use it; on trio, and through SOCKS, they are
  stock.
"""

from __future__ import annotations

import importlib.util
import sys
import threading
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import anyio.to_thread

from mellea.backends.http.address import Address
from mellea.backends.http.proxies import Proxy, is_loopback, proxy_for
from mellea.core.runtime.loop import Loop, current_loop
from mellea.errors import MissingExtraError

if TYPE_CHECKING:
    import ssl

__all__ = ["Held", "errors_of", "held", "hold", "libraries"]

_LIMITS = {"max_keepalive_connections": 20, "keepalive_expiry": 30.0}
"""A stock client polls all its idle connections at each request, so few are kept."""

_READ_BYTES = 64 * 1024
"""How much of what has arrived is read at once: as much as aiohttp keeps before it stops the server."""

_Way = tuple[bool, Proxy | None]


@dataclass(slots=True, eq=False)
class Held:
    """A client on one loop, the connectors that use it, and how many requests and responses are under way.

    Attributes:
        client: has `send` and `aclose`.
        errors: what it raises.
        proxy: what its requests go through.
    """

    client: Any
    loop: Loop | None = None
    lifetime: AsyncGenerator[None, None] | None = None
    errors: tuple[type[BaseException], ...] = ()
    proxy: Proxy | None = None
    users: WeakSet[Any] = field(default_factory=WeakSet)
    active: int = 0

    def release(self) -> None:
        """Say that a request is over."""
        self.active -= 1


_clients: dict[tuple[Any, _Way], Held] = {}
_known: dict[tuple[Any, str], Held] = {}  # by the server's address, so that a request looks once
_preparing = threading.Lock()


def held(origin: str) -> Held | None:
    """Return the running loop's client for a server, if there is one."""
    return _known.get((current_loop().native, origin))


async def hold(address: Address) -> Held:
    """Return the running loop's client for a server; it is made if need be.

    Raises:
        ConfigurationError: the server has to be reached through a proxy that can't be used.
    """
    found = held(address.origin)
    if found is None:
        loop = current_loop()
        way = await anyio.to_thread.run_sync(_prepare, address)
        found = _known[loop.native, address.origin] = _clients.get((loop.native, way)) or await _make(loop, way)
    return found


async def _make(loop: Loop, way: _Way) -> Held:
    for other in list(_clients.values()):
        if other.loop is not None and not other.loop.post(_nothing):  # closed without a shutdown
            _forget(other)
    is_tls, proxy = way
    client = _new_client(is_tls, proxy, is_asyncio=hasattr(loop.native, "call_soon_threadsafe"))
    made = Held(client, loop, None, errors_of(libraries()[0].AsyncClient), proxy)
    made.lifetime = _live(made)
    await anext(made.lifetime)
    _clients[loop.native, way] = made
    return made


async def _live(made: Held) -> AsyncGenerator[None, None]:
    """Stay until somebody, at the latest the loop's own shutdown, closes this generator."""
    try:
        yield
    finally:
        _forget(made)
        await made.client.aclose()


def _forget(gone: Held) -> None:
    tables: tuple[dict[Any, Held], ...] = (_clients, _known)
    for table in tables:
        for key, one in list(table.items()):
            if one is gone:
                table.pop(key, None)


def _prepare(address: Address) -> _Way:
    """Do what takes long, in a thread: imports, certificates, the system's proxies. Returns the way to the server."""
    from urllib.request import getproxies  # lazy: httpx needs it too

    with _preparing:
        _spare_lookups()
        libraries()
        _ssl_context(address.is_tls)
        if is_loopback(address.host):
            return address.is_tls, None
        proxy = proxy_for("https" if address.is_tls else "http", address.host, address.port, getproxies())
        if proxy is not None and proxy.is_socks and importlib.util.find_spec("socksio") is None:
            raise MissingExtraError(
                f"{proxy.variable} in the environment, {proxy.place!r}, is a SOCKS proxy, which needs a package more: "
                "pip install socksio; or name the server in NO_PROXY"
            )
        return address.is_tls, proxy


def _spare_lookups() -> None:
    """Keep httpcore from looking for sniffio in all of `sys.path` five times in each request.

    httpcore 1.0 imports it anew at every lock and event, 55 µs each where it isn't installed; with this entry
    the import fails at once. anyio looks once, so that a sniffio which is installed later changes nothing.
    """
    if "sniffio" not in sys.modules and importlib.util.find_spec("sniffio") is None:
        sys.modules["sniffio"] = None  # type: ignore[assignment]


@cache
def libraries() -> tuple[Any, Any]:
    """Return httpx, and its adapter for aiohttp where it is installed."""
    import httpcore  # lazy: httpx leaves it, and all of h11, to the first transport, which is made on a loop
    import httpx  # lazy: costs 90 ms

    del httpcore
    try:
        import httpx_aiohttp  # type: ignore[import-not-found, unused-ignore]  # optional: the extra `fast`
    except ImportError:
        return httpx, None
    return httpx, httpx_aiohttp


@cache
def _ssl_context(is_tls: bool) -> ssl.SSLContext:
    """Return the process's context; plain HTTP gets one that trusts nobody, and costs nothing."""
    import ssl  # lazy: httpx needs it too

    return libraries()[0].create_ssl_context() if is_tls else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _new_client(is_tls: bool, proxy: Proxy | None, *, is_asyncio: bool) -> Transport:
    httpx, adapter = libraries()
    context = _ssl_context(is_tls)
    if not is_asyncio or adapter is None or (proxy is not None and proxy.is_socks):
        limits = httpx.Limits(max_connections=None, **_LIMITS)
        through = None if proxy is None else httpx.Proxy(proxy.url, ssl_context=_proxy_context(proxy))
        return Transport(httpx.AsyncHTTPTransport(verify=context, limits=limits, proxy=through))
    # As a header, since aiohttp deprecates its other way, which the adapter takes.
    through = None if proxy is None else httpx.Proxy(proxy.place, headers=proxy.headers())
    # aiohttp takes no number as a hundred, and 0 as no limit.
    limits = httpx.Limits(max_connections=0, **_LIMITS)
    # Without TLS the proxy reads the request itself, and aiohttp adds nothing to that.
    headers = {} if proxy is None or is_tls else proxy.headers()
    return Transport(adapter.AiohttpTransport(verify=context, limits=limits, proxy=through), headers)


def _proxy_context(proxy: Proxy) -> ssl.SSLContext | None:
    return _ssl_context(True) if proxy.url.startswith("https:") else None


class Transport:
    """A transport with a client's two methods that are used here.

    Args:
        transport: of httpx, or of its shape.
        headers: for every request.
    """

    def __init__(self, transport: Any, headers: Mapping[str, str] | None = None) -> None:
        self._transport = transport
        self._headers = headers

    async def send(self, request: Any, *, stream: bool, follow_redirects: bool) -> Any:
        """Send a request."""
        if self._headers:
            request.headers.update(self._headers)
        response = await self._transport.handle_async_request(request)
        response.request = request
        if hasattr(response.stream, "CHUNK_SIZE"):  # that of httpx-aiohttp, which is a quarter of it
            response.stream.CHUNK_SIZE = _READ_BYTES
        return response

    async def aclose(self) -> None:
        """Close all connections."""
        await self._transport.aclose()


def errors_of(kind: type) -> tuple[type[BaseException], ...]:
    """Return what a kind of client raises: the errors of the library that it, or one of its bases, comes from."""
    found: list[type[BaseException]] = [OSError]
    for base in kind.__mro__:
        library = sys.modules.get(base.__module__.partition(".")[0])
        names = ("HTTPError", "StreamError", "InvalidURL") if library is not None else ()
        found += [getattr(library, name) for name in names if isinstance(getattr(library, name, None), type)]
    aiohttp = sys.modules.get("aiohttp")  # its errors pass its adapter in part
    if aiohttp is not None:
        found.append(aiohttp.ClientError)
    return tuple(dict.fromkeys(found))


def _nothing() -> None:
    """Do nothing; posted to see whether a loop still takes posts."""
