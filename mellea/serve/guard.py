"""Guards a server: hosts, origins, keys, sizes, and concurrency.

Rules:

- `Host` is an IP address, `localhost`, or a name that the program allows; else a page that a browser has loaded
  from elsewhere could reach a server on loopback by a name of its own (DNS rebinding).
- A body is JSON with its content type, which a form of a foreign page can't send. An `Origin`, which only
  browsers send, has to be the server's own.
- A key is compared in constant time, and is never written anywhere.
- Everything that is read has a limit, in bytes and in seconds.

Source: the WHATWG's Fetch standard ("simple requests", "Origin header"), RFC 9110 sections 7.2 and 15 (2026-11).
"""

from __future__ import annotations

import hmac
import ipaddress
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import anyio
import pydantic_core

from mellea.core.entrance import short_errors
from mellea.core.numbers import check_whole
from mellea.core.runtime.tasks import run_in_thread
from mellea.errors import UsageError
from mellea.serve.response import Receive, Scope, read_body

__all__ = ["ClientRequest", "Guard", "Refused"]

BODY_SECONDS = 30.0
"""How long a client may take to send a body."""

_LOCAL_NAMES = ("localhost",)

_DEEPEST_KEY = 10_000
"""Characters of a header with a key that are compared."""


class Refused(Exception):
    """A rejected request.

    Args:
        status: the HTTP status.
        message: why.
        code: a machine-readable code.
    """

    def __init__(self, status: int, message: str, code: str) -> None:
        super().__init__(message)
        self.status, self.message, self.code = status, message, code


@dataclass
class ClientRequest:
    """An ASGI request."""

    scope: Scope
    receive: Receive

    @property
    def method(self) -> str:
        """`GET`, `POST` and so on."""
        method: str = self.scope["method"]
        return method

    @property
    def path(self) -> str:
        """The decoded path, without the application's mount point."""
        path: str = self.scope["path"]
        root: str = self.scope.get("root_path") or ""
        # If a proxy strips its own prefix, the path only has the one that Starlette has added.
        mounted = root.removeprefix(self.scope.get("app_root_path") or "")
        for prefix in (root.rstrip("/"), mounted.rstrip("/")):
            if prefix and (path == prefix or path.startswith(f"{prefix}/")):
                return path.removeprefix(prefix) or "/"
        return path or "/"

    def header(self, name: str) -> str:
        """Return a header, `""` if it is absent; of several, the first."""
        wanted = name.encode()
        found = next((value for key, value in self.scope["headers"] if key.lower() == wanted), b"")
        return bytes(found).decode("latin-1").strip()

    def has_several(self, name: str) -> bool:
        """Return whether a header is there more than once."""
        wanted = name.encode()
        return len([key for key, _ in self.scope["headers"] if key.lower() == wanted]) > 1


@short_errors
class Guard:
    """Checks requests before anything is done for them.

    Args:
        key: what clients have to send as `Authorization: Bearer …`; `None` means no key.
        allowed_hosts: names of the server besides `localhost` and IP addresses; `"*"` allows all.
        max_body: bytes of a body.

    Raises:
        UsageError: an argument is wrong.
    """

    def __init__(self, *, key: str | None, allowed_hosts: Iterable[str], max_body: int) -> None:
        if key is not None and (not isinstance(key, str) or not key.strip()):
            raise UsageError("key takes a non-empty string")
        if isinstance(allowed_hosts, str):
            raise UsageError(f"allowed_hosts takes a list of names, not {allowed_hosts!r}")
        check_whole("max_body", max_body, of="bytes")
        self._key = None if key is None else key.strip().encode()
        # Host names don't depend on case (RFC 9110, section 4.2.3).
        self._hosts = frozenset(name.lower() for name in (*_LOCAL_NAMES, *allowed_hosts))
        self._max_body = max_body

    @property
    def has_key(self) -> bool:
        """Whether clients need a key."""
        return self._key is not None

    def check_origin(self, request: ClientRequest) -> None:
        """Check a request's host, and the origin of its page.

        Raises:
            Refused: it is for another host, or comes from another origin.
        """
        host = request.header("host")
        if request.has_several("host") or not self._is_known(host):
            raise Refused(421, "this server doesn't accept that host name; allow it with allowed_hosts=", "wrong_host")
        origin = request.header("origin")
        # An opaque origin is the text "null", which has no "://", and so is rejected like a foreign one.
        if origin and origin.partition("://")[2].lower() != host.lower():
            raise Refused(403, "this server accepts no requests from pages of other origins", "wrong_origin")

    def _is_known(self, host: str) -> bool:
        if "*" in self._hosts:
            return True
        name, _, port = host.rpartition(":")
        # The last colon divides; an IPv6 address is in brackets, so its own colons come before them.
        if not name or not port.isdigit():
            name = host
        name = name.strip("[]").lower()
        if name in self._hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def check_key(self, request: ClientRequest) -> None:
        """Check the key.

        Raises:
            Refused: it is missing or wrong.
        """
        if self._key is None:
            return
        # Truncated first: the cost of comparing is proportional to what a stranger has sent.
        kind, _, given = request.header("authorization")[:_DEEPEST_KEY].partition(" ")
        if kind.lower() != "bearer" or not hmac.compare_digest(given.strip().encode("latin-1"), self._key):
            raise Refused(401, "the key is missing or wrong; send it as 'Authorization: Bearer …'", "invalid_api_key")

    async def read_json(self, request: ClientRequest) -> Any:
        """Read the body.

        Raises:
            Refused: it isn't JSON, is too large or too deep, or too late; or the client is gone.
        """
        kind = request.header("content-type").partition(";")[0].strip().lower()
        # A form of a foreign page can only send three types, not JSON; for any other type a browser asks first.
        if kind != "application/json" and not kind.endswith("+json"):
            raise Refused(415, "the body has to be JSON, with content-type: application/json", "wrong_content_type")
        length = request.header("content-length")
        # Rejected before a byte is read. The number of digits is limited, since `int` takes quadratic time.
        if length.isdigit() and len(length) < 20 and int(length) > self._max_body:
            raise self._make_too_large_error()
        try:
            with anyio.fail_after(BODY_SECONDS):
                body = await read_body(request.receive, self._max_body)
        except TimeoutError:
            raise Refused(408, f"the body didn't arrive within {BODY_SECONDS:.0f} s", "slow_body") from None
        if body is None:  # or the client has left, and gets nothing
            raise self._make_too_large_error()
        try:
            return await run_in_thread(_parse, body) if len(body) > _LARGE else _parse(body)
        except ValueError as error:
            raise Refused(400, f"the body is not valid JSON: {error}", "invalid_json") from None

    def _make_too_large_error(self) -> Refused:
        return Refused(413, f"the body has more than {self._max_body:,} bytes", "body_too_large")


_LARGE = 100_000
"""Bytes from which on a body is parsed in a thread."""

_LARGEST_NUMBER = sys.float_info.max


def _parse(body: bytes) -> Any:
    # Its depth is bounded, and lone surrogates are rejected.
    value = pydantic_core.from_json(body, allow_inf_nan=False, cache_strings=False)
    _check_numbers(value)
    return value


def _check_numbers(value: Any) -> None:
    """Reject numbers beyond a float, such as 1e999: they could be neither compared nor written."""
    left = [value]
    while left:
        item = left.pop()
        if isinstance(item, dict):
            left.extend(item.values())
        elif isinstance(item, list):
            left.extend(item)
        elif isinstance(item, (int, float)) and not -_LARGEST_NUMBER <= item <= _LARGEST_NUMBER:
            raise ValueError("it has a number beyond 1.8e308")
