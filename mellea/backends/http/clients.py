"""Clients, one for each event loop and server, shared by all backends that use that server; requests and responses.

Rules:

- A client is made at the first request on a loop. What takes long (imports, 37 ms worth of TLS context, the
  environment's proxies) happens in a worker thread, once in a process where that will do.
- A client has connections and nothing around them: no cookies, hooks, authentication, or lines in the log that show
  addresses.
- An async generator holds the client, which the loop itself finishes when it shuts down, so that the client dies with
  its loop.
- A proxy that can't be used stops only those who have to go through it.
- Where `httpx-aiohttp` is installed (the extra `fast`), clients on asyncio use it; on trio, and through SOCKS, they are
  of the stock kind (`pool.py`).
- A caller's own client may come from httpx, from httpx2, or be anything of the same shape. It is never closed here, and
  belongs to the event loop that uses it first.
- A redirect is followed to the same scheme, host and port alone, with the method and the body as they are.
- Nothing that a client raises leaves this file: it holds the request, and the request holds the key.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urljoin, urlsplit
from weakref import WeakSet

import anyio
import anyio.lowlevel
import anyio.to_thread

from mellea.backends.http.address import Address
from mellea.backends.http.failure import failure_of
from mellea.backends.http.httpx_clients import CallersClient, FastTransport, has_fast, split_url
from mellea.backends.http.inflate import ASKED, Inflated, codings_of
from mellea.backends.http.outgoing import HttpRequest
from mellea.backends.http.proxies import Proxy, is_loopback, proxy_for
from mellea.backends.http.secret import Headers
from mellea.core.runtime.loop import Loop, current_loop
from mellea.errors import MelleaError, UsageError

if TYPE_CHECKING:
    import ssl

__all__ = ["Client", "Connector", "Response", "SharedClient", "find_client", "open_client"]

_log = logging.getLogger("mellea")


class Client(Protocol):
    """Sends requests."""

    @property
    def errors(self) -> tuple[type[BaseException], ...]:
        """What sending a request, and reading its response, may raise."""

    async def send(self, request: HttpRequest, url: str) -> Any:
        """Send a request and return the response, of httpx's shape, once its head is there; it must be closed.

        Args:
            request: what is sent.
            url: where; a redirect leads elsewhere than the request says.
        """

    async def aclose(self) -> None:
        """Close all connections."""


@dataclass(slots=True, eq=False)
class SharedClient:
    """A client on one loop, the connectors that use it, and how many requests and responses are under way.

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
        """Say that a request is over."""
        self.active -= 1


_clients: dict[tuple[Any, str], SharedClient] = {}  # by the loop and the server's address
_making: dict[tuple[Any, str], anyio.Event] = {}  # so that a thousand first requests don't ask for a thread each
_preparing = threading.Lock()


def find_client(origin: str) -> SharedClient | None:
    """Return the running loop's client for a server, if there is one."""
    return _clients.get((current_loop().native, origin))


def _find_clients(origin: str) -> list[SharedClient]:
    """Return the clients for a server on all loops, from any thread."""
    return [client for (_, known), client in list(_clients.items()) if known == origin]


async def open_client(address: Address) -> SharedClient:
    """Return the running loop's client for a server; it is made if need be.

    Raises:
        ConfigurationError: the server has to be reached through a proxy that can't be used.
    """
    loop = current_loop()
    key = loop.native, address.origin
    if (before := _making.get(key)) is not None:
        await before.wait()
        if (found := _clients.get(key)) is not None:
            return found
    made = _making.setdefault(key, anyio.Event())
    try:
        proxy = await anyio.to_thread.run_sync(_prepare, address)
        return _clients.get(key) or await _make(loop, address, proxy)
    finally:  # also where it failed: those who wait make one themselves then
        _making.pop(key, None)
        made.set()


async def _make(loop: Loop, address: Address, proxy: Proxy | None) -> SharedClient:
    for other in list(_clients.values()):
        if other.loop is not None and not other.loop.post(_nothing):  # closed without a shutdown
            _forget(other)
    client = _new_client(address.is_tls, proxy, is_asyncio=hasattr(loop.native, "call_soon_threadsafe"))
    made = SharedClient(client, loop, None, proxy)
    made.lifetime = _live(made)
    _clients[loop.native, address.origin] = made
    await anext(made.lifetime)
    return made


async def _live(made: SharedClient) -> AsyncGenerator[None, None]:
    """Stay until somebody, at the latest the loop's own shutdown, closes this generator."""
    try:
        yield
    finally:
        _forget(made)
        await made.client.aclose()


def _forget(gone: SharedClient) -> None:
    for key, one in list(_clients.items()):
        if one is gone:
            _clients.pop(key, None)


def _prepare(address: Address) -> Proxy | None:
    """Do what takes long, in a thread: imports, certificates, the system's proxies. Returns the way's proxy."""
    from urllib.request import getproxies  # lazy: costs 20 ms

    import mellea.backends.http.pool  # noqa: F401  # lazy: imports httpcore and h11, 50 ms

    with _preparing:
        has_fast()
        _ssl_context(address.is_tls)
        if is_loopback(address.host):
            return None
        return proxy_for("https" if address.is_tls else "http", address.host, address.port, getproxies())


