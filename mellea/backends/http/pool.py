"""A pool of connections to one server: the cost of a request doesn't grow with their number.

The only file that names httpcore. Rules:

- The connections are httpcore's: direct, or for plain HTTP through an HTTP proxy. httpcore's own pool searches all its
  connections at the start and end of each request, which makes 2,000 concurrent streams four times as slow.
- A direct connection is opened here, before its first request: httpcore would take a lock, and with that a turn of
  the loop, at each request.
- Tunnels through proxies are made while a connection is being opened (`tunnel.py`): httpcore's own have no connect
  deadline, and its SOCKS leaves the connection open if the handshake fails.
- A request takes the most recently used idle connection, so that a program with sequential requests keeps one
  connection warm; without an idle one it opens a new one at once. No request waits for another.
- A connection is either in use, idle, or closed. It only becomes idle if its response ended properly.
- Idle connections are closed after `IDLE_SECONDS`, when there are more than `MOST_IDLE` of them, and when the server
  has hung up; this is checked when a request is sent or ends.
"""

from __future__ import annotations

import re
import select
import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import nullcontext, suppress
from typing import Any, Self

import anyio
import httpcore
from anyio.abc import ByteStream, SocketAttribute
from anyio.streams.tls import TLSAttribute, TLSStream

from mellea.backends.http.outgoing import HttpRequest
from mellea.backends.http.proxies import Proxy, ProxyRefusedError

__all__ = ["ERRORS", "IDLE_SECONDS", "MOST_IDLE", "Body", "Pool", "PooledResponse", "Split", "is_plain"]

IDLE_SECONDS = 30.0
"""How long a connection is kept after its last request."""

MOST_IDLE = 100
"""How many connections are kept; the least recently used is closed first."""

ERRORS: tuple[type[BaseException], ...] = (
    OSError,
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    httpcore.UnsupportedProtocol,
)
"""What sending a request, and reading its response, may raise."""

_MOST_URLS = 256
_MOST_UNSENT = 64 * 1024

_PORTS = {b"http": 80, b"https": 443}

_PLAIN = re.compile(
    r"(?:https?|socks5h?)://(?:[\w.-]+|\[[0-9a-fA-F:.]+\])(?::\d+)?"
    r"(?:/(?:[\w.~:@/+,=$!*()&-]|%[0-9a-fA-F]{2})*)?"
    r"(?:\?(?:[\w.~:@/+,;=$!*()&?-]|%[0-9a-fA-F]{2})+)?",
    re.ASCII,
)


def is_plain(url: str) -> bool:
    """Return whether a URL can be sent unchanged; others have to be split and escaped first."""
    return _PLAIN.fullmatch(url) is not None and "/." not in url


Split = Callable[[str], tuple[bytes, bytes, int | None, bytes]]
"""Splits a URL that isn't plain into scheme, host, port and target, as they are sent."""


