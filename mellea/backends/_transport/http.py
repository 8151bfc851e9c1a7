"""The only file that touches httpx: clients, one for each event loop, and single requests.

Rules:

- httpx is imported, and a client made, at the first request on a loop; making 37 ms worth of TLS context
  happens once in a process, in a worker thread.
- All backends on one loop share a client: its connections, nothing else (it keeps no cookies). An async
  generator holds it, which the loop itself finishes when it shuts down, so that it dies with its loop.
- Where the environment names no proxy, our client is httpx's transport with its pool and nothing around it:
  cookies, hooks and authentication, none of which we have, take a tenth of a request's time.
- Where `httpx-aiohttp` is installed (the extra `fast`), clients on asyncio use it; on trio they are stock.
- A caller's own client may come from httpx, from httpx2, or be anything of the same shape. It is never closed
  here.
- Nothing that a client raises leaves this file: it holds the request, and the request holds the key.
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
import threading
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import anyio
import anyio.to_thread

from mellea.backends._transport.failure import failure_of
from mellea.backends._transport.response import Response
from mellea.backends._transport.secret import Headers
from mellea.core.loop import Loop, current_loop
from mellea.errors import ConfigurationError, UsageError

if TYPE_CHECKING:
    import ssl

__all__ = ["Call", "Connector", "FormFile", "form_body"]

_LIMITS = {"max_keepalive_connections": 20, "keepalive_expiry": 30.0}
"""A stock client polls all its idle connections at each request, so few are kept."""

_READ_BYTES = 64 * 1024
"""How much of what has arrived is read at once: as much as aiohttp keeps before it stops the server."""

_LOOPBACK = ("all://127.0.0.1", "all://localhost", "all://[::1]")
_MAX_REDIRECTS = 3
_REDIRECTS = (307, 308)
"""The ones that leave the method as it is."""


@dataclass(slots=True)
class Call:
    """One HTTP request.

    Args:
        method: `"GET"` or `"POST"`.
        url: the whole address.
        origin: the address as errors show it, without anything secret.
        headers: all of them, the key included.
        body: the JSON body.
        connect: seconds until the connection has to stand.
        read: seconds between two reads; a run watches its own deadlines and needs none.
    """

    method: str
    url: str
    origin: str
    headers: Headers
    body: bytes | None = field(default=None, repr=False)
    connect: float | None = None
    read: float | None = None


FormFile = tuple[str, str, bytes, str]
"""A file in a form: the field's name, the file's, its bytes, its media type."""


def form_body(fields: Mapping[str, str], files: Sequence[FormFile]) -> tuple[bytes, str]:
    """Return a form's body and its content type, which names the boundary; blocks for as long as an import takes."""
    import httpx  # lazy: costs 90 ms

    parts = [(field, (name, data, media_type)) for field, name, data, media_type in files]
    request = httpx.Request("POST", "http://form", data=dict(fields), files=parts)
    return request.read(), request.headers["content-type"]


class Connector:
    """A backend's way to its server, on any event loop.

    Args:
        client: the caller's own, or `None`.
        is_tls: whether certificates will be checked.

    Raises:
        UsageError: the client has another shape than `httpx.AsyncClient`.
    """

    def __init__(self, client: Any, *, is_tls: bool) -> None:
        if client is not None:
            _check_shape(client)
        self._foreign = None if client is None else _Held(client, errors=_errors_of(type(client)))
        self._is_tls = is_tls

    async def send(self, call: Call) -> Response:
        """Send the request and return the response once its head is there; it must be closed.

        Raises:
            ConnectError: no connection, or one that broke before the response began.
            DeadlineError: the connection took too long.
            WireError: what listens there doesn't speak HTTP.
            UsageError: the request can't be sent at all.
        """
        held = self._foreign or await self._hold()
        failure: BaseException
        held.active += 1
        try:
            is_ours = self._foreign is None
            return Response(await _send(held, call, is_ours=is_ours), held.errors, held.release, is_stock=is_ours)
        except BaseException as error:
            held.release()
            if not isinstance(error, held.errors):
                raise
            failure = failure_of(error, call.origin, call.connect)
        try:
            raise failure  # outside the handler, which would make the client's error its context
        finally:
            del failure  # it holds this frame by its traceback

    async def aclose(self) -> None:
        """Close the running loop's client, unless another backend uses it; the caller's own stays open."""
        held = _clients.get((current_loop().native, self._is_tls))
        if held is None or self._foreign is not None:
            return
        held.users.discard(self)
        if not held.users and not held.active and held.lifetime is not None:
            await held.lifetime.aclose()

    def secrets(self) -> set[str]:
        """Return the keys that the caller's own client sends by itself."""
        headers = getattr(self._foreign and self._foreign.client, "headers", None)
        return Headers(headers.items()).secrets() if headers else set()

    async def _hold(self) -> _Held:
        loop = current_loop()
        held = _clients.get((loop.native, self._is_tls)) or await _make(loop, self._is_tls)
        held.users.add(self)
        return held


