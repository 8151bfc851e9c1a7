"""Clients with httpx's interface: the caller's own, and the faster transport of the extra `fast`.

The only file that names httpx. A caller's own client may come from httpx, httpx2, or have the same
interface. Our stock transport needs no httpx, which takes 50 ms to import: see `pool.py`.
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

from mellea.backends.http.outgoing import FormFile, HttpRequest
from mellea.backends.http.proxies import Proxy
from mellea.errors import UsageError

if TYPE_CHECKING:
    import ssl

__all__ = ["CallersClient", "FastTransport", "has_fast", "list_errors", "split_url", "write_form"]

_READ_BYTES = 64 * 1024
"""How many bytes are read at once: as many as aiohttp buffers before it pauses the server."""

_WHOLE_BYTES = 2**20
"""How large a body may be that aiohttp gets as bytes; it warns about larger ones, and takes them as a stream."""


@cache
def has_fast() -> bool:
    """Return whether the extra `fast` is installed; its packages are imported then."""
    if importlib.util.find_spec("httpx_aiohttp") is None:
        return False
    import httpx_aiohttp  # type: ignore[import-not-found, unused-ignore]  # optional: the extra `fast`

    return httpx_aiohttp is not None


def write_form(fields: Mapping[str, str], files: Sequence[FormFile]) -> tuple[bytes, str]:
    """Return a form's body and its content type, which names the boundary; blocks for as long as an import takes."""
    import httpx  # lazy: costs 50 ms

    parts: list[Any] = [(field, (name, data, media_type)) for field, name, data, media_type in files]
    # As parts without a file name: without any part httpx would send a urlencoded form, which not all of these
    # servers accept.
    parts = [(field, (None, value)) for field, value in fields.items()] + parts
    request = httpx.Request("POST", "http://form", files=parts)
    return request.read(), request.headers["content-type"]


def split_url(url: str) -> tuple[bytes, bytes, int | None, bytes]:
    """Split a URL as it is sent: scheme, host, port, and path with query; non-ASCII letters are escaped.

    Raises:
        UsageError: it is not a valid address.
    """
    split = _parse_url(url)
    return split.raw_scheme, split.raw_host, split.port, split.raw_path


class CallersClient:
    """A client that was given to a backend.

    Args:
        client: an `httpx.AsyncClient`, or an object with its interface.

    Attributes:
        headers: those that it adds to each request.

    Raises:
        UsageError: the client has a different interface.
    """

    def __init__(self, client: Any) -> None:
        if not inspect.iscoroutinefunction(getattr(client, "send", None)) or not hasattr(client, "build_request"):
            raise UsageError(f"client takes an httpx.AsyncClient, or one of its shape, not {type(client).__name__}")
        self._client = client
        self.errors = list_errors(type(client))

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers that it adds to each request."""
        return getattr(self._client, "headers", None) or {}

    async def send(self, request: HttpRequest, url: str) -> Any:
        """Send a request and return the response, once its head is there.

        Raises:
            UsageError: the client has been closed.
        """
        client = self._client
        if getattr(client, "is_closed", False):
            raise UsageError(
                "the client that was given to the backend has been closed; keep it open, or leave out client="
            )
        timeout = (request.connect, request.read, None, None)
        sent = client.build_request(request.method, url, headers=request.headers, content=request.body, timeout=timeout)
        return await client.send(_make_whole(sent, request.body), stream=True, follow_redirects=False)

    async def aclose(self) -> None:
        """Do nothing: the client belongs to the caller."""


class FastTransport:
    """The transport of `httpx-aiohttp`, for asyncio.

    Args:
        context: for TLS; `None` if the server doesn't use it.
        proxy: the proxy to the server, if any.
    """

    def __init__(self, context: ssl.SSLContext | None, proxy: Proxy | None) -> None:
        import httpx  # lazy: costs 50 ms
        import httpx_aiohttp  # optional: the extra `fast`

        # For aiohttp, no number means a hundred, and 0 means no limit.
        limits = httpx.Limits(max_connections=0, max_keepalive_connections=20, keepalive_expiry=30.0)
        # As a header, since aiohttp deprecates the other way, which the adapter uses.
        through = None if proxy is None else httpx.Proxy(proxy.place, headers=proxy.headers())
        # Without TLS the proxy reads the request itself, and aiohttp doesn't add it there.
        self._headers = {} if proxy is None or context is not None else proxy.headers()
        self._transport = httpx_aiohttp.AiohttpTransport(verify=context or False, limits=limits, proxy=through)
        self._library = httpx
        self.errors = list_errors(httpx.AsyncClient)

    async def send(self, request: HttpRequest, url: str) -> Any:
        """Send a request and return the response, once its head is there."""
        timeout = {"connect": request.connect, "read": request.read, "write": None, "pool": None}
        headers, body = request.headers | self._headers if self._headers else request.headers, request.body
        whole, pieces = body, None
        if body is not None and len(body) > _WHOLE_BYTES:
            whole, pieces = None, _make_body_class(self._library.AsyncByteStream)(body)
            headers = headers | {"content-length": str(len(body))}
        sent = self._library.Request(
            request.method,
            _parse_url(url),
            headers=headers,
            content=whole,
            stream=pieces,
            extensions={"timeout": timeout},
        )
        response = await self._transport.handle_async_request(_make_whole(sent, whole))
        response.request = sent
        if hasattr(response.stream, "CHUNK_SIZE"):  # a quarter of it by default
            response.stream.CHUNK_SIZE = _READ_BYTES
        return response

    async def aclose(self) -> None:
        """Close all connections."""
        await self._transport.aclose()


@lru_cache(maxsize=256)
def _parse_url(url: str) -> Any:
    import httpx  # lazy: costs 50 ms

    try:
        return httpx.URL(url)
    except httpx.InvalidURL as error:
        raise UsageError(f"{url.partition('?')[0]!r} is not a valid address: {error}; check base_url") from None


def list_errors(kind: type) -> tuple[type[BaseException], ...]:
    """Return the exceptions of a client: the error class of its library, or of a base class's."""
    found: list[type[BaseException]] = [OSError]
    for base in kind.__mro__:
        library = sys.modules.get(base.__module__.partition(".")[0])
        names = ("HTTPError", "StreamError", "InvalidURL") if library is not None else ()
        found += [getattr(library, name) for name in names if isinstance(getattr(library, name, None), type)]
    aiohttp = sys.modules.get("aiohttp")  # some of its errors pass through its adapter
    if aiohttp is not None:
        found.append(aiohttp.ClientError)
    return tuple(dict.fromkeys(found))


def _make_whole(request: Any, body: bytes | None) -> Any:
    """Send the body through an iterator that needn't be closed."""
    stream: Any = getattr(request, "stream", None)
    if body and hasattr(stream, "__aiter__"):
        kind: Any = type(stream)
        request.stream = _make_body_class(kind)(body)
    return request


@lru_cache(maxsize=8)
def _make_body_class(base: Any) -> type:
    from mellea.backends.http.pool import Body  # lazy: imports httpcore, as httpx does

    class WholeBody(base):  # type: ignore[misc]
        def __init__(self, body: bytes) -> None:
            self._body = body

        def __aiter__(self) -> AsyncIterator[bytes]:
            return aiter(Body(self._body))

    return WholeBody