class Pool:
    """The connections to one server.

    Args:
        context: for TLS with the server; `None` if it doesn't use it.
        split: splits a URL that isn't plain.
        proxy: the proxy in front of the server.
        proxy_context: for TLS with the proxy.
        has_tunnel: whether the proxy connects to the server; if not, it gets the requests.

    Attributes:
        errors: what sending a request, and reading its response, may raise.
    """

    errors = ERRORS

    def __init__(
        self,
        context: ssl.SSLContext | None,
        split: Split,
        proxy: Proxy | None = None,
        proxy_context: ssl.SSLContext | None = None,
        *,
        has_tunnel: bool = False,
    ) -> None:
        self._split = split
        self._urls: dict[str, tuple[httpcore.URL, bytes]] = {}
        self._context = context
        self._network = _Network(proxy if has_tunnel else None, proxy_context)
        # Of httpcore's pool only the part that connects to an HTTP proxy is used.
        self._forwarding: httpcore.AsyncConnectionPool | None = None
        if proxy is not None and not has_tunnel:
            through = httpcore.Proxy(self._parse(proxy.place)[0], auth=proxy.credentials(), ssl_context=proxy_context)
            self._forwarding = httpcore.AsyncConnectionPool(
                proxy=through, keepalive_expiry=IDLE_SECONDS, network_backend=self._network
            )
        self._idle: deque[httpcore.AsyncConnectionInterface] = deque()  # the most recently used one last
        self._used: set[httpcore.AsyncConnectionInterface] = set()
        self._is_closed = False

    async def send(self, request: HttpRequest, url: str) -> PooledResponse:
        """Send a request and return the response once its headers have arrived; it must be closed.

        Args:
            request: what is sent.
            url: where; a redirect leads elsewhere than the request says.
        """
        target, host = self._urls.get(url) or self._parse(url)
        # No write time-out: a body of many megabytes on a slow line isn't a failure.
        timeout = {"connect": request.connect, "read": request.read, "write": None, "pool": None}
        sent = httpcore.Request(
            request.method,
            target,
            headers=_make_raw_headers(request, host),
            content=Body(request.body),
            extensions={"timeout": timeout},
        )
        while True:
            connection = await self._find_idle() if self._idle else None
            if connection is None:
                connection = await self._connect(target.origin, request.connect)
            # Before the request is sent, so that closing the pool always finds it.
            self._used.add(connection)
            try:
                response = await connection.handle_async_request(sent)
            except httpcore.ConnectionNotAvailable:  # it was closed meanwhile
                self._used.discard(connection)
            except BaseException:
                self._used.discard(connection)
                if not connection.is_closed():
                    await _close(connection)
                raise
            else:
                return PooledResponse(self, connection, response, url)

    async def _find_idle(self) -> httpcore.AsyncConnectionInterface | None:
        idle = self._idle
        # Only the oldest one is checked, so taking a connection costs the same however many there are.
        while len(idle) > 1 and idle[0].has_expired():
            await _close(idle.popleft())
        while idle:
            # The most recently used one: the server is least likely to have closed it meanwhile.
            connection = idle.pop()
            if connection.is_available() and not connection.has_expired():
                return connection
            await _close(connection)
        return None

    async def _connect(self, origin: httpcore.Origin, seconds: float | None) -> httpcore.AsyncConnectionInterface:
        if self._forwarding is not None:
            return self._forwarding.create_connection(origin)
        host = origin.host.decode("ascii")
        stream = await self._network.connect_tcp(host, origin.port, seconds)
        if self._context is not None:
            self._context.set_alpn_protocols(["http/1.1"])
            stream = await stream.start_tls(self._context, host, seconds)
        return httpcore.AsyncHTTP11Connection(origin, stream, IDLE_SECONDS)

    async def release(self, connection: httpcore.AsyncConnectionInterface) -> None:
        """Take back a connection whose response has been closed."""
        self._used.discard(connection)
        # After a response that wasn't read to its end, nothing else can be sent on the connection.
        if self._is_closed or not connection.is_available():
            if not connection.is_closed():
                await _close(connection)
            return
        self._idle.append(connection)
        if len(self._idle) > MOST_IDLE:
            await _close(self._idle.popleft())

    async def aclose(self) -> None:
        """Close all connections, those in use as well."""
        self._is_closed = True
        connections = [*self._idle, *self._used]
        self._idle.clear()
        for connection in connections:
            await _close(connection)

    def _parse(self, url: str) -> tuple[httpcore.URL, bytes]:
        """Split a URL, and return the host as in the header; the last few are cached."""
        if is_plain(url):
            parsed = httpcore.URL(url)
        else:
            scheme, host, port, target = self._split(url)
            parsed = httpcore.URL(scheme=scheme, host=host, port=port, target=target)
        # Clear all, rather than the oldest: a program has a handful of URLs, or endless ones.
        if len(self._urls) >= _MOST_URLS:
            self._urls.clear()
        found = self._urls[url] = parsed, _write_host(parsed)
        return found


class Body(AsyncIterator[bytes]):
    """A body in one piece, as an iterator that needn't be closed, and that a second connection can start over.

    A cancelled request would leave the async generator of httpx and httpcore unfinished, and trio warns about that.
    """

    __slots__ = ("_body", "_rest")

    def __init__(self, body: bytes | None) -> None:
        self._body = body

    def __aiter__(self) -> Self:
        self._rest = self._body
        return self

    async def __anext__(self) -> bytes:
        # Once: the next call ends the body, and `__aiter__` restarts it for a second connection.
        body, self._rest = self._rest, None
        if not body:
            raise StopAsyncIteration
        return body


class PooledResponse:
    """A response with the part of `httpx.Response`'s interface that is used here.

    Attributes:
        status_code: the HTTP status.
        headers: by lower-case name; repeated values are joined by commas.
        url: the URL of the request.
        stream: the body, as it arrives from the network.
        is_closed: whether it has been closed.
        is_stream_consumed: whether the body has been read already.
    """

    __slots__ = ("_connection", "_pool", "headers", "is_closed", "status_code", "stream", "url")

    is_stream_consumed = False

    def __init__(
        self, pool: Pool, connection: httpcore.AsyncConnectionInterface, response: httpcore.Response, url: str
    ) -> None:
        self._pool = pool
        self._connection = connection
        self.stream: Any = response.stream
        self.status_code = response.status
        self.headers = _make_mapping(response.headers)
        self.url = url
        self.is_closed = False

    def aiter_raw(self) -> AsyncIterator[bytes]:
        """Return the iterator over the body as it arrives from the network; always the same one."""
        return aiter(self.stream)

    async def aclose(self) -> None:
        """Return the connection to the pool if the body has been read to its end, else close it."""
        if not self.is_closed:
            self.is_closed = True
            try:
                await self.stream.aclose()
            finally:
                await self._pool.release(self._connection)