@dataclass(slots=True, eq=False)
class _Held:
    """A client on one loop, the backends that use it, and how many requests and responses are under way."""

    client: Any
    loop: Loop | None = None
    lifetime: AsyncGenerator[None, None] | None = None
    errors: tuple[type[BaseException], ...] = ()
    users: WeakSet[Connector] = field(default_factory=WeakSet)
    active: int = 0

    def release(self) -> None:
        self.active -= 1


_clients: dict[tuple[Any, bool], _Held] = {}
_preparing = threading.Lock()


async def _make(loop: Loop, is_tls: bool) -> _Held:
    await anyio.to_thread.run_sync(_prepare, is_tls)
    key = (loop.native, is_tls)
    if key in _clients:  # another task was faster
        return _clients[key]
    for other, old in list(_clients.items()):
        if old.loop is not None and not old.loop.post(_nothing):  # closed without a shutdown
            _clients.pop(other, None)
    client = _new_client(is_tls, is_asyncio=hasattr(loop.native, "call_soon_threadsafe"))
    held = _Held(client, loop, None, _errors_of(_client_types()[0]))
    held.lifetime = _live(key, held)
    await anext(held.lifetime)
    _clients[key] = held
    return held


async def _live(key: tuple[Any, bool], held: _Held) -> AsyncGenerator[None, None]:
    """Stay until somebody, at the latest the loop's own shutdown, closes this generator."""
    try:
        yield
    finally:
        if _clients.get(key) is held:
            del _clients[key]
        await held.client.aclose()


def _prepare(is_tls: bool) -> None:
    """Do what takes long, in a thread: import httpx, read the certificates and the environment's proxies."""
    with _preparing:
        _spare_lookups()
        _client_types()
        _ssl_context(is_tls)
        _has_proxies()


def _spare_lookups() -> None:
    """Keep httpcore from looking for sniffio in all of `sys.path` five times in each request.

    httpcore 1.0 imports it anew at every lock and event, 55 µs each where it isn't installed; with this entry
    the import fails at once. anyio looks once, so that a sniffio which is installed later changes nothing.
    """
    if "sniffio" not in sys.modules and importlib.util.find_spec("sniffio") is None:
        sys.modules["sniffio"] = None  # type: ignore[assignment]


@cache
def _client_types() -> tuple[Any, Any]:
    """Return the stock kind of client, and the fast one where it is installed."""
    import httpx  # lazy: costs 90 ms

    try:
        import httpx_aiohttp  # type: ignore[import-not-found, unused-ignore]  # optional: the extra `fast`
    except ImportError:
        return httpx.AsyncClient, None
    return httpx.AsyncClient, httpx_aiohttp.HttpxAiohttpClient


@cache
def _ssl_context(is_tls: bool) -> ssl.SSLContext:
    """Return the process's context; plain HTTP gets one that trusts nobody, and costs nothing."""
    import ssl  # lazy: httpx needs it too

    import httpx  # lazy: costs 90 ms

    return httpx.create_ssl_context() if is_tls else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _has_proxies() -> bool:
    from urllib.request import getproxies  # lazy: httpx needs it too

    return any(name != "no" for name in getproxies())