@cache
def _ssl_context(is_tls: bool) -> ssl.SSLContext:
    """Return the process's context; plain HTTP gets one that trusts nobody, and costs nothing.

    The certificates are those of `SSL_CERT_FILE` or `SSL_CERT_DIR`, else certifi's, as httpx has it.
    """
    import ssl  # lazy: asyncio needs it too

    if not is_tls:
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if file := os.environ.get("SSL_CERT_FILE"):
        return ssl.create_default_context(cafile=file)
    if folder := os.environ.get("SSL_CERT_DIR"):
        return ssl.create_default_context(capath=folder)
    import certifi  # lazy: for TLS alone; httpx brings it

    return ssl.create_default_context(cafile=certifi.where())


def _new_client(is_tls: bool, proxy: Proxy | None, *, is_asyncio: bool) -> Client:
    from mellea.backends.http.pool import Pool  # lazy: imports httpcore

    context = _ssl_context(is_tls)
    if is_asyncio and has_fast() and not (proxy is not None and proxy.is_socks):
        return FastTransport(context, proxy, is_tls=is_tls)
    is_tls_proxy = proxy is not None and proxy.url.startswith("https:")
    has_tunnel = proxy is not None and (is_tls or proxy.is_socks)
    return Pool(context, split_url, proxy, _ssl_context(True) if is_tls_proxy else None, has_tunnel=has_tunnel)


def _nothing() -> None:
    """Do nothing; posted to see whether a loop still takes posts."""


def _forget_parent() -> None:
    """After a fork, let go of the lock that another thread of the parent may have held, and of what it was making."""
    global _preparing
    _preparing = threading.Lock()
    _making.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parent)


# -- a backend's way to its server -------------------------------------------------------------------------


_MAX_REDIRECTS = 3
_KEEPING = (307, 308)
"""Redirects that leave the method and the body as they are."""

_REDIRECTS = (301, 302, 303, *_KEEPING)


class Connector:
    """A backend's way to its server, on any event loop.

    Args:
        client: the caller's own, or `None`.
        address: where the server is.

    Attributes:
        urls: the whole addresses of paths, which are the same for nearly all requests.
        headers: the provider's own headers, and the same checked: a key hardly ever changes.

    Raises:
        UsageError: the client has another shape than `httpx.AsyncClient`.
    """

    def __init__(self, client: Any, address: Address) -> None:
        self.urls: dict[str, str] = {}
        self.headers = Headers(), Headers()
        self._own = None if client is None else CallersClient(client)
        self._foreign = None if self._own is None else SharedClient(self._own)
        self._address = address

    @property
    def has_own_client(self) -> bool:
        """Whether the caller's client is used."""
        return self._foreign is not None

    async def send(self, request: HttpRequest) -> Response:
        """Send the request and return the response once its head is there; it must be closed.

        Raises:
            ConnectError: no connection, or one that broke before the response began.
            DeadlineError: the connection took too long.
            WireError: what listens there doesn't speak HTTP.
            UsageError: the request can't be sent at all, or the caller's client belongs to another event loop.
            ConfigurationError: the proxy that the environment names can't be used.
        """
        address = self._address
        one = self._foreign or _clients.get((current_loop().native, address.origin)) or await open_client(address)
        is_ours = self._foreign is None
        if is_ours:
            one.users.add(self)
        elif one.loop is None:
            one.loop = current_loop()
        failure: BaseException
        one.active += 1
        try:
            response = await one.client.send(request, request.url)
            if response.status_code in _REDIRECTS:
                response = await _follow(one, request, response)
            return Response(response, one.client.errors, one.release, is_ours=is_ours)
        except BaseException as error:
            one.release()
            failure = self._failure(error, one, request)
            if failure is error:
                raise
        try:
            raise failure  # outside the handler, which would make the client's error its context
        finally:
            del failure  # it holds this frame by its traceback

    def _failure(self, error: BaseException, one: SharedClient, request: HttpRequest) -> BaseException:
        """Return what to raise in place of what a client raised."""
        is_known = isinstance(error, one.client.errors)
        is_elsewhere = self._foreign is not None and one.loop is not None and not one.loop.is_current()
        if is_elsewhere and (is_known or isinstance(error, Exception)) and not isinstance(error, MelleaError):
            return UsageError(
                f"the client that was given to the backend as client= belongs to another event loop ({error}); leave "
                "out client=, or make a client and a backend for each loop"
            )
        return failure_of(error, request.origin, request.connect, one.proxy) if is_known else error

    async def aclose(self) -> None:
        """Close the running loop's client, unless another backend uses it; the caller's own stays open."""
        one = find_client(self._address.origin)
        if one is None or self._foreign is not None:
            return
        one.users.discard(self)
        if not one.users and not one.active and one.lifetime is not None:
            await one.lifetime.aclose()

    def secrets(self) -> set[str]:
        """Return the keys in the address, and those that the caller's own client, or a proxy, is given."""
        headers = {} if self._own is None else self._own.headers
        found = self._address.secrets() | Headers(headers.items()).secrets()
        clients = [] if self._foreign is not None else _find_clients(self._address.origin)
        return found.union(*[client.proxy.secrets() for client in clients if client.proxy is not None])


