"""Finds the environment's proxy for a server, if any; no I/O, no client library.

Rules, which are curl's and those of Python's `urllib` (as of 2026-11), where they agree:

- `<scheme>_proxy` takes precedence over `all_proxy`, lower case before upper case.
- A server on this machine (loopback) is never reached through a proxy.
- `NO_PROXY` holds hosts, domains (with or without a dot or `*.` in front), addresses, networks (`10.0.0.0/8`), each
  with or without a port, separated by commas or white space; `*` is everything. An invalid entry matches nothing.
"""

from __future__ import annotations

import base64
import ipaddress
import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import field
from urllib.parse import unquote, urlsplit

from mellea.core.values import quick_value
from mellea.errors import ConfigurationError

__all__ = ["Proxy", "ProxyRefusedError", "find_proxies", "find_proxy", "is_loopback"]

_SCHEMES = ("http", "https", "socks5", "socks5h")
_PORTS = {"http": 80, "https": 443}
_PROXY_PORTS = {**_PORTS, "socks5": 1080, "socks5h": 1080}


@quick_value
class Proxy:
    """A proxy from the environment.

    Attributes:
        url: with user and password, if there are any.
        variable: the environment variable that names it.
        place: scheme, host and port: what errors show.
    """

    url: str = field(repr=False)
    variable: str
    place: str

    @property
    def is_socks(self) -> bool:
        """Whether it speaks SOCKS and not HTTP."""
        return self.url.startswith("socks")

    def split_host(self) -> tuple[str, int]:
        """Return its host and port."""
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or _PROXY_PORTS[parts.scheme]

    def credentials(self) -> tuple[bytes, bytes] | None:
        """Return user and password, if its URL has them."""
        parts = urlsplit(self.url)
        if parts.username is None:
            return None
        return unquote(parts.username).encode(), unquote(parts.password or "").encode()

    def headers(self) -> dict[str, str]:
        """Return the proxy's authorization header, if its URL has credentials."""
        if (pair := self.credentials()) is None:
            return {}
        return {"proxy-authorization": f"Basic {base64.b64encode(b':'.join(pair)).decode('ascii')}"}

    def secrets(self) -> set[str]:
        """Return the password, raw and decoded."""
        password = urlsplit(self.url).password
        return set() if not password else {password, unquote(password)}


class ProxyRefusedError(Exception):
    """A proxy refuses to connect to a server, or doesn't speak its URL's protocol."""


def find_proxy(scheme: str, host: str, port: int | None, system: Mapping[str, str]) -> Proxy | None:
    """Return the proxy for a server; `None` where it is reached directly.

    Args:
        scheme: of the server's address: `"http"` or `"https"`.
        host: the server.
        port: of the server; `None` is the scheme's own.
        system: what `find_proxies()` found.

    Raises:
        ConfigurationError: what the environment names can't be used as a proxy.
    """
    # Never through a proxy, which would connect to its own machine.
    if is_loopback(host):
        return None
    # As curl and urllib do: the scheme's own variable takes precedence over `ALL_PROXY`.
    kind = next((kind for kind in (scheme, "all") if system.get(kind)), None)
    if kind is None or _is_excepted(host, port or _PORTS[scheme], system.get("no", "")):
        return None
    url = system[kind].strip()
    return _check(url if "://" in url else f"http://{url}", _name_variable(kind, system[kind]))


