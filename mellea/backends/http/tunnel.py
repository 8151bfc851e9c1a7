"""Connections to a server through a proxy: by SOCKS, or by the method CONNECT (RFC 9110, section 9.3.6).

The caller sets a deadline for all of it. If the proxy refuses, or the wait is cancelled, its connection is closed.
"""

from __future__ import annotations

import re
import ssl

import anyio
from anyio.abc import ByteStream
from anyio.streams.tls import TLSStream

from mellea.backends.http.proxies import Proxy, ProxyRefusedError
from mellea.backends.http.socks import shake_hands

__all__ = ["open_tunnel"]

_MOST_HEAD = 16 * 1024

_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})(?: ([^\r\n]*))?\r?\n")


async def open_tunnel(proxy: Proxy, host: str, port: int, context: ssl.SSLContext | None) -> ByteStream:
    """Open a connection to a server through a proxy.

    Args:
        proxy: the proxy.
        host: name or address of the server.
        port: of the server.
        context: for TLS with the proxy, if its URL is `https`.

    Raises:
        ProxyRefusedError: the proxy refuses, or doesn't speak its protocol.
        OSError: there is no connection to the proxy.
        anyio.EndOfStream: the proxy hung up.
        anyio.BrokenResourceError: the connection to it broke.
    """
    at, door = proxy.split_host()
    stream: ByteStream = await anyio.connect_tcp(at, door)
    try:
        if context is not None:
            # `standard_compatible=False`: many servers hang up without the closing message of TLS.
            stream = await TLSStream.wrap(stream, ssl_context=context, hostname=at, standard_compatible=False)
        if proxy.is_socks:
            await shake_hands(stream, host, port, proxy.credentials())
        else:
            await _ask(stream, f"[{host}]:{port}" if ":" in host else f"{host}:{port}", proxy.headers())
    except BaseException:
        # Shielded: a cancelled wait would leave the connection open otherwise.
        with anyio.CancelScope(shield=True):
            await stream.aclose()
        raise
    return stream


async def _ask(stream: ByteStream, place: str, headers: dict[str, str]) -> None:
    lines = [f"CONNECT {place} HTTP/1.1", f"host: {place}", "accept: */*"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    await stream.send("\r\n".join([*lines, "", ""]).encode("ascii"))
    head = b""
    while b"\r\n\r\n" not in head and b"\n\n" not in head:
        # A server that isn't a proxy may send endlessly.
        if len(head) > _MOST_HEAD:
            raise ProxyRefusedError("it doesn't speak HTTP")
        head += await stream.receive(4096)
    status = _STATUS.match(head)
    if status is None:
        raise ProxyRefusedError("it doesn't speak HTTP")
    # Any 2xx means that the tunnel is open (RFC 9110, section 9.3.6).
    if not status[1].startswith(b"2"):
        said = b" ".join(filter(None, status.groups())).decode("latin-1")
        raise ProxyRefusedError(f"the proxy says {said!r}")
