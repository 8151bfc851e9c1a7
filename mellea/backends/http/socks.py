"""The handshake with a SOCKS proxy: version 5 (RFC 1928, March 1996), with user and password (RFC 1929).

The proxy looks up the server's name, under `socks5://` as under `socks5h://`.
"""

from __future__ import annotations

import ipaddress
from typing import Protocol

from mellea.backends.http.proxies import ProxyRefusedError

__all__ = ["shake_hands"]

_VERSION, _SIGN_IN_VERSION = 5, 1
_OPEN, _SIGN_IN, _NONE_FITS = 0x00, 0x02, 0xFF
_CONNECT = 1
_IPV4, _NAME, _IPV6 = 1, 3, 4

_REFUSALS = {
    1: "general failure",
    2: "not allowed by its rules",
    3: "the network is unreachable",
    4: "the host is unreachable",
    5: "connection refused",
    6: "the connection's time to live expired",
    7: "command not supported",
    8: "address type not supported",
}


class _Stream(Protocol):
    async def receive(self, max_bytes: int = ...) -> bytes:
        """Return some bytes; raises at the end."""

    async def send(self, item: bytes) -> None:
        """Send bytes."""


async def shake_hands(stream: _Stream, host: str, port: int, credentials: tuple[bytes, bytes] | None) -> None:
    """Make a proxy connect the stream to a server.

    Args:
        stream: a connection to the proxy; later data goes to the server.
        host: name or address of the server.
        port: of the server.
        credentials: user and password for the proxy.

    Raises:
        ProxyRefusedError: the proxy refuses, or doesn't speak SOCKS 5.
    """
    # Authentication is only offered if there are credentials.
    ways = bytes([_OPEN] if credentials is None else [_OPEN, _SIGN_IN])
    await stream.send(bytes([_VERSION, len(ways)]) + ways)
    version, way = await _read_exactly(stream, 2)
    if version != _VERSION or (way not in ways and way != _NONE_FITS):
        raise ProxyRefusedError("it doesn't speak SOCKS 5")
    if way == _NONE_FITS:
        raise ProxyRefusedError(
            "the proxy wants " + ("user and password" if credentials is None else "another sign-in")
        )
    if way == _SIGN_IN and credentials is not None:
        await stream.send(bytes([_SIGN_IN_VERSION]) + b"".join(_encode_counted(part) for part in credentials))
        if (await _read_exactly(stream, 2))[1] != 0:
            raise ProxyRefusedError("the proxy refuses the user or the password")
    # The name is sent unresolved: it may only resolve at the proxy.
    await stream.send(bytes([_VERSION, _CONNECT, 0]) + _encode_address(host) + port.to_bytes(2, "big"))
    version, refusal, _, kind = await _read_exactly(stream, 4)
    if version != _VERSION or kind not in (_IPV4, _NAME, _IPV6):
        raise ProxyRefusedError("it doesn't speak SOCKS 5")
    if refusal:
        raise ProxyRefusedError(f"the proxy says {_REFUSALS.get(refusal, f'error {refusal}')!r}")
    length = (await _read_exactly(stream, 1))[0] if kind == _NAME else 4 if kind == _IPV4 else 16
    await _read_exactly(stream, length + 2)  # the address that it connects from


def _encode_address(host: str) -> bytes:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return bytes([_NAME]) + _encode_counted(host.encode("ascii"))
    return bytes([_IPV4 if address.version == 4 else _IPV6]) + address.packed


def _encode_counted(part: bytes) -> bytes:
    # One byte tells the length.
    if len(part) > 255:
        raise ProxyRefusedError(f"SOCKS 5 takes names and passwords of up to 255 bytes, and this one has {len(part)}")
    return bytes([len(part)]) + part


async def _read_exactly(stream: _Stream, count: int) -> bytes:
    data = b""
    while len(data) < count:
        # A stream may give fewer bytes than asked for.
        data += await stream.receive(count - len(data))
    return data