class _Network(httpcore.AsyncNetworkBackend):
    """Connects with anyio on every loop; a read or write without a deadline enters no cancel scope.

    Args:
        proxy: connects to the server, if there is one.
        context: for TLS with the proxy.
    """

    def __init__(self, proxy: Proxy | None, context: ssl.SSLContext | None) -> None:
        self._proxy = proxy
        self._context = context

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        try:
            with anyio.fail_after(timeout):
                if self._proxy is None:
                    return _Stream(await anyio.connect_tcp(host, port))
                from mellea.backends.http.tunnel import open_tunnel  # lazy: most servers are reached directly

                return _Stream(await open_tunnel(self._proxy, host, port, self._context))
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(error) from error
        except ProxyRefusedError as error:
            raise httpcore.ProxyError(error) from error
        except (OSError, anyio.BrokenResourceError, anyio.EndOfStream) as error:
            raise httpcore.ConnectError(error) from error


class _Stream(httpcore.AsyncNetworkStream):
    """A connection's bytes.

    Writes are buffered until the next read, so that the headers and the body of a request are sent by one system
    call; every protocol used here reads after it has written its message.
    """

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._unsent = b""
        self._socket = stream.extra(SocketAttribute.raw_socket)

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if self._unsent:
            # A server may reject a request before it has all of it, and hang up; then its response counts.
            with suppress(httpcore.WriteError):
                await self._send(b"", timeout)
        try:
            if timeout is None:
                return await self._stream.receive(max_bytes)
            with anyio.fail_after(timeout):
                return await self._stream.receive(max_bytes)
        except anyio.EndOfStream:
            # The end of the stream for httpcore, whose parser decides whether that is too soon.
            return b""
        except TimeoutError as error:
            raise httpcore.ReadTimeout(error) from error
        except (anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
            raise httpcore.ReadError(error) from error

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        # Large bodies are sent at once: buffering would hold them twice.
        if len(self._unsent) + len(buffer) <= _MOST_UNSENT:
            self._unsent += buffer
        else:
            await self._send(buffer, timeout)

    async def _send(self, buffer: bytes, timeout: float | None) -> None:
        # Cleared first: if the write fails or is cancelled, nothing is sent twice.
        unsent, self._unsent = self._unsent, b""
        try:
            with nullcontext() if timeout is None else anyio.fail_after(timeout):
                for data in filter(None, (unsent, buffer)):
                    await self._stream.send(data)
        except TimeoutError as error:
            raise httpcore.WriteTimeout(error) from error
        except (anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
            raise httpcore.WriteError(error) from error

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        try:
            with anyio.fail_after(timeout):
                return _Stream(
                    await TLSStream.wrap(
                        self._stream, ssl_context=ssl_context, hostname=server_hostname, standard_compatible=False
                    )
                )
        except BaseException as error:
            with anyio.CancelScope(shield=True):
                await self.aclose()
            if isinstance(error, TimeoutError):
                raise httpcore.ConnectTimeout(error) from error
            if isinstance(error, (anyio.BrokenResourceError, anyio.EndOfStream, ssl.SSLError)):
                raise httpcore.ConnectError(error) from error
            raise

    def get_extra_info(self, info: str) -> Any:
        if info == "ssl_object":
            return self._stream.extra(TLSAttribute.ssl_object, None)
        if info == "is_readable":
            number = self._socket.fileno()
            if number < 0:
                return True
            if not hasattr(select, "poll"):
                return bool(select.select([number], [], [], 0)[0])
            poll = select.poll()
            poll.register(number, select.POLLIN)
            return bool(poll.poll(0))  # usually it is the end
        return None


async def _close(connection: httpcore.AsyncConnectionInterface) -> None:
    with anyio.CancelScope(shield=True):
        await connection.aclose()


def _make_raw_headers(request: HttpRequest, host: bytes) -> list[tuple[bytes, bytes]]:
    raw = [] if "host" in request.headers else [(b"host", host)]
    for name, value in request.headers.items():
        raw.append((name.encode("ascii"), value.encode("ascii")))
    if request.body is not None:
        raw.append((b"content-length", b"%d" % len(request.body)))
    return raw


def _write_host(url: httpcore.URL) -> bytes:
    host = b"[%b]" % url.host if b":" in url.host else url.host
    return host if url.port in (None, _PORTS[url.scheme]) else b"%b:%d" % (host, url.port)


def _make_mapping(raw: list[tuple[bytes, bytes]]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in raw:
        key, text = name.decode("latin-1").lower(), value.decode() if value.isascii() else _decode_header(value)
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    return headers


def _decode_header(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