async def _follow(one: SharedClient, request: HttpRequest, response: Any) -> Any:
    """Return what a redirect leads to, or the redirect itself if it may not be followed."""
    for _ in range(_MAX_REDIRECTS):
        if response.status_code not in _REDIRECTS or (url := _next_url(response, request.method)) is None:
            break
        await response.aclose()
        response = await one.client.send(request, url)
    return response


def _next_url(response: Any, method: str) -> str | None:
    """Return the address that a redirect leads to, if it may be followed: the same server gets the same request."""
    url = str(response.url)
    location = response.headers.get("location", "").strip()
    if not location or (method != "GET" and response.status_code not in _KEEPING):
        return None
    try:
        target = urljoin(url, location).partition("#")[0]
        return target if target.isprintable() and " " not in target and _server_of(target) == _server_of(url) else None
    except ValueError:
        return None


def _server_of(url: str) -> tuple[str, str | None, int | None, str | None]:
    parts = urlsplit(url)
    port = parts.port if parts.port is not None else {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, parts.hostname, port, parts.username


# -- an open response: reading it, and closing it in any state of the task ------------------------------------

_CLOSE_SECONDS = 2.0

_MOST_CODINGS = 3
_STREAMS = frozenset({"text/event-stream", "application/x-ndjson"})


class Response:
    """An open response; it must be closed.

    Args:
        response: the client's own.
        errors: what that raises.
        release: called once, when the response has been closed.
        is_ours: it comes from a client of ours, whose body is read without a copy.

    Attributes:
        status: the HTTP status.
        headers: a mapping that doesn't mind case.
        errors: what reading may raise; whoever reads makes an error of mellea's of it.
        media_type: the content type without its parameters, in lower case.
        reads: iterates over what the network brings, decompressed; once.
    """

    __slots__ = ("_inflated", "_raw", "_release", "_response", "errors", "headers", "media_type", "reads", "status")

    def __init__(
        self,
        response: Any,
        errors: tuple[type[BaseException], ...],
        release: Callable[[], None],
        *,
        is_ours: bool = False,
    ) -> None:
        self._response = response
        self._release: Callable[[], None] | None = release
        encoding = response.headers.get("content-encoding", "")
        codings = codings_of(encoding) if encoding else []
        self.errors = errors
        self.status: int = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self.media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        self._raw: AsyncIterator[bytes]
        # One that came with its body, as from a mock, has no raw bytes any more; other codings are left to the client.
        if response.is_stream_consumed or not (is_ours or ASKED.issuperset(codings)):
            self._raw = response.aiter_bytes()
            codings = [] if response.is_stream_consumed else codings[:1]
        elif is_ours and self.media_type in _STREAMS:
            self._raw = aiter(response.stream)  # what `aiter_raw` cuts into pieces, at 400 ns each
        else:
            self._raw = response.aiter_raw()
        self._inflated: Inflated | None = None
        self.reads = self._raw
        for coding in codings[:_MOST_CODINGS]:
            self.reads = self._inflated = Inflated(self.reads, coding)

    async def read(self, limit: int, seconds: float | None = None) -> tuple[bytes, bool]:
        """Return the body, and whether it is whole: not cut by `limit`, by `seconds` or by the network."""
        body = bytearray()
        try:
            with anyio.move_on_after(seconds):
                async for data in self.reads:
                    body += data
                    if len(body) > limit:
                        return bytes(body[:limit]), False
                return bytes(body), self._inflated is None or self._inflated.is_whole
        except self.errors:
            _log.debug("a response was cut after %d bytes", len(body))
        return bytes(body), False

    async def aclose(self, grace: float = 0.0) -> None:
        """Close the response, in any state of the task; wait at most `grace` seconds for its proper end.

        A proper end keeps the connection for the next request, anything else closes it.
        """
        if self._release is None:
            return
        release, self._release = self._release, None
        try:
            await self._end(grace)
        except self.errors:
            _log.debug("a response failed to close", exc_info=True)
        finally:
            release()

    async def _end(self, grace: float) -> None:
        try:
            if not grace:  # a loop that shuts down is about to end the iterator, too, and complains if it is being read
                await anyio.lowlevel.cancel_shielded_checkpoint()
            # Read to its end, or ended by a cancellation, the iterator has no frame any more. A loop that shuts down
            # ends all generators at once, this one as well as those that read it.
            if getattr(self._raw, "ag_frame", self) is not None and not getattr(self._raw, "ag_running", False):
                with anyio.move_on_after(grace, shield=True):
                    # A client's iterator is a chain of generators. An exception out of the innermost one, which the
                    # scope sends, ends all of them; closing the outermost would leave the others to the collector.
                    async for _ in self._raw:
                        pass
                    if grace:  # at its proper end nothing is left to wait for
                        await self._response.aclose()
        finally:
            if not self._response.is_closed:
                with anyio.move_on_after(_CLOSE_SECONDS, shield=True):
                    await self._response.aclose()