def find_proxies() -> Mapping[str, str]:
    """Return the URLs of proxies by scheme, such as `"https"` and `"all"`; `"no"` has the exceptions.

    They come from the environment, else, on macOS and Windows, from the system's settings.
    """
    found: dict[str, str] = {}
    # Lower case last, since it wins if both are set; an empty one removes the other.
    for name in sorted(os.environ, key=lambda name: name.endswith("_proxy")):
        # In a CGI script `HTTP_PROXY` is a header that any client can send (CVE-2016-1000110).
        if name.lower().endswith("_proxy") and not (name == "HTTP_PROXY" and "REQUEST_METHOD" in os.environ):
            found[name.lower().removesuffix("_proxy")] = os.environ[name]
    found = {kind: url for kind, url in found.items() if url}
    if found or sys.platform not in ("darwin", "win32"):
        return found
    from urllib.request import getproxies  # lazy: costs 20 ms

    return getproxies()


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine."""
    host = _strip_brackets(host)
    if host == "localhost" or host.endswith(".localhost"):  # RFC 6761, section 6.3
        return True
    address = _parse_address(host)
    return address is not None and (address.is_loopback or address.is_unspecified)


def _check(url: str, variable: str) -> Proxy:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigurationError(f"{variable} in the environment is not a valid proxy: {error}; {_CURE}") from None
    # Without user and password, since it is shown in errors.
    place = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    if parts.scheme not in _SCHEMES or not host or not url.isprintable() or " " in url:
        raise ConfigurationError(
            f"{variable} in the environment, {place!r}, is not a proxy that can be used; it takes "
            f"{', '.join(f'{scheme}://' for scheme in _SCHEMES)} with a host; {_CURE}"
        )
    del port  # only accessed because an invalid one raises
    return Proxy(url, variable, place)


_CURE = "change it, or name the server in NO_PROXY"


def _name_variable(kind: str, value: str) -> str:
    """Return the name of the variable with a proxy; on some systems it comes from the settings instead."""
    names = [name for name in os.environ if name.lower() == f"{kind}_proxy" and os.environ[name] == value]
    # The lower-case name if both are set, since that one wins.
    return min(names, key=str.isupper, default=f"the system's {kind} proxy")


def _is_excepted(host: str, port: int, no_proxy: str) -> bool:
    host = _strip_brackets(host)
    address = _parse_address(host)
    return any(_matches(entry.lower(), host, port, address) for entry in no_proxy.replace(",", " ").split())


_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _matches(entry: str, host: str, port: int, address: _Address | None) -> bool:
    if entry == "*":
        return True
    scheme, divider, rest = entry.partition("://")
    if divider:
        entry = rest.rstrip("/")
        # A URL in NO_PROXY, which people paste there, includes its port.
        if scheme in _PORTS and _split_port(entry)[1] is None and _PORTS[scheme] != port:
            return False
    if "/" in entry:
        return address is not None and _is_within(address, entry)
    name, wanted = _split_port(entry)
    if wanted is not None and wanted != port:
        return False
    name = _strip_brackets(name)
    # IP addresses are compared as numbers: `127.1` and `127.0.0.1` are the same.
    if address is not None:
        return _parse_address(name) == address
    name = name.removeprefix("*").removeprefix(".")
    # At a dot: `example.com` doesn't match `badexample.com`.
    return bool(name) and (host == name or host.endswith(f".{name}"))


def _is_within(address: _Address, network: str) -> bool:
    try:
        return address in ipaddress.ip_network(network.replace("[", "").replace("]", ""), strict=False)
    except (ValueError, TypeError):
        return False


def _split_port(entry: str) -> tuple[str, int | None]:
    """Return an entry's host and port; an IPv6 address only has a port after brackets."""
    host, divider, port = entry.rpartition(":")
    if divider and port.isdecimal() and len(port) <= 5 and (":" not in host or host.endswith("]")):
        return host, int(port)
    return entry, None


def _strip_brackets(host: str) -> str:
    host = host.strip().lower()
    return host.removeprefix("[").removesuffix("]").partition("%")[0].removesuffix(".")


def _parse_address(host: str) -> _Address | None:
    """Return a host as an IP address, in any form that the system accepts; `None` for a name."""
    try:
        address: _Address = ipaddress.ip_address(host)
    except ValueError:
        if not host or not set(host) <= set("0123456789abcdefx."):
            return None
        try:  # such as 127.1
            return ipaddress.IPv4Address(socket.inet_aton(host))
        except (OSError, ValueError):
            return None
    mapped = getattr(address, "ipv4_mapped", None)
    return address if mapped is None else mapped