def _new_client(is_tls: bool, *, is_asyncio: bool) -> Any:
    from http.cookiejar import CookieJar, DefaultCookiePolicy  # lazy: httpx needs them too

    import httpx  # lazy: costs 90 ms

    stock, fast = _client_types()
    is_fast = is_asyncio and fast is not None
    # aiohttp takes no number as a hundred, and 0 as no limit.
    limits = httpx.Limits(max_connections=0 if is_fast else None, **_LIMITS)  # type: ignore[arg-type]
    if not _has_proxies():
        kind = sys.modules["httpx_aiohttp"].AiohttpTransport if is_fast else httpx.AsyncHTTPTransport
        return _Bare(kind(verify=_ssl_context(is_tls), limits=limits))
    direct = dict.fromkeys(_LOOPBACK)
    try:
        return (fast if is_fast else stock)(
            verify=_ssl_context(is_tls),
            limits=limits,
            mounts=direct,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        )
    except (ImportError, ValueError, httpx.InvalidURL) as error:
        raise ConfigurationError(f"a proxy in the environment (HTTP_PROXY, ALL_PROXY) can't be used: {error}") from None


class _Bare:
    """A transport with a client's two methods that are used here."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport

    async def send(self, request: Any, *, stream: bool, follow_redirects: bool) -> Any:
        """Send a request; a response that is a redirect has its `next_request`, as a client's has."""
        response = await self._transport.handle_async_request(request)
        response.request = request
        if hasattr(response.stream, "CHUNK_SIZE"):  # that of httpx-aiohttp, which is a quarter of it
            response.stream.CHUNK_SIZE = _READ_BYTES
        if response.status_code in _REDIRECTS and response.has_redirect_location:
            url = request.url.join(response.headers["location"])
            response.next_request = type(request)(
                request.method, url, headers=request.headers, content=request.content, extensions=request.extensions
            )
        return response

    async def aclose(self) -> None:
        """Close all connections."""
        await self._transport.aclose()


async def _send(held: _Held, call: Call, *, is_ours: bool) -> Any:
    client = held.client
    request = _request(call) if is_ours else _foreign_request(client, call)
    for _ in range(_MAX_REDIRECTS):
        response = await client.send(request, stream=True, follow_redirects=False)
        further = getattr(response, "next_request", None)
        if further is None or not _is_same_place(request, further):
            break
        await response.aclose()
        request = further
    return response


def _request(call: Call) -> Any:
    """Make the request without `build_request`, which merges what our clients don't have."""
    import httpx  # lazy: costs 90 ms

    timeout = {"connect": call.connect, "read": call.read, "write": None, "pool": None}
    try:
        url = _url(call.url)
    except httpx.InvalidURL as error:
        raise UsageError(f"{call.origin} is no address: {error}") from None
    return httpx.Request(call.method, url, headers=call.headers, content=call.body, extensions={"timeout": timeout})


@lru_cache(maxsize=256)
def _url(url: str) -> Any:
    import httpx  # lazy: costs 90 ms

    return httpx.URL(url)


def _foreign_request(client: Any, call: Call) -> Any:
    if getattr(client, "is_closed", False):
        raise UsageError("the client that was given to the backend has been closed; keep it open, or leave out client=")
    timeout = (call.connect, call.read, None, None)
    return client.build_request(call.method, call.url, headers=call.headers, content=call.body, timeout=timeout)


def _is_same_place(request: Any, further: Any) -> bool:
    """Whether a redirect may be followed: the same server gets the same request, key included."""
    old, new = request.url, further.url
    return bool(
        request.method == further.method and (old.scheme, old.host, old.port) == (new.scheme, new.host, new.port)
    )


def _check_shape(client: Any) -> None:
    if not inspect.iscoroutinefunction(getattr(client, "send", None)) or not hasattr(client, "build_request"):
        raise UsageError(f"client takes an httpx.AsyncClient, or one of its shape, not {type(client).__name__}")


def _errors_of(kind: type) -> tuple[type[BaseException], ...]:
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
